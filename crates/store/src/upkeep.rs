//! Writing and merging key runs: work on a cache, outside the order of a commit.
//!
//! A run that cannot be written is an alarm and nothing else: its records stay in memory and
//! would be read from their segments at the next opening.
//!
//! So that a commit of any size needs little memory, a session's records are spilled while it
//! goes on, into *provisional* runs: they have a temporary name, which no opening believes, and
//! get their real one when everything they cover is committed.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use offsite_model::TenantId;

use crate::error::StoreError;
use crate::format::PLACE_BYTES;
use crate::index::IndexKey;
use crate::index::run::{self, PUBLISHED, Plan, Run, RunError};
use crate::layout::Folder;
use crate::segment::RecordPlace;
use crate::store::{Alarm, Core, lock};

/// Runs are not merged beyond so many entries: the filter of a run is built in memory, 12 bits a
/// key.
const RUN_ENTRIES_MAX: u64 = 1 << 25;

/// Merges that may wait for the end of a session. Each is a run more to look into.
const MERGES_WAITING_MAX: usize = 4;

/// The owner of provisional runs of what drafts kept through a crash.
const RECOVERED: u64 = u64::MAX;

/// What a run may be written of.
struct Ripe {
    covered: BTreeSet<u32>,
    records: Vec<(IndexKey, RecordPlace)>,
}

impl Core {
    /// Publishes what has been committed, writes a run when enough records have gathered, and
    /// merges runs that have grown alike.
    pub(crate) fn write_runs(&self, tenant: TenantId) {
        let _upkeep = lock(&self.upkeep);
        self.write_runs_alone(tenant);
    }

    /// The same before an answer for which somebody waits: merging is left to the end of the
    /// session, unless there is much of it.
    pub(crate) fn write_runs_shortly(&self, tenant: TenantId) {
        let _upkeep = lock(&self.upkeep);
        self.write_and_merge(tenant, MERGES_WAITING_MAX);
    }

    /// As [`Core::write_runs`], by one who holds `upkeep`.
    pub(crate) fn write_runs_alone(&self, tenant: TenantId) {
        self.write_and_merge(tenant, 0);
    }

    fn write_and_merge(&self, tenant: TenantId, n_waiting_max: usize) {
        let written = self
            .publish_runs(tenant)
            .and_then(|()| {
                self.write_recent(tenant, PUBLISHED, &|number| self.is_committed(number))
            })
            .and_then(|()| self.merge_runs(tenant, PUBLISHED, n_waiting_max));
        if let Err(error) = written {
            self.alarm(Alarm::RunNotWritten { cause: error.to_string() });
        }
    }

    /// Moves records of a session's closed segments from memory into a provisional run.
    pub(crate) fn spill(&self, tenant: TenantId, session: u64, segments: &[u32]) {
        let _upkeep = lock(&self.upkeep);
        let is_ripe = |number: u32| {
            segments.contains(&number)
                && self.segment(number).is_some_and(|segment| segment.is_closed())
        };
        self.spill_alone(tenant, session, &is_ripe);
    }

    fn spill_alone(&self, tenant: TenantId, owner: u64, is_ripe: &dyn Fn(u32) -> bool) {
        let spilled = self
            .write_recent(tenant, owner, is_ripe)
            .and_then(|()| self.merge_runs(tenant, owner, 0));
        if let Err(error) = spilled {
            self.alarm(Alarm::RunNotWritten { cause: error.to_string() });
        }
    }

    /// Writes what is in memory of closed and committed segments to a run, however little. The
    /// caller holds `upkeep`.
    pub(crate) fn flush_recent(&self, tenant: TenantId) -> Result<(), StoreError> {
        let ripe = self.ripe(tenant, &|number| self.is_committed(number), 1);
        ripe.map_or(Ok(()), |ripe| self.write_ripe(tenant, PUBLISHED, ripe))
    }

    /// Whether a commit has made what lies at a place durable.
    pub(crate) fn is_durable(&self, place: &RecordPlace) -> bool {
        let at = u64::from(place.place) * PLACE_BYTES;
        self.segment(place.segment).is_some_and(|segment| at < segment.bytes_committed())
    }

