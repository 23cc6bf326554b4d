//! A key run: sorted entries of one tenant in an immutable file, with fences and a filter.

use std::cmp::Ordering;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering as Memory};

use offsite_model::{File, Key, OpenMode, TenantId};
use zerocopy::{FromBytes, IntoBytes};

use super::IndexKey;
use super::filter::{BLOCK_BYTES, Filter};
use crate::format::{
    FILE_VERSION, RUN_MAGIC, RunHead, RunRow, are_zero, check_version, crc, split,
};
use crate::group::Form;
use crate::layout::{Folder, Place};
use crate::segment::RecordPlace;

const PAGE_BYTES: usize = 4096;
const ROW_BYTES: usize = size_of::<RunRow>();
pub(crate) const PAGE_ROWS: usize = (PAGE_BYTES - 4) / ROW_BYTES;
const ROWS_BYTES: usize = PAGE_ROWS * ROW_BYTES;
/// Pages of a run from which on they are asked for before they are read: 32 MiB.
const PAGES_ASKED_FOR_MIN: u32 = 1 << 13;
const FORM_BIT: u32 = 1 << 20;
/// Most bytes of fences, filter and covered segments that are believed at all.
const TABLES_BYTES_MAX: u64 = 1 << 30;

const _: () = assert!(ROWS_BYTES + 4 == PAGE_BYTES);

/// Why a run cannot be used.
#[derive(Debug)]
pub(crate) enum RunError {
    /// The disk failed.
    Io(io::Error),
    /// Its bytes are not what was written.
    Damaged,
}

impl From<io::Error> for RunError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged,
            _ => Self::Io(error),
        }
    }
}

/// An open run.
pub(crate) struct Run {
    pub(crate) number: u32,
    pub(crate) covered: Vec<u32>,
    pub(crate) n_entries: u64,
    n_pages: u32,
    fences: Vec<u64>,
    filter: Filter,
    file: Arc<dyn File>,
    /// The session whose segments it covers while they are not committed; [`PUBLISHED`] afterwards.
    owner: AtomicU64,
    /// Whether a page of it was found damaged: it is being replaced, and not merged with others.
    pub(crate) is_doubtful: AtomicBool,
}

/// The owner of a run that is durable and has its name.
pub(crate) const PUBLISHED: u64 = 0;

impl Run {
    pub(crate) fn owner(&self) -> u64 {
        self.owner.load(Memory::Acquire)
    }

    /// Gives a provisional run its name, durably. Everything it covers must be committed: after a
    /// crash nothing else would stand behind its answers.
    pub(crate) fn publish(&self, place: &Place) -> Result<(), RunError> {
        self.file.sync()?;
        let path = place.file(Folder::Runs, self.number);
        place.files.rename(&place.temporary(Folder::Runs, self.number), &path)?;
        place.files.sync_dir(&place.folder(Folder::Runs))?;
        self.owner.store(PUBLISHED, Memory::Release);
        Ok(())
    }

    /// Its file, by the name that it has now.
    pub(crate) fn path(&self, place: &Place) -> std::path::PathBuf {
        match self.owner() {
            PUBLISHED => place.file(Folder::Runs, self.number),
            _ => place.temporary(Folder::Runs, self.number),
        }
    }

