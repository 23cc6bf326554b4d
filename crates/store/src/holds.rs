//! Who counts on what: sessions on records, readers on places, images on pages. Collection asks
//! here before it lets anything go.
//!
//! Three kinds of hold, each as narrow as can be told exactly:
//!
//! * A [`Change`] is a call under way that makes a reference durable (a commit, entries of a
//!   draft). A collection waits for those that began before it, and hands the others its
//!   [`Live`], into which they put every key that they refer to.
//! * A [`Reading`] is a place that somebody was given and may still read. The file of a segment
//!   that is gone stays until every reading of its epoch or before is over. Epochs are counted, no
//!   clock takes part.
//! * An image that is open, and a session that was told "have": its pages are marked like a
//!   point's, and no segment it was told of is taken. A session that is told while a collection
//!   goes on has the keys marked there too, so that this collection may move what they name; the
//!   next one finds the session counting on where it was moved to.
//!
//! **Absent:** drafts, which hold by what is durable in their logs: see `collect::mark`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use offsite_model::{Key, TenantId};

use crate::collect::live::Live;
use crate::rows::ImageRow;

/// All holds of an open store.
#[derive(Default)]
pub(crate) struct Holds {
    /// Shared by every look-up; taken alone where collection changes what look-ups find, and where
    /// it notes what it starts from.
    looking: RwLock<()>,
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Default)]
struct State {
    epoch: u64,
    /// Calls and readings under way, by the epoch in which they began.
    changes: BTreeMap<u64, usize>,
    readings: BTreeMap<u64, usize>,
    next_image: u64,
    images: BTreeMap<u64, (TenantId, ImageRow)>,
    sessions: BTreeMap<u64, Told>,
    /// Segments without a row whose files readers may still want, and the epoch that must be over.
    retired: Vec<(u64, u32)>,
    live: Option<Arc<Live>>,
    /// Collections that were begun since the store was opened.
    n_collections: u64,
}

/// What an open session counts on, in whole segments.
#[derive(Default)]
struct Told {
    own: BTreeSet<u32>,
    /// With the collection in which every key that it was told of there is marked; none where it
    /// was told of one while no collection went on.
    others: BTreeMap<u32, Option<u64>>,
    /// Where what lay in these was moved to since the session found it there.
    moved: BTreeMap<u32, BTreeSet<u32>>,
}

impl State {
    /// The number of the collection that goes on.
    const fn collection(&self) -> Option<u64> {
        if self.live.is_some() { Some(self.n_collections) } else { None }
    }
}

/// Counts and sets, each changed by one call.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn begin(counts: &mut BTreeMap<u64, usize>, epoch: u64) {
    *counts.entry(epoch).or_default() += 1;
}

fn end(counts: &mut BTreeMap<u64, usize>, epoch: u64) {
    if let Some(count) = counts.get_mut(&epoch) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&epoch);
        }
    }
}

impl Holds {
    /// Holds of a store whose catalog has counted so many collections.
    pub(crate) fn new(epoch: u64) -> Self {
        let state = State { epoch, ..State::default() };
        Self { state: Mutex::new(state), ..Self::default() }
    }

    /// To be had through every look-up, and through what must happen at once for a collection.
    /// Never twice in one thread.
    pub(crate) fn looking(&self) -> RwLockReadGuard<'_, ()> {
        self.looking.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody looks anything up meanwhile.
    pub(crate) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.looking.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call that makes references durable.
    pub(crate) fn change(self: &Arc<Self>) -> Change {
        let mut state = lock(&self.state);
        let epoch = state.epoch;
        begin(&mut state.changes, epoch);
        Change { holds: Arc::clone(self), epoch, live: state.live.clone() }
    }

    /// Begins to read at places.
    pub(crate) fn reading(self: &Arc<Self>) -> Reading {
        let mut state = lock(&self.state);
        let epoch = state.epoch;
        begin(&mut state.readings, epoch);
        Reading { holds: Arc::clone(self), epoch }
    }

    /// Holds the pages of an image and the records in them.
    pub(crate) fn image(self: &Arc<Self>, tenant: TenantId, row: ImageRow) -> HeldImage {
        let mut state = lock(&self.state);
        let number = state.next_image;
        state.next_image += 1;
        state.images.insert(number, (tenant, row));
        HeldImage(Arc::new(HeldRow { holds: Arc::clone(self), number }))
    }

    pub(crate) fn images(&self) -> Vec<(TenantId, ImageRow)> {
        lock(&self.state).images.values().cloned().collect()
    }

    /// A session was told of these records in these segments. To be called while looking.
    pub(crate) fn tell(
        &self,
        session: u64,
        tenant: TenantId,
        keys: impl Iterator<Item = Key>,
        segments: impl Iterator<Item = u32>,
    ) {
        let mut segments = segments.peekable();
        if segments.peek().is_none() {
            return;
        }
        let live = {
            let mut state = lock(&self.state);
            let marked_in = state.collection();
            let told = state.sessions.entry(session).or_default();
            for segment in segments {
                // What it was told of before is not marked by being told again of something else.
                told.others.entry(segment).or_insert(marked_in);
            }
            state.live.clone()
        };
        if let Some(live) = live {
            live.add_late(tenant, keys);
        }
    }

