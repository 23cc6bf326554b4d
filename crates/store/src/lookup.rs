//! Looking keys up, one or a window of them: memory, then trails, then runs.
//!
//! A *trail* is what a committed segment says of itself, in the order in which it was written (its
//! footer). Who looks up the records of a volume in order finds them in the order in which they
//! were stored, so one page of a run leads to thousands of further answers without another. Where
//! that is not so, the rest of the window is sorted and goes through the runs page by page.
//!
//! Where trails do not lead, all filters are asked for many keys at once, a run at a time: most
//! keys of a new volume are done then, and the rest know which runs may have them. Pages of large
//! runs are asked for a while before they are read, so that a disk works on several at once.
//!
//! A filter says *missing* and nothing else; every *have* is an entry of memory, of a run's page or
//! of a footer, each under its checksum (B-14).

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use offsite_model::{Key, TenantId};

use crate::error::StoreError;
use crate::group::Form;
use crate::index::IndexKey;
use crate::index::run::{Run, RunError};
use crate::quarantine::Aside;
use crate::segment::{Contents, RecordPlace, has_head};
use crate::session::Session;
use crate::store::{Core, Store, lock};

/// Places that a look-up follows at once: a volume may be made of several older ones.
const CURSORS_MAX: usize = 4;
/// Trails that are read for nothing before a window is looked up by sorting.
const WASTED_MAX: u32 = 2;
/// Keys of a window that are looked up page by page where no trail begins at them, as in what is
/// not committed yet, before the rest is looked up by sorting.
const TRAILLESS_MAX: u32 = 64;
/// Keys for which filters are asked at once.
const KEYS_AHEAD_MAX: usize = 1024;
/// Keys whose lines of a filter are fetched before the first of them is looked at: 4 KiB.
const FETCHED_KEYS: usize = 64;
/// Pages that are asked for before they are read.
const PAGES_AHEAD: usize = 64;
/// Of how many keys that are nowhere one may be what a filter is wrong about: several times as many
/// as filters are wrong about.
const NOWHERE_PER_DOUBT: usize = 16;
/// Answers that make a trail worth reading.
const WORTH: u32 = 64;
/// Records of the trails that are kept in memory: 52 bytes each.
const TRAIL_RECORDS_MAX: usize = 1 << 18;
/// Keys that are looked up in memory under one holding of the lock.
const LOCKED_KEYS_MAX: usize = 1024;

/// The trails that were used last, the newest at the end.
#[derive(Default)]
pub(crate) struct Trails(Vec<Arc<Trail>>);

/// The records of one segment in the order in which they lie.
pub(crate) struct Trail {
    segment: u32,
    records: Vec<(Key, Form, RecordPlace)>,
}

impl Trails {
    fn used(&mut self, segment: u32) -> Option<Arc<Trail>> {
        let at = self.0.iter().position(|trail| trail.segment == segment)?;
        let trail = self.0.remove(at);
        self.0.push(Arc::clone(&trail));
        Some(trail)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn keep(&mut self, trail: Arc<Trail>) {
        self.0.push(trail);
        let mut n_records: usize = self.0.iter().map(|trail| trail.records.len()).sum();
        while n_records > TRAIL_RECORDS_MAX && self.0.len() > 1 {
            n_records -= self.0.remove(0).records.len();
        }
    }
}

/// Where a look-up stands on a trail: the record it expects next.
struct Cursor {
    trail: Arc<Trail>,
    next: usize,
    n_hits: u32,
    /// Whether the trail was read for this window.
    was_read: bool,
}

impl Cursor {
    fn step(&mut self, key: &IndexKey) -> Option<RecordPlace> {
        let (found, form, place) = self.trail.records.get(self.next)?;
        if *found != key.0 || *form != key.1 {
            return None;
        }
        self.next += 1;
        self.n_hits += 1;
        Some(*place)
    }
}

impl Store {
    /// Where each of these records of this tenant lies, as [`Store::find`] says it: one call for a
    /// window, best in the order of the volume.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn find_many(
        &self,
        tenant: TenantId,
        form: Form,
        keys: &[Key],
    ) -> Result<Vec<Option<RecordPlace>>, StoreError> {
        let _looking = self.core.holds.looking();
        self.core.find_many(tenant, form, keys, &self.core.aside(tenant))
    }
}