    fn is_committed(&self, number: u32) -> bool {
        self.segment(number).is_some_and(|segment| {
            segment.is_closed() && segment.bytes_committed() >= segment.bytes()
        })
    }

    fn write_recent(
        &self,
        tenant: TenantId,
        owner: u64,
        is_ripe: &dyn Fn(u32) -> bool,
    ) -> Result<(), StoreError> {
        let ripe = self.ripe(tenant, is_ripe, self.settings.recent_records_max);
        ripe.map_or(Ok(()), |ripe| self.write_ripe(tenant, owner, ripe))
    }

    fn write_ripe(&self, tenant: TenantId, owner: u64, ripe: Ripe) -> Result<(), StoreError> {
        let Ripe { covered, records } = ripe;
        let number = self.number()?;
        let n_max = records.len() as u64;
        let list: Vec<u32> = covered.iter().copied().collect();
        let plan = Plan { number, store: self.id, tenant, covered: &list, n_max, owner };
        let run = run::write(&self.place, &plan, records.into_iter().map(Ok))
            .map_err(|error| run_error(number, error))?;
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let index = index.entry(tenant).or_default();
        Arc::make_mut(&mut index.runs).push(Arc::new(run));
        index.forget(&covered);
        Ok(())
    }

    /// The records of ripe segments, when there are enough of them to be worth a file.
    fn ripe(&self, tenant: TenantId, is_ripe: &dyn Fn(u32) -> bool, n_min: usize) -> Option<Ripe> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let recent = &index.get(&tenant)?.recent;
        if recent.len() < n_min {
            return None;
        }
        let all: BTreeSet<u32> = recent.values().map(|place| place.segment).collect();
        let covered: BTreeSet<u32> = all.into_iter().filter(|number| is_ripe(*number)).collect();
        let records = recent.iter().filter(|(_, place)| covered.contains(&place.segment));
        let mut records: Vec<_> = records.map(|(key, place)| (*key, *place)).collect();
        records.sort_unstable_by_key(|(key, _)| *key);
        // Another session may hold most of what has gathered; a run of a few would be a waste.
        let is_enough = records.len().saturating_mul(4) >= n_min;
        (!records.is_empty() && is_enough).then_some(Ripe { covered, records })
    }

    pub(crate) fn runs(&self, tenant: TenantId) -> Arc<Vec<Arc<Run>>> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.get(&tenant).map(|index| Arc::clone(&index.runs)).unwrap_or_default()
    }

    /// Gives provisional runs their names where everything they cover is committed by now.
    fn publish_runs(&self, tenant: TenantId) -> Result<(), StoreError> {
        for run in self.runs(tenant).iter().filter(|run| run.owner() != PUBLISHED) {
            let is_committed = run.covered.iter().all(|number| {
                self.segment(*number)
                    .is_some_and(|segment| segment.bytes_committed() >= segment.bytes())
            });
            if is_committed {
                run.publish(&self.place).map_err(|error| run_error(run.number, error))?;
            }
        }
        Ok(())
    }

    /// Merges neighbours among the runs of an owner while a newer one is at least half as large as
    /// the older: so their number grows with the logarithm of the keys, also where a session that
    /// is committed brings several. So many pairs may wait: then nothing is merged.
    fn merge_runs(
        &self,
        tenant: TenantId,
        owner: u64,
        n_waiting_max: usize,
    ) -> Result<(), StoreError> {
        let mut n_waiting_max = n_waiting_max;
        loop {
            let runs = self.runs(tenant);
            let is_whole = |run: &&Arc<Run>| !run.is_doubtful.load(Ordering::Acquire);
            let runs = runs.iter().filter(|run| run.owner() == owner).filter(is_whole);
            let runs: Vec<_> = runs.collect();
            let is_alike = |older: &Run, newer: &Run| {
                newer.n_entries * 2 >= older.n_entries
                    && older.n_entries + newer.n_entries <= RUN_ENTRIES_MAX
            };
            let pairs = runs.array_windows().rev();
            let mut pairs = pairs.filter(|[older, newer]| is_alike(older, newer)).peekable();
            let Some([older, newer]) = pairs.peek().copied() else { return Ok(()) };
            if pairs.count() <= std::mem::take(&mut n_waiting_max) {
                return Ok(());
            }
            self.merge_pair(tenant, owner, older, newer)?;
        }
    }

    fn merge_pair(
        &self,
        tenant: TenantId,
        owner: u64,
        older: &Arc<Run>,
        newer: &Arc<Run>,
    ) -> Result<(), StoreError> {
        let covered: BTreeSet<u32> = older.covered.iter().chain(&newer.covered).copied().collect();
        let covered: Vec<u32> = covered.into_iter().collect();
        let n_max = older.n_entries + newer.n_entries;
        let number = self.number()?;
        let pair = [Arc::clone(older), Arc::clone(newer)];
        let plan = Plan { number, store: self.id, tenant, covered: &covered, n_max, owner };
        // Of two places of a key the first is kept, so what is put aside must not be first.
        let aside = self.aside(tenant);
        let good = run::merge(&pair).filter(|entry| {
            entry.as_ref().is_ok_and(|(_, place)| aside.allows(place)) || entry.is_err()
        });
        let merged =
            run::write(&self.place, &plan, good).map_err(|error| run_error(number, error))?;
        {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            let index = index.entry(tenant).or_default();
            index.remove_run(older.number);
            let runs = Arc::make_mut(&mut index.runs);
            // In the newer one's place, since runs are in the order of their age; that may have
            // been dropped meanwhile as damaged.
            match runs.iter_mut().find(|run| run.number == newer.number) {
                Some(run) => *run = Arc::new(merged),
                None => runs.push(Arc::new(merged)),
            }
        }
        for run in pair {
            self.place.remove(&run.path(&self.place))?;
        }
        Ok(())
    }

    /// Reads segments into the index again, run by run, so that memory stays bounded. The caller
    /// holds `upkeep`.
    pub(crate) fn read_segments(
        &self,
        tenant: TenantId,
        segments: impl IntoIterator<Item = u32>,
    ) -> Result<(), StoreError> {
        let aside = self.aside(tenant);
        for number in segments {
            if self.segment(number).is_none() && aside.is_emptied(number) {
                // Collected, and a run could not be written without it for want of space.
                continue;
            }
            let segment = self.segment_of(tenant, number)?;
            let contents = match segment.contents(&self.place) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(StoreError::io(format!("read segment {number:08x}")))?,
            };
            if !contents.is_whole {
                self.alarm_once(Alarm::SegmentDamaged { segment: number });
            }
            let is_full = {
                let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
                let index = index.entry(tenant).or_default();
                for (key, form, place) in contents.records {
                    if aside.allows(&place) {
                        index.add_again((key, form), place, &|place| self.is_durable(place));
                    }
                }
                index.recent.len() >= self.settings.recent_records_max
            };
            segment.let_go();
            if is_full {
                self.write_runs_alone(tenant);
                // What only drafts keep is spilled as their sessions would have done.
                self.spill_alone(tenant, RECOVERED, &|number| {
                    self.segment(number).is_some_and(|segment| segment.is_closed())
                });
            }
        }
        Ok(())
    }

    /// Replaces a run that cannot be believed by what its segments say.
    pub(crate) fn drop_run(&self, tenant: TenantId, number: u32) -> Result<(), StoreError> {
        let _upkeep = lock(&self.upkeep);
        // None when somebody else was faster.
        match self.runs(tenant).iter().find(|run| run.number == number) {
            Some(run) => self.replace_damaged(tenant, run),
            None => Ok(()),
        }
    }

    /// As [`Core::drop_run`], by one who holds `upkeep`.
    pub(crate) fn replace_damaged(&self, tenant: TenantId, run: &Run) -> Result<(), StoreError> {
        let number = run.number;
        run.is_doubtful.store(true, Ordering::Release);
        self.alarm(Alarm::RunDropped { run: number });
        self.read_segments(tenant, run.covered.iter().copied())?;
        {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            index.entry(tenant).or_default().remove_run(number);
        }
        self.place.remove(&run.path(&self.place))
    }

    /// Removes the segments of sessions that ended without a commit, as soon as nobody counts on
    /// them: no open session was told of a record in them, no draft has promised one, no commit
    /// refers to one.
    pub(crate) fn clear_orphans(&self, tenant: TenantId) {
        let gone = self.forsake_orphans(tenant);
        if gone.is_empty() {
            return;
        }
        let _upkeep = lock(&self.upkeep);
        let runs = self.runs(tenant);
        let touches = |run: &&Arc<Run>| run.covered.iter().any(|number| gone.contains(number));
        let mut replaced = Vec::new();
        for run in runs.iter().filter(touches) {
            match self.without(tenant, run, &gone) {
                Ok(rest) => replaced.push((Arc::clone(run), rest)),
                Err(error) => {
                    // Look-ups pass over the segments; the next session's end tries again.
                    self.alarm(Alarm::RunNotWritten { cause: error.to_string() });
                    return;
                }
            }
        }
        {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            let index = index.entry(tenant).or_default();
            index.orphans.retain(|number| !gone.contains(number));
            index.forget(&gone);
            for (run, rest) in &mut replaced {
                index.remove_run(run.number);
                Arc::make_mut(&mut index.runs).extend(rest.take().map(Arc::new));
            }
        }
        for (run, _) in replaced {
            drop(self.place.remove(&run.path(&self.place)));
        }
        {
            let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
            for number in &gone {
                segments.remove(number);
                // Opening the store removes what this cannot.
                drop(self.place.remove(&self.place.file(Folder::Segments, *number)));
            }
        }
        self.quarantine.forget_emptied(&gone);
        // What is left of the provisional runs is committed.
        self.write_runs_alone(tenant);
    }

    /// Lets look-ups pass over the orphans on which nobody counts; which they are. Before that
    /// nobody may hold `upkeep` in this thread: who looks something up may wait for it.
    fn forsake_orphans(&self, tenant: TenantId) -> BTreeSet<u32> {
        let orphans = |core: &Self| -> Vec<u32> {
            let index = core.index.read().unwrap_or_else(PoisonError::into_inner);
            index.get(&tenant).map(|index| index.orphans.clone()).unwrap_or_default()
        };
        if orphans(self).is_empty() {
            return BTreeSet::new();
        }
        // Nobody is told of anything between the question and its answer.
        let _alone = self.holds.alone();
        // Who was told is asked first: a draft that forgets it has promised it before.
        let untold = orphans(self).into_iter().filter(|number| !self.holds.is_told(*number));
        let untold: Vec<u32> = untold.collect();
        let kept = self.kept_segments();
        let (gone, stay): (BTreeSet<u32>, BTreeSet<u32>) = untold
            .into_iter()
            .filter(|number| !kept.contains(number))
            .partition(|number| self.is_uncommitted(*number));
        self.quarantine.empty(gone.iter().copied());
        lock(&self.trails).clear();
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = index.get_mut(&tenant) {
            index.forget(&gone);
            // Committed by somebody else: no longer without an owner.
            index.orphans.retain(|number| !stay.contains(number));
        }
        gone
    }

    /// Whether a segment is there of which nothing is committed.
    pub(crate) fn is_uncommitted(&self, number: u32) -> bool {
        self.segment(number).is_some_and(|segment| segment.bytes_committed() == 0)
    }

    /// A run again, without the segments that go; none when nothing is left.
    pub(crate) fn without(
        &self,
        tenant: TenantId,
        run: &Run,
        gone: &BTreeSet<u32>,
    ) -> Result<Option<Run>, StoreError> {
        let covered: Vec<u32> =
            run.covered.iter().copied().filter(|number| !gone.contains(number)).collect();
        if covered.is_empty() {
            return Ok(None);
        }
        let number = self.number()?;
        let (n_max, owner) = (run.n_entries, run.owner());
        let plan = Plan { number, store: self.id, tenant, covered: &covered, n_max, owner };
        let entries = run.entries().filter(|entry| match entry {
            Ok((_, place)) => !gone.contains(&place.segment),
            Err(_) => true,
        });
        let rest = run::write(&self.place, &plan, entries);
        rest.map(Some).map_err(|error| run_error(number, error))
    }
}

pub(crate) fn run_error(number: u32, error: RunError) -> StoreError {
    match error {
        RunError::Io(error) => StoreError::io(format!("use key run {number:08x}"))(error),
        RunError::Damaged => StoreError::Damaged(format!("key run {number:08x}")),
    }
}
