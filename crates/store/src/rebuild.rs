//! Making the catalog and the index again from what else lies in the store's directory (C-08).
//!
//! The journal has every commit, mark, purge, collection and lock whole, so replaying it through
//! [`rows::apply`], which every commit went through, makes the same rows: points that were purged
//! stay purged, locks stay. It is believed up to its first bad entry. A manifest that it does not
//! name is published to nobody: it is put in a folder, with what may belong to it, and listed.
//! Key runs are dropped, and made by the next opening.
//!
//! Until the new catalog takes its name nothing is changed that a second try would not do again.
//!
//! **Absent:** what only the catalog knew: drafts, and which groups are damaged. A source sends
//! again, a scrub finds again.

mod doubt;

use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use offsite_model::{AgentId, FileSystem, OpenMode, TenantId};

use crate::catalog::{
    CatalogError, Order, RedbCatalog, Rows, Table, Transactions, TypedRows, TypedRowsMut, Value,
};
use crate::error::StoreError;
use crate::journal::Journal;
use crate::layout::{Folder, Place, Root};
use crate::locks::{LOCKS, Lock};
use crate::recover::{read_state, remove_temporary_files, rows_in};
use crate::rows::{
    self, COLLECT, CollectRow, Entry, Happening, MANIFESTS, ManifestRow, POINTS, PURGED, PointRow,
    PurgedRow, SEGMENTS, STATE, STATE_KEY, SegmentRow, StateRow,
};
use crate::store::{NUMBERS_BLOCK, SCAN_ROWS, Store};
pub use doubt::InDoubt;

/// Entries that are applied in one transaction, and the bytes of the journal they come to.
const ENTRIES_MAX: usize = 512;
const ENTRIES_BYTES_MAX: u64 = 4 << 20;
/// Missing files that are named.
const MISSING_MAX: usize = 200;

/// What came of [`Store::rebuild`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Whether the catalog was made again; else it was whole, and only the index was dropped.
    pub is_catalog_new: bool,
    /// Entries of the journal that were replayed.
    pub n_entries: u64,
    /// Bytes of the journal behind the last good entry: what a crash tore, or, where that was
    /// allowed, what lay behind damage.
    pub bytes_behind: u64,
    /// Recovery points, those marked as deleted included.
    pub n_points: u64,
    /// Of these, marked as deleted.
    pub n_deleted: u64,
    /// Recovery points that were removed for good and stay so.
    pub n_purged: u64,
    /// Locks that hold.
    pub n_locks: u64,
    /// Images that are whole and that the journal does not name, of earlier rebuilds as well.
    pub in_doubt: Vec<InDoubt>,
    /// Segments and manifests that are missing or too short: their names in the store.
    pub missing: Vec<String>,
    /// How many of these there are; not all are named.
    pub n_missing: u64,
}

/// A commit as the journal has it, told to whoever keeps something of his own about points.
#[derive(Clone, Copy, Debug)]
pub struct Replayed<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// The machine it shows.
    pub agent: AgentId,
    /// The caller's bytes; also of points that were purged since.
    pub note: &'a [u8],
}

/// What a rebuild is asked for, and whom it tells.
pub struct RebuildAsked<'a> {
    /// Whether a journal that is damaged before its end is believed up to there. What came after
    /// is lost: marks, purges and locks too. The damaged journal is kept beside.
    pub up_to_damage: bool,
    /// Told how many bytes of the journal were read, of how many; asked whether to go on.
    pub progress: &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    /// Told of each commit, in order.
    pub replayed: &'a mut dyn FnMut(&Replayed<'_>),
}

impl Store {
    /// Makes the catalog of a store again whose catalog is missing or unreadable, and drops the
    /// index; the next [`Store::open`] makes that. Where the catalog is whole it is left as it is.
    /// The store must not be open. Blocks.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`] without the root file; [`StoreError::InUse`];
    /// [`StoreError::Damaged`] for a journal that is missing, another store's, or, unless that is
    /// allowed, damaged before its end; [`StoreError::Interrupted`]; the disk's.
    pub fn rebuild(
        files: Arc<dyn FileSystem>,
        directory: &Path,
        asked: RebuildAsked<'_>,
    ) -> Result<Rebuilt, StoreError> {
        let place = Place::new(files, directory);
        place.check_is_store()?;
        // Before the lock, so that an unknown version is named even where we may not write.
        place.read_root()?;
        let _lock = place.lock()?;
        let rebuilt = match is_whole(&place)? {
            true => Rebuilt::default(),
            false => rebuild_catalog(&place, asked)?,
        };
        drop_runs(&place)?;
        Ok(rebuilt)
    }
}

