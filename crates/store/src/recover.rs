//! What opening does: from whatever a crash left to the last acknowledged commit.
//!
//! Every case is in docs/store-format.md, section 11. Nothing here is written that opening again
//! would not write, so a second crash in the middle is another first.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};

use offsite_model::{Digest, OpenMode, SessionId, TenantId};

use crate::catalog::{
    Order, RedbCatalog, Rows, Table, Transactions, TypedRows, TypedRowsMut, Value,
};
use crate::commit::Queue;
use crate::draft::{DRAFTS, DraftRow, Kept, Log, session_in};
use crate::error::StoreError;
use crate::holds::Holds;
use crate::index::TenantIndex;
use crate::index::run::{Run, RunError};
use crate::journal::{Journal, Link};
use crate::layout::{Folder, Place, Root};
use crate::quarantine::Quarantine;
use crate::reserve::Reserve;
use crate::rows::{
    self, COLLECT, CollectRow, ENTRIES, Entry, MANIFESTS, ManifestRow, SEGMENTS, STATE, STATE_KEY,
    SegmentRow, StateRow,
};
use crate::segment::{Segment, has_head};
use crate::store::{Alarm, Core, NUMBERS_BLOCK, SCAN_ROWS, Settings};

pub(crate) fn open(
    place: Place,
    settings: Settings,
    is_read_only: bool,
) -> Result<Core, StoreError> {
    place.check_is_store()?;
    // Before the lock, so that an unknown version is named even where we may not write.
    place.read_root()?;
    let lock = place.lock()?;
    remove_temporary_files(&place)?;
    let reserve = if is_read_only {
        Reserve::default()
    } else {
        Reserve::open(&place, settings.reserve_bytes, settings.reserve_percent)
    };
    let Root { store: id, fence: root_fence, needs } = place.read_root()?;
    // The fence goes up before anything else is written: an older writer stops here.
    let mut fence = root_fence + 1;
    place.write_root(Root { store: id, fence, needs })?;
    let catalog = RedbCatalog::open(&*place.files, &place.catalog())?;
    let state = read_state(&catalog)?;
    if state.fence >= fence {
        fence = state.fence + 1;
        place.write_root(Root { store: id, fence, needs })?;
    }
    let numbers = raise_fence(&catalog, fence)?;
    let mut alarms = Vec::new();
    let journal = open_journal(&place, id, &catalog, &state, &mut alarms)?;
    place.make_folder(Folder::Drafts)?;
    let drafts = open_drafts(&place, id, &catalog, fence)?;
    let quarantine = Quarantine::open(&catalog)?;
    let damaged = quarantine.segments();
    let segments = open_segments(&place, id, &catalog, (&drafts, &damaged), &mut alarms)?;
    let manifests = numbers_in::<ManifestRow>(&catalog, MANIFESTS)?;
    remove_strangers(&place, Folder::Manifests, &manifests, &BTreeSet::new())?;
    let (index, uncovered) = open_index(&place, id, &segments, &mut alarms)?;
    let collected =
        catalog.read::<_, StoreError>(|rows| Ok(rows.value::<CollectRow>(COLLECT, STATE_KEY)?))?;
    let holds = Arc::new(Holds::new(collected.unwrap_or_default().epoch));
    let core = Core {
        place,
        id,
        fence,
        settings,
        reserve,
        catalog,
        numbers: Mutex::new(numbers),
        index: RwLock::new(index),
        segments: RwLock::new(segments),
        journal: Mutex::new(journal),
        queue: Queue::default(),
        upkeep: Mutex::new(()),
        is_poisoned: AtomicBool::new(false),
        is_read_only,
        alarms: Mutex::new(alarms),
        trails: Mutex::default(),
        nowhere: Mutex::default(),
        quarantine,
        holds,
        collecting: Mutex::new(()),
        drafts: Mutex::new(drafts),
        next_session: AtomicU64::new(1),
        _lock: lock,
    };
    {
        let _upkeep = crate::store::lock(&core.upkeep);
        for (tenant, numbers) in uncovered {
            core.read_segments(tenant, numbers)?;
        }
    }
    for number in damaged {
        if core.segment(number).is_none() {
            core.forget_aside(number)?;
        }
    }
    core.reserve.fill_if_possible(&core.place);
    if is_read_only {
        // What a caller changed in tables of its own would be gone unnoticed.
        core.catalog.stop();
    }
    Ok(core)
}

