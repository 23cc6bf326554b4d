//! Locks, as far as this target decides about them: what a tenant's row and an acceptance say is
//! brought into the store, which is their home and refuses what they forbid.

use offsite_exchange::pairing::target::Stage;
use offsite_model::{AgentId, Clock as _, PointId, TenantId, Timestamp};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_store::{Lock, StoreError};

use super::rules;
use crate::Target;
use crate::audit::Event;
use crate::failure::Failure;
use crate::peers::tables::PeerRow;
use crate::principal::Principal;
use crate::replicas::{Orphan, unreadable};
use crate::tenants::{self, TenantRow};

/// What awaits a point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// When it will be purged, where it is marked as deleted.
    pub(crate) purge_at: Option<Timestamp>,
    /// When its lock ends, where it is locked now.
    pub(crate) locked_until: Option<Timestamp>,
}

/// The refusal of what a lock forbids.
pub(crate) fn locked(point: PointId, until: Timestamp) -> Refusal {
    let until_text = offsite_proto::text::Time(until).to_string();
    Refusal::new(
        ErrorCode::RetentionLocked,
        format!("recovery point {point} is locked until {until_text}; nothing was deleted"),
    )
    .with("point", point.to_string())
    .with("lockedUntil", until_text)
}

impl Target {
    /// The moment of the retention clock; the system's while there is no store.
    pub(crate) fn retention_now(&self) -> Timestamp {
        self.retention().map_or_else(|_| self.now(), |retention| retention.time.now())
    }

    /// The lock that holds for the points of an agent.
    ///
    /// # Errors
    /// `repository_unavailable`.
    pub(crate) fn lock_of(&self, tenant: TenantId, agent: AgentId) -> Result<Lock, Refusal> {
        let store = &self.replicas()?.store;
        store.lock_of(tenant, agent).map_err(|cause| unreadable(&cause))
    }

    /// Until when an image that waits for its parent is locked, where it is now: it counts from
    /// when it was acknowledged, as a point does from its receipt.
    ///
    /// # Errors
    /// `repository_unavailable`.
    pub(crate) fn locked_while_waiting(
        &self,
        orphan: &Orphan,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Refusal> {
        let name = &orphan.held.name;
        let lock = self.lock_of(name.owner.tenant, name.agent)?;
        Ok(lock.until(orphan.landed_at).filter(|until| now < *until))
    }

    /// The lock of a whole tenant.
    ///
    /// # Errors
    /// `repository_unavailable`.
    pub(crate) fn tenant_lock(&self, tenant: TenantId) -> Result<Lock, Refusal> {
        let store = &self.replicas()?.store;
        store.lock(tenant, None).map_err(|cause| unreadable(&cause))
    }

    /// What awaits a point that was received, and marked as deleted, at these times.
    ///
    /// # Errors
    /// The catalog's.
    pub(crate) fn standing(
        &self,
        received_at: Timestamp,
        deleted_at: Option<Timestamp>,
        lock: Lock,
    ) -> Result<Standing, Refusal> {
        let soft = self.catalog_read(|rows| rules::soft_delete(rows))?;
        let now = self.retention_now();
        let locked_until = lock.until(received_at).filter(|until| now < *until);
        let purge_at = deleted_at.map(|at| (at + soft).max(locked_until.unwrap_or(at)));
        Ok(Standing { purge_at, locked_until })
    }

    /// Raises the locks of the store to what tenants and acceptances say. Blocks.
    ///
    /// # Errors
    /// The catalog's, or the store's.
    pub(crate) fn raise_locks(&self) -> Result<(), Failure> {
        for tenant in self.catalog_read(|rows| tenants::list(rows))? {
            self.raise_lock(tenant.id, None, tenant.lock_days)?;
        }
        for row in self.register().peers()? {
            self.raise_locks_of(&row)?;
        }
        Ok(())
    }

    fn raise_locks_of(&self, row: &PeerRow) -> Result<(), Failure> {
        let Some(place) = &row.place else { return Ok(()) };
        let acceptance = match row.machine.stage() {
            Stage::AwaitIssued(waiting) => &waiting.acceptance,
            Stage::AwaitFirstUse(paired) | Stage::Active(paired) => &paired.acceptance,
            Stage::Ended(ended) => &ended.acceptance,
            _ => return Ok(()),
        };
        for agent in acceptance.grants.agents.iter().filter(|agent| agent.is_accepted) {
            self.raise_lock(place.tenant.0, Some(agent.id), acceptance.grants.lock_days)?;
        }
        Ok(())
    }

    /// Lengthens a compliance lock to so many days; a longer one stays.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn raise_lock(
        &self,
        tenant: TenantId,
        agent: Option<AgentId>,
        compliance_days: u32,
    ) -> Result<(), Failure> {
        // Without a store there is nothing to lock; it is raised when one is opened.
        let (Ok(replicas), Ok(retention)) = (self.replicas(), self.retention()) else {
            return Ok(());
        };
        let store = &replicas.store;
        let before = store.lock(tenant, agent).map_err(|cause| failed(&cause))?;
        if compliance_days <= before.compliance_days {
            return Ok(());
        }
        let lock = Lock { compliance_days, ..before };
        store.set_lock(tenant, agent, lock, retention.time.now()).map_err(|cause| failed(&cause))
    }