/// Whether there is a catalog that belongs to a store.
fn is_whole(place: &Place) -> Result<bool, StoreError> {
    match place.files.metadata(&place.catalog()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(StoreError::io("look for the catalog"))?,
    };
    match RedbCatalog::open(&*place.files, &place.catalog()) {
        Ok(catalog) => match read_state(&catalog) {
            Ok(_) => Ok(true),
            Err(StoreError::Damaged(_) | StoreError::Catalog(CatalogError::Damaged(_))) => {
                Ok(false)
            }
            Err(error) => Err(error),
        },
        Err(CatalogError::Damaged(_)) => Ok(false),
        // Read, and no catalog; what the disk itself refuses is another matter.
        Err(CatalogError::Io(error))
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn rebuild_catalog(place: &Place, asked: RebuildAsked<'_>) -> Result<Rebuilt, StoreError> {
    let Root { store, fence, needs } = place.read_root()?;
    // An older writer that lost its lock stops here.
    let fence = fence + 1;
    place.write_root(Root { store, fence, needs })?;
    remove_temporary_files(place)?;
    let mut journal = Journal::open_alone(place, store)?;
    let catalog = RedbCatalog::open(&*place.files, &place.new_catalog())?;
    let mut replay = Replay { catalog, n_collections: 0, numbers: Numbers::default() };
    let RebuildAsked { up_to_damage, progress, replayed } = asked;
    replay.run(&mut journal, progress, replayed)?;
    let bytes_behind = journal.bytes_behind()?;
    if bytes_behind > 0 && journal.has_entries_behind()? {
        if !up_to_damage {
            drop(replay);
            place.remove(&place.new_catalog())?;
            return Err(StoreError::Damaged(format!(
                "the journal, at byte {}; there are entries behind that, and without them deleted \
                 points and locks may not be as they were",
                journal.last.bytes
            )));
        }
        keep_journal(place)?;
    }
    let in_doubt = doubt::put_aside(place, store, &replay.catalog, &replay.numbers.collected)?;
    let mut rebuilt = replay.finish(place, &journal, fence)?;
    let new = place.new_catalog();
    let doing = || StoreError::io("put the new catalog in place");
    match place.files.rename(&place.catalog(), &place.old_catalog()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other.map_err(doing())?,
    }
    place.files.rename(&new, &place.catalog()).map_err(doing())?;
    place.files.sync_dir(place.directory()).map_err(doing())?;
    rebuilt.bytes_behind = bytes_behind;
    rebuilt.in_doubt = in_doubt;
    Ok(rebuilt)
}

/// The numbers of files that the journal named.
#[derive(Default)]
struct Numbers {
    /// The highest.
    last: u32,
    /// Those that a collection took.
    collected: BTreeSet<u32>,
}

/// A catalog that is being made of a journal.
struct Replay {
    catalog: RedbCatalog,
    n_collections: u64,
    numbers: Numbers,
}

impl Replay {
    fn run(
        &mut self,
        journal: &mut Journal,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
        replayed: &mut dyn FnMut(&Replayed<'_>),
    ) -> Result<(), StoreError> {
        let all = journal.last.bytes.saturating_add(journal.bytes_behind()?);
        loop {
            let begin = journal.last.bytes;
            if progress(begin, all).is_break() {
                return Err(StoreError::Interrupted);
            }
            let mut entries: Vec<Entry> = Vec::new();
            while entries.len() < ENTRIES_MAX && journal.last.bytes - begin < ENTRIES_BYTES_MAX {
                let Some(entry) = journal.following()? else { break };
                entries.push(entry);
            }
            if entries.is_empty() {
                return Ok(());
            }
            for entry in &entries {
                self.note(entry, replayed);
            }
            self.catalog.write::<_, StoreError>(|rows| {
                entries.iter().try_for_each(|entry| Ok(rows::apply(rows, entry)?))
            })?;
        }
    }

    fn note(&mut self, entry: &Entry, replayed: &mut dyn FnMut(&Replayed<'_>)) {
        let numbers = &mut self.numbers;
        let mut name = |number: u32| numbers.last = numbers.last.max(number);
        match &entry.happening {
            Happening::Commit(commit) => {
                commit.segments.iter().for_each(|(number, ..)| name(*number));
                commit.manifests.iter().for_each(|(number, _)| name(*number));
                replayed(&Replayed {
                    tenant: TenantId::from_bytes(commit.tenant),
                    agent: commit.row.agent(),
                    note: &commit.row.note,
                });
            }
            Happening::Segments { segments, .. } => {
                segments.iter().for_each(|(number, ..)| name(*number));
            }
            Happening::Collect { segments, manifests, .. } => {
                self.n_collections += 1;
                numbers.collected.extend(segments.iter().chain(manifests));
            }
            Happening::Delete { .. }
            | Happening::Undelete { .. }
            | Happening::Purge { .. }
            | Happening::Lock { .. } => {}
        }
    }

    /// Writes the row that makes it a store's catalog, and says what it has.
    fn finish(self, place: &Place, journal: &Journal, fence: u64) -> Result<Rebuilt, StoreError> {
        let mut last = self.numbers.last;
        for folder in Folder::EVERY {
            last = last.max(place.numbers_if_there(folder)?.into_iter().max().unwrap_or(0));
        }
        // Numbers that a crash made vanish were in the block that was reserved then.
        let next_number = last.checked_add(NUMBERS_BLOCK + 1).ok_or_else(|| {
            StoreError::OutOfBounds("the store has used all its file numbers".to_owned())
        })?;
        let link = journal.last;
        let state = StateRow {
            fence,
            next_number,
            entry: link.entry,
            entry_digest: *link.digest.as_bytes(),
            synced_entry: link.entry,
            synced_digest: *link.digest.as_bytes(),
            synced_bytes: link.bytes,
        };
        let epoch = self.n_collections;
        self.catalog.write::<_, StoreError>(|rows| {
            rows.put_value(COLLECT, STATE_KEY, &CollectRow { epoch })?;
            Ok(rows.put_value(STATE, STATE_KEY, &state)?)
        })?;
        let mut rebuilt =
            Rebuilt { is_catalog_new: true, n_entries: link.entry, ..Rebuilt::default() };
        self.catalog.read::<_, StoreError>(|rows| {
            each::<PointRow>(rows, POINTS, &mut |row| {
                rebuilt.n_points += 1;
                rebuilt.n_deleted += u64::from(row.deleted_at.is_some());
            })?;
            each::<PurgedRow>(rows, PURGED, &mut |_| rebuilt.n_purged += 1)?;
            each::<Lock>(rows, LOCKS, &mut |lock| {
                rebuilt.n_locks += u64::from(*lock != Lock::default());
            })?;
            let segments = rows_in::<SegmentRow>(rows, SEGMENTS)?.into_iter();
            let segments = segments.map(|(number, row)| (Folder::Segments, number, row.bytes));
            let manifests = rows_in::<ManifestRow>(rows, MANIFESTS)?.into_iter();
            let manifests = manifests.map(|(number, row)| (Folder::Manifests, number, row.bytes));
            for (folder, number, bytes) in segments.chain(manifests) {
                let path = place.file(folder, number);
                if place.files.metadata(&path).is_ok_and(|found| found.bytes >= bytes) {
                    continue;
                }
                rebuilt.n_missing += 1;
                if rebuilt.missing.len() < MISSING_MAX {
                    rebuilt.missing.push(format!("{}/{number:08x}", folder.name()));
                }
            }
            Ok(())
        })?;
        Ok(rebuilt)
    }
}

/// All values of a table.
fn each<T: Value>(
    rows: &dyn Rows,
    table: Table,
    see: &mut dyn FnMut(&T),
) -> Result<(), StoreError> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let (order, last) = (Order::Ascending, after.as_deref());
        let found = rows.scan_values::<T>(table, b"", last, order, SCAN_ROWS)?;
        let Some((last, _)) = found.last() else { return Ok(()) };
        after = Some(last.clone());
        found.iter().for_each(|(_, row)| see(row));
    }
}

/// Copies the journal as it is, so that nothing of it is lost when opening cuts it.
fn keep_journal(place: &Place) -> Result<(), StoreError> {
    let doing = || StoreError::io("keep the damaged journal");
    let from = place.files.open(&place.journal(), OpenMode::Read).map_err(doing())?;
    let old = place.old_journal();
    place.remove(&old)?;
    let to = place.files.open(&old, OpenMode::CreateNew).map_err(doing())?;
    let (mut at, end) = (0, from.bytes().map_err(doing())?);
    let mut piece = vec![0; 1 << 20];
    while at < end {
        let n = (end - at).min(piece.len() as u64);
        let part = piece.get_mut(..n as usize).unwrap_or_default();
        from.read_exact_at(part, at).map_err(doing())?;
        to.write_all_at(part, at).map_err(doing())?;
        at += n;
    }
    to.sync().map_err(doing())?;
    place.files.sync_dir(place.directory()).map_err(doing())
}

/// Removes all key runs: a cache, which may speak of what the new catalog does not have.
fn drop_runs(place: &Place) -> Result<(), StoreError> {
    for number in place.numbers_if_there(Folder::Runs)? {
        place.remove(&place.file(Folder::Runs, number))?;
    }
    place.make_folder(Folder::Runs)?;
    place.sync(Folder::Runs)
}