impl Session {
    /// Where each of these records lies; see [`Store::find_many`].
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn find_many(
        &self,
        form: Form,
        keys: &[Key],
    ) -> Result<Vec<Option<RecordPlace>>, StoreError> {
        let core = &self.core;
        let _looking = core.holds.looking();
        let found = core.find_many(self.tenant(), form, keys, &core.aside(self.tenant()))?;
        // Before a collection may look again: what was told stays until this session is over.
        let told = keys.iter().zip(&found).filter(|(_, found)| found.is_some());
        let told = told.map(|(key, _)| *key);
        core.holds.tell(self.number(), self.tenant(), told, segments_of(&found));
        Ok(found)
    }
}

/// The segments of places, each about once.
fn segments_of(found: &[Option<RecordPlace>]) -> impl Iterator<Item = u32> + '_ {
    let mut last = None;
    let places = found.iter().flatten().map(|place| place.segment);
    places.filter(move |segment| last.replace(*segment) != Some(*segment))
}

impl Core {
    /// Where a record lies, past what is aside. The caller keeps [`Holds::looking`], and took
    /// `aside` after it.
    ///
    /// [`Holds::looking`]: crate::holds::Holds::looking
    pub(crate) fn find(
        &self,
        tenant: TenantId,
        form: Form,
        key: &Key,
        aside: &Aside,
    ) -> Result<Option<RecordPlace>, StoreError> {
        let key = (*key, form);
        // A dropped run leaves one fewer, so this ends.
        loop {
            let runs = {
                let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
                let Some(tenant) = index.get(&tenant) else { return Ok(None) };
                if let Some(place) = tenant.recent.get(&key).filter(|place| aside.allows(place)) {
                    return Ok(Some(*place));
                }
                Arc::clone(&tenant.runs)
            };
            match find_in_runs(&runs, &key, aside) {
                Ok(found) => return Ok(found),
                Err((number, error)) => self.replace_run(tenant, number, error)?,
            }
        }
    }

    /// As [`Core::find`], for a window.
    pub(crate) fn find_many(
        &self,
        tenant: TenantId,
        form: Form,
        keys: &[Key],
        aside: &Aside,
    ) -> Result<Vec<Option<RecordPlace>>, StoreError> {
        let mut found = vec![None; keys.len()];
        loop {
            let runs = self.find_in_memory(tenant, form, keys, aside, &mut found);
            let mut places = Places::of(&runs, aside, keys);
            let probed = self
                .follow_trails(tenant, form, keys, &mut places, &mut found)
                .and_then(|first| find_sorted(&mut places, form, keys, first, &mut found));
            match probed {
                Ok(()) => return Ok(found),
                // A dropped run leaves one fewer, so this ends.
                Err((number, error)) => self.replace_run(tenant, number, error)?,
            }
        }
    }

    fn replace_run(&self, tenant: TenantId, run: u32, error: RunError) -> Result<(), StoreError> {
        match error {
            RunError::Damaged => self.drop_run(tenant, run),
            RunError::Io(error) => Err(StoreError::io(format!("read key run {run:08x}"))(error)),
        }
    }

    /// Fills in what memory knows; the runs for the rest.
    fn find_in_memory(
        &self,
        tenant: TenantId,
        form: Form,
        keys: &[Key],
        aside: &Aside,
        found: &mut [Option<RecordPlace>],
    ) -> Arc<Vec<Arc<Run>>> {
        let runs = || {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            index.get(&tenant).map(|index| Arc::clone(&index.runs)).unwrap_or_default()
        };
        let mut before = runs();
        loop {
            let chunks = keys.chunks(LOCKED_KEYS_MAX).zip(found.chunks_mut(LOCKED_KEYS_MAX));
            for (keys, found) in chunks {
                let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
                let Some(index) = index.get(&tenant) else { break };
                if index.recent.is_empty() {
                    break;
                }
                for (key, found) in keys.iter().zip(found).filter(|(_, found)| found.is_none()) {
                    let place = index.recent.get(&(*key, form)).copied();
                    *found = place.filter(|place| aside.allows(place));
                }
            }
            // What moved from memory into a run meanwhile is in the run; what moved from a run that
            // was dropped into memory is found by asking again.
            let after = runs();
            if Arc::ptr_eq(&before, &after) || before.is_empty() {
                return after;
            }
            before = after;
        }
    }

