//! Writing a segment: groups one after another, and the footer behind the last.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use offsite_model::{File, OpenMode, TenantId};
use zerocopy::IntoBytes;

use super::{FLAG_ENCRYPTED, GROUP_HEAD_BYTES, HEAD_BYTES, Segment, TAIL_BYTES};
use crate::format::{
    FILE_VERSION, FOOTER_MAGIC, FooterGroup, FooterTail, GROUP_MAGIC, GroupHead, PLACE_BYTES,
    RecordRow, SEGMENT_MAGIC, SegmentHead, crc,
};
use crate::group::{CheckedGroup, Codec, Form};
use crate::layout::{Folder, Place};

/// The disk begins to write what was appended after so many bytes.
const WRITE_BACK_BYTES: u64 = 32 << 20;

/// A segment while it is written.
pub(crate) struct SegmentWriter {
    pub(crate) segment: Arc<Segment>,
    file: Arc<dyn File>,
    end: u64,
    /// As far as the disk was told to write.
    told: u64,
    footer: Vec<u8>,
    n_groups: u32,
    n_records: u32,
}

impl SegmentWriter {
    /// Makes a segment; its name is durable only after a sync of the directory.
    pub(crate) fn create(
        place: &Place,
        number: u32,
        store: [u8; 16],
        tenant: TenantId,
    ) -> io::Result<Self> {
        let file = place.files.open(&place.file(Folder::Segments, number), OpenMode::CreateNew)?;
        let mut head = SegmentHead {
            magic: SEGMENT_MAGIC,
            version: FILE_VERSION,
            zero: [0; 3],
            number: number.into(),
            zeros: 0.into(),
            store,
            tenant: tenant.to_bytes(),
            more_zeros: [0; 12],
            crc: 0.into(),
        };
        let (checked, _) = head.as_bytes().split_at(HEAD_BYTES as usize - 4);
        head.crc = crc(&[checked]).into();
        file.write_all_at(head.as_bytes(), 0)?;
        let segment = Segment {
            number,
            tenant,
            extent: AtomicU64::new(HEAD_BYTES * 2),
            committed: AtomicU64::new(0),
            has_footer: AtomicBool::new(false),
            file: Mutex::new(Some(Arc::clone(&file))),
        };
        Ok(Self {
            segment: Arc::new(segment),
            file,
            end: HEAD_BYTES,
            told: 0,
            footer: Vec::new(),
            n_groups: 0,
            n_records: 0,
        })
    }

    /// Whether it is to be closed before the next group.
    pub(crate) const fn is_full(&self, bytes_max: u64, records_max: u32) -> bool {
        self.end >= bytes_max || self.n_records >= records_max
    }

    /// Appends a group; its place. Its payload was copied and its checksum computed when it was
    /// checked, by whichever thread did that: here its session waits for one write after another.
    pub(crate) fn append(&mut self, group: &CheckedGroup) -> io::Result<u32> {
        let at = u32::try_from(self.end / PLACE_BYTES).map_err(io::Error::other)?;
        let flags = if group.form() == Form::Encrypted { FLAG_ENCRYPTED as u8 } else { 0 };
        let n_records = group.table().len() as u16;
        let mut head = GroupHead {
            magic: GROUP_MAGIC,
            version: FILE_VERSION,
            codec: u8::from(group.codec() == Codec::Zstd),
            flags,
            zero: 0,
            n_records: u32::from(n_records).into(),
            raw_bytes: group.raw_bytes().into(),
            stored_bytes: (group.payload().len() as u32).into(),
            segment: self.segment.number.into(),
            place: at.into(),
            payload_crc: group.payload_crc().into(),
            tenant: self.segment.tenant.to_bytes(),
            zeros: [0; 12],
            crc: 0.into(),
        };
        let rows_bytes = group.table().len() * size_of::<RecordRow>();
        let mut bytes = Vec::with_capacity(GROUP_HEAD_BYTES + rows_bytes);
        bytes.resize(GROUP_HEAD_BYTES, 0);
        for row in group.table() {
            let row = RecordRow { key: *row.key.as_bytes(), raw_bytes: row.raw_bytes.into() };
            bytes.extend_from_slice(row.as_bytes());
        }
        let (fixed, rows) = bytes.split_at_mut(GROUP_HEAD_BYTES);
        let (checked, _) = head.as_bytes().split_at(GROUP_HEAD_BYTES - 4);
        head.crc = crc(&[checked, rows]).into();
        fixed.copy_from_slice(head.as_bytes());
        let in_footer = FooterGroup {
            place: at.into(),
            n_records: n_records.into(),
            flags: u16::from(flags).into(),
        };
        self.footer.extend_from_slice(in_footer.as_bytes());
        self.footer.extend_from_slice(rows);
        let whole = (bytes.len() + group.payload().len()) as u64;
        let padded = whole.next_multiple_of(PLACE_BYTES);
        let payload = group.payload_padded((padded - whole) as usize);
        self.file.write_all_at(&bytes, self.end)?;
        self.file.write_all_at(payload, self.end + bytes.len() as u64)?;
        self.end += padded;
        self.n_groups += 1;
        self.n_records += u32::from(n_records);
        self.segment.extent.store(self.end * 2, Ordering::Release);
        if self.end - self.told >= WRITE_BACK_BYTES {
            // What is on its way is not waited for at the next barrier.
            self.file.advise(self.told, self.end - self.told, false);
            self.told = self.end;
        }
        Ok(at)
    }

    /// Writes the footer; nothing is appended after it.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        let mut tail = FooterTail {
            magic: FOOTER_MAGIC,
            version: FILE_VERSION,
            zero: [0; 3],
            n_groups: self.n_groups.into(),
            n_records: self.n_records.into(),
            offset: self.end.into(),
            zeros: 0.into(),
            crc: 0.into(),
        };
        let (checked, _) = tail.as_bytes().split_at(TAIL_BYTES - 4);
        tail.crc = crc(&[&self.footer, checked]).into();
        let mut footer = std::mem::take(&mut self.footer);
        footer.extend_from_slice(tail.as_bytes());
        self.file.write_all_at(&footer, self.end)?;
        self.end += footer.len() as u64;
        self.segment.has_footer.store(true, Ordering::Release);
        self.segment.extent.store(self.end * 2 + 1, Ordering::Release);
        Ok(())
    }
}
