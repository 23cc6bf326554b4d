//! Removing what is garbage: runs that no longer name it, the rows, then the files.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use offsite_model::TenantId;

use super::carry::Emptied;
use super::run::{Run, Stage, doubt};
use crate::commit::Garbage;
use crate::error::StoreError;
use crate::index::run::Run as KeyRun;
use crate::layout::Folder;
use crate::rows::ManifestRow;
use crate::store::{Core, lock};

impl Run<'_> {
    /// Removes emptied segments and manifests that nothing refers to. Doubt ends here: from the
    /// transaction on it is only carried out.
    pub(super) fn remove(
        &mut self,
        emptied: Emptied,
        manifests: Vec<(u32, ManifestRow)>,
    ) -> Result<(), StoreError> {
        self.n_left = emptied.values().map(|gone| gone.len() as u64).sum();
        self.go_on(Stage::Remove)?;
        for (tenant, gone) in emptied.iter().filter(|(_, gone)| !gone.is_empty()) {
            self.leave_runs(*tenant, gone)?;
        }
        let mut tenants: BTreeSet<TenantId> = emptied.keys().copied().collect();
        tenants.extend(manifests.iter().map(|(_, row)| TenantId::from_bytes(row.tenant)));
        let tenants: Vec<TenantId> = tenants.into_iter().collect();
        let garbage = tenants.iter().map(|&tenant| {
            let own = manifests.iter().filter(|(_, row)| row.tenant == tenant.to_bytes());
            Garbage {
                tenant,
                segments: emptied.get(&tenant).into_iter().flatten().copied().collect(),
                manifests: own.map(|(number, _)| *number).collect(),
            }
        });
        let garbage = garbage.filter(|g| !g.segments.is_empty() || !g.manifests.is_empty());
        let garbage: Vec<Garbage> = garbage.collect();
        if garbage.is_empty() {
            return Ok(());
        }
        self.core.collect(garbage)?;
        let gone: BTreeSet<u32> = emptied.into_values().flatten().collect();
        self.report.n_segments = gone.len() as u64;
        self.report.n_manifests = manifests.len() as u64;
        let manifest_bytes: u64 = manifests.iter().map(|(_, row)| row.bytes).sum();
        self.report.bytes_freed = manifest_bytes;
        for segment in gone.iter().filter_map(|number| self.core.segment(*number)) {
            match self.core.quarantine.groups_of(segment.number).is_empty() {
                true => self.report.bytes_freed += segment.bytes(),
                false => self.report.bytes_quarantined += segment.bytes(),
            }
        }
        for (number, _) in &manifests {
            // Opening removes what this cannot.
            drop(self.core.place.remove(&self.core.place.file(Folder::Manifests, *number)));
        }
        for kept in lock(&self.core.drafts).values_mut() {
            kept.segments.retain(|number, _| !gone.contains(number));
        }
        self.forget(&tenants, &gone);
        self.core.holds.retire(gone);
        self.report.bytes_waiting = self.core.unlink_unread();
        Ok(())
    }

    /// Lets no run name emptied segments any more. First every new place is written to a run: the
    /// run that is about to lose the old place of a record may cover the new one without naming it,
    /// and then no opening would look there.
    fn leave_runs(&self, tenant: TenantId, gone: &BTreeSet<u32>) -> Result<(), StoreError> {
        let _upkeep = lock(&self.core.upkeep);
        self.core.flush_recent(tenant).map_err(doubt)?;
        let named = |run: &Arc<KeyRun>| run.covered.iter().any(|number| gone.contains(number));
        for run in self.core.runs(tenant).iter().filter(|run| named(run)) {
            let rest = match self.core.without(tenant, run, gone) {
                Ok(rest) => rest,
                Err(StoreError::Damaged(_)) => {
                    self.core.replace_damaged(tenant, run).map_err(doubt)?;
                    continue;
                }
                // Look-ups go on to pass over what it says of these segments, and the next opening
                // makes it again.
                Err(StoreError::NoSpace) => continue,
                Err(error) => return Err(doubt(error)),
            };
            {
                let mut index = self.core.index.write().unwrap_or_else(PoisonError::into_inner);
                let index = index.entry(tenant).or_default();
                index.remove_run(run.number);
                Arc::make_mut(&mut index.runs).extend(rest.map(Arc::new));
            }
            self.core.place.remove(&run.path(&self.core.place)).map_err(doubt)?;
        }
        // A run that a crash brings back would name what has no row.
        self.core.place.sync(Folder::Runs)
    }

    /// Of segments without a row those that no run names: look-ups need not pass over them.
    fn forget(&self, tenants: &[TenantId], gone: &BTreeSet<u32>) {
        let runs = tenants.iter().map(|tenant| self.core.runs(*tenant));
        let named: BTreeSet<u32> = runs
            .flat_map(|runs| runs.iter().flat_map(|run| run.covered.clone()).collect::<Vec<_>>())
            .collect();
        self.core.quarantine.forget_emptied(&gone.difference(&named).copied().collect());
    }
}

impl Core {
    /// Removes the files of retired segments that nobody reads any more; the bytes of those that
    /// stay.
    pub(super) fn unlink_unread(&self) -> u64 {
        for number in self.holds.take_unread() {
            let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
            segments.remove(&number);
            drop(segments);
            // Opening does what this cannot: it knows by the same rows what is damaged.
            if self.quarantine.groups_of(number).is_empty() {
                drop(self.place.remove(&self.place.file(Folder::Segments, number)));
            } else if self.place.put_in_quarantine(number).is_ok() {
                drop(self.forget_aside(number));
            }
        }
        let waiting = self.holds.retired();
        waiting.iter().filter_map(|number| self.segment(*number)).map(|s| s.bytes()).sum()
    }
}