    /// Opens a run and checks everything but its pages, which are checked when they are read.
    pub(crate) fn open(
        place: &Place,
        number: u32,
        store: [u8; 16],
    ) -> Result<(TenantId, Self), RunError> {
        let file = place.files.open(&place.file(Folder::Runs, number), OpenMode::Read)?;
        let mut page = [0; PAGE_BYTES];
        file.read_exact_at(&mut page, 0)?;
        let (checked, stated) = page.split_at(PAGE_BYTES - 4);
        let (head, rest) = split::<RunHead>(checked).ok_or(RunError::Damaged)?;
        if head.magic != RUN_MAGIC || crc(&[checked]).to_le_bytes() != stated {
            return Err(RunError::Damaged);
        }
        check_version("a key run", head.version)?;
        let is_ours = are_zero(&[&head.zero, head.zeros.as_bytes(), rest])
            && head.number.get() == number
            && head.store == store;
        let n_pages = head.n_pages.get();
        let n_entries = head.n_entries.get();
        if !is_ours || n_entries.div_ceil(PAGE_ROWS as u64) != u64::from(n_pages) {
            return Err(RunError::Damaged);
        }
        let tables_offset = PAGE_BYTES as u64 * (1 + u64::from(n_pages));
        let fences_bytes = u64::from(n_pages) * 8;
        let filter_bytes = u64::from(head.n_filter_blocks.get()) * BLOCK_BYTES as u64;
        let covered_bytes = u64::from(head.n_covered.get()) * 4;
        let tables_bytes = fences_bytes + filter_bytes + covered_bytes;
        if tables_bytes > TABLES_BYTES_MAX || file.bytes()? != tables_offset + tables_bytes {
            return Err(RunError::Damaged);
        }
        let read = |offset: u64, bytes: u64| -> Result<Vec<u8>, RunError> {
            let mut read = vec![0; bytes as usize];
            file.read_exact_at(&mut read, tables_offset + offset)?;
            Ok(read)
        };
        let fences = read(0, fences_bytes)?;
        let filter = Filter::read(head.n_filter_blocks.get(), |bytes| {
            file.read_exact_at(bytes, tables_offset + fences_bytes)
        })?;
        let filter = filter.ok_or(RunError::Damaged)?;
        let covered = read(fences_bytes + filter_bytes, covered_bytes)?;
        if crc(&[&fences, filter.as_bytes(), &covered]) != head.tables_crc.get() {
            return Err(RunError::Damaged);
        }
        let tenant = TenantId::from_bytes(head.tenant);
        let fences = fences.as_chunks().0.iter().map(|bytes| u64::from_be_bytes(*bytes));
        let covered = covered.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
        let run = Self {
            number,
            covered: covered.collect(),
            n_entries,
            n_pages,
            fences: fences.collect(),
            filter,
            file,
            owner: AtomicU64::new(PUBLISHED),
            is_doubtful: AtomicBool::new(false),
        };
        Ok((tenant, run))
    }

    /// Looks a key up: missing by the filter, or exactly by its page.
    pub(crate) fn find(&self, key: &IndexKey) -> Result<Option<RecordPlace>, RunError> {
        self.probe().find(key)
    }

    /// False only when the key is not here.
    pub(crate) fn may_have(&self, key: &Key) -> bool {
        self.filter.may_have(key)
    }

    /// To be called before [`Run::may_have`] is, for some of the keys that it is asked for.
    pub(crate) fn fetch_filter(&self, keys: &[Key]) {
        self.filter.fetch(keys);
    }

    /// Asks the disk for the page of a key that is looked up soon, where pages are too many to be
    /// in memory anyway.
    pub(crate) fn will_need(&self, key: &IndexKey) {
        if self.n_pages < PAGES_ASKED_FOR_MIN {
            return;
        }
        let index = self.first_page(&key.0) as u64;
        self.file.advise(PAGE_BYTES as u64 * (1 + index), PAGE_BYTES as u64, true);
    }

    /// The first page on which a key may stand: entries that share eight bytes with it may begin on
    /// the page before the first equal fence.
    fn first_page(&self, key: &Key) -> usize {
        let fence = fence_of(key);
        self.fences.partition_point(|other| *other < fence).saturating_sub(1)
    }

    /// For looking several keys up, ascending: a page they share is read once.
    pub(crate) const fn probe(&self) -> Probe<'_> {
        Probe { run: self, page: None }
    }

    /// Reads the page of this index and checks it.
    fn page(&self, index: u32) -> Result<Page, RunError> {
        // In a box, since pages are handed on.
        let mut bytes = Box::new([0; PAGE_BYTES]);
        self.file.read_exact_at(&mut *bytes, PAGE_BYTES as u64 * (1 + u64::from(index)))?;
        let (rows, stated) = bytes.split_at(ROWS_BYTES);
        // The index is under the checksum, so that a page of another place is noticed.
        if crc(&[rows, &index.to_le_bytes()]).to_le_bytes() != stated {
            return Err(RunError::Damaged);
        }
        let before = u64::from(index) * PAGE_ROWS as u64;
        let n_rows = self.n_entries.saturating_sub(before).min(PAGE_ROWS as u64) as usize;
        let page = Page { bytes, n_rows };
        let has_unknown_bits = |row: &RunRow| size_and_form(row) >= FORM_BIT * 2;
        if page.rows().iter().any(has_unknown_bits) {
            return Err(RunError::Damaged);
        }
        Ok(page)
    }

    /// All entries in order, page by page.
    pub(crate) fn entries(
        &self,
    ) -> impl Iterator<Item = Result<(IndexKey, RecordPlace), RunError>> + '_ {
        (0..self.n_pages).flat_map(|index| {
            let (rows, error) = match self.page(index) {
                Ok(page) => (page.rows().to_vec(), None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            let rows = rows.into_iter().map(|row| Ok((key_of(&row), place_of(&row))));
            rows.chain(error)
        })
    }
}

