//! The store as its users hold it: opening, looking up, reading, listing.
//!
//! **Absent:** writing: see `session`, `commit` and `upkeep`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use offsite_model::{
    AgentId, Digest, File, FileSystem, ImageId, Key, Luck, PointId, SessionId, TenantId, Timestamp,
    VolumeId,
};

use crate::catalog::{
    Catalog, CatalogError, Order, RedbCatalog, Transactions, TypedRows, TypedRowsMut,
};
use crate::commit::Queue;
use crate::draft::Kept;
use crate::error::StoreError;
use crate::group::{self, Codec, DecodedGroup, Form, GroupError, StoredGroup, TableRow};
use crate::holds::Holds;
use crate::index::{Nowhere, TenantIndex};
use crate::journal::{Journal, START};
use crate::layout::{Place, Root};
use crate::lookup::Trails;
use crate::manifest::Image;
use crate::overlay::Overlay;
use crate::quarantine::Quarantine;
use crate::recover;
use crate::reserve::Reserve;
use crate::rows::{
    ImageRow, POINTS, PointRow, STATE, STATE_KEY, StateRow, TOKENS, TokenRow, point_key, token_key,
};
use crate::segment::{Heading, RecordPlace, Segment, read_stored};

/// Numbers reserved with one transaction.
pub(crate) const NUMBERS_BLOCK: u32 = 1024;
/// Segment files kept open for reading.
const OPEN_SEGMENTS_MAX: usize = 256;
/// Rows read from the catalog at a time.
pub(crate) const SCAN_ROWS: usize = 1024;

/// How a store is run; nothing here changes its format.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Records of closed segments kept in memory before they are written as a key run.
    pub recent_records_max: usize,
    /// Bytes that are set aside on the disk for commits and deletions; 0 for none.
    pub reserve_bytes: u64,
    /// Percent of the file system that ingest leaves free, what is set aside included.
    pub reserve_percent: u8,
    /// Bytes at which a segment is closed; at most 1 GiB.
    pub segment_bytes: u64,
    /// Records at which a segment is closed: their places are in memory until then.
    pub segment_records: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            recent_records_max: 1 << 17,
            reserve_bytes: 64 << 20,
            reserve_percent: 1,
            segment_bytes: 128 << 20,
            segment_records: 1 << 16,
        }
    }
}

/// Something a person must look at; the store goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alarm {
    /// The catalog had lost commits; they were applied again from the journal.
    CommitsRestored {
        /// How many.
        n_entries: u64,
    },
    /// The journal is not as the catalog remembers it.
    JournalDamaged,
    /// A segment is missing or shorter than it was; verify names what is hurt.
    SegmentDamaged {
        /// Its number.
        segment: u32,
    },
    /// A key run was dropped; its segments were read again.
    RunDropped {
        /// Its number.
        run: u32,
    },
    /// A key run could not be written; records stay in memory.
    RunNotWritten {
        /// What the disk said.
        cause: String,
    },
}

/// A recovery point as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its id.
    pub point: PointId,
    /// The machine it shows.
    pub agent: AgentId,
    /// When it was taken, by the source's clock.
    pub taken_at: Timestamp,
    /// When its newest image was committed here.
    pub committed_at: Timestamp,
    /// Images it will have.
    pub n_images: u32,
    /// Images committed so far; the point is complete when all are.
    pub images: Vec<ImageSummary>,
    /// Bytes of the caller's, returned as they were given.
    pub note: Vec<u8>,
    /// When it was marked as deleted, if it was.
    pub deleted_at: Option<Timestamp>,
}

impl Point {
    /// Whether all its images are committed. A point that is not complete is shown to nobody.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.images.len() >= self.n_images as usize
    }
}

