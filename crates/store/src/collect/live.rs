//! The keys that a collection takes for alive: a filter per tenant.
//!
//! A filter may call a dead record alive, which keeps garbage until another run with other keys; it
//! never calls a live one dead, whatever its size. So memory can be bounded without a risk.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use offsite_model::{Key, TenantId};

use crate::index::filter::{BITS_PER_KEY, Filter};

/// How many times the keys that are stored have room: a replication beside a collection adds all
/// of its own, and a filter that is full calls dead records alive that were dead when it began.
const ROOM: u64 = 2;

/// Bits are only ever set, so a filter is whole whoever panicked.
fn lock(filter: &Mutex<Filter>) -> MutexGuard<'_, Filter> {
    filter.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is alive, as far as a collection knows; others add to it while it goes on.
pub(crate) struct Live {
    tenants: BTreeMap<TenantId, Mutex<Filter>>,
    /// Keys that came from beside the collection.
    n_late: AtomicU64,
}

impl Live {
    /// Filters for so many keys per tenant, in all at most so many bytes.
    pub(crate) fn new(n_keys: &BTreeMap<TenantId, u64>, bytes_max: u64) -> Self {
        let n_all: u64 = n_keys.values().fold(0, |sum, n| sum.saturating_add(*n));
        let n_max = bytes_max.saturating_mul(8) / BITS_PER_KEY / ROOM;
        let tenants = n_keys.iter().map(|(tenant, n)| {
            let n = match n_all > n_max {
                true => (u128::from(*n) * u128::from(n_max) / u128::from(n_all)) as u64,
                false => *n,
            };
            (*tenant, Mutex::new(Filter::for_keys(n.saturating_mul(ROOM))))
        });
        Self { tenants: tenants.collect(), n_late: AtomicU64::new(0) }
    }

    /// Marks keys.
    pub(super) fn add(&self, tenant: TenantId, keys: impl Iterator<Item = Key>) {
        // A tenant that is not here has nothing that this collection could take.
        if let Some(filter) = self.tenants.get(&tenant) {
            let mut filter = lock(filter);
            keys.filter(|key| *key != Key::ZERO).for_each(|key| filter.add(&key));
        }
    }

    /// Marks keys that somebody refers to while the collection goes on.
    pub(crate) fn add_late(&self, tenant: TenantId, keys: impl Iterator<Item = Key>) {
        self.add(tenant, keys);
        self.n_late.fetch_add(1, Ordering::AcqRel);
    }

    /// How often keys have come from beside.
    pub(super) fn n_late(&self) -> u64 {
        self.n_late.load(Ordering::Acquire)
    }

    /// Which of these keys may be alive.
    pub(super) fn select<T>(
        &self,
        tenant: TenantId,
        all: impl Iterator<Item = T>,
        key_of: impl Fn(&T) -> Key,
    ) -> Vec<T> {
        match self.tenants.get(&tenant) {
            // Nothing is known of it, so all of it is.
            None => all.collect(),
            Some(filter) => {
                let filter = lock(filter);
                all.filter(|one| filter.may_have(&key_of(one))).collect()
            }
        }
    }
}