/// A page that was read and checked.
struct Page {
    bytes: Box<[u8; PAGE_BYTES]>,
    n_rows: usize,
}

impl Page {
    fn rows(&self) -> &[RunRow] {
        let rows = self.bytes.get(..self.n_rows * ROW_BYTES).unwrap_or_default();
        <[RunRow]>::ref_from_bytes(rows).unwrap_or_default()
    }
}

/// A look-up in a run; it keeps the page it read last.
pub(crate) struct Probe<'a> {
    run: &'a Run,
    page: Option<(u32, Page)>,
}

impl Probe<'_> {
    /// Looks a key up: missing by the filter, or exactly by its page.
    pub(crate) fn find(&mut self, key: &IndexKey) -> Result<Option<RecordPlace>, RunError> {
        let run = self.run;
        if !run.filter.may_have(&key.0) {
            return Ok(None);
        }
        let fence = fence_of(&key.0);
        let candidates = run.fences.iter().enumerate().skip(run.first_page(&key.0));
        for (index, _) in candidates.take_while(|(_, other)| **other <= fence) {
            let index = index as u32;
            let page = match &mut self.page {
                Some((at, page)) if *at == index => page,
                other => &mut other.insert((index, run.page(index)?)).1,
            };
            let rows = page.rows();
            if let Ok(at) = rows.binary_search_by(|row| compare(row, key)) {
                return Ok(rows.get(at).map(place_of));
            }
        }
        Ok(None)
    }
}

/// Big-endian, so that fences sort as keys do.
fn fence_of(key: &Key) -> u64 {
    key.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn size_and_form(row: &RunRow) -> u32 {
    let [a, b, c] = row.size_and_form;
    u32::from_le_bytes([a, b, c, 0])
}

fn key_of(row: &RunRow) -> IndexKey {
    let is_encrypted = size_and_form(row) & FORM_BIT != 0;
    let form = if is_encrypted { Form::Encrypted } else { Form::Plain };
    (Key::from_bytes(row.key), form)
}

fn place_of(row: &RunRow) -> RecordPlace {
    RecordPlace {
        segment: row.segment.get(),
        place: row.place.get(),
        slot: row.slot,
        raw_bytes: (size_and_form(row) & (FORM_BIT - 1)) + 1,
    }
}

fn compare(row: &RunRow, key: &IndexKey) -> Ordering {
    key_of(row).cmp(key)
}

fn row_of(key: &IndexKey, place: &RecordPlace) -> RunRow {
    let form = if key.1 == Form::Encrypted { FORM_BIT } else { 0 };
    let packed = (place.raw_bytes.saturating_sub(1) & (FORM_BIT - 1)) | form;
    let [a, b, c, _] = packed.to_le_bytes();
    RunRow {
        key: *key.0.as_bytes(),
        segment: place.segment.into(),
        place: place.place.into(),
        slot: place.slot,
        size_and_form: [a, b, c],
    }
}

/// What a run is to be.
pub(crate) struct Plan<'a> {
    pub(crate) number: u32,
    pub(crate) store: [u8; 16],
    pub(crate) tenant: TenantId,
    pub(crate) covered: &'a [u32],
    /// Most entries it will have.
    pub(crate) n_max: u64,
    /// The session it is provisional for, or [`PUBLISHED`].
    pub(crate) owner: u64,
}

