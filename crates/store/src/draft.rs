//! Drafts: what an open session was promised, kept through a crash (B-08, E-09).
//!
//! A draft is a row of the catalog that names the session, and a log of its own: the entries of
//! the list that were offered, and the segments that must not go, with the length that is durable.
//! Nothing is answered as held before [`Draft::promise`] has returned: it syncs what the answers
//! rest on first, the log after it. Several windows share one.
//!
//! A dropped [`Draft`] stays on disk with its records, which can be found; [`Store::resume`] goes
//! on with it and takes it over from whoever held it before. [`Store::end_draft`] lets it go.
//!
//! **Absent:** what the entries mean, ordinals that are wanted or owed: see `exchange`. A commit
//! checks every reference again, whatever a draft says.

mod log;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use offsite_model::{Digest, Key, KeyMap, KeySet, SessionId, TenantId};
use serde::{Deserialize, Serialize};

use crate::catalog::{Order, Table, Transactions, TypedRows, TypedRowsMut, Value};
use crate::error::StoreError;
use crate::format::PLACE_BYTES;
use crate::group::{CheckedGroup, Form};
use crate::layout::Folder;
use crate::manifest::{ImageWriter, ListEntry};
use crate::rows::{STATE, STATE_KEY, StateRow};
use crate::segment::RecordPlace;
use crate::session::{PointSpec, Session};
use crate::store::{Committed, Core, SCAN_ROWS, Store, lock};
pub(crate) use log::{KeptLog, Log};

pub(crate) const DRAFTS: Table = Table::new("store.drafts");

/// Most bytes that a session's opening may have.
pub const OPENING_BYTES_MAX: usize = 64 << 10;

/// The row of a draft.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DraftRow {
    pub(crate) tenant: [u8; 16],
    pub(crate) log: u32,
    /// So many bytes of the log are believed, where an earlier opening of the store wrote it: what
    /// that one adds when it has lost the store was promised to nobody. None while this opening
    /// writes it.
    pub(crate) end: Option<u64>,
    pub(crate) opening: Vec<u8>,
}

/// The row of version 1, from before the end of a log was noted.
#[derive(Deserialize)]
struct DraftRow1 {
    tenant: [u8; 16],
    log: u32,
    opening: Vec<u8>,
}

impl Value for DraftRow {
    const VERSION: u8 = 2;
    const BYTES_MAX: usize = OPENING_BYTES_MAX + 64;

    fn from_older(version: u8, payload: &[u8]) -> Option<Self> {
        let whole = postcard::take_from_bytes::<DraftRow1>(payload).ok();
        let (row, rest) = whole.filter(|_| version == 1)?;
        let DraftRow1 { tenant, log, opening } = row;
        rest.is_empty().then_some(Self { tenant, log, end: None, opening })
    }
}

/// What the store knows of a draft while it is open itself.
pub(crate) struct Kept {
    pub(crate) tenant: TenantId,
    pub(crate) log: u32,
    /// Segments that its promises rest on: durable bytes, closed.
    pub(crate) segments: BTreeMap<u32, (u64, bool)>,
    /// Number of the session that holds it; 0 for none.
    holder: u64,
    /// How far its log is written, or believed.
    pub(crate) written: Arc<AtomicU64>,
    /// Whether an earlier opening of the store wrote the log, which may go on with it although it
    /// has lost the store. Nobody appends to it: whoever resumes the draft makes another.
    is_earlier: bool,
}

impl Kept {
    /// A draft of an earlier opening, and how much of its log is believed.
    pub(crate) fn earlier(tenant: TenantId, log: u32, believed: KeptLog) -> Self {
        let segments = believed.segments.into_iter().collect();
        let written = Arc::new(believed.end.into());
        Self { tenant, log, segments, holder: 0, written, is_earlier: true }
    }
}

/// A draft as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftSummary {
    /// Whose it is.
    pub tenant: TenantId,
    /// The session.
    pub session: SessionId,
    /// What the caller gave when it was opened.
    pub opening: Vec<u8>,
}

/// A session whose promises are durable. Dropped, it stays on disk.
pub struct Draft {
    id: SessionId,
    session: Session,
    log: Log,
    /// Segments that answers rest on and that are not in the log yet.
    relied: BTreeSet<u32>,
    /// Records that were found, with their segments, and whose entries were not seen yet; entries
    /// seen since the last promise. A draft holds by name what it lists; until then its session.
    unnamed: KeyMap<Key, u32>,
    named: KeySet<Key>,
}