    /// Answers keys in their order as long as trails lead from one to the next; the first key that
    /// is left for [`find_sorted`].
    fn follow_trails(
        &self,
        tenant: TenantId,
        form: Form,
        keys: &[Key],
        places: &mut Places<'_>,
        found: &mut [Option<RecordPlace>],
    ) -> Result<usize, (u32, RunError)> {
        let mut cursors: Vec<Cursor> = Vec::with_capacity(CURSORS_MAX);
        let (mut n_wasted, mut n_trailless, mut n_ahead) = (0, 0, 1);
        let (mut n_nowhere, mut n_doubted, mut first_doubted) = (0, 0, keys.len());
        for (n, (key, found)) in keys.iter().zip(found).enumerate() {
            if found.is_some() {
                continue;
            }
            let key = (*key, form);
            *found = cursors.iter_mut().find_map(|cursor| cursor.step(&key));
            if found.is_some() {
                n_ahead = 1;
                continue;
            }
            // Few are asked for while trails may go on, and more and more where there is none.
            if !places.is_asked_for(n) {
                places.ask_for(n..n.saturating_add(n_ahead));
                n_ahead = (n_ahead * 4).min(KEYS_AHEAD_MAX);
            }
            if places.is_nowhere(n) {
                n_nowhere += 1;
                continue;
            }
            // What is stored stands in stretches: one key among many that are nowhere is most
            // likely none. Such keys wait until all of them can be looked up page by page.
            let is_alone = n.checked_sub(1).is_some_and(|before| places.is_nowhere(before));
            if is_alone && n_doubted < n_nowhere / NOWHERE_PER_DOUBT {
                n_doubted += 1;
                first_doubted = first_doubted.min(n);
                continue;
            }
            *found = places.find(n, &key)?;
            let Some(place) = *found else {
                // A filter was wrong, and a page was read for it.
                n_trailless += 1;
                if n_trailless > TRAILLESS_MAX {
                    return Ok(first_doubted.min(n + 1));
                }
                continue;
            };
            if let Some(at) = cursors.iter().position(|c| c.trail.segment == place.segment) {
                // The volume goes on elsewhere in the same segment.
                if let Some(cursor) = cursors.get_mut(at) {
                    cursor.next = after(&cursor.trail, &place);
                }
                continue;
            }
            let Some((trail, was_read)) = self.trail(tenant, place.segment) else {
                n_trailless += 1;
                if n_trailless > TRAILLESS_MAX {
                    return Ok(first_doubted.min(n + 1));
                }
                continue;
            };
            if cursors.len() == CURSORS_MAX {
                // The one that has not led anywhere for longest.
                let dropped = cursors.remove(0);
                n_wasted += u32::from(dropped.was_read && dropped.n_hits < WORTH);
                if n_wasted > WASTED_MAX {
                    return Ok(first_doubted.min(n + 1));
                }
            }
            let next = after(&trail, &place);
            cursors.push(Cursor { trail, next, n_hits: 0, was_read });
        }
        Ok(first_doubted)
    }

    /// The trail of a committed segment and whether it had to be read; none where there is no good
    /// footer, or no committed one.
    fn trail(&self, tenant: TenantId, number: u32) -> Option<(Arc<Trail>, bool)> {
        if let Some(trail) = lock(&self.trails).used(number) {
            return Some((trail, false));
        }
        let segment = self.segment_of(tenant, number).ok()?;
        if !segment.has_durable_footer() {
            return None;
        }
        let file = segment.file(&self.place).ok()?;
        // Nothing is lost where it cannot be read: the runs have the answers.
        let Ok(true) = has_head(&*file, number, self.id, tenant) else { return None };
        let Contents { mut records, .. } = segment.footer(&self.place).ok()??;
        let aside = self.aside(tenant);
        records.retain(|(_, _, place)| aside.allows(place));
        let trail = Arc::new(Trail { segment: number, records });
        lock(&self.trails).keep(Arc::clone(&trail));
        Some((trail, true))
    }
}

/// The index of the record behind this one.
fn after(trail: &Trail, place: &RecordPlace) -> usize {
    let is_before = |other: &RecordPlace| (other.place, other.slot) <= (place.place, place.slot);
    trail.records.partition_point(|(_, _, other)| is_before(other))
}

/// Looks a key up in runs, newest first. The caller has looked in memory already.
///
/// # Errors
/// The number of the run that cannot be believed.
fn find_in_runs(
    runs: &[Arc<Run>],
    key: &IndexKey,
    aside: &Aside,
) -> Result<Option<RecordPlace>, (u32, RunError)> {
    for run in runs.iter().rev() {
        match run.find(key).map(|found| found.filter(|place| aside.allows(place))) {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) => return Err((run.number, error)),
        }
    }
    Ok(None)
}