/// Removes what an interrupted replacement or rebuild left.
pub(crate) fn remove_temporary_files(place: &Place) -> Result<(), StoreError> {
    let directory = place.directory();
    let names = place.files.list(directory).map_err(StoreError::io("list the store"))?;
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        place.remove(&directory.join(name))?;
    }
    place.remove(&place.new_catalog())
}

pub(crate) fn read_state(catalog: &RedbCatalog) -> Result<StateRow, StoreError> {
    let state =
        catalog.read::<_, StoreError>(|rows| Ok(rows.value::<StateRow>(STATE, STATE_KEY)?))?;
    state.ok_or_else(|| {
        StoreError::Damaged(
            "the catalog does not belong to a store; rebuild makes it again".to_owned(),
        )
    })
}

/// Takes the catalog over and reserves file numbers, in one transaction.
fn raise_fence(catalog: &RedbCatalog, fence: u64) -> Result<std::ops::Range<u32>, StoreError> {
    catalog.write::<_, StoreError>(|rows| {
        let state = rows.value::<StateRow>(STATE, STATE_KEY)?.unwrap_or_default();
        let start = state.next_number;
        let end = start.checked_add(NUMBERS_BLOCK).ok_or_else(|| {
            StoreError::OutOfBounds("the store has used all its file numbers".to_owned())
        })?;
        rows.put_value(STATE, STATE_KEY, &StateRow { fence, next_number: end, ..state })?;
        Ok(start..end)
    })
}

/// Brings journal and catalog together again.
fn open_journal(
    place: &Place,
    id: [u8; 16],
    catalog: &RedbCatalog,
    state: &StateRow,
    alarms: &mut Vec<Alarm>,
) -> Result<Journal, StoreError> {
    let known = Link {
        entry: state.synced_entry,
        digest: Digest::from_bytes(state.synced_digest),
        bytes: state.synced_bytes,
    };
    if let Err(error) = place.files.metadata(&place.journal())
        && error.kind() == io::ErrorKind::NotFound
    {
        Journal::create(place, id).map_err(StoreError::io("make the journal again"))?;
    }
    let (mut journal, found) = Journal::open(place, id, known)?;
    let is_forked = found.entries.iter().any(|(entry, link)| {
        entry.number == state.entry && *link.digest.as_bytes() != state.entry_digest
    });
    if !found.is_known || is_forked {
        // The catalog stands; what the journal says beyond it is not believed.
        alarms.push(Alarm::JournalDamaged);
        journal.last = known;
    } else {
        if !found.entries.is_empty() {
            // A process that died may have left them in the system's cache alone.
            journal.sync().map_err(StoreError::io("sync the journal"))?;
        }
        let lost: Vec<Entry> = found
            .entries
            .into_iter()
            .map(|(entry, _)| entry)
            .filter(|entry| entry.number > state.entry)
            .collect();
        restore_commits(catalog, &journal, &lost, alarms)?;
    }
    journal.cut_tail().map_err(StoreError::io("cut the journal's torn tail"))?;
    let missing = entries_after(catalog, journal.last.entry)?;
    if !missing.is_empty() {
        journal.append(&missing).map_err(StoreError::io("complete the journal"))?;
    }
    Ok(journal)
}

/// Applies entries that the catalog lost.
fn restore_commits(
    catalog: &RedbCatalog,
    journal: &Journal,
    lost: &[Entry],
    alarms: &mut Vec<Alarm>,
) -> Result<(), StoreError> {
    if lost.is_empty() {
        return Ok(());
    }
    catalog.write::<_, StoreError>(|rows| {
        let state = rows.value::<StateRow>(STATE, STATE_KEY)?.unwrap_or_default();
        for entry in lost {
            rows::apply(rows, entry)?;
        }
        let state = StateRow {
            entry: journal.last.entry,
            entry_digest: *journal.last.digest.as_bytes(),
            ..state
        };
        Ok(rows.put_value(STATE, STATE_KEY, &state)?)
    })?;
    alarms.push(Alarm::CommitsRestored { n_entries: lost.len() as u64 });
    Ok(())
}

/// Entries that the catalog has and the journal has not: number, payload, digest.
fn entries_after(
    catalog: &RedbCatalog,
    last: u64,
) -> Result<Vec<(u64, Vec<u8>, Digest)>, StoreError> {
    let rows = catalog.read::<_, StoreError>(|rows| {
        let after = last.to_be_bytes();
        Ok(rows.scan_prefix(ENTRIES, b"", Some(&after), Order::Ascending, usize::MAX)?)
    })?;
    let entries = rows.into_iter().map(|(_, payload)| {
        let entry = rows::decode_entry(&payload)?;
        let digest = Digest::of(&payload);
        Ok((entry.number, payload, digest))
    });
    entries.collect()
}