/// A barrier of a draft that was begun: see [`Draft::begin_barrier`].
pub struct Barrier {
    core: Arc<Core>,
    grown: Vec<u32>,
    /// What is synced stays until it is, also where a collection has moved what lies there.
    _reading: crate::holds::Reading,
}

/// What became of [`Barrier::sync`].
pub struct Synced(Result<Vec<(u32, u64, bool)>, StoreError>);

impl Store {
    /// Begins a session that survives a crash: durable when this returns. `opening` is the caller's
    /// and returned by [`Store::drafts`]; at most [`OPENING_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`StoreError::OutOfBounds`] also where there is such a session already, or the disk's.
    pub fn draft(
        &self,
        tenant: TenantId,
        session: SessionId,
        opening: Vec<u8>,
    ) -> Result<Draft, StoreError> {
        if opening.len() > OPENING_BYTES_MAX {
            return Err(StoreError::OutOfBounds("length of a session's opening".to_owned()));
        }
        let writer = self.session(tenant)?;
        let number = self.core.number()?;
        let log = Log::create(&self.core.place, number, self.core.id, tenant)?;
        let row = DraftRow { tenant: tenant.to_bytes(), log: number, end: None, opening };
        let is_new = self.core.change_drafts(|rows| {
            let is_new = rows.value::<DraftRow>(DRAFTS, &session.to_bytes())?.is_none();
            if is_new {
                rows.put_value(DRAFTS, &session.to_bytes(), &row)?;
            }
            Ok(is_new)
        })?;
        if !is_new {
            self.core.place.remove(&self.core.place.file(Folder::Drafts, number))?;
            return Err(StoreError::OutOfBounds(format!("session {session} exists")));
        }
        let (holder, written) = (writer.number(), log.written());
        let (segments, is_earlier) = (BTreeMap::new(), false);
        let kept = Kept { tenant, log: number, segments, holder, written, is_earlier };
        lock(&self.core.drafts).insert(session, kept);
        Ok(Draft::of(session, writer, log))
    }

    /// All drafts, of all tenants.
    ///
    /// # Errors
    /// The catalog's.
    pub fn drafts(&self) -> Result<Vec<DraftSummary>, StoreError> {
        let mut drafts = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = self.core.catalog.read::<_, StoreError>(|rows| {
                let (after, order) = (after.as_deref(), Order::Ascending);
                Ok(rows.scan_values::<DraftRow>(DRAFTS, b"", after, order, SCAN_ROWS)?)
            })?;
            let Some((last, _)) = rows.last() else { return Ok(drafts) };
            after = Some(last.clone());
            for (key, row) in rows {
                let session = session_in(&key)?;
                let tenant = TenantId::from_bytes(row.tenant);
                drafts.push(DraftSummary { tenant, session, opening: row.opening });
            }
        }
    }

    /// What the caller gave when this draft was opened; none where the tenant has no such draft.
    ///
    /// # Errors
    /// The catalog's.
    pub fn opening(
        &self,
        tenant: TenantId,
        session: SessionId,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.core.catalog.read::<_, StoreError>(|rows| {
            Ok(rows.value::<DraftRow>(DRAFTS, &session.to_bytes())?)
        })?;
        Ok(row.filter(|row| row.tenant == tenant.to_bytes()).map(|row| row.opening))
    }

    /// Goes on with a draft, after a crash or in the place of another holder: what that one does
    /// from now on is refused as [`StoreError::LeaseLost`].
    ///
    /// # Errors
    /// [`StoreError::DraftUnknown`] also for another tenant's, or the disk's.
    pub fn resume(&self, tenant: TenantId, session: SessionId) -> Result<Draft, StoreError> {
        let writer = self.session(tenant)?;
        let (number, segments, earlier_end) = {
            let mut drafts = lock(&self.core.drafts);
            let kept = drafts.get_mut(&session).filter(|kept| kept.tenant == tenant);
            let kept = kept.ok_or(StoreError::DraftUnknown(session))?;
            kept.holder = writer.number();
            let end = kept.is_earlier.then(|| kept.written.load(Ordering::Acquire));
            (kept.log, kept.segments.clone(), end)
        };
        let core = &self.core;
        if let Some(end) = earlier_end {
            let log = core.move_log((session, tenant), writer.number(), (number, end), segments)?;
            return Ok(Draft::of(session, writer, log));
        }
        let mut log = Log::open(&core.place, number, (core.id, tenant))?;
        log.segments(segments)?;
        log.sync()?;
        if let Some(kept) = lock(&core.drafts).get_mut(&session) {
            kept.written = log.written();
        }
        Ok(Draft::of(session, writer, log))
    }

    /// Lets a draft go: its promises, and what it stored unless a commit or another session needs
    /// it. One that is gone already is fine.
    ///
    /// # Errors
    /// [`StoreError::DraftUnknown`] for another tenant's, or the disk's.
    pub fn end_draft(&self, tenant: TenantId, session: SessionId) -> Result<(), StoreError> {
        let number = {
            let drafts = lock(&self.core.drafts);
            let Some(kept) = drafts.get(&session) else { return Ok(()) };
            if kept.tenant != tenant {
                return Err(StoreError::DraftUnknown(session));
            }
            kept.log
        };
        self.core.check_writable()?;
        self.core.change_drafts(|rows| Ok(rows.remove(DRAFTS, &session.to_bytes())?))?;
        lock(&self.core.drafts).remove(&session);
        self.core.place.remove(&self.core.place.file(Folder::Drafts, number))?;
        self.core.clear_orphans(tenant);
        Ok(())
    }
}