/// One volume of a point as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// Its id.
    pub image: ImageId,
    /// The volume it shows.
    pub volume: VolumeId,
    /// Size of the volume in bytes.
    pub bytes: u64,
    /// Size of its records in bytes.
    pub record_bytes: u32,
    /// What its keys are the hash of.
    pub form: Form,
    /// Digest of the list it was committed with.
    pub list_digest: Digest,
}

/// What came of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The point.
    pub point: PointId,
    /// The journal entry that records it.
    pub entry: u64,
    /// When it was committed.
    pub committed_at: Timestamp,
    /// Whether this token had been answered before.
    pub is_repeat: bool,
}

/// A store, open for reading and writing; clones are the same store. It is closed, and its lock let
/// go, when the last clone and the last session are dropped.
#[derive(Clone)]
pub struct Store {
    pub(crate) core: Arc<Core>,
}

pub(crate) struct Core {
    pub(crate) place: Place,
    pub(crate) id: [u8; 16],
    pub(crate) fence: u64,
    pub(crate) settings: Settings,
    pub(crate) reserve: Reserve,
    pub(crate) catalog: RedbCatalog,
    pub(crate) numbers: Mutex<std::ops::Range<u32>>,
    pub(crate) index: RwLock<BTreeMap<TenantId, TenantIndex>>,
    pub(crate) segments: RwLock<BTreeMap<u32, Arc<Segment>>>,
    /// Held through steps 2 to 5 of a commit.
    pub(crate) journal: Mutex<Journal>,
    pub(crate) queue: Queue,
    pub(crate) trails: Mutex<Trails>,
    pub(crate) nowhere: Mutex<Nowhere>,
    pub(crate) quarantine: Quarantine,
    pub(crate) holds: Arc<Holds>,
    /// Held by the one collection that goes on.
    pub(crate) collecting: Mutex<()>,
    pub(crate) drafts: Mutex<BTreeMap<SessionId, Kept>>,
    /// The number of the next session; 0 stands for none.
    pub(crate) next_session: AtomicU64,
    /// Held while runs are written or merged.
    pub(crate) upkeep: Mutex<()>,
    pub(crate) is_poisoned: AtomicBool,
    pub(crate) is_read_only: bool,
    pub(crate) alarms: Mutex<Vec<Alarm>>,
    pub(crate) _lock: Arc<dyn File>,
}

