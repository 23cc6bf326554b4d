//! The bodies of pairing by request: rows 37, 44, 45, 46, 49, 51, 59 and P1 to P3.
//!
//! Fields are camelCase; unknown ones are ignored, so that a later version may add some. The
//! published word `master` is our source, `slave` our target; the words stay on the wire only.

mod check_code;

pub use check_code::{CheckCode, CheckCodeError};

use offsite_model::{AgentId, CoreId, PointId, RepositoryId, RequestId};
use serde::{Deserialize, Serialize};

use crate::endpoint::{Params, Values};
use crate::error::Refusal;
use crate::json::{Json, Pem};
use crate::rows;
use crate::text::{Text, Time};
use crate::version::ProductVersion;
use crate::{endpoint, params};

open_enum! {
    /// Where a pairing stands, as row 45 reports it.
    PairingState {
        /// Waiting for the target's operator.
        Pending,
        /// Accepted; the source has not used its certificate yet.
        Accepted,
        /// Refused by the target's operator.
        Rejected,
        /// Both sides speak mutual TLS.
        Active,
        /// Ended by either side.
        Ended,
        /// Not decided in time.
        Expired,
    } else
    /// A word of a later version.
    Unknown
}

open_enum! {
    /// Where one agent of a pairing stands.
    AgentPairingState {
        /// Waiting for the target's operator.
        Pending,
        /// Accepted, nothing replicated yet.
        Approved,
        /// Not accepted.
        Denied,
        /// Part of the pairing.
        Paired,
        /// Part of the pairing; replication stopped for now.
        Paused,
        /// Removed.
        Deleted,
    } else
    /// A word of a later version.
    Unknown
}

/// Who the source is, as it says: display only, nothing is granted on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CoreDescription {
    /// Its name, as its operator chose it.
    pub host_name: String,
    /// Its core id.
    pub id: Text<CoreId>,
    /// Whether it can use a repository that only receives replicas.
    #[serde(default)]
    pub is_replication_only_repository_supported: bool,
    /// Its product version.
    #[serde(default)]
    pub version: ProductVersion,
}

/// An agent that shall be replicated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentDescription {
    /// Its id, made by the source.
    pub id: Text<AgentId>,
    /// Its name for people.
    pub display_name: String,
    /// Its host name; empty where it has none.
    #[serde(default)]
    pub host_name: String,
    /// Bytes of its volumes, as the source knows them; for the operator's decision only.
    #[serde(default)]
    pub logical_bytes: crate::text::Big,
}

/// Row 44: files a request to pair, or renews a certificate when sent over mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubmitRequest {
    /// The PKCS#10 request (RFC 2986) in PEM. Only its public key is used.
    pub client_certificate: String,
    /// The source.
    pub master_core_info: CoreDescription,
    /// The agents it wants to replicate.
    #[serde(default)]
    pub agents: Vec<AgentDescription>,
    /// The customer's number at the provider, as the source's operator typed it.
    #[serde(default)]
    pub customer_id: String,
    /// Where the source's operator can be reached.
    #[serde(default)]
    pub email_address: String,
    /// A word to the target's operator.
    #[serde(default)]
    pub comments: String,
    /// Whether the first copy will travel on a seed drive.
    #[serde(default)]
    pub use_seed_drive: bool,
    /// A code of at least 128 bits that the target's operator handed out beforehand: it opens the
    /// reserved pool of requests and assigns the request to a tenant's operators. It proves nothing
    /// about the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolment_code: Option<String>,
}

/// The answer to row 44.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Submitted {
    /// The request's id, drawn after the request arrived.
    pub request_id: Text<RequestId>,
    /// The target's core id.
    pub slave_core_id: Text<CoreId>,
    /// The target's public key: its SubjectPublicKeyInfo in lower-case hexadecimal. The source
    /// compares it with the key it saw in the handshake and computes the check code from the
    /// latter.
    pub target_public_key: String,
    /// Where to poll: P1 with the id filled in.
    pub resolution_path: String,
    /// The first pause before polling.
    pub poll_after_seconds: u32,
    /// When the request lapses if nobody decides.
    pub expires_at: Time,
}

/// The resolution as P1 and list A word it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// Not decided, or decided and not yet ready to be fetched.
    Pending,
    /// Accepted; certificate and target certificate can be fetched.
    Accepted,
    /// Rejected, with a message.
    Rejected,
    /// Not decided in time; operators see it, a source sees `request_unknown`.
    Expired,
}

/// The answer of P1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolutionAnswer {
    /// The request.
    pub request_id: Text<RequestId>,
    /// The decision.
    pub resolution: Resolution,
    /// The operator's message, exactly as typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Time>,
    /// The decision for each agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentResolution>,
    /// SHA-256 of the issued certificate's DER, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_sha256: Option<String>,
    /// SHA-256 of the target certificate's DER, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_certificate_sha256: Option<String>,
}

/// The decision for one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentResolution {
    /// The agent.
    pub id: Text<AgentId>,
    /// Its state.
    pub agent_pairing_state: AgentPairingState,
    /// The repository that holds or will hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<Text<RepositoryId>>,
}

/// Row 45: the source tells how it sees the pairing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PairingSync {
    /// The source's core id.
    pub core_id: Text<CoreId>,
    /// Its name.
    pub host_name: String,
    /// Its product version.
    #[serde(default)]
    pub version: ProductVersion,
    /// Its request, while it knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Text<RequestId>>,
    /// Its agents.
    #[serde(default)]
    pub agents: Vec<AgentSync>,
}

