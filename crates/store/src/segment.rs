//! Segments: append-only files of groups, each of one tenant.
//!
//! A [`SegmentWriter`] belongs to one session; the [`Segment`] behind it is shared with readers,
//! which see a group as soon as it is written whole. A closed segment ends with a footer that
//! repeats its groups' tables; where it is damaged, the groups' own headers are read instead.
//!
//! **Absent:** when to sync, and what refers to a segment: see `commit`.

mod writer;

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use offsite_model::{File, Key, OpenMode, TenantId};
use zerocopy::{FromBytes, IntoBytes};

use crate::error::StoreError;
use crate::format::{
    FOOTER_MAGIC, FooterGroup, FooterTail, GROUP_MAGIC, GroupHead, PLACE_BYTES, RecordRow,
    SEGMENT_MAGIC, SegmentHead, are_zero, check_version, crc, split,
};
use crate::group::{
    self, Codec, DecodedGroup, Form, GROUP_RECORDS_MAX, GroupError, StoredGroup, TableRow,
};
use crate::layout::{Folder, Place};
pub(crate) use writer::SegmentWriter;

const HEAD_BYTES: u64 = size_of::<SegmentHead>() as u64;
const GROUP_HEAD_BYTES: usize = size_of::<GroupHead>();
const TAIL_BYTES: usize = size_of::<FooterTail>();
const FLAG_ENCRYPTED: u16 = 1;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// The segment's number.
    pub segment: u32,
    /// Offset of its group, in units of 16 bytes.
    pub place: u32,
    /// Its slot in the group.
    pub slot: u8,
    /// Its length in bytes.
    pub raw_bytes: u32,
}

/// A segment as readers and commits see it.
pub(crate) struct Segment {
    pub(crate) number: u32,
    pub(crate) tenant: TenantId,
    /// Twice the bytes that are written whole, plus one when it is closed: one value, so that
    /// nobody takes a footer for a group or the reverse.
    extent: AtomicU64,
    /// Bytes that the catalog knows to be durable; 0 before the first commit.
    committed: AtomicU64,
    /// Whether we know that it ends with a footer. What merely looks like one may be a record of
    /// somebody who wished it did.
    has_footer: AtomicBool,
    file: Mutex<Option<Arc<dyn File>>>,
}

impl Segment {
    /// A segment that the catalog knows.
    pub(crate) fn committed(number: u32, tenant: TenantId, bytes: u64, has_footer: bool) -> Self {
        Self {
            number,
            tenant,
            extent: AtomicU64::new(bytes * 2 + 1),
            committed: AtomicU64::new(bytes),
            has_footer: AtomicBool::new(has_footer),
            file: Mutex::new(None),
        }
    }

    /// A segment that a draft keeps, of which a commit may know less.
    pub(crate) fn kept(
        number: u32,
        tenant: TenantId,
        bytes: u64,
        committed: u64,
        has_footer: bool,
    ) -> Self {
        let segment = Self::committed(number, tenant, bytes, has_footer);
        segment.set_committed(committed);
        segment
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.extent().0
    }

    /// Bytes written whole, and whether that is all there will be.
    pub(crate) fn extent(&self) -> (u64, bool) {
        let extent = self.extent.load(Ordering::Acquire);
        (extent / 2, extent % 2 == 1)
    }

    pub(crate) fn bytes_committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    pub(crate) fn set_committed(&self, bytes: u64) {
        self.committed.store(bytes, Ordering::Release);
    }

    pub(crate) fn has_footer(&self) -> bool {
        self.has_footer.load(Ordering::Acquire)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.extent().1
    }