    /// What lay in a segment lies in these from now on: whoever counts on the one counts on them.
    /// To be called while nobody looks.
    pub(crate) fn moved(&self, segment: u32, to: &BTreeSet<u32>) {
        for told in lock(&self.state).sessions.values_mut() {
            if let Some(marked_in) = told.others.get(&segment).copied() {
                for to in to {
                    told.others.entry(*to).or_insert(marked_in);
                }
                told.moved.entry(segment).or_default().extend(to);
            }
        }
    }

    /// A session writes this segment.
    pub(crate) fn own(&self, session: u64, segment: u32) {
        lock(&self.state).sessions.entry(session).or_default().own.insert(segment);
    }

    /// What a session was told is held by its draft from now on, but for what it found in these
    /// segments when it looked.
    pub(crate) fn forget_told(&self, session: u64, but: &BTreeSet<u32>) {
        let mut state = lock(&self.state);
        let Some(told) = state.sessions.get_mut(&session) else { return };
        let (mut kept, mut next) = (BTreeSet::new(), Vec::from_iter(but.iter().copied()));
        while let Some(segment) = next.pop() {
            if kept.insert(segment) {
                next.extend(told.moved.get(&segment).into_iter().flatten());
            }
        }
        told.others.retain(|segment, _| kept.contains(segment));
        told.moved.retain(|segment, _| kept.contains(segment));
    }

    pub(crate) fn end_session(&self, session: u64) {
        lock(&self.state).sessions.remove(&session);
    }

    /// Whether an open session counts on a segment.
    pub(crate) fn is_told(&self, segment: u32) -> bool {
        let state = lock(&self.state);
        let mut sessions = state.sessions.values();
        sessions.any(|told| told.own.contains(&segment) || told.others.contains_key(&segment))
    }

    /// Whether an open session counts on something in a segment that the collection which goes on
    /// does not know to be alive.
    pub(crate) fn is_told_unmarked(&self, segment: u32) -> bool {
        let state = lock(&self.state);
        let current = state.collection();
        let is_unmarked = |told: &Told| {
            told.others.get(&segment).is_some_and(|marked| marked.is_none() || *marked != current)
        };
        let mut sessions = state.sessions.values();
        sessions.any(|told| told.own.contains(&segment) || is_unmarked(told))
    }

    /// Begins a collection: changes that begin from now on put their keys into `live`; those that
    /// began before are over when this returns.
    pub(crate) fn begin_collection(self: &Arc<Self>, live: Arc<Live>) -> Running {
        let mut state = lock(&self.state);
        state.live = Some(live);
        state.n_collections += 1;
        state.epoch += 1;
        let epoch = state.epoch;
        while state.changes.first_key_value().is_some_and(|(began, _)| *began < epoch) {
            state = self.over.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Running(Arc::clone(self))
    }

    /// Segments that have no row any more; their files go when the epoch that ends here is over
    /// for everybody.
    pub(crate) fn retire(&self, segments: impl IntoIterator<Item = u32>) {
        let mut state = lock(&self.state);
        let epoch = state.epoch;
        state.retired.extend(segments.into_iter().map(|segment| (epoch, segment)));
        state.epoch += 1;
    }

    /// Takes the retired segments that nobody can read any more.
    pub(crate) fn take_unread(&self) -> Vec<u32> {
        let mut state = lock(&self.state);
        let first = |counts: &BTreeMap<u64, usize>| counts.keys().next().copied();
        let oldest = [first(&state.changes), first(&state.readings)].into_iter().flatten().min();
        let is_over = |(epoch, _): &(u64, u32)| oldest.is_none_or(|oldest| *epoch < oldest);
        let (over, kept): (Vec<_>, Vec<_>) = state.retired.drain(..).partition(is_over);
        state.retired = kept;
        over.into_iter().map(|(_, segment)| segment).collect()
    }

    /// The retired segments that somebody may still read.
    pub(crate) fn retired(&self) -> Vec<u32> {
        lock(&self.state).retired.iter().map(|(_, segment)| *segment).collect()
    }
}

/// A call that makes references durable; over when it is dropped.
pub(crate) struct Change {
    holds: Arc<Holds>,
    epoch: u64,
    /// What the collection that goes on takes for alive.
    pub(crate) live: Option<Arc<Live>>,
}

impl Drop for Change {
    fn drop(&mut self) {
        end(&mut lock(&self.holds.state).changes, self.epoch);
        self.holds.over.notify_all();
    }
}

/// While this is kept, places that were found after it was made stay readable, also when
/// collection moves what lies there. It delays the return of space, so it is not kept idle.
pub struct Reading {
    holds: Arc<Holds>,
    epoch: u64,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        end(&mut lock(&self.holds.state).readings, self.epoch);
    }
}

/// An image that is open; clones are the same hold.
#[derive(Clone)]
pub(crate) struct HeldImage(#[expect(dead_code, reason = "kept for its end")] Arc<HeldRow>);

struct HeldRow {
    holds: Arc<Holds>,
    number: u64,
}

impl Drop for HeldRow {
    fn drop(&mut self) {
        lock(&self.holds.state).images.remove(&self.number);
    }
}

/// A collection that goes on; over when it is dropped.
pub(crate) struct Running(Arc<Holds>);

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.0.state).live = None;
    }
}