/// One agent in row 45.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentSync {
    /// The agent.
    pub id: Text<AgentId>,
    /// Its state.
    #[serde(default)]
    pub agent_pairing_state: AgentPairingState,
    /// Whether its replication is paused, at the speaker's side.
    #[serde(default)]
    pub paused: bool,
    /// Its repository; the target's answer only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<Text<RepositoryId>>,
}

/// The answer to row 45. A rejection is a success of the call, with its message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PairingStatus {
    /// Where the pairing stands.
    pub pairing_state: PairingState,
    /// The request it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Text<RequestId>>,
    /// The operator's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The comment of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comments: Option<String>,
    /// The customer's number of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
    /// The agents of the pairing.
    #[serde(default)]
    pub agents: Vec<AgentSync>,
    /// What the target's operator wants done with queued work.
    #[serde(default)]
    pub queue_actions: Vec<QueueAction>,
    /// The target.
    pub slave_core_info: TargetSummary,
    /// The target's clock, for the measured skew.
    pub server_time: Time,
}

/// A wish of the target's operator for one queued point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueAction {
    /// The agent.
    pub agent_id: Text<AgentId>,
    /// The point, or all of the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_point_id: Option<Text<PointId>>,
    /// `none` or `reset`.
    pub action: String,
}

/// Rows 37 and 45: the target, as the caller may know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetSummary {
    /// Its name, for callers it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    /// Its core id.
    pub id: Text<CoreId>,
    /// Its product version.
    #[serde(default)]
    pub version: ProductVersion,
    /// Whether it has repositories that only receive replicas.
    #[serde(default)]
    pub is_replication_only_repository_supported: bool,
    /// The oldest protocol version it speaks.
    #[serde(default = "first_version")]
    pub protocol_min: u32,
    /// The newest protocol version it speaks.
    #[serde(default = "first_version")]
    pub protocol_max: u32,
}

const fn first_version() -> u32 {
    1
}

/// The answer to row 49.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanPair {
    /// Whether they can.
    pub can_pair: bool,
    /// The target's core id.
    pub slave_core_id: Text<CoreId>,
    /// Why not, or what to know.
    #[serde(default)]
    pub reasons: Vec<Reason>,
}

/// A reason inside a successful answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// A code of the error table.
    pub code: crate::error::ErrorCode,
    /// One sentence for a person.
    pub message: String,
}

/// Row 51: would these agents be accepted in form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddAgents {
    /// The agents.
    pub agents: Vec<AgentDescription>,
    /// A word to the target's operator.
    #[serde(default)]
    pub comments: String,
    /// The customer's number.
    #[serde(default)]
    pub customer_id: String,
    /// Where the source's operator can be reached.
    #[serde(default)]
    pub email_address: String,
}

/// The verdict on one agent of row 51.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentVerdict {
    /// The agent.
    pub agent_id: Text<AgentId>,
    /// Whether it would be accepted.
    pub ok: bool,
    /// The code, where it would not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<crate::error::ErrorCode>,
    /// The sentence, where it would not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The query of rows 49 and 59: whether an administrator's credential is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UseCredentials(pub bool);

impl Params for UseCredentials {
    fn read(values: &Values) -> Result<Self, Refusal> {
        values.flag("useCredentials", Some(false)).map(Self)
    }

    fn write(&self, values: &mut Values) {
        values.insert("useCredentials", self.0.to_string());
    }
}

/// The query of row 46: whether the points go as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteRecoveryPoints(pub bool);

impl Params for DeleteRecoveryPoints {
    fn read(values: &Values) -> Result<Self, Refusal> {
        values.flag("deleteRecoveryPoints", Some(false)).map(Self)
    }

    fn write(&self, values: &mut Values) {
        values.insert("deleteRecoveryPoints", self.0.to_string());
    }
}

params! {
    /// The request in the path of P1 to P3.
    OfRequest {
        /// The request.
        request: RequestId = "requestId",
    }
}

endpoint! {
    /// Row 59: is this an Offsite target, and which one.
    Validate = rows::R59, UseCredentials, () => Json<Text<CoreId>>
}
endpoint! {
    /// Row 37: summary of the target without a pairing.
    Greet = rows::R37, (), () => Json<TargetSummary>
}
endpoint! {
    /// Row 49: can these two cores pair.
    VerifyPairing = rows::R49, UseCredentials, Json<CoreDescription> => Json<CanPair>
}
endpoint! {
    /// Row 51: dry run of the agents of a request.
    VerifyAgents = rows::R51, (), Json<AddAgents> => Json<Vec<AgentVerdict>>
}
endpoint! {
    /// Row 44: file a request to pair, or renew over mutual TLS.
    Submit = rows::R44, (), Json<SubmitRequest> => Json<Submitted>
}
endpoint! {
    /// Row 45: exchange the state of the pairing.
    Sync = rows::R45, (), Json<PairingSync> => Json<PairingStatus>
}
endpoint! {
    /// Row 46: the target forgets this source; from an unresolved request it withdraws.
    Unpair = rows::R46, DeleteRecoveryPoints, () => ()
}
endpoint! {
    /// P1: the decision.
    PollResolution = rows::P1, OfRequest, () => Json<ResolutionAnswer>
}
endpoint! {
    /// P2: the signed client certificate.
    FetchCertificate = rows::P2, OfRequest, () => Pem
}
endpoint! {
    /// P3: the target's certificate, then its authority's.
    FetchTargetCertificate = rows::P3, OfRequest, () => Pem
}
