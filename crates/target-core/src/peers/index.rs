//! What every key stands for, in memory: the answer to "who is this" on every request, without a
//! transaction.
//!
//! It mirrors the catalog: rebuilt when the register opens, and changed only after the transaction
//! that changed the rows is durable. So it never knows a right that the catalog does not, and a
//! revocation is in it before the operator's call returns.
//!
//! **Absent:** the judgement of certificates (pki), the classes (gate).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use offsite_exchange::pairing::target::{Certificate, Paired, Renewal, Stage};
use offsite_exchange::pairing::{PublicKey, Rules};
use offsite_model::{CoreId, RequestId, TenantId, Timestamp};
use offsite_store::catalog::{CatalogError, Rows, TypedRows};

use super::tables::{KEYS, Number, PEERS, PeerRow, thumbprint_of};
pub use crate::principal::KeyThumbprint;

/// Withdrawn keys that are remembered, so that a repeated withdrawal is answered like the first. A
/// stranger can fill this and no more.
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
    /// The request that this key made.
    pub request: RequestId,
    /// The certificate issued to this key.
    pub pin: Pin,
}

/// A certificate as its row pins it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Its serial number.
    pub serial: [u8; 16],
    /// Whether the source has used it.
    pub is_used: bool,
    /// When it stops, if a newer one was published beside it.
    pub ends_at: Option<Timestamp>,
}

/// A key's row and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The number of the row.
    pub number: u64,
    /// What the key stands for.
    pub standing: Standing,
}

/// Every key that is known, and the counts of the budget for newcomers.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: HashMap<KeyThumbprint, Entry>,
    per_network: HashMap<Vec<u8>, u32>,
    n_pending: u32,
    n_with_code: u32,
    withdrawn: VecDeque<KeyThumbprint>,
}

impl Index {
    pub(super) fn find(&self, thumbprint: &KeyThumbprint) -> Option<&Entry> {
        self.keys.get(thumbprint)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&KeyThumbprint, &Entry)> {
        self.keys.iter()
    }

    /// Sets what a key stands for.
    pub(super) fn set(&mut self, thumbprint: KeyThumbprint, entry: Option<Entry>) {
        self.count(entry.as_ref(), true);
        let before = match entry {
            Some(entry) => self.keys.insert(thumbprint, entry),
            None => self.keys.remove(&thumbprint),
        };
        self.count(before.as_ref(), false);
    }

    fn count(&mut self, entry: Option<&Entry>, is_new: bool) {
        let Some(Entry { standing: Standing::Enrolling { resolution, .. }, .. }) = entry else {
            return;
        };
        let Enrolment::Pending { network, with_code, .. } = resolution else { return };
        let step =
            |count: u32| if is_new { count.saturating_add(1) } else { count.saturating_sub(1) };
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

/// The network an address is counted under: a whole IPv4 address, the first 56 bits of an IPv6 one,
/// because one customer commonly holds that many.
#[must_use]
pub fn network_of(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().into_iter().take(7).collect(),
    }
}

/// What the catalog says a key stands for.
pub(super) fn entry_of(
    rows: &(impl Rows + ?Sized),
    thumbprint: &KeyThumbprint,
    rules: &Rules,
) -> Result<Option<Entry>, CatalogError> {
    let Some(Number(number)) = rows.value(KEYS, thumbprint)? else { return Ok(None) };
    let Some(row) = rows.value::<PeerRow>(PEERS, &number.to_be_bytes())? else { return Ok(None) };
    let standing = standing_of(&row, thumbprint, rules);
    Ok(Some(Entry { number, standing }))
}

/// What a key of this row stands for.
fn standing_of(row: &PeerRow, thumbprint: &KeyThumbprint, rules: &Rules) -> Standing {
    let is_it = |key: &PublicKey| thumbprint_of(key) == *thumbprint;
    let enrolling = |resolution| {
        let request = row.pending().request;
        Standing::Enrolling { request, resolution }
    };
    match row.machine.stage() {
        Stage::Pending(pending) => enrolling(Enrolment::Pending {
            expires_at: pending.expires_at,
            network: row.arrival.network.clone(),
            with_code: row.arrival.tenant.is_some(),
        }),
        Stage::AwaitIssued(_) => enrolling(Enrolment::Accepted),
        Stage::Rejected(_) => enrolling(Enrolment::Rejected),
        Stage::AwaitFirstUse(paired) => paired_standing(row, paired, false, is_it, rules),
        Stage::Active(paired) => paired_standing(row, paired, true, is_it, rules),
        Stage::Expired(_) | Stage::Withdrawn(_) | Stage::Ended(_) => Standing::Spent,
    }
}

fn paired_standing(
    row: &PeerRow,
    paired: &Paired,
    is_active: bool,
    is_it: impl Fn(&PublicKey) -> bool,
    rules: &Rules,
) -> Standing {
    // An acceptance without its placement is never kept; a row that says otherwise opens nothing.
    let Some(place) = &row.place else { return Standing::Spent };
    let pinned = |certificate: &Certificate, is_used, ends_at| {
        Standing::Paired(Pairing {
            subject: place.subject.0,
            tenant: place.tenant.0,
            allow_restore: paired.acceptance.grants.allow_restore,
            is_active,
            generation: row.generation,
            request: certificate.order.request,
            pin: Pin { serial: certificate.order.serial, is_used, ends_at },
        })
    };
    match &paired.renewal {
        Some(Renewal::AwaitFirstUse { certificate, .. }) if is_it(&certificate.order.key) => {
            pinned(certificate, false, None)
        }
        Some(Renewal::AwaitIssued(order)) if is_it(&order.key) => {
            Standing::Enrolling { request: order.request, resolution: Enrolment::Accepted }
        }
        renewal if is_it(&paired.live.order.key) => {
            let ends_at = match renewal {
                Some(Renewal::AwaitFirstUse { published_at, .. }) => {
                    Some(*published_at + rules.overlap)
                }
                _ => None,
            };
            pinned(&paired.live, is_active, ends_at)
        }
        _ => Standing::Spent,
    }
}
