//! The key index of one tenant: key → place, exact, from memory and sorted runs.
//!
//! A cache: everything in it can be read again from the segments. The rule of answers (I5, B-14):
//! a filter may say *missing*; *have* comes from an entry; a damaged page says neither.
//!
//! **Absent:** other tenants. There is no index that spans two of them.

pub(crate) mod filter;
pub(crate) mod run;

use std::collections::BTreeSet;
use std::sync::Arc;

use offsite_model::{Key, KeyMap, KeySet, TenantId};

use crate::group::Form;
use crate::segment::RecordPlace;
use run::Run;

/// What an entry is found by.
pub(crate) type IndexKey = (Key, Form);

/// Keys of tenants that were looked for in all lists in vain.
pub(crate) type Nowhere = KeySet<(TenantId, IndexKey)>;

/// One tenant's index.
#[derive(Default)]
pub(crate) struct TenantIndex {
    /// Records that no run covers. Its hash is keyed: a source chooses its keys.
    pub(crate) recent: KeyMap<IndexKey, RecordPlace>,
    /// Oldest first; shared so that a look-up reads pages outside the lock.
    pub(crate) runs: Arc<Vec<Arc<Run>>>,
    /// Segments of sessions that ended without a commit, to be removed when nobody counts on them.
    pub(crate) orphans: Vec<u32>,
}

impl TenantIndex {
    /// Adds a record unless there is one: the first place stays.
    pub(crate) fn add(&mut self, key: IndexKey, place: RecordPlace) {
        self.recent.entry(key).or_insert(place);
    }

    /// Adds a record that is read again from its segment. A place that a commit made durable takes
    /// that of one which goes with its session: the segment is named by the next run, and then
    /// nobody would look in it for what it was left out with.
    pub(crate) fn add_again(
        &mut self,
        key: IndexKey,
        place: RecordPlace,
        is_durable: &dyn Fn(&RecordPlace) -> bool,
    ) {
        let first = self.recent.entry(key).or_insert(place);
        if *first != place && !is_durable(first) && is_durable(&place) {
            *first = place;
        }
    }

    /// Forgets what lies in these segments.
    pub(crate) fn forget(&mut self, segments: &BTreeSet<u32>) {
        self.recent.retain(|_, place| !segments.contains(&place.segment));
    }

    pub(crate) fn remove_run(&mut self, number: u32) {
        Arc::make_mut(&mut self.runs).retain(|run| run.number != number);
    }
}