    /// The open file; opened on first use and after [`Segment::let_go`].
    pub(crate) fn file(&self, place: &Place) -> io::Result<Arc<dyn File>> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*file {
            return Ok(Arc::clone(file));
        }
        let path = place.file(Folder::Segments, self.number);
        let opened = place.files.open(&path, OpenMode::Read)?;
        *file = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Closes the file of a segment that is no longer written, to bound open files.
    pub(crate) fn let_go(&self) {
        if self.is_closed() && self.bytes_committed() > 0 {
            *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Reads the group at a place and checks all of it against its own checksums, and every
    /// record against its key.
    pub(crate) fn read_group(&self, place: &Place, at: u32) -> Result<DecodedGroup, StoreError> {
        self.with_group(place, at, |heading, payload| {
            group::decode(heading.form, heading.codec, &heading.table, payload)
        })
    }

    /// Reads the group at a place, checks it against its own checksums, and lets `decode` have it,
    /// which compares every record with its key. It reads no other group meanwhile: the bytes are
    /// this thread's one buffer.
    pub(crate) fn with_group<T>(
        &self,
        place: &Place,
        at: u32,
        decode: impl FnOnce(&Heading, &[u8]) -> Result<T, GroupError>,
    ) -> Result<T, StoreError> {
        let doing =
            || format!("read segment {:08x} at {}", self.number, u64::from(at) * PLACE_BYTES);
        let file = self.file(place).map_err(StoreError::io(doing()))?;
        let damaged = |why: String| {
            StoreError::Damaged(format!(
                "segment {:08x}, group at {}: {why}",
                self.number,
                u64::from(at) * PLACE_BYTES
            ))
        };
        PAYLOAD.with_borrow_mut(|payload| {
            let found = read_payload(&*file, self.number, self.tenant, at, self.bytes(), payload);
            let found = found.map_err(StoreError::io(doing()))?;
            let heading = found.ok_or_else(|| damaged("header or checksum".to_owned()))?;
            let stored = payload.get(..heading.stored_bytes).unwrap_or_default();
            decode(&heading, stored).map_err(|error| damaged(error.to_string()))
        })
    }
}

thread_local! {
    // Used again: at most a group's bytes for each thread.
    static PAYLOAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A group's header and table.
pub(crate) struct Heading {
    pub(crate) form: Form,
    pub(crate) codec: Codec,
    pub(crate) table: Vec<TableRow>,
    payload_crc: u32,
    pub(crate) stored_bytes: usize,
}

impl Heading {
    const fn payload_offset(&self) -> u64 {
        (GROUP_HEAD_BYTES + self.table.len() * size_of::<RecordRow>()) as u64
    }

    const fn bytes(&self) -> u64 {
        (self.payload_offset() + self.stored_bytes as u64).next_multiple_of(PLACE_BYTES)
    }
}

/// The header and table at a place; none when they are not what was written there.
pub(crate) fn read_heading(
    file: &dyn File,
    segment: u32,
    tenant: TenantId,
    at: u32,
    bytes: u64,
) -> io::Result<Option<Heading>> {
    let offset = u64::from(at) * PLACE_BYTES;
    let room = bytes.saturating_sub(offset);
    if room < GROUP_HEAD_BYTES as u64 {
        return Ok(None);
    }
    let mut fixed = [0; GROUP_HEAD_BYTES];
    file.read_exact_at(&mut fixed, offset)?;
    let Some((head, _)) = split::<GroupHead>(&fixed) else { return Ok(None) };
    let n_records = head.n_records.get() as usize;
    if head.magic != GROUP_MAGIC
        || head.segment.get() != segment
        || head.place.get() != at
        || head.tenant != tenant.to_bytes()
        || n_records > GROUP_RECORDS_MAX
    {
        return Ok(None);
    }
    let mut rows = vec![0; n_records * size_of::<RecordRow>()];
    if room < (fixed.len() + rows.len()) as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut rows, offset + fixed.len() as u64)?;
    let (checked, _) = fixed.split_at(GROUP_HEAD_BYTES - 4);
    if head.crc.get() != crc(&[checked, &rows]) {
        return Ok(None);
    }
    check_version("a group", head.version)?;
    if !are_zero(&[&[head.zero], &head.zeros]) {
        return Ok(None);
    }
    let Some(form) = form_of(head.flags.into()) else { return Ok(None) };
    let codec = match head.codec {
        0 => Codec::None,
        1 => Codec::Zstd,
        _ => return Ok(None),
    };
    let table = parse_rows(&rows);
    let stored_bytes = head.stored_bytes.get() as usize;
    if group::check_shape(form, codec, &table, stored_bytes).is_err() {
        return Ok(None);
    }
    let heading = Heading { form, codec, table, payload_crc: head.payload_crc.get(), stored_bytes };
    Ok((heading.bytes() <= room).then_some(heading))
}

/// What the flags of a group say; none for one that nobody here knows.
const fn form_of(flags: u16) -> Option<Form> {
    match flags {
        0 => Some(Form::Plain),
        FLAG_ENCRYPTED => Some(Form::Encrypted),
        _ => None,
    }
}

fn parse_rows(rows: &[u8]) -> Vec<TableRow> {
    let rows = rows.chunks_exact(size_of::<RecordRow>()).filter_map(split::<RecordRow>);
    let rows = rows
        .map(|(row, _)| TableRow { key: Key::from_bytes(row.key), raw_bytes: row.raw_bytes.get() });
    rows.collect()
}

/// The whole group at a place; none when it is not what was written there.
pub(crate) fn read_stored(
    file: &dyn File,
    segment: u32,
    tenant: TenantId,
    at: u32,
    bytes: u64,
) -> io::Result<Option<StoredGroup>> {
    let mut payload = Vec::new();
    let found = read_payload(file, segment, tenant, at, bytes, &mut payload)?;
    Ok(found.map(|Heading { form, codec, table, stored_bytes, .. }| {
        payload.truncate(stored_bytes);
        StoredGroup { form, codec, table, payload }
    }))
}

/// As [`read_stored`], with the payload at the beginning of a buffer that may be longer.
fn read_payload(
    file: &dyn File,
    segment: u32,
    tenant: TenantId,
    at: u32,
    bytes: u64,
    payload: &mut Vec<u8>,
) -> io::Result<Option<Heading>> {
    let Some(heading) = read_heading(file, segment, tenant, at, bytes)? else { return Ok(None) };
    let n = (heading.bytes() - heading.payload_offset()) as usize;
    // Never shorter: what was zeroed once need not be again.
    payload.resize(payload.len().max(n), 0);
    let padded = payload.get_mut(..n).unwrap_or_default();
    file.read_exact_at(padded, u64::from(at) * PLACE_BYTES + heading.payload_offset())?;
    let (stored, padding) = padded.split_at(heading.stored_bytes);
    let is_it = crc(&[stored]) == heading.payload_crc && padding.iter().all(|byte| *byte == 0);
    Ok(is_it.then_some(heading))
}

/// What a segment holds, in the order in which it was written.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) records: Vec<(Key, Form, RecordPlace)>,
    pub(crate) groups: Vec<u32>,
    /// Whether everything up to the end could be read; otherwise groups may be missing.
    pub(crate) is_whole: bool,
}

impl Contents {
    fn add(&mut self, segment: u32, place: u32, form: Form, table: &[TableRow]) {
        self.groups.push(place);
        for (slot, row) in (0_u8..=255).zip(table) {
            let place = RecordPlace { segment, place, slot, raw_bytes: row.raw_bytes };
            self.records.push((row.key, form, place));
        }
    }
}

impl Segment {
    /// What this segment holds: from its footer, or from its groups where there is no good one.
    pub(crate) fn contents(&self, place: &Place) -> io::Result<Contents> {
        let file = self.file(place)?;
        let bytes = if self.is_closed() { self.bytes() } else { self.bytes_committed() };
        let bytes = bytes.min(file.bytes()?);
        let from_footer = match self.has_footer() {
            true => read_footer(&*file, self.number, bytes)?,
            false => None,
        };
        from_footer.map_or_else(|| self.scan(&*file, bytes), Ok)
    }