/// Writes a run of sorted entries. A published one is durable and has its name, all or nothing; a
/// provisional one keeps its temporary name, which no opening believes.
pub(crate) fn write(
    place: &Place,
    plan: &Plan<'_>,
    entries: impl Iterator<Item = Result<(IndexKey, RecordPlace), RunError>>,
) -> Result<Run, RunError> {
    let &Plan { number, store, tenant, covered, n_max, owner } = plan;
    let temporary = place.temporary(Folder::Runs, number);
    let file = place.files.open(&temporary, OpenMode::CreateNew)?;
    let mut filter = Filter::for_keys(n_max);
    let mut fences = Vec::new();
    let mut page = Vec::with_capacity(PAGE_BYTES);
    let mut n_entries = 0_u64;
    let mut offset = PAGE_BYTES as u64;
    let mut end_page = |page: &mut Vec<u8>, index: u32| -> io::Result<()> {
        page.resize(ROWS_BYTES, 0);
        let checksum = crc(&[page, &index.to_le_bytes()]);
        page.extend_from_slice(&checksum.to_le_bytes());
        file.write_all_at(page, offset)?;
        offset += PAGE_BYTES as u64;
        page.clear();
        Ok(())
    };
    let mut last = None;
    for entry in entries {
        let (key, found) = entry?;
        // Two runs may hold the same record while one replaces the other.
        if last == Some(key) {
            continue;
        }
        last = Some(key);
        if page.is_empty() {
            fences.push(fence_of(&key.0));
        }
        filter.add(&key.0);
        page.extend_from_slice(row_of(&key, &found).as_bytes());
        n_entries += 1;
        if page.len() == ROWS_BYTES {
            end_page(&mut page, fences.len() as u32 - 1)?;
        }
    }
    if !page.is_empty() {
        end_page(&mut page, fences.len() as u32 - 1)?;
    }
    let fence_bytes: Vec<u8> = fences.iter().flat_map(|fence| fence.to_be_bytes()).collect();
    let covered_bytes: Vec<u8> = covered.iter().flat_map(|number| number.to_le_bytes()).collect();
    let head = RunHead {
        magic: RUN_MAGIC,
        version: FILE_VERSION,
        zero: [0; 3],
        number: number.into(),
        zeros: 0.into(),
        store,
        tenant: tenant.to_bytes(),
        n_entries: n_entries.into(),
        n_covered: (covered.len() as u32).into(),
        n_filter_blocks: filter.n_blocks().into(),
        n_pages: (fences.len() as u32).into(),
        tables_crc: crc(&[&fence_bytes, filter.as_bytes(), &covered_bytes]).into(),
    };
    let tables = [&fence_bytes[..], filter.as_bytes(), &covered_bytes].concat();
    file.write_all_at(&tables, PAGE_BYTES as u64 * (1 + fences.len() as u64))?;
    let mut first = head.as_bytes().to_vec();
    first.resize(PAGE_BYTES - 4, 0);
    let checksum = crc(&[&first]);
    first.extend_from_slice(&checksum.to_le_bytes());
    file.write_all_at(&first, 0)?;
    let n_pages = fences.len() as u32;
    let run = Run {
        number,
        covered: covered.to_vec(),
        n_entries,
        n_pages,
        fences,
        filter,
        file,
        owner: AtomicU64::new(owner),
        is_doubtful: AtomicBool::new(false),
    };
    if owner == PUBLISHED {
        run.publish(place)?;
    }
    Ok(run)
}

/// Merges sorted runs into one order; equal keys come one after another, the newer run's first: a
/// record that is stored again is so because its older place has gone, or is about to.
pub(crate) fn merge(
    runs: &[Arc<Run>],
) -> impl Iterator<Item = Result<(IndexKey, RecordPlace), RunError>> + '_ {
    let mut heads: Vec<_> = runs.iter().map(|run| run.entries().peekable()).collect();
    std::iter::from_fn(move || {
        let mut smallest: Option<(usize, IndexKey)> = None;
        for (index, head) in heads.iter_mut().enumerate() {
            match head.peek() {
                None => {}
                // An error ends the merge, whatever stands before it.
                Some(Err(_)) => return head.next(),
                Some(Ok((key, _))) if smallest.is_none_or(|(_, least)| *key <= least) => {
                    smallest = Some((index, *key));
                }
                Some(Ok(_)) => {}
            }
        }
        let (index, _) = smallest?;
        heads.get_mut(index)?.next()
    })
}
