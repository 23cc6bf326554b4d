//! The rows of the pairing register: one per request with everything that comes of it, and the
//! names that lead to it.
//!
//! What a row may become is `exchange::pairing::target`; the row keeps that machine as a value,
//! beside what only a driver knows: where the request came from, and which tenant, system and
//! storage an acceptance gave it. The id under which a pairing stands (`subject`) is made by this
//! target: the core id that a source sends is a claim, and two sources may claim the same one
//!

use exchange::target::{Paired, Stage};
use offsite_exchange::pairing as exchange;
use offsite_exchange::pairing::{Asked, PublicKey};
use offsite_model::{CoreId, RepositoryId, RequestId, TenantId, Timestamp};
use offsite_pki::Spki;
use offsite_store::catalog::{Table, Value};
use serde::{Deserialize, Serialize};

use super::index::KeyThumbprint;
use super::stored::Stored;

/// Rows, by short number (u64, big-endian).
pub const PEERS: Table = Table::new("peers");
/// Numbers of rows, by request id.
pub const REQUESTS: Table = Table::new("peer_requests");
/// Numbers of rows, by the thumbprint of every key that ever led to them.
pub const KEYS: Table = Table::new("peer_keys");
/// Numbers of rows, by the id of the pairing.
pub const SUBJECTS: Table = Table::new("peer_subjects");
/// Requests that lapsed, by short number: enough to tell an operator so.
pub const LAPSED: Table = Table::new("peer_lapsed");
/// Systems, by id (i64, as bytes that sort like the number).
pub const SYSTEMS: Table = Table::new("peer_systems");
/// Single values: counters, whether pairing is open.
pub const SINGLES: Table = Table::new("peer_singles");

/// A request and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRow {
    /// Its short number; stays for good.
    pub number: u64,
    /// Where it stands.
    pub machine: exchange::target::Target,
    /// Where it came from.
    pub arrival: Arrival,
    /// What an acceptance made for it.
    pub place: Option<Placement>,
    /// Raised with each change of what the source may do.
    pub generation: u64,
    /// When the source was last heard of, as of the last time this was written down.
    pub last_seen: Option<Stored<Timestamp>>,
}

impl Value for PeerRow {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 768 << 10;
}

/// Where a request came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// The address, as shown.
    pub address: String,
    /// The network it is counted under.
    pub network: Vec<u8>,
    /// The tenant of the enrolment code that came with it.
    pub tenant: Option<Stored<TenantId>>,
}

/// What an acceptance made for a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The id of the pairing: the subject of its certificates.
    pub subject: Stored<CoreId>,
    /// Its tenant.
    pub tenant: Stored<TenantId>,
    /// Whether that tenant was made for it alone.
    pub has_own_tenant: bool,
    /// The system's id in the systems table.
    pub sid: i64,
    /// The storage its future images go to.
    pub storage: i64,
    /// The repository of that storage.
    pub repository: Stored<RepositoryId>,
}

impl PeerRow {
    /// The request as it stands: id, content, times.
    #[must_use]
    pub const fn pending(&self) -> &exchange::target::Pending {
        self.machine.stage().pending()
    }

    /// What the source asked for.
    #[must_use]
    pub const fn asked(&self) -> &Asked {
        &self.pending().asked
    }

    /// The pairing, where there is one that has not ended.
    #[must_use]
    pub const fn paired(&self) -> Option<&Paired> {
        match self.machine.stage() {
            Stage::AwaitFirstUse(paired) | Stage::Active(paired) => Some(paired),
            _ => None,
        }
    }

    /// The thumbprint of the key that filed it.
    #[must_use]
    pub fn thumbprint(&self) -> KeyThumbprint {
        thumbprint_of(self.machine.key())
    }

    /// Every request id that leads to it.
    #[must_use]
    pub fn request_ids(&self) -> Vec<RequestId> {
        let mut ids = vec![self.pending().request];
        if let Some(paired) = self.paired() {
            ids.push(paired.live.order.request);
            ids.extend(paired.renewal.iter().map(|renewal| renewal.order().request));
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// The thumbprint of a key that a machine keeps.
#[must_use]
pub fn thumbprint_of(key: &PublicKey) -> KeyThumbprint {
    // Only keys that were parsed enter a row; one that is not parsed again leads nowhere.
    Spki::from_der(key.as_der()).map_or([0; 32], |spki| *spki.thumbprint().as_bytes())
}

/// The number of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Number(pub u64);

impl Value for Number {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 16;
}

/// A request that nobody decided in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LapsedRow {
    /// Its id.
    pub request: Stored<RequestId>,
    /// When.
    pub at: Stored<Timestamp>,
}

impl Value for LapsedRow {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 48;
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
    /// Its row in the register, if it is a source.
    pub peer: Option<u64>,
}

impl Value for SystemRow {
    const VERSION: u8 = 0;
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
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 32;
}