/// No lock of the store is held across a panic that leaves a value half changed: every change is
/// made to a copy or is a single insertion.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Makes a store in a directory that is empty or not there (its parent must be), and opens it.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`], [`StoreError::StoreExists`], [`StoreError::InUse`], or the disk's.
    pub fn create(
        files: Arc<dyn FileSystem>,
        directory: &Path,
        luck: &dyn Luck,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        let place = Place::new(Arc::clone(&files), directory);
        place.prepare()?;
        let lock = place.lock()?;
        let mut id = [0; 16];
        luck.fill(&mut id);
        let catalog = RedbCatalog::open(&*files, &place.catalog())?;
        catalog.write::<_, CatalogError>(|rows| {
            let state =
                StateRow { next_number: 1, synced_bytes: START.bytes, ..StateRow::default() };
            rows.put_value(STATE, STATE_KEY, &state)
        })?;
        drop(catalog);
        Journal::create(&place, id).map_err(StoreError::io("make the journal"))?;
        place
            .files
            .sync_dir(place.directory())
            .map_err(StoreError::io("sync the store's directory"))?;
        // Only now there is a store.
        place.write_root(Root { store: id, fence: 0, needs: 0 })?;
        drop(lock);
        Self::open(files, directory, settings)
    }

    /// Opens a store, alone, and brings it back to its last acknowledged commit.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`], [`StoreError::InUse`], [`StoreError::VersionUnknown`],
    /// [`StoreError::Damaged`], or the disk's.
    pub fn open(
        files: Arc<dyn FileSystem>,
        directory: &Path,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        recover::open(Place::new(files, directory), settings, false)
            .map(|core| Self { core: Arc::new(core) })
    }

    /// Opens a store for reading, beside other readers and not beside a writer. Nothing is written,
    /// not even where a crash left something to put in order: that is done in memory. What would
    /// write is refused as [`StoreError::ReadOnly`].
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_read_only(
        files: Arc<dyn FileSystem>,
        directory: &Path,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        let files = Arc::new(Overlay::new(files));
        recover::open(Place::new(files, directory), settings, true)
            .map(|core| Self { core: Arc::new(core) })
    }

    /// Identity of the store, drawn when it was made.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.core.id
    }

    /// The store's catalog, for tables of the caller's own; names that begin with `store.` are
    /// ours.
    #[must_use]
    pub fn catalog(&self) -> &dyn Catalog {
        &self.core.catalog
    }

    /// Whether an error of the disk ended writing; reading goes on.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.core.is_poisoned.load(Ordering::SeqCst)
    }

    /// What a person must look at, oldest first.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        lock(&self.core.alarms).clone()
    }

    /// The newest journal entry and its digest, for peers to remember.
    #[must_use]
    pub fn journal_head(&self) -> (u64, Digest) {
        let last = lock(&self.core.journal).last;
        (last.entry, last.digest)
    }

    /// Where a record of this tenant lies: exact, never from a filter, blind to other tenants.
    ///
    /// # Errors
    /// The disk's; a damaged run is replaced from its segments and is no error.
    pub fn find(
        &self,
        tenant: TenantId,
        form: Form,
        key: &Key,
    ) -> Result<Option<RecordPlace>, StoreError> {
        let _looking = self.core.holds.looking();
        self.core.find(tenant, form, key, &self.core.aside(tenant))
    }

    /// The whole group at a place, decoded, every record compared with its key.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], or the disk's.
    pub fn group(&self, tenant: TenantId, place: RecordPlace) -> Result<DecodedGroup, StoreError> {
        self.with_group(tenant, place, |group, payload| {
            group::decode(group.form, group.codec, &group.table, payload)
        })
    }

    /// Lets `decode` have the group at a place, as it lies; it compares every record with its key.
    pub(crate) fn with_group<T>(
        &self,
        tenant: TenantId,
        place: RecordPlace,
        decode: impl FnOnce(&Heading, &[u8]) -> Result<T, GroupError>,
    ) -> Result<T, StoreError> {
        let read = self
            .core
            .segment_of(tenant, place.segment)
            .and_then(|segment| segment.with_group(&self.core.place, place.place, decode));
        self.doubted(tenant, place, read)
    }

    /// The group at a place as it lies, its checksums compared and nothing decoded: what a source
    /// sends. Whoever receives it compares every record with its key.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], or the disk's.
    pub fn group_as_stored(
        &self,
        tenant: TenantId,
        place: RecordPlace,
    ) -> Result<StoredGroup, StoreError> {
        let read = self.read_as_stored(tenant, place);
        self.doubted(tenant, place, read)
    }

    /// As [`Store::group_as_stored`], without a copy: `take` has it as long as it runs.
    ///
    /// # Errors
    /// As [`Store::group_as_stored`].
    pub fn with_group_as_stored<T>(
        &self,
        tenant: TenantId,
        place: RecordPlace,
        take: impl FnOnce(Codec, &[TableRow], &[u8]) -> T,
    ) -> Result<T, StoreError> {
        self.with_group(tenant, place, |group, payload| {
            Ok(take(group.codec, &group.table, payload))
        })
    }

    /// What was read at a place; where it is damaged, the group is put aside.
    fn doubted<T>(
        &self,
        tenant: TenantId,
        place: RecordPlace,
        read: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if matches!(read, Err(StoreError::Damaged(_))) {
            self.core.doubt(tenant, (place.segment, place.place));
        }
        read
    }

    fn read_as_stored(
        &self,
        tenant: TenantId,
        place: RecordPlace,
    ) -> Result<StoredGroup, StoreError> {
        let segment = self.core.segment_of(tenant, place.segment)?;
        let doing = || format!("read segment {:08x}", place.segment);
        let file = segment.file(&self.core.place).map_err(StoreError::io(doing()))?;
        let found = read_stored(&*file, place.segment, tenant, place.place, segment.bytes())
            .map_err(StoreError::io(doing()))?;
        found.ok_or_else(|| StoreError::Damaged(format!("segment {:08x}", place.segment)))
    }

    /// One record's bytes, compared with its key.
    ///
    /// # Errors
    /// [`StoreError::UnknownRecord`], [`StoreError::Damaged`], or the disk's.
    pub fn record(&self, tenant: TenantId, form: Form, key: &Key) -> Result<Vec<u8>, StoreError> {
        let unknown = || StoreError::UnknownRecord { key: *key, offset: 0 };
        let _reading = self.reading();
        let found = self.find_needed(tenant, form, std::slice::from_ref(key))?;
        let place = found.into_iter().flatten().next().ok_or_else(unknown)?;
        let group = self.group(tenant, place)?;
        let is_it = group.table().get(usize::from(place.slot)).is_some_and(|row| row.key == *key);
        match group.record(place.slot) {
            Some(record) if is_it && group.form() == form => Ok(record.to_vec()),
            _ => Err(StoreError::Damaged(format!("the index's place of record {key}"))),
        }
    }

    /// All points of a tenant, those not complete or marked as deleted included, by id.
    ///
    /// # Errors
    /// The catalog's.
    pub fn points(&self, tenant: TenantId) -> Result<Vec<Point>, StoreError> {
        let mut points = Vec::new();
        let prefix = tenant.to_bytes();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = self.core.catalog.read::<_, StoreError>(|rows| {
                let order = Order::Ascending;
                Ok(rows.scan_values::<PointRow>(
                    POINTS,
                    &prefix,
                    after.as_deref(),
                    order,
                    SCAN_ROWS,
                )?)
            })?;
            let Some((last, _)) = rows.last() else { return Ok(points) };
            after = Some(last.clone());
            for (key, row) in rows {
                points.push(point_of(point_in(&key)?, row));
            }
        }
    }

    /// One point of a tenant. Not there and not yours are the same answer.
    ///
    /// # Errors
    /// [`StoreError::PointUnknown`], or the catalog's.
    pub fn point(&self, tenant: TenantId, point: PointId) -> Result<Point, StoreError> {
        self.core.point_row(tenant, point).map(|row| point_of(point, row))
    }

    /// Opens a volume of a point for reading.
    ///
    /// # Errors
    /// [`StoreError::PointUnknown`] also when the point has no such volume;
    /// [`StoreError::Damaged`], or the disk's.
    pub fn image(
        &self,
        tenant: TenantId,
        point: PointId,
        volume: VolumeId,
    ) -> Result<Image, StoreError> {
        let image = self.core.open_image(tenant, point, volume)?;
        image.ok_or(StoreError::PointUnknown(point))
    }

    /// What came of the commit with this token, if it happened.
    ///
    /// # Errors
    /// The catalog's.
    pub fn outcome(
        &self,
        tenant: TenantId,
        token: [u8; 16],
    ) -> Result<Option<Committed>, StoreError> {
        let row = self.core.catalog.read::<_, StoreError>(|rows| {
            Ok(rows.value::<TokenRow>(TOKENS, &token_key(tenant, token))?)
        })?;
        Ok(row.map(|row| repeated(&row)))
    }
}

