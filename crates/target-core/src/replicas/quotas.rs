//! What sources may store: the tenant's quota and that of the source's acceptance.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use offsite_exchange::replication::target::StageFault;
use offsite_proto::error::Refusal;
use offsite_store::Store;
use offsite_store::catalog::{Catalog, Transactions};

use super::images::Owner;

/// The quota is looked at again after so many bytes.
const CHECK_BYTES: u64 = 16 << 20;

/// Quotas, and what was stored since they were last looked at.
pub(crate) struct Quotas {
    store: Store,
    catalog: Arc<dyn Catalog>,
    of_owners: Mutex<BTreeMap<Owner, OfOwner>>,
}

#[derive(Clone, Copy, Default)]
struct OfOwner {
    /// What the acceptance allows.
    accepted: Option<u64>,
    /// What was left when it was looked at last, and what was stored since.
    looked: Option<(Option<u64>, u64)>,
}

impl Quotas {
    pub(super) fn new(store: Store, catalog: Arc<dyn Catalog>) -> Self {
        Self { store, catalog, of_owners: Mutex::default() }
    }

    /// Remembers what a source's acceptance allows.
    pub(crate) fn set(&self, owner: &Owner, quota_bytes: Option<u64>) {
        let mut of_owners = self.of_owners.lock().unwrap_or_else(PoisonError::into_inner);
        of_owners.entry(*owner).or_default().accepted = quota_bytes;
    }

    /// What is left of an owner's quota; none without one.
    ///
    /// # Errors
    /// The catalog's.
    pub(crate) fn left(&self, owner: &Owner) -> Result<Option<u64>, Refusal> {
        let of_owners = self.of_owners.lock().unwrap_or_else(PoisonError::into_inner);
        let accepted = of_owners.get(owner).and_then(|own| own.accepted);
        drop(of_owners);
        self.left_of(owner, accepted)
    }

    fn left_of(&self, owner: &Owner, accepted: Option<u64>) -> Result<Option<u64>, Refusal> {
        let row = self.catalog.read(|rows| crate::tenants::by_id(rows, owner.tenant))?;
        let quota = row.and_then(|row| row.quota_bytes).into_iter().chain(accepted).min();
        Ok(quota.map(|quota| quota.saturating_sub(self.store.bytes_stored(owner.tenant))))
    }

    /// Counts bytes against the quota, which is looked at again once in a while.
    pub(super) fn charge(&self, owner: &Owner, bytes: u64) -> Result<(), StageFault> {
        let mut of_owners = self.of_owners.lock().unwrap_or_else(PoisonError::into_inner);
        let own = of_owners.entry(*owner).or_default();
        let (left, stored) = match own.looked {
            Some((left, stored)) if stored < CHECK_BYTES => (left, stored),
            _ => {
                let left = self.left_of(owner, own.accepted);
                (left.map_err(|_| StageFault::Unavailable)?, 0)
            }
        };
        let stored = stored.saturating_add(bytes);
        if left.is_some_and(|left| stored > left) {
            // Room may be made at any time; the next group asks anew.
            own.looked = None;
            return Err(StageFault::NoSpace);
        }
        own.looked = Some((left, stored));
        Ok(())
    }
}
