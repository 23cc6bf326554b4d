//! What the target half is told, and what it asks of its driver.

use offsite_model::{CoreId, Digest, RequestId, Span, Timestamp};
use offsite_proto::error::Refusal;
use offsite_proto::pairing::{CheckCode, PairingState, Resolution};
use serde::{Deserialize, Serialize};

use crate::pairing::{AgentDecision, Asked, PublicKey, form};

/// One thing that happened to one pairing of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The program started and loaded this row.
    Start,
    /// Time has passed: the span of the last [`Effect::WakeAfter`], or any other.
    Woken,
    /// Row 44 from the row's own key: the handshake proved it and the request for a certificate
    /// holds it.
    Submit {
        /// What is asked.
        asked: Asked,
        /// A request id drawn just now, used only if a new one is called for.
        fresh: RequestId,
    },
    /// Row 60.
    Decide(Decision),
    /// The certificate was signed and the rest is ready, but nobody has seen it yet.
    Issued(Issued),
    /// The target could not be configured for this source. The operator decides anew.
    IssueFailed {
        /// The serial of the order that failed.
        serial: [u8; 16],
        /// Why, for the operator.
        reason: String,
    },
    /// P1, by this key.
    Poll {
        /// The key of the connection.
        key: PublicKey,
        /// The request asked for.
        request: RequestId,
    },
    /// P2 or P3, by this key.
    Fetch {
        /// The key of the connection.
        key: PublicKey,
        /// The request asked for.
        request: RequestId,
    },
    /// The gate admitted a call with an issued certificate of this key: to be stepped whenever
    /// [`Standing`] says that it is a first use, before the call is carried out.
    Used {
        /// The key of the connection.
        key: PublicKey,
    },
    /// Row 45, by this key.
    Sync {
        /// The key of the connection.
        key: PublicKey,
    },
    /// Row 44 over an issued certificate of this pairing.
    Renew {
        /// The key of the connection.
        by: PublicKey,
        /// The key in the request for a certificate. The driver has made sure that no other row
        /// knows it.
        key: PublicKey,
        /// A request id drawn just now.
        fresh: RequestId,
        /// A serial number drawn just now.
        serial: [u8; 16],
    },
    /// Row 46, by this key.
    Leave {
        /// The key of the connection.
        key: PublicKey,
        /// Whether the points go as well.
        delete_points: bool,
    },
    /// An operator ends the pairing.
    Revoke {
        /// Who.
        by: String,
    },
    /// An operator gives or takes the right to read one's own points back.
    AllowRestore {
        /// Who.
        by: String,
        /// Whether it is given.
        is_allowed: bool,
    },
}

/// Row 60, checked in form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The request it names.
    pub request: RequestId,
    /// Who decides, for the audit log.
    pub by: String,
    /// Our own public key, which the check code is made of.
    pub target_key: PublicKey,
    /// The digest of what the operator saw; `None` for a bare published call, which is bound to
    /// nothing.
    pub seen: Option<Digest>,
    /// The digest of the policy that goes with it now.
    pub policy: Digest,
    /// Yes or no.
    pub verdict: Verdict,
}

/// Yes or no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Accepted.
    Accept {
        /// The code the operator typed.
        code: TypedCode,
        /// What the source gets.
        grants: Grants,
        /// A word to the source's operator.
        message: Option<String>,
        /// The subject of the certificate, drawn just now, or the source's in the systems table.
        subject: CoreId,
        /// A serial number drawn just now.
        serial: [u8; 16],
    },
    /// Rejected.
    Reject {
        /// In these words, which are required.
        message: String,
    },
}

/// What an operator typed for the check code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypedCode {
    /// This, well-formed.
    Code(CheckCode),
    /// Something that is no check code; it counts as a wrong one.
    Malformed,
    /// Nothing, and the settings allow it.
    None,
    /// Nothing, and the settings demand one.
    Missing,
}

/// What an acceptance gives; the driver has filled in the configuration's defaults and checked that
/// everything named exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// The tenant, or one of its own.
    pub tenant: Option<[u8; 16]>,
    /// The storage.
    pub storage: Option<i64>,
    /// The most the source may store, in bytes.
    pub quota_bytes: Option<u64>,
    /// Whether the source may read its own points back.
    pub allow_restore: bool,
    /// The least time a point is kept from deletion, in days.
    pub lock_days: u32,
    /// The decision on each agent.
    pub agents: Vec<AgentDecision>,
}

/// The order for a certificate. It is kept before the certificate is signed, so a crash signs the
/// same certificate again instead of a second one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The request it answers.
    #[serde(with = "form::request_id")]
    pub request: RequestId,
    /// The public key, which is all that is taken from the request.
    pub key: PublicKey,
    /// The subject.
    #[serde(with = "form::core_id")]
    pub subject: CoreId,
    /// The serial number.
    pub serial: [u8; 16],
    /// Its first moment.
    #[serde(with = "form::moment")]
    pub not_before: Timestamp,
    /// Its last moment.
    #[serde(with = "form::moment")]
    pub not_after: Timestamp,
}

