//! How a point goes: marked, which is taken back at will; then purged, which is not; then its space
//! is collected. Each step is one work of `commit`.
//!
//! **Absent:** who may ask, and when a mark is old enough: that is policy, and not the store's.

use offsite_model::{AgentId, PointId, TenantId, Timestamp};

use crate::catalog::Transactions;
use crate::commit::Work;
use crate::error::StoreError;
use crate::locks::{self, Lock};
use crate::store::Store;

impl Store {
    /// Marks a point as deleted. Its space is freed by collection, later; until then
    /// [`Store::undelete_point`] takes the mark back.
    ///
    /// # Errors
    /// [`StoreError::PointUnknown`]; [`StoreError::Locked`] before the end of its lock; the disk's,
    /// which poison the store.
    pub fn delete_point(
        &self,
        tenant: TenantId,
        point: PointId,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.core.point_row(tenant, point)?;
        let work = Work::Mark { tenant, point, at, is_deleted: true };
        self.core.run(work).map(|_| ())
    }

    /// Removes points that are marked as deleted, for good. Their space comes back with the next
    /// [`Store::collect`]; the tokens they were committed with stay answered. Points are purged one
    /// after another, so an error leaves those before it purged.
    ///
    /// # Errors
    /// [`StoreError::PointUnknown`]; [`StoreError::NotDeleted`] for one without the mark;
    /// [`StoreError::Locked`] before the end of its lock; the disk's, which poison the store.
    pub fn purge(
        &self,
        tenant: TenantId,
        points: &[PointId],
        at: Timestamp,
    ) -> Result<(), StoreError> {
        for &point in points {
            self.core.run(Work::Purge { tenant, point, at })?;
        }
        Ok(())
    }

    /// Takes the mark of [`Store::delete_point`] back.
    ///
    /// # Errors
    /// As [`Store::delete_point`].
    pub fn undelete_point(
        &self,
        tenant: TenantId,
        point: PointId,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.core.point_row(tenant, point)?;
        let work = Work::Mark { tenant, point, at, is_deleted: false };
        self.core.run(work).map(|_| ())
    }

    /// Sets the lock of a tenant, or of one agent of it. Blocks.
    ///
    /// # Errors
    /// [`StoreError::LockKept`] where its compliance part would get shorter; the disk's, which
    /// poison the store.
    pub fn set_lock(
        &self,
        tenant: TenantId,
        agent: Option<AgentId>,
        lock: Lock,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.core.run(Work::Lock { tenant, agent, lock, at }).map(drop)
    }

    /// The lock that was set for a tenant, or for one agent of it. Blocks.
    ///
    /// # Errors
    /// The catalog's.
    pub fn lock(&self, tenant: TenantId, agent: Option<AgentId>) -> Result<Lock, StoreError> {
        self.core.catalog.read(|rows| Ok(locks::set(rows, tenant, agent)?))
    }

    /// The lock that holds for the points of an agent. Blocks.
    ///
    /// # Errors
    /// The catalog's.
    pub fn lock_of(&self, tenant: TenantId, agent: AgentId) -> Result<Lock, StoreError> {
        self.core.catalog.read(|rows| Ok(locks::holding(rows, tenant, agent)?))
    }
}