/// The runs of a tenant, and which of them may have which key of a window.
struct Places<'a> {
    runs: &'a [Arc<Run>],
    aside: &'a Aside,
    keys: &'a [Key],
    /// By key, as far as filters were asked: a bit for each run from the newest on; runs beyond the
    /// bits may have any.
    may_have: Vec<u32>,
}

impl<'a> Places<'a> {
    const fn of(runs: &'a [Arc<Run>], aside: &'a Aside, keys: &'a [Key]) -> Self {
        Self { runs, aside, keys, may_have: Vec::new() }
    }

    const fn is_asked_for(&self, n: usize) -> bool {
        n < self.may_have.len()
    }

    /// Asks the filters for these keys of the window that were not asked for. Those before them
    /// were found without it.
    fn ask_for(&mut self, keys: Range<usize>) {
        let begin = keys.start.max(self.may_have.len()).min(self.keys.len());
        self.may_have.resize(begin, u32::MAX);
        self.may_have.resize(keys.end.min(self.keys.len()).max(begin), 0);
        let keys = self.keys.get(begin..).unwrap_or_default();
        let may_have = self.may_have.get_mut(begin..).unwrap_or_default();
        for (run, bit) in self.runs.iter().rev().zip((0..u32::BITS).map(|n| 1 << n)) {
            let few = keys.chunks(FETCHED_KEYS).zip(may_have.chunks_mut(FETCHED_KEYS));
            for (keys, may_have) in few {
                run.fetch_filter(keys);
                for (key, may_have) in keys.iter().zip(may_have) {
                    if run.may_have(key) {
                        *may_have |= bit;
                    }
                }
            }
        }
    }

    /// Whether no run has the key at this place of the window.
    fn is_nowhere(&self, n: usize) -> bool {
        self.runs.len() <= u32::BITS as usize && self.may_have.get(n) == Some(&0)
    }

    /// Whether the run, counted from the newest on, may have the key at this place of the window.
    fn may_be_in(&self, run: usize, n: usize) -> bool {
        let bit = u32::try_from(run).ok().and_then(|run| 1_u32.checked_shl(run));
        bit.is_none_or(|bit| self.may_have.get(n).is_none_or(|may_have| may_have & bit != 0))
    }

    /// Looks a key up in the runs that may have it, newest first.
    ///
    /// # Errors
    /// The number of the run that cannot be believed.
    fn find(&self, n: usize, key: &IndexKey) -> Result<Option<RecordPlace>, (u32, RunError)> {
        for (at, run) in self.runs.iter().rev().enumerate() {
            if !self.may_be_in(at, n) {
                continue;
            }
            match run.find(key).map(|found| found.filter(|place| self.aside.allows(place))) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => return Err((run.number, error)),
            }
        }
        Ok(None)
    }
}

/// Looks the keys from `first` on up in the order of the runs, so that a page is read once.
///
/// # Errors
/// The number of the run that cannot be believed.
fn find_sorted(
    places: &mut Places<'_>,
    form: Form,
    keys: &[Key],
    first: usize,
    found: &mut [Option<RecordPlace>],
) -> Result<(), (u32, RunError)> {
    if first < keys.len() {
        places.ask_for(first..keys.len());
    }
    let places = &*places;
    let rest = keys.iter().enumerate().skip(first);
    let rest = rest.filter(|(n, _)| found.get(*n).is_some_and(Option::is_none));
    let rest = rest.filter(|(n, _)| !places.is_nowhere(*n));
    let mut rest: Vec<(IndexKey, usize)> = rest.map(|(n, key)| ((*key, form), n)).collect();
    rest.sort_unstable();
    for (at, run) in places.runs.iter().rev().enumerate() {
        let is_left = |(_, n): &&(IndexKey, usize)| {
            found.get(*n).is_some_and(Option::is_none) && places.may_be_in(at, *n)
        };
        let here: Vec<(IndexKey, usize)> = rest.iter().filter(is_left).copied().collect();
        let mut probe = run.probe();
        let mut ahead = here.iter();
        ahead.by_ref().take(PAGES_AHEAD).for_each(|(key, _)| run.will_need(key));
        for (key, n) in &here {
            if let Some((key, _)) = ahead.next() {
                run.will_need(key);
            }
            let place = probe.find(key).map_err(|error| (run.number, error))?;
            if let Some(found) = found.get_mut(*n) {
                *found = place.filter(|place| places.aside.allows(place));
            }
        }
    }
    Ok(())
}