/// All rows of a table whose keys are numbers.
pub(crate) fn rows_in<T: Value>(
    rows: &dyn Rows,
    table: Table,
) -> Result<Vec<(u32, T)>, StoreError> {
    let mut found = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let (order, last) = (Order::Ascending, after.as_deref());
        let rows = rows.scan_values::<T>(table, b"", last, order, SCAN_ROWS)?;
        let Some((last, _)) = rows.last() else { return Ok(found) };
        after = Some(last.clone());
        for (key, row) in rows {
            let number = key.try_into().map(u32::from_be_bytes).map_err(|_| {
                StoreError::Damaged(format!("a key of table {} in the catalog", table.name()))
            })?;
            found.push((number, row));
        }
    }
}

fn numbers_in<T: Value>(catalog: &RedbCatalog, table: Table) -> Result<BTreeSet<u32>, StoreError> {
    let rows = catalog.read(|rows| rows_in::<T>(rows, table))?;
    Ok(rows.into_iter().map(|(number, _)| number).collect())
}

/// Removes numbered files that no row names: work of sessions that never committed, and what a
/// collection had no time to remove. What is damaged is put in quarantine.
fn remove_strangers(
    place: &Place,
    folder: Folder,
    known: &BTreeSet<u32>,
    damaged: &BTreeSet<u32>,
) -> Result<BTreeSet<u32>, StoreError> {
    let mut there = BTreeSet::new();
    for number in place.numbers(folder)? {
        if known.contains(&number) {
            there.insert(number);
        } else if damaged.contains(&number) {
            place.put_in_quarantine(number)?;
        } else {
            place.remove(&place.file(folder, number))?;
        }
    }
    Ok(there)
}

/// The drafts that are good, and the segments they keep. How much of each log is believed is
/// durable when this returns: cutting segments to what the logs say comes after it.
fn open_drafts(
    place: &Place,
    id: [u8; 16],
    catalog: &RedbCatalog,
    fence: u64,
) -> Result<BTreeMap<SessionId, Kept>, StoreError> {
    let rows = catalog.read::<_, StoreError>(|rows| {
        Ok(rows.scan_values::<DraftRow>(DRAFTS, b"", None, Order::Ascending, usize::MAX)?)
    })?;
    let known = rows.iter().map(|(_, row)| row.log).collect();
    remove_strangers(place, Folder::Drafts, &known, &BTreeSet::new())?;
    let (mut drafts, mut fresh) = (BTreeMap::new(), Vec::new());
    for (key, row) in rows {
        let tenant = TenantId::from_bytes(row.tenant);
        let believed = Log::kept(place, (row.log, row.end), (id, tenant))
            .map_err(StoreError::io(format!("read draft {:08x}", row.log)))?;
        // Without its log a draft keeps nothing; who resumes it is told so.
        let believed = believed.unwrap_or_default();
        let (log, end) = (row.log, Some(believed.end));
        if row.end.is_none() {
            fresh.push((key.clone(), DraftRow { end, ..row }));
        }
        drafts.insert(session_in(&key)?, Kept::earlier(tenant, log, believed));
    }
    if !fresh.is_empty() {
        catalog.write::<_, StoreError>(|rows| {
            let state = rows.value::<StateRow>(STATE, STATE_KEY)?;
            state.filter(|state| state.fence == fence).ok_or(StoreError::Fenced)?;
            fresh.iter().try_for_each(|(key, row)| Ok(rows.put_value(DRAFTS, key, row)?))
        })?;
    }
    Ok(drafts)
}

