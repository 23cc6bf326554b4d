//! The log of a draft: frames that are only ever appended, each under its checksum.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use offsite_model::{File, Key, OpenMode, TenantId};
use zerocopy::{FromBytes, IntoBytes};

use crate::error::StoreError;
use crate::format::{
    DRAFT_MAGIC, DraftEntry, DraftFrame, DraftHead, DraftSegment, FILE_VERSION, are_zero,
    check_version, crc,
};
use crate::layout::{Folder, Place};
use crate::manifest::ListEntry;

const HEAD_BYTES: usize = size_of::<DraftHead>();
const FRAME_BYTES: usize = size_of::<DraftFrame>();
const ENTRIES: u8 = 1;
const SEGMENTS: u8 = 2;
/// Entries of a frame; more of them make more frames.
const FRAME_ENTRIES_MAX: usize = 8192;

/// A tail of zeros that a crash may leave, at most.
const TORN_BYTES_MAX: u64 = 4 << 20;

/// A segment that a draft keeps: number, durable bytes and whether it is closed.
pub(crate) type KeptSegment = (u32, (u64, bool));

/// What an opening of the store believes of a log.
#[derive(Default)]
pub(crate) struct KeptLog {
    pub(crate) segments: Vec<KeptSegment>,
    /// So many bytes.
    pub(crate) end: u64,
}

/// A draft's log, open for appending.
pub(crate) struct Log {
    number: u32,
    file: Arc<dyn File>,
    end: u64,
    n_listed: u64,
    /// Where a frame begins that holds an ordinal, one for every few thousand entries.
    marks: Vec<(u64, u64)>,
    is_synced: bool,
    /// As `end`, for whoever reads the log beside its holder.
    written: Arc<AtomicU64>,
}

struct Frame {
    kind: u8,
    first: u64,
    payload: Vec<u8>,
}

impl Frame {
    const fn n_rows(&self) -> usize {
        let row_bytes = match self.kind {
            ENTRIES => size_of::<DraftEntry>(),
            _ => size_of::<DraftSegment>(),
        };
        self.payload.len() / row_bytes
    }

    /// Its bytes in the log.
    const fn bytes(&self) -> u64 {
        (FRAME_BYTES + self.payload.len()) as u64
    }
}

impl Log {
    /// Makes a log; it and its name are durable.
    pub(super) fn create(
        place: &Place,
        number: u32,
        store: [u8; 16],
        tenant: TenantId,
    ) -> Result<Self, StoreError> {
        let doing = || StoreError::io(format!("make draft {number:08x}"));
        let path = place.file(Folder::Drafts, number);
        let file = place.files.open(&path, OpenMode::CreateNew).map_err(doing())?;
        file.write_all_at(head(number, store, tenant).as_bytes(), 0).map_err(doing())?;
        file.sync().map_err(doing())?;
        place.sync(Folder::Drafts)?;
        let end = HEAD_BYTES as u64;
        let written = Arc::new(AtomicU64::new(end));
        Ok(Self { number, file, end, n_listed: 0, marks: Vec::new(), is_synced: true, written })
    }

    /// Opens a log, checks all of it, and cuts what was torn.
    pub(super) fn open(
        place: &Place,
        number: u32,
        of: ([u8; 16], TenantId),
    ) -> Result<Self, StoreError> {
        let doing = || StoreError::io(format!("read draft {number:08x}"));
        let file = open_file(place, number, of, OpenMode::Write)?;
        let end = HEAD_BYTES as u64;
        let (marks, written) = (Vec::new(), Arc::default());
        let mut log = Self { number, file, end, n_listed: 0, marks, is_synced: true, written };
        while let Some(frame) = read_frame(&*log.file, log.end, true).map_err(doing())? {
            log.pass(&frame);
        }
        if log.file.bytes().map_err(doing())? > log.end {
            log.file.set_bytes(log.end).map_err(doing())?;
            log.is_synced = false;
        }
        log.written.store(log.end, Ordering::Release);
        Ok(log)
    }

