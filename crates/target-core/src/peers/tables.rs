//! The rows of the pairing register: requests, pairings, keys, systems.
//!
//! A request is what a source asked for and what became of it; a pairing is what an acceptance made of it; a key points
//! at both. The id under which a pairing stands (`subject`) is made by this target: the core id that a source sends is a
//! claim, and two sources may claim the same one.
//!
//! **Absent:** when a row may change: that is `exchange::pairing::target`.

use offsite_model::{AgentId, CoreId, RepositoryId, RequestId, TenantId, Timestamp};
use offsite_proto::version::ProductVersion;
use offsite_store::catalog::{Table, Value};
use serde::{Deserialize, Serialize};

use super::stored::Stored;

/// Requests, by id.
pub const REQUESTS: Table = Table::new("peer_requests");
/// Ids of requests, by short number (u64, big-endian).
pub const NUMBERS: Table = Table::new("peer_request_numbers");
/// Pairings, by the id that this target made.
pub const PAIRINGS: Table = Table::new("peer_pairings");
/// What a key stands for, by its thumbprint.
pub const KEYS: Table = Table::new("peer_keys");
/// Systems, by id (i64, as bytes that sort like the number).
pub const SYSTEMS: Table = Table::new("peer_systems");
/// Single values: counters, whether pairing is open.
pub const SINGLES: Table = Table::new("peer_singles");
/// Enrolment codes, by the BLAKE3 hash of the code.
pub const CODES: Table = Table::new("peer_enrolment_codes");

/// A request to pair, or to renew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRow {
    /// Its id: drawn after it arrived, and drawn anew when a locked one is submitted again.
    pub id: Stored<RequestId>,
    /// Its short number; stays through a new id.
    pub number: u64,
    /// The pairing whose certificate it renews.
    pub renews: Option<Stored<CoreId>>,
    /// The public key (DER SubjectPublicKeyInfo).
    pub spki: Vec<u8>,
    /// SHA-256 of it.
    pub thumbprint: [u8; 32],
    /// What the source asked for.
    pub content: Content,
    /// Digest of key, content and the policy that is shown: what an approval is bound to.
    pub digest: [u8; 32],
    /// The address it came from, as shown.
    pub address: String,
    /// The network it is counted under.
    pub network: Vec<u8>,
    /// Whether a valid enrolment code came with it.
    pub with_code: bool,
    /// The tenant whose operators see it, if an enrolment code says so.
    pub tenant: Option<Stored<TenantId>>,
    /// When it arrived.
    pub created_at: Stored<Timestamp>,
    /// When it lapses undecided.
    pub expires_at: Stored<Timestamp>,
    /// Wrong check codes so far.
    pub wrong_codes: u32,
    /// Where it stands.
    pub state: RequestState,
}

impl Value for RequestRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 512 << 10;
}

/// What a source says about itself and asks for. All of it is a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The core id it claims.
    pub core: Stored<CoreId>,
    /// Its name.
    pub name: String,
    /// Its product version.
    pub version: [u32; 4],
    /// The agents it wants to replicate.
    pub agents: Vec<AgentRow>,
    /// The customer's number.
    pub customer_id: String,
    /// The e-mail address.
    pub email: String,
    /// The comment.
    pub comments: String,
    /// Whether the first copy travels on a seed drive.
    pub use_seed_drive: bool,
}

impl Content {
    /// The version as the wire has it.
    #[must_use]
    pub const fn product_version(&self) -> ProductVersion {
        let [major, minor, build, revision] = self.version;
        ProductVersion { major, minor, build, revision }
    }
}

/// An agent that a source asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRow {
    /// Its id.
    pub id: Stored<AgentId>,
    /// Its name.
    pub name: String,
    /// Its host name.
    pub host: String,
    /// Bytes of its volumes, as the source says.
    pub logical_bytes: u64,
}

/// Where a request stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestState {
    /// Nobody decided yet.
    Pending,
    /// Accepted; the artifacts may still be in preparation.
    Accepted(Acceptance),
    /// Rejected.
    Rejected {
        /// The operator's message.
        message: String,
        /// When.
        at: Stored<Timestamp>,
    },
    /// Nobody decided in time.
    Expired {
        /// When.
        at: Stored<Timestamp>,
    },
}

/// What an acceptance fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// When.
    pub at: Stored<Timestamp>,
    /// The operator's message, or none.
    pub message: Option<String>,
    /// The pairing it made, or the one it renews.
    pub subject: Stored<CoreId>,
    /// What the source polls for, once it is prepared.
    pub artifacts: Option<Artifacts>,
}

/// What P2 and P3 answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifacts {
    /// The certificate, in PEM.
    pub certificate: String,
    /// The target's certificate, then its authority's, in PEM.
    pub target: String,
    /// SHA-256 of the certificate's DER.
    pub certificate_sha256: [u8; 32],
    /// SHA-256 of the DER of the target's certificate.
    pub target_sha256: [u8; 32],
}