pub(crate) fn session_in(key: &[u8]) -> Result<SessionId, StoreError> {
    let id = key.try_into().ok().map(SessionId::from_bytes);
    id.ok_or_else(|| StoreError::Damaged("the key of a draft in the catalog".to_owned()))
}

impl Core {
    fn change_drafts<T>(
        &self,
        change: impl FnOnce(&mut dyn crate::catalog::RowsMut) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.check_fence()?;
        self.reserve.make_room(&self.place);
        let changed = self.catalog.write::<_, StoreError>(|rows| {
            let state = rows.value::<StateRow>(STATE, STATE_KEY)?;
            state.filter(|state| state.fence == self.fence).ok_or(StoreError::Fenced)?;
            change(rows)
        });
        if changed.is_err() {
            self.poison();
        }
        changed
    }

    /// Has a draft go on in a log of this opening, in the place of an earlier one's.
    fn move_log(
        &self,
        (session, tenant): (SessionId, TenantId),
        holder: u64,
        (earlier, end): (u32, u64),
        segments: BTreeMap<u32, (u64, bool)>,
    ) -> Result<Log, StoreError> {
        let number = self.number()?;
        // Opening removes what this cannot.
        let remove = |log: u32| drop(self.place.remove(&self.place.file(Folder::Drafts, log)));
        let copied = Log::copy(&self.place, (earlier, end), number, (self.id, tenant));
        let copied = copied.and_then(|mut log| {
            log.segments(segments)?;
            log.sync().map(|()| log)
        });
        let mut drafts = lock(&self.drafts);
        // Another may have resumed it meanwhile, and has put a log of its own there, or will.
        let kept = drafts.get_mut(&session).filter(|kept| kept.holder == holder);
        let moved = kept.ok_or(StoreError::LeaseLost).and_then(|kept| Ok((kept, copied?)));
        let (kept, log) = moved.inspect_err(|_| remove(number))?;
        // From here on the row may name the file, whatever comes.
        self.change_drafts(|rows| {
            let row = rows.value::<DraftRow>(DRAFTS, &session.to_bytes())?;
            let row = row.ok_or(StoreError::DraftUnknown(session))?;
            let row = DraftRow { log: number, end: None, ..row };
            Ok(rows.put_value(DRAFTS, &session.to_bytes(), &row)?)
        })?;
        (kept.log, kept.written, kept.is_earlier) = (number, log.written(), false);
        remove(earlier);
        Ok(log)
    }

    /// Segments that some draft rests on.
    pub(crate) fn kept_segments(&self) -> BTreeSet<u32> {
        let drafts = lock(&self.drafts);
        drafts.values().flat_map(|kept| kept.segments.keys()).copied().collect()
    }
}

impl Barrier {
    /// Brings the data to the disk. Its outcome is for [`Draft::end_barrier`], also where it
    /// failed.
    #[must_use]
    pub fn sync(self) -> Synced {
        let synced = self.core.check_writable();
        let synced = synced.and_then(|()| self.core.sync_segments(&self.grown));
        // Also where nobody comes to hear of it (I11).
        Synced(synced.inspect_err(|_| self.core.poison()))
    }
}