    /// Makes a log of the frames that are good in another one, up to an end. What is in it is
    /// durable after the next sync.
    pub(super) fn copy(
        place: &Place,
        (other, end): (u32, u64),
        number: u32,
        (store, tenant): ([u8; 16], TenantId),
    ) -> Result<Self, StoreError> {
        let doing = || StoreError::io(format!("read draft {other:08x}"));
        let from = open_file(place, other, (store, tenant), OpenMode::Read)?;
        let mut log = Self::create(place, number, store, tenant)?;
        while log.end < end
            && let Some(frame) = read_frame(&*from, log.end, true).map_err(doing())?
        {
            // Frames have the same places in both, and places are in their checksums.
            log.append(&frame)?;
        }
        Ok(log)
    }

    /// What an opening of the store believes of a log, at most up to an end: the segments it keeps.
    /// None when it is not the log of this draft. Entries are not read; who resumes checks them.
    /// What a crash has torn at its end was promised to nobody.
    pub(crate) fn kept(
        place: &Place,
        (number, end): (u32, Option<u64>),
        (store, tenant): ([u8; 16], TenantId),
    ) -> io::Result<Option<KeptLog>> {
        let file = match place.files.open(&place.file(Folder::Drafts, number), OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if !has_head(&*file, number, store, tenant)? {
            return Ok(None);
        }
        let bytes = file.bytes()?;
        let bytes = end.map_or(bytes, |end| end.min(bytes));
        let mut segments = Vec::new();
        let (mut at, mut last) = (HEAD_BYTES as u64, HEAD_BYTES as u64);
        while at < bytes
            && let Some(frame) = read_frame(&*file, at, false)?
        {
            last = at;
            at += frame.bytes();
            if frame.kind == SEGMENTS {
                let rows = <[DraftSegment]>::ref_from_bytes(&frame.payload).unwrap_or_default();
                let rows = rows
                    .iter()
                    .map(|row| (row.number.get(), (row.bytes.get(), row.is_closed.get() == 1)));
                segments.extend(rows);
            }
        }
        // The last frame may be there with its length and without its content.
        let whole = match read_frame(&*file, last, true)? {
            Some(_) => at,
            None => last,
        };
        let is_cut = end.is_none() && whole < bytes && is_torn(&*file, whole)?;
        Ok(Some(KeptLog { segments, end: if is_cut { whole } else { bytes } }))
    }

    /// Goes behind a frame that was read from it.
    fn pass(&mut self, frame: &Frame) {
        if frame.kind == ENTRIES {
            self.mark(frame.first);
            self.n_listed = frame.first.saturating_add(frame.n_rows() as u64);
        }
        self.end += frame.bytes();
    }

    pub(super) const fn n_listed(&self) -> u64 {
        self.n_listed
    }

    fn mark(&mut self, first: u64) {
        let last = self.marks.last().map(|(first, _)| *first);
        if last.is_none_or(|last| first >= last.saturating_add(FRAME_ENTRIES_MAX as u64)) {
            self.marks.push((first, self.end));
        }
    }

    /// Adds entries; ordinals only ever go up.
    pub(super) fn entries(&mut self, first: u64, entries: &[ListEntry]) -> Result<(), StoreError> {
        if first < self.n_listed {
            return Err(StoreError::BadList(format!("entry {first} was listed already")));
        }
        let mut first = first;
        for part in entries.chunks(FRAME_ENTRIES_MAX) {
            let mut payload = Vec::with_capacity(size_of_val(part));
            for entry in part {
                let row = DraftEntry {
                    offset: entry.offset.into(),
                    length: entry.length.into(),
                    key: *entry.key.as_bytes(),
                };
                payload.extend_from_slice(row.as_bytes());
            }
            self.append(&Frame { kind: ENTRIES, first, payload })?;
            first = first.saturating_add(part.len() as u64);
        }
        Ok(())
    }

    /// Adds segments that are durable.
    pub(super) fn segments(
        &mut self,
        segments: impl IntoIterator<Item = KeptSegment>,
    ) -> Result<(), StoreError> {
        let segments: Vec<KeptSegment> = segments.into_iter().collect();
        for part in segments.chunks(FRAME_ENTRIES_MAX) {
            let mut payload = Vec::new();
            for &(number, (bytes, is_closed)) in part {
                let row = DraftSegment {
                    number: number.into(),
                    is_closed: u32::from(is_closed).into(),
                    bytes: bytes.into(),
                };
                payload.extend_from_slice(row.as_bytes());
            }
            self.append(&Frame { kind: SEGMENTS, first: 0, payload })?;
        }
        Ok(())
    }

    fn append(&mut self, frame: &Frame) -> Result<(), StoreError> {
        let mut head = DraftFrame {
            kind: frame.kind,
            zero: [0; 3],
            n: (frame.n_rows() as u32).into(),
            first: frame.first.into(),
            payload_crc: crc(&[&frame.payload]).into(),
            crc: 0.into(),
        };
        let (checked, _) = head.as_bytes().split_at(FRAME_BYTES - 4);
        head.crc = crc(&[checked, &self.end.to_le_bytes()]).into();
        let bytes = [head.as_bytes(), &frame.payload].concat();
        let doing = StoreError::io(format!("write draft {:08x}", self.number));
        self.file.write_all_at(&bytes, self.end).map_err(doing)?;
        self.pass(frame);
        self.written.store(self.end, Ordering::Release);
        self.is_synced = false;
        Ok(())
    }

    /// How far it is written: frames before that are whole.
    pub(super) fn written(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.written)
    }

