//! Whose space it is at a target, and when the store is full.
//!
//! Answered with a stream of [`super::protection::Event`]s: every list of the store is read.

use offsite_model::{AgentId, TenantId};
use serde::{Deserialize, Serialize};

use crate::admin::upkeep::Forecast;
use crate::endpoint::{Access, Action, Class, Listener, Method, Row};
use crate::text::{Big, Text};

/// The target's call `T-storage-report`: `/api/v1/storage/report`.
pub const REPORT: Row = Row {
    id: "T-storage-report",
    method: Method::Post,
    path: "/api/v1/storage/report",
    query: &[],
    access: Access::AnyOf(&[Class::Token]),
    action: Action::ListPoints,
    listener: Listener::Operator,
    request_bytes_max: 0,
};

/// Every call of this file.
pub const ROWS: &[Row] = &[REPORT];

/// What an agent's points take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentUsage {
    /// Name of its source.
    pub source: String,
    /// Its name.
    pub agent: String,
    /// The agent.
    pub agent_id: Text<AgentId>,
    /// Its points.
    pub points: u64,
    /// Those of them that are deleted and can be taken back.
    pub deleted: u64,
    /// Bytes of the volumes of all its points.
    pub logical_bytes: Big,
    /// Bytes that it alone needs: what comes back when all its points go.
    pub exclusive_bytes: Big,
    /// Bytes that it needs and other agents of its tenant as well.
    pub shared_bytes: Big,
}

/// What a tenant takes: its agents' exclusive bytes, and the three below, are `bytes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantUsage {
    /// Its name.
    pub tenant: String,
    /// The tenant.
    pub tenant_id: Text<TenantId>,
    /// The most it may store.
    pub quota_bytes: Option<Big>,
    /// Bytes on disk.
    pub bytes: Big,
    /// Bytes that several of its agents need, counted once.
    pub shared_bytes: Big,
    /// Bytes of lists.
    pub list_bytes: Big,
    /// Bytes that no point needs: garbage, and what is on its way.
    pub other_bytes: Big,
    /// Its agents.
    pub agents: Vec<AgentUsage>,
}

/// The whole store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreUsage {
    /// Bytes on disk, of all tenants.
    pub bytes: Big,
    /// Bytes that are free.
    pub bytes_free: Big,
    /// When it is full; absent where that cannot be told, or it does not grow.
    pub forecast: Option<Forecast>,
}

/// Whose space it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageReport {
    /// The tenants that the caller sees.
    pub tenants: Vec<TenantUsage>,
    /// The whole, for who is not limited to tenants.
    pub store: Option<StoreUsage>,
}