impl Draft {
    fn of(id: SessionId, session: Session, log: Log) -> Self {
        let (relied, unnamed, named) = (BTreeSet::new(), KeyMap::default(), KeySet::default());
        Self { id, session, log, relied, unnamed, named }
    }

    fn name(&mut self, entries: impl Iterator<Item = Key>) {
        for key in entries {
            self.unnamed.remove(&key);
            self.named.insert(key);
        }
    }

    /// The session's id.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    fn check_held(&self) -> Result<(), StoreError> {
        let drafts = lock(&self.session.core.drafts);
        let is_held = drafts.get(&self.id).is_some_and(|kept| kept.holder == self.session.number());
        if is_held { Ok(()) } else { Err(StoreError::LeaseLost) }
    }

    /// Where each of these records lies. What an answer rests on is made durable by the next
    /// [`Draft::promise`], and before that nothing may be answered as held.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], or as [`Store::find`].
    pub fn find_many(
        &mut self,
        form: Form,
        keys: &[Key],
    ) -> Result<Vec<Option<RecordPlace>>, StoreError> {
        self.check_held()?;
        let found = self.session.find_many(form, keys)?;
        let held = keys.iter().zip(&found).filter(|(key, _)| !self.named.contains(*key));
        self.unnamed.extend(held.filter_map(|(key, found)| Some((*key, found.as_ref()?.segment))));
        let segments: BTreeMap<u32, u32> =
            found.iter().flatten().fold(BTreeMap::new(), |mut last, place| {
                let place_of = last.entry(place.segment).or_insert(place.place);
                *place_of = place.place.max(*place_of);
                last
            });
        let kept = self.kept();
        // What lies in the part that is kept already needs no other sync.
        let is_kept = |number: &u32, place: u32| {
            kept.get(number).is_some_and(|(bytes, _)| u64::from(place) * PLACE_BYTES < *bytes)
        };
        let relied = segments.into_iter().filter(|(number, place)| !is_kept(number, *place));
        self.relied.extend(relied.map(|(number, _)| number));
        Ok(found)
    }

    /// Takes entries of the list, from this ordinal on, in order; durable after the next
    /// [`Draft::promise`] or [`Draft::barrier`].
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], [`StoreError::BadList`] when ordinals run backwards, or the
    /// disk's.
    pub fn list(&mut self, first_ordinal: u64, entries: &[ListEntry]) -> Result<(), StoreError> {
        self.check_held()?;
        let change = self.session.core.holds.change();
        self.log.entries(first_ordinal, entries)?;
        if let Some(live) = &change.live {
            live.add_late(self.session.tenant(), entries.iter().map(|entry| entry.key));
        }
        self.name(entries.iter().map(|entry| entry.key));
        Ok(())
    }

    /// The ordinal behind the last entry.
    #[must_use]
    pub const fn n_listed(&self) -> u64 {
        self.log.n_listed()
    }

    /// Entries of the list with their ordinals, from this one on, at most so many; in order, and
    /// fewer only at the end.
    ///
    /// # Errors
    /// The disk's.
    pub fn listed(
        &mut self,
        first_ordinal: u64,
        n_max: usize,
    ) -> Result<Vec<(u64, ListEntry)>, StoreError> {
        let listed = self.log.read(first_ordinal, n_max)?;
        self.name(listed.iter().map(|(_, entry)| entry.key));
        Ok(listed)
    }

    /// Appends a group; see [`Session::append`]. What holds its records in the long run is that
    /// [`Draft::list`] has named them, or names them before the next promise.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], or as there.
    pub fn append(&mut self, group: &CheckedGroup) -> Result<(), StoreError> {
        self.check_held()?;
        self.session.append(group)
    }

    /// Makes durable what was listed and what the answers of [`Draft::find_many`] rest on: only
    /// after this may they be given.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], or the disk's, which end the session.
    pub fn promise(&mut self) -> Result<(), StoreError> {
        let relied = std::mem::take(&mut self.relied);
        self.keep(&relied.into_iter().collect::<Vec<_>>())
    }

    /// As [`Draft::promise`], with everything that was appended so far: it survives a crash from
    /// now on, until the draft is ended.
    ///
    /// # Errors
    /// As [`Draft::promise`].
    pub fn barrier(&mut self) -> Result<(), StoreError> {
        let synced = self.begin_barrier()?.sync();
        self.end_barrier(synced)
    }

    /// The first part of [`Draft::barrier`]: what is to be synced, which takes as long as the disk
    /// takes and needs the draft for nothing. What is appended meanwhile is for the next one.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`].
    pub fn begin_barrier(&mut self) -> Result<Barrier, StoreError> {
        self.check_held()?;
        self.relied.extend(self.session.segments());
        let relied = std::mem::take(&mut self.relied);
        let (core, _reading) = (Arc::clone(&self.session.core), self.session.core.holds.reading());
        let grown = self.grown(&relied.into_iter().collect::<Vec<_>>());
        Ok(Barrier { core, grown, _reading })
    }

    /// The last part: the log names what is durable now, and is durable itself.
    ///
    /// # Errors
    /// As [`Draft::promise`].
    pub fn end_barrier(&mut self, synced: Synced) -> Result<(), StoreError> {
        let durable = self.session.synced(synced.0)?;
        self.check_held()?;
        self.settle(durable)
    }

    fn kept(&self) -> BTreeMap<u32, (u64, bool)> {
        let drafts = lock(&self.session.core.drafts);
        drafts.get(&self.id).map(|kept| kept.segments.clone()).unwrap_or_default()
    }

    /// Segments first, then the log that names them.
    fn keep(&mut self, segments: &[u32]) -> Result<(), StoreError> {
        self.check_held()?;
        let _reading = self.session.core.holds.reading();
        let durable = self.session.sync(&self.grown(segments))?;
        self.settle(durable)
    }

    /// Those of the segments that have grown since they were kept: the others are not synced again.
    /// Where one is gone, a collection has made durable elsewhere what was relied on there.
    fn grown(&self, segments: &[u32]) -> Vec<u32> {
        let kept = self.kept();
        let has_grown = |number: &&u32| {
            let Some(segment) = self.session.core.segment(**number) else { return false };
            let (bytes, is_closed) = segment.extent();
            Some(&(bytes, is_closed && segment.has_footer())) != kept.get(number)
        };
        segments.iter().filter(has_grown).copied().collect()
    }

    /// The log names what is durable now, and is durable itself.
    fn settle(&mut self, durable: Vec<(u32, u64, bool)>) -> Result<(), StoreError> {
        let synced =
            self.log.segments(durable.iter().map(|(n, bytes, closed)| (*n, (*bytes, *closed))));
        let synced = synced.and_then(|()| self.log.sync());
        if synced.is_err() {
            self.session.core.poison();
        }
        synced?;
        // Asked when the log is durable: a later opening that has raised the fence by now may have
        // read the log before, and does not believe what was added since.
        self.session.core.check_fence().inspect_err(|_| self.session.core.poison())?;
        let mut drafts = lock(&self.session.core.drafts);
        // Taken over meanwhile: the log has them, the next resume does not need them.
        let held = drafts.get_mut(&self.id);
        let held = held.filter(|kept| kept.holder == self.session.number());
        let kept = held.ok_or(StoreError::LeaseLost)?;
        for (number, bytes, is_closed) in durable {
            kept.segments.insert(number, (bytes, is_closed));
        }
        self.named.clear();
        // What was found since this promise began is for the next one, also where it is named.
        let counted: BTreeSet<u32> = self.unnamed.values().chain(&self.relied).copied().collect();
        self.session.core.holds.forget_told(self.session.number(), &counted);
        Ok(())
    }

    /// Keeps what was appended for points that have it; see [`Session::keep`].
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], or as there.
    pub fn keep_healed(&mut self) -> Result<(), StoreError> {
        self.check_held()?;
        self.session.keep().map(|_| ())
    }

    /// Lets it go; see [`Store::end_draft`].
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], or as there.
    pub fn end(self) -> Result<(), StoreError> {
        self.check_held()?;
        let store = Store { core: Arc::clone(&self.session.core) };
        store.end_draft(self.session.tenant(), self.id)
    }

    /// The session, for [`Session::image`] and what only reads.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Commits; see [`Session::commit`]. Every reference is checked again. The draft stays until
    /// [`Store::end_draft`].
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], or as there.
    pub fn commit(
        &mut self,
        spec: PointSpec,
        images: Vec<(ImageWriter, Option<Digest>)>,
    ) -> Result<Committed, StoreError> {
        self.check_held()?;
        self.session.commit(spec, images)
    }
}