fn open_segments(
    place: &Place,
    id: [u8; 16],
    catalog: &RedbCatalog,
    (drafts, damaged): (&BTreeMap<SessionId, Kept>, &BTreeSet<u32>),
    alarms: &mut Vec<Alarm>,
) -> Result<BTreeMap<u32, Arc<Segment>>, StoreError> {
    let rows = catalog.read(|rows| rows_in::<SegmentRow>(rows, SEGMENTS))?;
    let mut kept: BTreeMap<u32, (TenantId, u64, bool)> = BTreeMap::new();
    for draft in drafts.values() {
        for (number, (bytes, is_closed)) in &draft.segments {
            let known = kept.entry(*number).or_insert((draft.tenant, *bytes, *is_closed));
            if known.1 < *bytes {
                *known = (draft.tenant, *bytes, *is_closed);
            }
        }
    }
    let known = rows.iter().map(|(number, _)| *number).chain(kept.keys().copied()).collect();
    let there = remove_strangers(place, Folder::Segments, &known, damaged)?;
    let mut segments = BTreeMap::new();
    for (number, row) in rows {
        let tenant = TenantId::from_bytes(row.tenant);
        // A draft may know more of it than the last commit that refers to it.
        let longer = kept.remove(&number).filter(|(_, bytes, _)| *bytes > row.bytes);
        let (bytes, is_closed) =
            longer.map_or((row.bytes, row.is_closed), |(_, bytes, is_closed)| (bytes, is_closed));
        let is_good = there.contains(&number) && trim(place, id, number, tenant, bytes)?;
        if !is_good {
            alarms.push(Alarm::SegmentDamaged { segment: number });
        }
        let segment = Segment::kept(number, tenant, bytes, row.bytes, is_closed);
        segments.insert(number, Arc::new(segment));
    }
    for (number, (tenant, bytes, is_closed)) in kept {
        // One that is not there has gone with the draft of its owner; a commit checks every record.
        if there.contains(&number) && trim(place, id, number, tenant, bytes)? {
            let segment = Segment::kept(number, tenant, bytes, 0, is_closed);
            segments.insert(number, Arc::new(segment));
        }
    }
    Ok(segments)
}

/// Cuts what stands behind a segment's committed bytes; whether those are all there.
fn trim(
    place: &Place,
    id: [u8; 16],
    number: u32,
    tenant: TenantId,
    bytes: u64,
) -> Result<bool, StoreError> {
    let doing = || StoreError::io(format!("open segment {number:08x}"));
    let path = place.file(Folder::Segments, number);
    let found = place.files.metadata(&path).map_err(doing())?.bytes;
    let mode = if found > bytes { OpenMode::Write } else { OpenMode::Read };
    let file = place.files.open(&path, mode).map_err(doing())?;
    // Looked at first: what another version wrote is not cut.
    let is_ours = has_head(&*file, number, id, tenant).map_err(doing())?;
    if found > bytes {
        file.set_bytes(bytes).map_err(doing())?;
        file.sync().map_err(doing())?;
    }
    Ok(found >= bytes && is_ours)
}

/// Segments that no run covers, per tenant.
type Uncovered = BTreeMap<TenantId, Vec<u32>>;

/// Opens the runs that can be believed, and says which segments none of them covers.
fn open_index(
    place: &Place,
    id: [u8; 16],
    segments: &BTreeMap<u32, Arc<Segment>>,
    alarms: &mut Vec<Alarm>,
) -> Result<(BTreeMap<TenantId, TenantIndex>, Uncovered), StoreError> {
    let mut index: BTreeMap<TenantId, TenantIndex> = BTreeMap::new();
    let mut covered = BTreeSet::new();
    for number in place.numbers(Folder::Runs)? {
        match Run::open(place, number, id) {
            Ok((tenant, run)) if is_of(&run, tenant, segments) => {
                covered.extend(run.covered.iter().copied());
                let tenant = index.entry(tenant).or_default();
                Arc::make_mut(&mut tenant.runs).push(Arc::new(run));
            }
            Ok(_) | Err(RunError::Damaged) => {
                alarms.push(Alarm::RunDropped { run: number });
                place.remove(&place.file(Folder::Runs, number))?;
            }
            Err(error) => return Err(crate::upkeep::run_error(number, error)),
        }
    }
    let mut uncovered = Uncovered::new();
    for (number, segment) in segments.iter().filter(|(_, segment)| segment.bytes_committed() == 0) {
        // Removed when no draft keeps it any more.
        index.entry(segment.tenant).or_default().orphans.push(*number);
    }
    for (number, segment) in segments.iter().filter(|(number, _)| !covered.contains(number)) {
        uncovered.entry(segment.tenant).or_default().push(*number);
    }
    Ok((index, uncovered))
}

/// Whether a run speaks only of committed segments of its tenant. An old copy that was put back
/// may name segments that are gone, and a "have" from it would be a lie.
fn is_of(run: &Run, tenant: TenantId, segments: &BTreeMap<u32, Arc<Segment>>) -> bool {
    run.covered
        .iter()
        .all(|number| segments.get(number).is_some_and(|segment| segment.tenant == tenant))
}

#[cfg(test)]
pub(crate) fn count_rows(catalog: &RedbCatalog) -> (u32, u32) {
    let count = |n: usize| u32::try_from(n).unwrap();
    (
        count(numbers_in::<SegmentRow>(catalog, SEGMENTS).unwrap().len()),
        count(numbers_in::<ManifestRow>(catalog, MANIFESTS).unwrap().len()),
    )
}
