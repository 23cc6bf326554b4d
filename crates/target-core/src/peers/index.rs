//! What every key stands for, in memory: the answer to "who is this" on every request, without a transaction.
//!
//! It mirrors the catalog: rebuilt when the register opens, and changed only after the transaction that changed the
//! rows is durable. So it never knows a right that the catalog does not, and a revocation is in it before the
//! operator's call returns.
//!
//! **Absent:** the judgement of certificates (pki), the classes (gate).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use offsite_model::{CoreId, RequestId, TenantId, Timestamp};
use offsite_store::catalog::{CatalogError, Rows, TypedRows};

use super::tables::{
    KEYS, KeyRow, PAIRINGS, PairingRow, PairingStanding, PinnedKey, REQUESTS, RequestRow,
    RequestState,
};

/// The thumbprint of a key.
pub type KeyThumbprint = [u8; 32];

/// Withdrawn keys that are remembered, so that a repeated withdrawal is answered like the first. A stranger can fill this
/// and no more.
const N_WITHDRAWN_MAX: usize = 1_024;

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It made a request and has no certificate.
    Enrolling {
        /// Its request.
        request: RequestId,
        /// Where that stands.
        resolution: Enrolment,
    },
    /// It is pinned to a pairing that has not ended.
    Paired(Pairing),
    /// It belonged to something that ended; it opens nothing and cannot be used again.
    Spent,
}

/// Where the request of an enrolling key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrolment {
    /// Nobody decided yet.
    Pending {
        /// When it lapses.
        expires_at: Timestamp,
        /// The network it is counted under.
        network: Vec<u8>,
        /// Whether a valid enrolment code came with it.
        with_code: bool,
    },
    /// Accepted; the certificate is being prepared.
    Accepted,
    /// Rejected.
    Rejected,
}

/// The pairing of a pinned key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairing {
    /// Its id.
    pub subject: CoreId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Whether the source may read its own points back.
    pub allow_restore: bool,
    /// Whether the source has used a certificate of this pairing.
    pub is_active: bool,
    /// Raised with each change of what the source may do.
    pub generation: u64,
    /// The request that this key made, while it is remembered.
    pub request: Option<RequestId>,
    /// The certificates issued to this key.
    pub pins: Vec<PinnedKey>,
}

/// Every key that is known, and the counts of the budget for newcomers.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: HashMap<KeyThumbprint, Standing>,
    per_network: HashMap<Vec<u8>, u32>,
    n_pending: u32,
    n_with_code: u32,
    withdrawn: VecDeque<KeyThumbprint>,
}

impl Index {
    pub(super) fn find(&self, thumbprint: &KeyThumbprint) -> Option<&Standing> {
        self.keys.get(thumbprint)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&KeyThumbprint, &Standing)> {
        self.keys.iter()
    }

    /// Sets what a key stands for; says whether it just lost a pairing.
    pub(super) fn set(&mut self, thumbprint: KeyThumbprint, standing: Option<Standing>) -> bool {
        let is_paired = matches!(standing, Some(Standing::Paired(_)));
        if let Some(Standing::Enrolling { resolution, .. }) = &standing {
            self.count(resolution, true);
        }
        let before = match standing {
            Some(standing) => self.keys.insert(thumbprint, standing),
            None => self.keys.remove(&thumbprint),
        };
        if let Some(Standing::Enrolling { resolution, .. }) = &before {
            self.count(resolution, false);
        }
        matches!(before, Some(Standing::Paired(_))) && !is_paired
    }

    fn count(&mut self, resolution: &Enrolment, is_new: bool) {
        let Enrolment::Pending { network, with_code, .. } = resolution else { return };
        let step = |count: u32| if is_new { count.saturating_add(1) } else { count.saturating_sub(1) };
        self.n_pending = step(self.n_pending);
        if *with_code {
            self.n_with_code = step(self.n_with_code);
        }
        let here = self.per_network.entry(network.clone()).or_default();
        *here = step(*here);
        if *here == 0 {
            self.per_network.remove(network);
        }
    }

    pub(super) fn pending(&self, network: &[u8]) -> PendingCounts {
        PendingCounts {
            in_all: self.n_pending,
            with_code: self.n_with_code,
            here: self.per_network.get(network).copied().unwrap_or_default(),
        }
    }

    pub(super) fn remember_withdrawn(&mut self, thumbprint: KeyThumbprint) {
        if self.withdrawn.len() >= N_WITHDRAWN_MAX {
            self.withdrawn.pop_front();
        }
        self.withdrawn.push_back(thumbprint);
    }

    pub(super) fn is_withdrawn(&self, thumbprint: &KeyThumbprint) -> bool {
        self.withdrawn.contains(thumbprint)
    }
}

/// Requests that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingCounts {
    /// In all.
    pub in_all: u32,
    /// Those that came with an enrolment code.
    pub with_code: u32,
    /// Those from one network.
    pub here: u32,
}

/// The network an address is counted under: a whole IPv4 address, the first 56 bits of an IPv6 one, because one customer
/// commonly holds that many.
#[must_use]
pub fn network_of(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().into_iter().take(7).collect(),
    }
}

/// What the catalog says a key stands for.
pub(super) fn standing_of(
    rows: &(impl Rows + ?Sized),
    thumbprint: &KeyThumbprint,
) -> Result<Option<Standing>, CatalogError> {
    let Some(key) = rows.value::<KeyRow>(KEYS, thumbprint)? else { return Ok(None) };
    if let Some(subject) = key.subject {
        let pairing: Option<PairingRow> = rows.value(PAIRINGS, &subject.0.to_bytes())?;
        let Some(pairing) = pairing.filter(|pairing| !pairing.has_ended()) else {
            return Ok(Some(Standing::Spent));
        };
        let pins: Vec<_> =
            pairing.keys.iter().filter(|pin| pin.thumbprint == *thumbprint).cloned().collect();
        if !pins.is_empty() {
            return Ok(Some(Standing::Paired(Pairing {
                subject: subject.0,
                tenant: pairing.tenant.0,
                allow_restore: pairing.allow_restore,
                is_active: pairing.state == PairingStanding::Active,
                generation: pairing.generation,
                request: key.request.map(|request| request.0),
                pins,
            })));
        }
    }
    let Some(request) = key.request else { return Ok(Some(Standing::Spent)) };
    let row: Option<RequestRow> = rows.value(REQUESTS, &request.0.to_bytes())?;
    let Some(row) = row else { return Ok(Some(Standing::Spent)) };
    let resolution = match row.state {
        RequestState::Pending => Enrolment::Pending {
            expires_at: row.expires_at.0,
            network: row.network,
            with_code: row.with_code,
        },
        // The pin of an accepted request is there when its artifacts are; a pin that went away has ended.
        RequestState::Accepted(acceptance) if acceptance.artifacts.is_some() => {
            return Ok(Some(Standing::Spent));
        }
        RequestState::Accepted(_) => Enrolment::Accepted,
        RequestState::Rejected { .. } => Enrolment::Rejected,
        RequestState::Expired { .. } => return Ok(Some(Standing::Spent)),
    };
    Ok(Some(Standing::Enrolling { request: request.0, resolution }))
}