    /// Tells of every key that a log names, up to where it is written or believed.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where a frame before that is not whole. A tail that was torn by a
    /// crash is not believed; what is torn in another way counts as damage.
    pub(crate) fn keys(
        place: &Place,
        (number, end): (u32, u64),
        of: ([u8; 16], TenantId),
        tell: &mut dyn FnMut(&[Key]),
    ) -> Result<(), StoreError> {
        let doing = || StoreError::io(format!("read draft {number:08x}"));
        let damaged = || StoreError::Damaged(format!("draft {number:08x}"));
        let file = open_file(place, number, of, OpenMode::Read)?;
        let mut at = HEAD_BYTES as u64;
        while at < end {
            let frame = read_frame(&*file, at, true).map_err(doing())?.ok_or_else(damaged)?;
            at += frame.bytes();
            if frame.kind == ENTRIES {
                let rows = <[DraftEntry]>::ref_from_bytes(&frame.payload).unwrap_or_default();
                let keys: Vec<Key> = rows.iter().map(|row| Key::from_bytes(row.key)).collect();
                tell(&keys);
            }
        }
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        if !self.is_synced {
            self.file.sync().map_err(StoreError::io(format!("sync draft {:08x}", self.number)))?;
            self.is_synced = true;
        }
        Ok(())
    }

    pub(super) fn read(
        &self,
        first: u64,
        n_max: usize,
    ) -> Result<Vec<(u64, ListEntry)>, StoreError> {
        let doing = || StoreError::io(format!("read draft {:08x}", self.number));
        let mark = self.marks.partition_point(|(begin, _)| *begin <= first);
        let mut at =
            mark.checked_sub(1).and_then(|mark| self.marks.get(mark)).or(self.marks.first());
        let mut at = at.take().map_or(self.end, |(_, at)| *at);
        let mut entries = Vec::new();
        while entries.len() < n_max && at < self.end {
            let frame = read_frame(&*self.file, at, true).map_err(doing())?;
            let damaged = || StoreError::Damaged(format!("draft {:08x}", self.number));
            let frame = frame.ok_or_else(damaged)?;
            at += frame.bytes();
            if frame.kind != ENTRIES {
                continue;
            }
            let rows = <[DraftEntry]>::ref_from_bytes(&frame.payload).unwrap_or_default();
            let rows = (frame.first..).zip(rows).filter(|(ordinal, _)| *ordinal >= first);
            let rows = rows.take(n_max - entries.len()).map(|(ordinal, row)| {
                let key = Key::from_bytes(row.key);
                (ordinal, ListEntry { offset: row.offset.get(), length: row.length.get(), key })
            });
            entries.extend(rows);
        }
        Ok(entries)
    }
}

/// The file of a log that is this draft's.
fn open_file(
    place: &Place,
    number: u32,
    (store, tenant): ([u8; 16], TenantId),
    mode: OpenMode,
) -> Result<Arc<dyn File>, StoreError> {
    let doing = || StoreError::io(format!("read draft {number:08x}"));
    let file = place.files.open(&place.file(Folder::Drafts, number), mode).map_err(doing())?;
    match has_head(&*file, number, store, tenant).map_err(doing())? {
        true => Ok(file),
        false => Err(StoreError::Damaged(format!("draft {number:08x}"))),
    }
}

