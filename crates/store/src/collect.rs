//! Collection: space that no recovery point and no draft needs comes back, beside everything else.
//!
//! A run goes through these steps; until the last nothing is removed, so a run that is cancelled,
//! dies or comes to doubt leaves at worst records twice, which the next run finds and takes:
//!
//! 1. *Mark* (`mark`): the keys of every page that a point or an open image shows, and those that
//!    drafts name, into a filter per tenant. A false "alive" keeps garbage, a false "dead" cannot
//!    happen.
//! 2. *Weigh* (`weigh`): every closed, committed segment's own list against the filter. Those of
//!    which little is alive are the run's *victims*.
//! 3. *Move* (`carry`): what is alive in victims is read, decoded, compared with its keys and
//!    written into new segments, which become durable and get their rows; after that look-ups find
//!    the new places and pass over the victims.
//! 4. *Remove* (`sweep`): runs that name victims are written anew; one transaction takes the rows
//!    of victims and of manifests that nothing refers to; then the files go, each as soon as nobody
//!    reads it any more.
//!
//! **Memory:** 24 bits per stored key for the filters, at most
//! [`CollectOptions::filter_bytes_max`]; about 1 KiB per distinct full page of one tenant and 80
//! bytes per patch; one segment's list; 64 bytes per record of the portion being moved (128 MiB
//! stored); with threads that read ahead, 16 MiB of records more.
//!
//! **Absent:** which points go (policy), when to run, waiting: whoever wants a bandwidth share
//! waits in the progress function, see [`Share`].

mod ahead;
mod carry;
pub(crate) mod live;
mod mark;
mod run;
mod share;
mod sweep;
mod weigh;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, TryLockError};

use offsite_model::TenantId;

use crate::error::StoreError;
use crate::store::{Core, Store, lock};
use live::Live;
pub use run::{CollectOptions, CollectProgress, CollectReport, Kept, Stage};
use run::{Run, doubt};
pub use share::Share;

impl Store {
    /// Takes back the space of everything that no point, no open image and no draft refers to.
    /// `progress` is told how far it is, without a lock held, and says whether to go on.
    ///
    /// # Errors
    /// [`StoreError::CollectionRuns`]; [`StoreError::Doubt`] when something could not be read or
    /// is damaged, [`StoreError::Interrupted`] when `progress` said so: nothing was removed. The
    /// disk's errors in writing rows poison the store, as those of a commit do.
    pub fn collect(
        &self,
        options: &CollectOptions,
        progress: &mut dyn FnMut(&CollectProgress) -> ControlFlow<()>,
    ) -> Result<CollectReport, StoreError> {
        let core = &*self.core;
        core.check_writable()?;
        let _alone = match core.collecting.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(alone)) => PoisonError::into_inner(alone),
            Err(TryLockError::WouldBlock) => return Err(StoreError::CollectionRuns),
        };
        core.check_fence()?;
        core.unlink_unread();
        let mut n_keys = core.n_keys();
        n_keys.retain(|tenant, _| options.tenant.is_none_or(|only| only == *tenant));
        let live = Arc::new(Live::new(&n_keys, options.filter_bytes_max));
        let _running = core.holds.begin_collection(Arc::clone(&live));
        let start = core.start(options.tenant).map_err(doubt)?;
        let report = CollectReport::default();
        let (options, bytes_read, n_left) = (*options, 0, 0);
        let run = Run { store: self, core, options, progress, live, report, bytes_read, n_left };
        run.perform(start)
    }
}

impl Run<'_> {
    fn perform(mut self, start: mark::Start) -> Result<CollectReport, StoreError> {
        let alive = self.mark(&start)?;
        let victims = self.weigh(&start.segments)?;
        let emptied = self.carry(victims)?;
        let manifests = start.manifests.into_iter().filter(|(number, _)| !alive.contains(number));
        self.remove(emptied, manifests.collect())?;
        Ok(self.report)
    }
}

impl Core {
    /// How many keys each tenant may have alive: stored ones, and those that drafts name.
    fn n_keys(&self) -> BTreeMap<TenantId, u64> {
        let mut n_keys: BTreeMap<TenantId, u64> = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            let count = |(tenant, index): (&TenantId, &crate::index::TenantIndex)| {
                let in_runs: u64 = index.runs.iter().map(|run| run.n_entries).sum();
                (*tenant, in_runs + index.recent.len() as u64)
            };
            index.iter().map(count).collect()
        };
        for kept in lock(&self.drafts).values() {
            // A guess is enough: a filter that is too small keeps garbage and nothing else.
            let path = self.place.file(crate::layout::Folder::Drafts, kept.log);
            let bytes = self.place.files.metadata(&path).map_or(0, |metadata| metadata.bytes);
            *n_keys.entry(kept.tenant).or_default() += bytes / DRAFT_ENTRY_BYTES;
        }
        n_keys
    }
}

const DRAFT_ENTRY_BYTES: u64 = size_of::<crate::format::DraftEntry>() as u64;
