//! Writing and merging key runs: work on a cache, outside the order of a commit.
//!
//! A run that cannot be written is an alarm and nothing else: its records stay in memory and
//! would be read from their segments at the next opening.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use offsite_model::TenantId;

use crate::error::StoreError;
use crate::index::IndexKey;
use crate::index::run::{self, Run, RunError};
use crate::layout::Folder;
use crate::segment::RecordPlace;
use crate::store::{Alarm, Core, lock};

/// What a run may be written of.
struct Ripe {
    covered: BTreeSet<u32>,
    records: Vec<(IndexKey, RecordPlace)>,
}

impl Core {
    /// Writes a run when enough records have gathered, and merges runs that have grown alike.
    pub(crate) fn write_runs(&self, tenant: TenantId) {
        let _upkeep = lock(&self.upkeep);
        if let Err(error) = self.write_recent(tenant).and_then(|()| self.merge_runs(tenant)) {
            self.alarm(Alarm::RunNotWritten { cause: error.to_string() });
        }
    }

    fn write_recent(&self, tenant: TenantId) -> Result<(), StoreError> {
        let Some(Ripe { covered, records }) = self.ripe(tenant) else { return Ok(()) };
        let number = self.number()?;
        let n = records.len() as u64;
        let entries = records.into_iter().map(Ok);
        let covered: Vec<u32> = covered.into_iter().collect();
        let run = run::write(&self.place, number, self.id, tenant, &covered, n, entries)
            .map_err(|error| run_error(number, error))?;
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let index = index.entry(tenant).or_default();
        Arc::make_mut(&mut index.runs).push(Arc::new(run));
        index.forget(&covered);
        Ok(())
    }

    /// The records of segments that are closed and committed, when there are enough of them.
    fn ripe(&self, tenant: TenantId) -> Option<Ripe> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let recent = &index.get(&tenant)?.recent;
        if recent.len() < self.settings.recent_records_max {
            return None;
        }
        let all: BTreeSet<u32> = recent.values().map(|place| place.segment).collect();
        let is_ripe = |number: &u32| {
            self.segment(*number).is_some_and(|segment| {
                segment.is_closed() && segment.bytes_committed() >= segment.bytes()
            })
        };
        let covered: BTreeSet<u32> = all.into_iter().filter(is_ripe).collect();
        let records = recent.iter().filter(|(_, place)| covered.contains(&place.segment));
        let records: Vec<_> = records.map(|(key, place)| (*key, *place)).collect();
        (!records.is_empty()).then_some(Ripe { covered, records })
    }

    /// Merges the two newest runs while the newer is at least half as large as the older.
    fn merge_runs(&self, tenant: TenantId) -> Result<(), StoreError> {
        loop {
            let runs = {
                let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
                index.get(&tenant).map(|index| Arc::clone(&index.runs)).unwrap_or_default()
            };
            let [.., older, newer] = &runs[..] else { return Ok(()) };
            if newer.n_entries * 2 < older.n_entries {
                return Ok(());
            }
            self.merge_pair(tenant, older, newer)?;
        }
    }

    fn merge_pair(
        &self,
        tenant: TenantId,
        older: &Arc<Run>,
        newer: &Arc<Run>,
    ) -> Result<(), StoreError> {
        let covered: BTreeSet<u32> = older.covered.iter().chain(&newer.covered).copied().collect();
        let covered: Vec<u32> = covered.into_iter().collect();
        let n_max = older.n_entries + newer.n_entries;
        let number = self.number()?;
        let pair = [Arc::clone(older), Arc::clone(newer)];
        let merged =
            run::write(&self.place, number, self.id, tenant, &covered, n_max, run::merge(&pair))
                .map_err(|error| run_error(number, error))?;
        {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            let index = index.entry(tenant).or_default();
            index.remove_run(older.number);
            index.remove_run(newer.number);
            Arc::make_mut(&mut index.runs).push(Arc::new(merged));
        }
        for run in pair {
            self.place.remove(&self.place.file(Folder::Runs, run.number))?;
        }
        Ok(())
    }
}

pub(crate) fn run_error(number: u32, error: RunError) -> StoreError {
    match error {
        RunError::Io(error) => StoreError::io(format!("use key run {number:08x}"))(error),
        RunError::Damaged => StoreError::Damaged(format!("key run {number:08x}")),
    }
}
