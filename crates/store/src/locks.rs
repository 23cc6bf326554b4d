//! Locks: the least time that points are kept from deletion and purge, whoever asks.
//!
//! A lock is a number of days for a whole tenant or for one agent of it; a point counts from its
//! commit. Of two that apply the longer holds. It is an entry of the journal and a row, and both
//! deletion and purge look at it inside their own transaction, so nothing
//! above this crate can be talked into passing it by. A *compliance* lock never gets shorter.
//!
//! **Absent:** the clock (the caller's moments count), and who may shorten a *governance* lock.

use offsite_model::{AgentId, PointId, Span, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::catalog::{CatalogError, Rows, RowsMut, Table, TypedRows, TypedRowsMut, Value};
use crate::error::StoreError;

pub(crate) const LOCKS: Table = Table::new("store.locks");
/// Stands for all agents of a tenant in a row's key.
const EVERY_AGENT: [u8; 16] = [0; 16];

/// How long points are kept from deletion, in days from their commit; 0 is no lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Nobody shortens this.
    pub compliance_days: u32,
    /// The caller decides who may shorten this.
    pub governance_days: u32,
}

impl Value for Lock {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64;
}

impl Lock {
    /// The longer of both, part by part.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        const fn longer(a: u32, b: u32) -> u32 {
            if a > b { a } else { b }
        }
        Self {
            compliance_days: longer(self.compliance_days, other.compliance_days),
            governance_days: longer(self.governance_days, other.governance_days),
        }
    }

    /// When a point that was committed then may go; none without a lock.
    #[must_use]
    pub fn until(&self, committed_at: Timestamp) -> Option<Timestamp> {
        let days = self.compliance_days.max(self.governance_days);
        (days > 0).then(|| committed_at + Span::from_days(u64::from(days)))
    }
}

fn key(tenant: [u8; 16], agent: [u8; 16]) -> [u8; 32] {
    let mut key = [0; 32];
    let (first, second) = key.split_at_mut(16);
    first.copy_from_slice(&tenant);
    second.copy_from_slice(&agent);
    key
}

/// How an entry of the journal names whose lock it is.
pub(crate) fn agent_bytes(agent: Option<AgentId>) -> [u8; 16] {
    agent.map_or(EVERY_AGENT, AgentId::to_bytes)
}

pub(crate) fn set<R: Rows + ?Sized>(
    rows: &R,
    tenant: TenantId,
    agent: Option<AgentId>,
) -> Result<Lock, CatalogError> {
    let row = rows.value(LOCKS, &key(tenant.to_bytes(), agent_bytes(agent)))?;
    Ok(row.unwrap_or_default())
}

pub(crate) fn holding<R: Rows + ?Sized>(
    rows: &R,
    tenant: TenantId,
    agent: AgentId,
) -> Result<Lock, CatalogError> {
    Ok(set(rows, tenant, None)?.with(set(rows, tenant, Some(agent))?))
}

/// Makes the row that an entry of the journal stands for.
pub(crate) fn apply(
    rows: &mut dyn RowsMut,
    tenant: [u8; 16],
    agent: [u8; 16],
    lock: Lock,
) -> Result<(), CatalogError> {
    rows.put_value(LOCKS, &key(tenant, agent), &lock)
}

/// Refuses what a lock forbids at this moment.
pub(crate) fn check(
    rows: &dyn RowsMut,
    tenant: TenantId,
    point: PointId,
    (agent, committed_at): (AgentId, Timestamp),
    at: Timestamp,
) -> Result<(), StoreError> {
    let lock = holding(rows, tenant, agent)?;
    match lock.until(committed_at) {
        Some(until) if at < until => Err(StoreError::Locked { point, until }),
        _ => Ok(()),
    }
}
