//! Where one pairing of the target stands: one struct per stage, all of it plain and kept.

use offsite_model::{RequestId, Timestamp};
use serde::{Deserialize, Serialize};

use super::words::{EndedBy, Grants, Issued, Order};
use crate::pairing::{Asked, PublicKey, form};

/// A stage of the target half. Kept as a value: new members go to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// A person has to decide.
    Pending(Pending),
    /// Accepted; the certificate is being signed and nobody has seen it.
    AwaitIssued(AwaitIssued),
    /// Published; the source has not used its certificate yet.
    AwaitFirstUse(Paired),
    /// The source speaks mutual TLS.
    Active(Paired),
    /// Refused by the operator.
    Rejected(Rejected),
    /// Not decided in time.
    Expired(Pending),
    /// Taken back by the source before it was accepted.
    Withdrawn(Pending),
    /// Over. The row is kept, so that a repeated goodbye is answered and the key never used again.
    Ended(Ended),
}

/// See [`Stage::Pending`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The request's id.
    #[serde(with = "form::request_id")]
    pub request: RequestId,
    /// What is asked.
    pub asked: Asked,
    /// When it was filed.
    #[serde(with = "form::moment")]
    pub created_at: Timestamp,
    /// When it lapses.
    #[serde(with = "form::moment")]
    pub expires_at: Timestamp,
    /// Wrong check codes typed so far.
    pub n_wrong_codes: u32,
    /// Whether they have locked it until the source submits again.
    pub is_locked: bool,
}

/// How an operator accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// Who.
    pub by: String,
    /// When.
    #[serde(with = "form::moment")]
    pub at: Timestamp,
    /// What the source gets.
    pub grants: Grants,
    /// A word to the source's operator, exactly as typed.
    pub message: Option<String>,
}

/// See [`Stage::AwaitIssued`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitIssued {
    /// What was accepted.
    pub pending: Pending,
    /// The decision.
    pub acceptance: Acceptance,
    /// The certificate being signed.
    pub order: Order,
}

/// See [`Stage::AwaitFirstUse`] and [`Stage::Active`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paired {
    /// The request as it was accepted.
    pub pending: Pending,
    /// The decision.
    pub acceptance: Acceptance,
    /// The certificate in use.
    pub live: Certificate,
    /// A renewal under way.
    pub renewal: Option<Renewal>,
    /// Keys that a renewal retired, latest last. They are dead and never taken again.
    pub retired: Vec<PublicKey>,
}

/// A published certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// As it was ordered.
    pub order: Order,
    /// As it was signed.
    pub issued: Issued,
}

/// A renewal: the pairing has a second key until the new one is used, or the overlap is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Renewal {
    /// The certificate is being signed; the new key opens nothing yet.
    AwaitIssued(Order),
    /// Published: both keys are good.
    AwaitFirstUse {
        /// The new certificate.
        certificate: Certificate,
        /// When the overlap began.
        #[serde(with = "form::moment")]
        published_at: Timestamp,
    },
}

/// See [`Stage::Rejected`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// What was rejected.
    pub pending: Pending,
    /// Who.
    pub by: String,
    /// When.
    #[serde(with = "form::moment")]
    pub at: Timestamp,
    /// In these words.
    pub message: String,
}

/// See [`Stage::Ended`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The request it came from.
    pub pending: Pending,
    /// The decision.
    pub acceptance: Acceptance,
    /// All keys that ever served it, none of which is good any more.
    pub keys: Vec<PublicKey>,
    /// Who ended it.
    pub by: EndedBy,
    /// When.
    #[serde(with = "form::moment")]
    pub at: Timestamp,
}

impl Renewal {
    /// The certificate as it was ordered.
    #[must_use]
    pub const fn order(&self) -> &Order {
        match self {
            Self::AwaitIssued(order) => order,
            Self::AwaitFirstUse { certificate, .. } => &certificate.order,
        }
    }
}

impl Paired {
    /// The keys that are or may become good.
    pub(crate) fn keys(&self) -> Vec<&PublicKey> {
        std::iter::once(&self.live.order.key)
            .chain(self.renewal.iter().map(|renewal| &renewal.order().key))
            .collect()
    }
}

impl Stage {
    /// The stage's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pending(_) => "Pending",
            Self::AwaitIssued(_) => "AwaitIssued",
            Self::AwaitFirstUse(_) => "AwaitFirstUse",
            Self::Active(_) => "Active",
            Self::Rejected(_) => "Rejected",
            Self::Expired(_) => "Expired",
            Self::Withdrawn(_) => "Withdrawn",
            Self::Ended(_) => "Ended",
        }
    }

    /// The request as its source filed it, whatever came of it.
    #[must_use]
    pub const fn pending(&self) -> &Pending {
        match self {
            Self::Pending(pending) | Self::Expired(pending) | Self::Withdrawn(pending) => pending,
            Self::AwaitIssued(waiting) => &waiting.pending,
            Self::AwaitFirstUse(paired) | Self::Active(paired) => &paired.pending,
            Self::Rejected(rejected) => &rejected.pending,
            Self::Ended(ended) => &ended.pending,
        }
    }
}
