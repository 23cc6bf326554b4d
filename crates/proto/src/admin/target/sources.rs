//! Bodies about requests, sources, tenants, agents, storage and the door for newcomers.

use offsite_model::{AgentId, CoreId, RepositoryId, RequestId, TenantId};
use serde::{Deserialize, Serialize};

use crate::pairing::Resolution;
use crate::text::{Big, Text, Time};

/// A request to pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its id.
    pub request_id: Text<RequestId>,
    /// Its short number.
    pub number: u64,
    /// The core id that the source claims.
    pub source_id: Text<CoreId>,
    /// The name that the source claims.
    pub source_name: String,
    /// Where it stands.
    pub status: Resolution,
    /// What both operators compare.
    pub check_code: String,
    /// The agents asked for.
    pub agents: Vec<RequestedAgent>,
    /// The customer's number, as typed at the source.
    pub customer_id: String,
    /// The e-mail address, as typed at the source.
    pub email: String,
    /// The comment, as typed at the source.
    pub comment: String,
    /// The address it came from.
    pub address: String,
    /// When it arrived.
    pub created_at: Time,
    /// When it lapses.
    pub expires_at: Time,
    /// The version the source claims.
    pub version: String,
    /// Digest of all this: an acceptance is bound to it.
    pub digest: String,
    /// The tenant that an enrolment code assigns it to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Whether wrong codes have locked it until the source submits again.
    #[serde(default)]
    pub locked: bool,
    /// What to know before believing a name.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// An agent of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedAgent {
    /// Its id.
    pub agent_id: Text<AgentId>,
    /// Its name.
    pub name: String,
    /// Bytes of its volumes, as the source says.
    pub logical_bytes: Big,
}

/// Accepts a request. Either the code that the source's operator read out, or the express wish to
/// go without.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// The digest of what the operator saw.
    pub digest: String,
    /// The check code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_code: Option<String>,
    /// Whether the operator goes without the code; audited.
    #[serde(default)]
    pub without_code: bool,
    /// The tenant, by name or id; absent = one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The storage; absent = the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_id: Option<i64>,
    /// The most it may store, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<Big>,
    /// Whether it may read its own points back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_restore: Option<bool>,
    /// The least time a point is kept from deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_days: Option<u32>,
    /// The agents accepted, by name or id; absent = all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<Vec<String>>,
    /// A word to the source's operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Rejects a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// A word to the source's operator, shown there as typed.
    pub message: String,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// The request.
    pub request_id: Text<RequestId>,
    /// The decision.
    pub status: Resolution,
    /// The source's system number; absent when rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<i64>,
    /// Its role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Its tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// A source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The id it goes by itself: what a source that was lost comes back under.
    pub core_id: Text<CoreId>,
    /// Its id, as this target knows it.
    pub source_id: Text<CoreId>,
    /// Its name.
    pub name: String,
    /// The name of its tenant.
    pub tenant: String,
    /// Its role, in the published words.
    pub role: String,
    /// `accepted`, `active`, `ended`, `revoked`.
    pub state: String,
    /// `online`, `paused`, `authentication_error`, `unreachable`.
    pub connection: String,
    /// When it was last heard of.
    pub last_seen: Option<Time>,
    /// Its system number.
    pub sid: i64,
    /// Its storage.
    pub storage_id: i64,
    /// SHA-256 of its public key.
    pub fingerprint: String,
    /// When its certificate ends.
    pub certificate_not_after: Option<Time>,
    /// The most it may store, in bytes.
    pub quota_bytes: Option<Big>,
    /// Whether it may read its own points back.
    pub allow_restore: bool,
    /// The least time a point of it is kept.
    pub lock_days: u32,
    /// Its agents.
    pub agents: Vec<SourceAgent>,
}

/// An agent of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceAgent {
    /// Its id.
    pub agent_id: Text<AgentId>,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: String,
}

/// Lets a new key take a source's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopt {
    /// The request that the new key made, by id or short number.
    pub request: String,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id.
    pub tenant_id: Text<TenantId>,
    /// Its name.
    pub name: String,
    /// The most it may store, in bytes.
    pub quota_bytes: Option<Big>,
    /// The least time a point is kept from deletion, by anybody.
    pub lock_days: u32,
    /// The same, as two persons may shorten it.
    #[serde(default)]
    pub governance_days: u32,
    /// Its sources.
    pub sources: usize,
    /// When it was made.
    pub created_at: Time,
}

/// Makes a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddTenant {
    /// Its name.
    pub name: String,
}

/// Sets what is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeTenant {
    /// The most it may store, in bytes; 0 = no quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<Big>,
    /// The least time a point is kept from deletion; it can only grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_days: Option<u32>,
    /// The same, as two persons may shorten it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governance_days: Option<u32>,
}

/// An agent at this target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
    pub agent_id: Text<AgentId>,
    /// Its name.
    pub name: String,
    /// Its source.
    pub source_id: Text<CoreId>,
    /// The name of its source.
    pub source_name: String,
    /// The name of its tenant.
    pub tenant: String,
    /// Where it stands.
    pub state: String,
    /// Volumes of its newest point.
    pub volumes: u64,
    /// How many points there are.
    pub recovery_points: u64,
    /// Bytes of the newest point, or of the machine as its source says while there is none.
    pub logical_bytes: Big,
    /// Bytes that its points take here.
    pub stored_bytes: Big,
    /// When the newest point was made.
    pub latest_point_at: Option<Time>,
}

/// A storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// Its short number.
    pub storage_id: i64,
    /// The id under which sources know it.
    pub repository_id: Text<RepositoryId>,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub path: String,
    /// Whether it is the default one.
    pub default: bool,
    /// Bytes of its file system.
    pub bytes_total: Big,
    /// Bytes still free.
    pub bytes_free: Big,
    /// `online`, or what is wrong.
    pub state: String,
}

/// Adds a storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddStorage {
    /// Its name.
    pub name: String,
    /// Its directory, absolute; empty or absent on disk.
    pub path: String,
}

/// The door for newcomers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pairing {
    /// Whether it is open.
    pub open: bool,
    /// When it closes by itself.
    pub open_until: Option<Time>,
}

/// Opens the door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenPairing {
    /// For so many minutes; absent = until it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes: Option<u32>,
}
