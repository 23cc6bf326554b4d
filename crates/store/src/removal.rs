//! How a point goes: marked, which is taken back at will; then purged, which is not; then its space
//! is collected. Each step is one work of `commit`.
//!
//! **Absent:** who may ask, and when a mark is old enough: that is policy, and not the store's.

use offsite_model::{AgentId, PointId, TenantId, Timestamp};

use crate::catalog::{Order, Transactions, TypedRows};
use crate::commit::Work;
use crate::error::StoreError;
use crate::locks::{self, Lock};
use crate::rows::{PURGED, PurgedRow, STATE, STATE_KEY, StateRow, TOKENS, TokenRow, point_key};
use crate::store::{Core, SCAN_ROWS, Store};

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
    /// [`Store::collect`]; the tokens they were committed with stay answered until
    /// [`Store::forget_tokens`], and their ids are never used again. Points are purged one after
    /// another, so an error leaves those before it purged.
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

    /// When a point of this tenant was purged, if it was.
    ///
    /// # Errors
    /// The catalog's.
    pub fn purged_at(
        &self,
        tenant: TenantId,
        point: PointId,
    ) -> Result<Option<Timestamp>, StoreError> {
        let row = self.core.catalog.read::<_, StoreError>(|rows| {
            Ok(rows.value::<PurgedRow>(PURGED, &point_key(tenant, point))?)
        })?;
        Ok(row.map(|row| Timestamp::from_micros(row.at)))
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

impl Store {
    /// Forgets the tokens of a tenant's purged points: whoever asks to commit such a point again is
    /// refused by its id. Outside of the journal: a catalog that lost this has them until the next
    /// call.
    ///
    /// # Errors
    /// The catalog's, which poison the store.
    pub fn forget_tokens(&self, tenant: TenantId) -> Result<(), StoreError> {
        let core = &*self.core;
        core.check_writable()?;
        let prefix = tenant.to_bytes();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (gone, last) = core.catalog.read::<_, StoreError>(|rows| {
                let (order, after) = (Order::Ascending, after.as_deref());
                let found =
                    rows.scan_values::<TokenRow>(TOKENS, &prefix, after, order, SCAN_ROWS)?;
                let last = found.last().map(|(key, _)| key.clone());
                let mut gone = Vec::new();
                for (key, token) in found {
                    let point = point_key(tenant, PointId::from_bytes(token.point));
                    if rows.value::<PurgedRow>(PURGED, &point)?.is_some() {
                        gone.push(key);
                    }
                }
                Ok((gone, last))
            })?;
            if !gone.is_empty() {
                core.forget_rows(&gone)?;
            }
            match last {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }
}

impl Core {
    fn forget_rows(&self, keys: &[Vec<u8>]) -> Result<(), StoreError> {
        self.check_fence()?;
        self.reserve.make_room(&self.place);
        let forgotten = self.catalog.write::<_, StoreError>(|rows| {
            let state = rows.value::<StateRow>(STATE, STATE_KEY)?;
            state.filter(|state| state.fence == self.fence).ok_or(StoreError::Fenced)?;
            for key in keys {
                rows.remove(TOKENS, key)?;
            }
            Ok(())
        });
        if forgotten.is_err() {
            self.poison();
        }
        forgotten
    }
}