fn head(number: u32, store: [u8; 16], tenant: TenantId) -> DraftHead {
    let mut head = DraftHead {
        magic: DRAFT_MAGIC,
        version: FILE_VERSION,
        zero: [0; 3],
        number: number.into(),
        zeros: 0.into(),
        store,
        tenant: tenant.to_bytes(),
        more_zeros: [0; 12],
        crc: 0.into(),
    };
    let (checked, _) = head.as_bytes().split_at(HEAD_BYTES - 4);
    head.crc = crc(&[checked]).into();
    head
}

fn has_head(file: &dyn File, number: u32, store: [u8; 16], tenant: TenantId) -> io::Result<bool> {
    let mut bytes = [0; HEAD_BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
        Ok(()) => {
            let Ok(found) = DraftHead::ref_from_bytes(&bytes) else { return Ok(false) };
            let (checked, _) = bytes.split_at(HEAD_BYTES - 4);
            if found.magic == DRAFT_MAGIC && found.crc.get() == crc(&[checked]) {
                check_version("the log of a session", found.version)?;
            }
            Ok(bytes == head(number, store, tenant).as_bytes())
        }
    }
}

/// Whether what begins at an offset is what a crash leaves: a frame that the file ends within, or
/// its last one with another content, or nothing but zeros.
fn is_torn(file: &dyn File, at: u64) -> io::Result<bool> {
    let bytes = file.bytes()?;
    let room = bytes.saturating_sub(at);
    if room < FRAME_BYTES as u64 {
        return Ok(true);
    }
    let mut head = [0; FRAME_BYTES];
    file.read_exact_at(&mut head, at)?;
    let Ok(frame) = DraftFrame::ref_from_bytes(&head) else { return Ok(false) };
    let (checked, _) = head.split_at(FRAME_BYTES - 4);
    if crc(&[checked, &at.to_le_bytes()]) == frame.crc.get() {
        let row_bytes = match frame.kind {
            ENTRIES => size_of::<DraftEntry>(),
            _ => size_of::<DraftSegment>(),
        };
        let payload = u64::from(frame.n.get()).saturating_mul(row_bytes as u64);
        return Ok(payload.saturating_add(FRAME_BYTES as u64) >= room);
    }
    let mut rest = vec![0; usize::try_from(room.min(TORN_BYTES_MAX)).unwrap_or(0)];
    file.read_exact_at(&mut rest, at)?;
    Ok(room <= TORN_BYTES_MAX && are_zero(&[&rest]))
}

/// The frame at an offset; none at the end and where the bytes are no frame. The entries of one
/// are compared with their checksum only where that is asked for.
fn read_frame(file: &dyn File, at: u64, is_checked: bool) -> io::Result<Option<Frame>> {
    let room = file.bytes()?.saturating_sub(at);
    if room < FRAME_BYTES as u64 {
        return Ok(None);
    }
    let mut bytes = [0; FRAME_BYTES];
    file.read_exact_at(&mut bytes, at)?;
    let Ok(frame) = DraftFrame::ref_from_bytes(&bytes) else { return Ok(None) };
    let (checked, _) = bytes.split_at(FRAME_BYTES - 4);
    if crc(&[checked, &at.to_le_bytes()]) != frame.crc.get() {
        return Ok(None);
    }
    let row_bytes = match frame.kind {
        ENTRIES if are_zero(&[&frame.zero]) => size_of::<DraftEntry>(),
        SEGMENTS if are_zero(&[&frame.zero]) => size_of::<DraftSegment>(),
        // Whole, and not torn: it must not be cut.
        _ => return Err(io::Error::other("a frame of a kind that this program does not know")),
    };
    let n = frame.n.get() as usize;
    if n > FRAME_ENTRIES_MAX || room < (FRAME_BYTES + n * row_bytes) as u64 {
        return Ok(None);
    }
    let mut payload = vec![0; n * row_bytes];
    if is_checked || frame.kind == SEGMENTS {
        file.read_exact_at(&mut payload, at + FRAME_BYTES as u64)?;
        if crc(&[&payload]) != frame.payload_crc.get() {
            return Ok(None);
        }
    }
    Ok(Some(Frame { kind: frame.kind, first: frame.first.get(), payload }))
}