/// A pairing: a source this target knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairingRow {
    /// The id this target made: the subject of its certificates.
    pub subject: Stored<CoreId>,
    /// The request it came from.
    pub request: Stored<RequestId>,
    /// What the source said of itself, as of the acceptance.
    pub content: Content,
    /// Its agents, accepted and denied.
    pub agents: Vec<PairedAgent>,
    /// Its tenant.
    pub tenant: Stored<TenantId>,
    /// The system's id in the systems table.
    pub sid: i64,
    /// The storage its future images go to.
    pub storage: i64,
    /// The repository of that storage.
    pub repository: Stored<RepositoryId>,
    /// The most it may store, in bytes.
    pub quota_bytes: Option<u64>,
    /// Whether it may read its own points back.
    pub allow_restore: bool,
    /// The least time a point of it is kept, in days.
    pub lock_days: u32,
    /// Its keys: one, or two during a renewal. Empty after the end.
    pub keys: Vec<PinnedKey>,
    /// Where it stands.
    pub state: PairingStanding,
    /// Raised with each change of what the source may do.
    pub generation: u64,
    /// When it was accepted.
    pub created_at: Stored<Timestamp>,
    /// When it was last heard of, as of the last time this was written down.
    pub last_seen: Option<Stored<Timestamp>>,
}

impl Value for PairingRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 512 << 10;
}

/// An agent of a pairing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairedAgent {
    /// Its id.
    pub id: Stored<AgentId>,
    /// Its name.
    pub name: String,
    /// Whether the operator accepted it.
    pub is_accepted: bool,
    /// Whether the target's operator paused it.
    pub is_paused: bool,
}

/// Where a pairing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PairingStanding {
    /// Accepted; the source has not used its certificate yet.
    Accepted,
    /// Both sides speak mutual TLS.
    Active,
    /// Ended.
    Ended {
        /// When.
        at: Stored<Timestamp>,
        /// By whom.
        by: EndedBy,
    },
}

/// Who ended a pairing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndedBy {
    /// The source (row 46).
    Source,
    /// An operator of the target.
    Operator,
}

/// A key of a pairing with the certificate issued for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedKey {
    /// Its thumbprint.
    pub thumbprint: [u8; 32],
    /// The request that brought it.
    pub request: Stored<RequestId>,
    /// The serial of the certificate.
    pub serial: Vec<u8>,
    /// The certificate is valid from here.
    pub not_before: Stored<Timestamp>,
    /// The certificate is valid until here.
    pub not_after: Stored<Timestamp>,
    /// Whether the source has used it.
    pub is_used: bool,
    /// When it stops, if a newer one was issued beside it.
    pub ends_at: Option<Stored<Timestamp>>,
}

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    /// The request it made, while it is remembered.
    pub request: Option<Stored<RequestId>>,
    /// The pairing it belongs or belonged to.
    pub subject: Option<Stored<CoreId>>,
}

impl Value for KeyRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64;
}

/// A system: what list A calls a source, or a machine this target manages otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemRow {
    /// Its id, positive.
    pub sid: i64,
    /// The core id it has or claims.
    pub core: Stored<CoreId>,
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Its pairing, if it has one.
    pub subject: Option<Stored<CoreId>>,
}

impl Value for SystemRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 1 << 10;
}

/// The role of a system, in the published words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Managed by this target otherwise, no source.
    Managed,
    /// A source that was managed before.
    ReplicatingSource,
    /// A source that was not.
    NonManagedSource,
}

impl Role {
    /// The published word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Managed => "managed system",
            Self::ReplicatingSource => "replicating source",
            Self::NonManagedSource => "non-managed replication source",
        }
    }
}

/// A counter in [`SINGLES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter(pub u64);

impl Value for Counter {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 16;
}

/// Whether requests to pair are taken, in [`SINGLES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Door {
    /// Open until somebody closes it.
    #[default]
    Open,
    /// Open until then.
    OpenUntil(Stored<Timestamp>),
    /// Closed until somebody opens it.
    Closed,
}

impl Door {
    /// Whether it is open now.
    #[must_use]
    pub fn is_open(self, now: Timestamp) -> bool {
        match self {
            Self::Open => true,
            Self::OpenUntil(end) => now < end.0,
            Self::Closed => false,
        }
    }
}

impl Value for Door {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 32;
}

/// An enrolment code, known by its hash alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeRow {
    /// The tenant whose operators see requests that come with it.
    pub tenant: Option<Stored<TenantId>>,
    /// When it lapses.
    pub expires_at: Stored<Timestamp>,
}

impl Value for CodeRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64;
}

impl PairingRow {
    /// Whether either side ended it.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.state, PairingStanding::Ended { .. })
    }
}