    /// Whether all of it is committed and it ends with a footer.
    pub(crate) fn has_durable_footer(&self) -> bool {
        self.has_footer() && self.bytes_committed() >= self.bytes()
    }

    /// What the footer says; none when it is damaged.
    pub(crate) fn footer(&self, place: &Place) -> io::Result<Option<Contents>> {
        let file = self.file(place)?;
        let bytes = self.bytes_committed();
        if file.bytes()? < bytes { Ok(None) } else { read_footer(&*file, self.number, bytes) }
    }

    /// Whether the footer is as it was written; a segment without a committed one has a good one.
    pub(crate) fn has_good_footer(&self, place: &Place) -> io::Result<bool> {
        if !self.has_durable_footer() {
            return Ok(true);
        }
        let file = self.file(place)?;
        Ok(read_footer(&*file, self.number, self.bytes_committed())?.is_some())
    }

    /// Reads every group's header; goes on behind a damaged one at the next good one.
    pub(crate) fn scan(&self, file: &dyn File, bytes: u64) -> io::Result<Contents> {
        let mut contents = Contents { is_whole: true, ..Contents::default() };
        // Of a segment that is committed in part the footer is not.
        let has_footer = self.has_footer() && bytes >= self.bytes();
        let footer = if has_footer { footer_offset(file, bytes)? } else { None };
        let end = footer.unwrap_or(bytes);
        let mut offset = HEAD_BYTES;
        while offset < end {
            let Ok(at) = u32::try_from(offset / PLACE_BYTES) else { break };
            match read_heading(file, self.number, self.tenant, at, end)? {
                Some(heading) => {
                    contents.add(self.number, at, heading.form, &heading.table);
                    offset += heading.bytes();
                }
                None => {
                    contents.is_whole = false;
                    offset += PLACE_BYTES;
                }
            }
        }
        Ok(contents)
    }
}

/// Where the footer begins, if the end of the file says so credibly.
fn footer_offset(file: &dyn File, bytes: u64) -> io::Result<Option<u64>> {
    let Some(start) = bytes.checked_sub(TAIL_BYTES as u64) else { return Ok(None) };
    let mut tail = [0; TAIL_BYTES];
    file.read_exact_at(&mut tail, start)?;
    let Some((tail, _)) = split::<FooterTail>(&tail) else { return Ok(None) };
    let offset = tail.offset.get();
    let is_good = tail.magic == FOOTER_MAGIC && (HEAD_BYTES..=start).contains(&offset);
    Ok(is_good.then_some(offset))
}

fn read_footer(file: &dyn File, segment: u32, bytes: u64) -> io::Result<Option<Contents>> {
    let Some(offset) = footer_offset(file, bytes)? else { return Ok(None) };
    let Ok(n) = usize::try_from(bytes - offset) else { return Ok(None) };
    let mut footer = vec![0; n];
    file.read_exact_at(&mut footer, offset)?;
    let Some((checked, stated)) = footer.split_at_checked(n.saturating_sub(4)) else {
        return Ok(None);
    };
    if crc(&[checked]).to_le_bytes() != stated {
        return Ok(None);
    }
    let tail = footer.get(n.saturating_sub(TAIL_BYTES)..).and_then(split::<FooterTail>);
    if let Some((tail, _)) = tail {
        check_version("the footer of a segment", tail.version)?;
    }
    Ok(parse_footer(&footer, segment))
}

fn parse_footer(footer: &[u8], segment: u32) -> Option<Contents> {
    let (mut rest, tail) = footer.split_at_checked(footer.len().checked_sub(TAIL_BYTES)?)?;
    let (tail, _) = split::<FooterTail>(tail)?;
    let mut contents = Contents { is_whole: true, ..Contents::default() };
    while !rest.is_empty() {
        let (group, after) = split::<FooterGroup>(rest)?;
        let n = usize::from(group.n_records.get()) * size_of::<RecordRow>();
        let (rows, after) = after.split_at_checked(n)?;
        let form = form_of(group.flags.get())?;
        contents.add(segment, group.place.get(), form, &parse_rows(rows));
        rest = after;
    }
    if !are_zero(&[&tail.zero, tail.zeros.as_bytes()]) {
        return None;
    }
    let is_counted = contents.groups.len() == tail.n_groups.get() as usize
        && contents.records.len() == tail.n_records.get() as usize;
    is_counted.then_some(contents)
}

/// Whether a file begins as this segment of this tenant does.
pub(crate) fn has_head(
    file: &dyn File,
    number: u32,
    store: [u8; 16],
    tenant: TenantId,
) -> io::Result<bool> {
    let mut bytes = [0; HEAD_BYTES as usize];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        other => other?,
    }
    let Ok(head) = SegmentHead::ref_from_bytes(&bytes) else { return Ok(false) };
    let (checked, _) = bytes.split_at(HEAD_BYTES as usize - 4);
    if head.magic != SEGMENT_MAGIC || head.crc.get() != crc(&[checked]) {
        return Ok(false);
    }
    check_version("a segment", head.version)?;
    Ok(head.number.get() == number
        && head.store == store
        && head.tenant == tenant.to_bytes()
        && are_zero(&[&head.zero, head.zeros.as_bytes(), &head.more_zeros]))
}