/// A signed certificate and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// The serial number of the order it fulfils.
    pub serial: [u8; 16],
    /// The certificate, as P2 answers it.
    pub certificate_pem: String,
    /// The target's certificate and its authority, as P3 answers them.
    pub target_pem: String,
    /// SHA-256 of the certificate's DER.
    pub certificate_sha256: [u8; 32],
    /// SHA-256 of the target certificate's DER.
    pub target_certificate_sha256: [u8; 32],
}

/// What the driver must do, in this order; each may be done twice.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Keep the row as this step left it, together with these entries of the audit log, in one
    /// transaction, before the next effect. What else hangs on the row (systems table, tenant,
    /// grants, index of keys) is derived from it in the same transaction.
    Persist(Vec<Audit>),
    /// Sign this certificate and gather the rest in the background, then [`Input::Issued`] or
    /// [`Input::IssueFailed`].
    Issue(Order),
    /// Close every connection and stream of this key, at once.
    Close(PublicKey),
    /// Answer the call that was this step's input.
    Reply(Result<Reply, Refusal>),
    /// Say [`Input::Woken`] after this span.
    WakeAfter(Span),
}

/// An entry for the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audit {
    /// A request was filed.
    Filed,
    /// The same key asks for something else.
    Changed {
        /// Whether an approval that was not used yet is void by it.
        is_approval_void: bool,
    },
    /// A locked request was filed anew, under a new id.
    Unlocked,
    /// A wrong check code was typed.
    WrongCode {
        /// By whom.
        by: String,
        /// Whether that locked the request.
        is_locked: bool,
    },
    /// Accepted.
    Accepted {
        /// By whom.
        by: String,
        /// Whether the check code was compared.
        with_code: bool,
    },
    /// Rejected.
    Rejected {
        /// By whom.
        by: String,
    },
    /// Lapsed.
    Expired,
    /// Withdrawn by the source.
    Withdrawn,
    /// The certificate and the decision can be fetched.
    Published,
    /// The target could not be configured.
    IssueFailed {
        /// Why.
        reason: String,
    },
    /// The source used its certificate for the first time.
    Active,
    /// The source asks for a certificate of a new key.
    RenewalAsked,
    /// It can be fetched.
    RenewalGranted,
    /// The new key is in use, or the overlap is over; the old key is dead.
    KeyRetired {
        /// Whether because the new key was used.
        is_new_key_used: bool,
    },
    /// The pairing ended.
    Ended(EndedBy),
    /// The right to read back was given or taken.
    RestoreAllowed {
        /// By whom.
        by: String,
        /// Whether it was given.
        is_allowed: bool,
    },
}

/// Who ended a pairing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndedBy {
    /// The source left.
    Source {
        /// Whether it asked for its points to be deleted.
        delete_points: bool,
    },
    /// An operator revoked it.
    Operator(String),
}

/// An answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Row 44.
    Submitted {
        /// The request's id.
        request: RequestId,
        /// When it lapses.
        expires_at: Timestamp,
        /// When to poll first, in seconds.
        poll_after_secs: u32,
    },
    /// Row 60: decided now.
    Decided {
        /// The request.
        request: RequestId,
        /// How.
        resolution: Resolution,
    },
    /// P1: not decided or not ready.
    Pending {
        /// The header `Retry-After`.
        retry_after_secs: u32,
    },
    /// P1: accepted.
    Accepted {
        /// A word of the operator.
        message: Option<String>,
        /// When.
        resolved_at: Timestamp,
        /// The decision on each agent.
        agents: Vec<AgentDecision>,
        /// SHA-256 of the certificate's DER.
        certificate_sha256: [u8; 32],
        /// SHA-256 of the target certificate's DER.
        target_certificate_sha256: [u8; 32],
    },
    /// P1: rejected.
    Rejected {
        /// In these words.
        message: String,
        /// When.
        resolved_at: Timestamp,
    },
    /// P2 and P3; each answers its half.
    Artifacts(Box<Issued>),
    /// Row 45.
    Status {
        /// Where the pairing stands.
        state: PairingState,
        /// The request of the asking key.
        request: Option<RequestId>,
        /// The operator's message.
        message: Option<String>,
    },
    /// Row 46, a revocation, and a right given or taken.
    Done,
}

/// What a key may do at this pairing, for the gate. A key the row does not know stands nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not known here: the answers of a stranger.
    None,
    /// A request or a renewal of this key is known: ENROLLING rows, of its own request.
    Enrolling {
        /// What a CERT row answers: rejected, or pending.
        is_rejected: bool,
    },
    /// It was known and has left or been ended: a repeat of row 46 is answered, everything else as
    /// to a stranger.
    Gone,
    /// A paired source: CERT rows.
    Source {
        /// Whether the row must step [`Input::Used`] first.
        is_first_use: bool,
    },
    /// Its certificate has run out, not too long ago: rows 44 and 45 alone.
    Expired {
        /// As for [`Standing::Source`].
        is_first_use: bool,
    },
}