pub(crate) const fn repeated(row: &TokenRow) -> Committed {
    Committed {
        point: PointId::from_bytes(row.point),
        entry: row.entry,
        committed_at: Timestamp::from_micros(row.committed_at),
        is_repeat: true,
    }
}

pub(crate) fn point_in(key: &[u8]) -> Result<PointId, StoreError> {
    let id = key.get(16..).and_then(|id| id.try_into().ok()).map(PointId::from_bytes);
    id.ok_or_else(|| StoreError::Damaged("the key of a point in the catalog".to_owned()))
}

fn point_of(point: PointId, row: PointRow) -> Point {
    let (agent, taken_at) = (row.agent(), row.taken_at());
    Point {
        point,
        agent,
        taken_at,
        committed_at: Timestamp::from_micros(row.committed_at),
        n_images: row.n_images,
        images: row.images.iter().map(summary_of).collect(),
        note: row.note,
        deleted_at: row.deleted_at.map(Timestamp::from_micros),
    }
}

const fn summary_of(row: &ImageRow) -> ImageSummary {
    ImageSummary {
        image: row.image(),
        volume: row.volume(),
        bytes: row.bytes,
        record_bytes: row.record_bytes,
        form: if row.is_encrypted { Form::Encrypted } else { Form::Plain },
        list_digest: Digest::from_bytes(row.list_digest),
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Closing a catalog writes; one that was taken over is not ours to write.
        if self.check_fence().is_err() {
            self.catalog.stop();
        }
    }
}