    /// Lengthens the governance lock of a tenant; one person may.
    ///
    /// # Errors
    /// `retention_locked` where it would get shorter, `bad_request` above the bound; the store's.
    pub(crate) fn lengthen_governance(
        &self,
        by: &Principal,
        tenant: &TenantRow,
        days: u32,
    ) -> Result<(), Refusal> {
        if days > tenants::LOCK_DAYS_MAX {
            return Err(Refusal::new(
                ErrorCode::BadRequest,
                format!("a lock is at most {} days", tenants::LOCK_DAYS_MAX),
            ));
        }
        let before = self.tenant_lock(tenant.id)?.governance_days;
        if days < before {
            let facts = [("shorten", "governance lock".to_owned()), ("name", tenant.name.clone())];
            self.write_audit(by, tenant.id, Event::Refused, &facts)?;
            return Err(Refusal::new(
                ErrorCode::RetentionLocked,
                format!("the governance lock is {before} days; shortening it takes two persons"),
            ));
        }
        let facts = [("governance_days", days.to_string()), ("name", tenant.name.clone())];
        self.write_audit(by, tenant.id, Event::LockSet, &facts)?;
        self.set_governance(tenant.id, days)
    }

    /// Shortens the governance lock of a tenant; two persons agreed to that.
    ///
    /// # Errors
    /// `request_changed` where it is another one now; the store's.
    pub(crate) fn shorten_governance(
        &self,
        by: &Principal,
        tenant: TenantId,
        before: u32,
        days: u32,
    ) -> Result<(), Refusal> {
        if self.tenant_lock(tenant)?.governance_days != before {
            let sentence = "the lock was changed in the meantime; ask again";
            return Err(Refusal::new(ErrorCode::RequestChanged, sentence));
        }
        let facts = [("governance_days", days.to_string()), ("before", before.to_string())];
        self.write_audit(by, tenant, Event::LockSet, &facts)?;
        self.set_governance(tenant, days)
    }

    /// Sets the governance lock of a tenant; that it may get shorter is decided before.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn set_governance(
        &self,
        tenant: TenantId,
        governance_days: u32,
    ) -> Result<(), Refusal> {
        let (store, now) = (&self.replicas()?.store, self.retention_now());
        let before = store.lock(tenant, None).map_err(|cause| Refusal::from(failed(&cause)))?;
        let lock = Lock { governance_days, ..before };
        match store.set_lock(tenant, None, lock, now) {
            Ok(()) => Ok(()),
            Err(StoreError::LockKept { days }) => Err(Refusal::new(
                ErrorCode::RetentionLocked,
                format!("the lock is {days} days and cannot be shortened"),
            )),
            Err(cause) => Err(failed(&cause).into()),
        }
    }
}

/// A failure of the store while something was to be removed.
pub(super) fn failed(cause: &StoreError) -> Failure {
    Failure::Refused(unreadable(cause))
}