impl Core {
    pub(crate) fn check_writable(&self) -> Result<(), StoreError> {
        if self.is_read_only {
            return Err(StoreError::ReadOnly);
        }
        match self.is_poisoned.load(Ordering::SeqCst) {
            true => Err(StoreError::Poisoned),
            false => Ok(()),
        }
    }

    pub(crate) fn alarm(&self, alarm: Alarm) {
        lock(&self.alarms).push(alarm);
    }

    /// As [`Core::alarm`], unless it is there already.
    pub(crate) fn alarm_once(&self, alarm: Alarm) {
        let mut alarms = lock(&self.alarms);
        if !alarms.contains(&alarm) {
            alarms.push(alarm);
        }
    }

    pub(crate) fn point_row(
        &self,
        tenant: TenantId,
        point: PointId,
    ) -> Result<PointRow, StoreError> {
        let row = self.catalog.read::<_, StoreError>(|rows| {
            Ok(rows.value::<PointRow>(POINTS, &point_key(tenant, point))?)
        })?;
        row.ok_or(StoreError::PointUnknown(point))
    }

    /// A number never used before and never again.
    pub(crate) fn number(&self) -> Result<u32, StoreError> {
        let mut numbers = lock(&self.numbers);
        if let Some(number) = numbers.next() {
            return Ok(number);
        }
        self.check_fence()?;
        self.reserve.make_room(&self.place);
        *numbers = self.catalog.write::<_, StoreError>(|rows| {
            let state = rows.value::<StateRow>(STATE, STATE_KEY)?;
            let state =
                state.filter(|state| state.fence == self.fence).ok_or(StoreError::Fenced)?;
            let start = state.next_number;
            let end = start.checked_add(NUMBERS_BLOCK).ok_or_else(|| {
                StoreError::OutOfBounds("the store has used all its file numbers".to_owned())
            })?;
            rows.put_value(STATE, STATE_KEY, &StateRow { next_number: end, ..state })?;
            Ok(start..end)
        })?;
        numbers.next().ok_or_else(|| StoreError::OutOfBounds("file numbers".to_owned()))
    }

    pub(crate) fn segment(&self, number: u32) -> Option<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.get(&number).cloned()
    }

    /// The segment of this number if it is this tenant's.
    pub(crate) fn segment_of(
        &self,
        tenant: TenantId,
        number: u32,
    ) -> Result<Arc<Segment>, StoreError> {
        let found = self.segment(number).filter(|segment| segment.tenant == tenant);
        found.ok_or_else(|| StoreError::Damaged(format!("segment {number:08x} is missing")))
    }

    /// Bounds the open files of segments that nobody writes.
    pub(crate) fn let_files_go(&self) {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        if segments.len() > OPEN_SEGMENTS_MAX {
            segments.values().for_each(|segment| segment.let_go());
        }
    }
}
