//! What the source daemon answers on its local socket.
//!
//! The command line `offsite-source` is the first client of these calls, the source's console the
//! next. There is one class of caller: whoever may open the socket, which is the owner of the data
//! directory and root.
//!
//! **Absent:** the sixty operations; a source serves none of them.

use offsite_model::{AgentId, CoreId, RequestId};
use serde::{Deserialize, Serialize};

use crate::admin::jobs::Job;
use crate::admin::upkeep::Upkeep;
use crate::endpoint;
use crate::endpoint::{Access, Action, Class, Listener, Method, Params, Row, Values};
use crate::error::Refusal;
use crate::json::Json;
use crate::limits::JSON_BYTES_MAX;
use crate::text::{Big, Text, Time};

macro_rules! source_rows {
    ($(
        $name:ident: $id:literal $method:ident $path:literal [$($query:literal),*], $bytes:expr;
    )*) => {
        $(
            #[doc = concat!("The source's call `", $id, "`: `", $path, "`.")]
            pub const $name: Row = Row {
                id: $id,
                method: Method::$method,
                path: $path,
                query: &[$($query),*],
                access: Access::AnyOf(&[Class::Token]),
                action: Action::SourceOperator,
                listener: Listener::Source,
                request_bytes_max: $bytes,
            };
        )*

        /// Every call of the source's local socket.
        pub const ROWS: &[Row] = &[$($name),*];
    };
}

source_rows! {
    STATUS: "S-status" Get "/api/v1/status" [], 0;
    AGENTS_LIST: "S-agents-list" Get "/api/v1/agents" [], 0;
    AGENTS_ADD: "S-agents-add" Post "/api/v1/agents" [], JSON_BYTES_MAX;
    AGENTS_SHOW: "S-agents-show" Get "/api/v1/agents/{agent}" [], 0;
    AGENTS_REMOVE: "S-agents-remove" Delete "/api/v1/agents/{agent}" [], 0;
    PAIRINGS_LIST: "S-pairings-list" Get "/api/v1/pairings" [], 0;
    PAIRINGS_REQUEST: "S-pairings-request" Post "/api/v1/pairings" [], JSON_BYTES_MAX;
    PAIRINGS_SHOW: "S-pairings-show" Get "/api/v1/pairings/current" ["target", "after"], 0;
    PAIRINGS_WITHDRAW: "S-pairings-withdraw" Post "/api/v1/pairings/withdraw" ["target"], 0;
    PAIRINGS_RENEW: "S-pairings-renew" Post "/api/v1/pairings/renew" ["target"], 0;
    PAIRINGS_RESET: "S-pairings-reset" Post "/api/v1/pairings/reset" ["target"], 0;
    PAIRINGS_RETRY: "S-pairings-retry" Post "/api/v1/pairings/retry" ["target"], 0;
    PAIRINGS_END: "S-pairings-end" Post "/api/v1/pairings/end" [], JSON_BYTES_MAX;
}

/// The daemon, at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Seconds since the daemon began to serve.
    pub uptime_seconds: u64,
    /// `serving`, or `stopping` while it ends.
    pub state: String,
    /// The source's core id.
    pub source_id: Text<CoreId>,
    /// Its name.
    pub name: String,
    /// How many agents it has.
    pub agents: usize,
    /// Its pairings, the newest last.
    pub pairings: Vec<Pairing>,
    /// Replications that are paused.
    #[serde(default)]
    pub paused: Vec<Job>,
    /// Space and damage.
    #[serde(default)]
    pub upkeep: Upkeep,
}

/// A volume of an agent, as the operator named it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// Its label, one of a kind within the agent.
    pub label: String,
    /// The file or block device, absolute.
    pub path: String,
}

/// Asks for a new agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddAgent {
    /// Its name, one of a kind at this source.
    pub name: String,
    /// Its volumes, at least one.
    pub volumes: Vec<VolumeSpec>,
    /// The id it had at a source that was lost, as its target knows it; absent = a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Text<AgentId>>,
}

/// A volume of an agent, as the daemon knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its label.
    pub label: String,
    /// The file or block device.
    pub path: String,
    /// Its size in bytes when it was last looked at.
    pub bytes: Big,
    /// Why it cannot be read now; absent while it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// An agent: a protected machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id, made when it was added.
    pub agent_id: Text<AgentId>,
    /// Its name.
    pub name: String,
    /// Its volumes.
    pub volumes: Vec<Volume>,
    /// Bytes of all its volumes.
    pub logical_bytes: Big,
    /// When it was added.
    pub created_at: Time,
}

/// Asks the daemon to file a request to pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestPairing {
    /// Where the target listens for sources: `https://HOST:PORT`.
    pub url: String,
    /// Names of the agents that shall be replicated, at least one.
    pub agents: Vec<String>,
    /// The customer's number at the provider.
    #[serde(default)]
    pub customer_id: String,
    /// Where the operator can be reached.
    #[serde(default)]
    pub email: String,
    /// A word to the target's operator.
    #[serde(default)]
    pub comment: String,
    /// The code the target's operator handed out beforehand, if he did.
    #[serde(default)]
    pub enrolment_code: Option<String>,
}

/// Where a pairing stands, in the words of the enum `pairingState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There is no pairing.
    Unpaired,
    /// Waiting: the request is on its way, or the target's operator has not decided.
    Pending,
    /// Accepted; the certificate is being fetched and installed.
    Accepted,
    /// Refused by the target's operator.
    Rejected,
    /// Both sides speak mutual TLS.
    Active,
    /// Ended by either side.
    Ended,
    /// Not decided in time.
    Expired,
}

impl State {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unpaired => "unpaired",
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Active => "active",
            Self::Ended => "ended",
            Self::Expired => "expired",
        }
    }
}

/// How the line to the target is, in the words of the enum `connection status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// The last call was answered.
    Online,
    /// Replication is paused.
    Paused,
    /// The peer is not who it was, or does not accept who we are.
    AuthenticationError,
    /// The last call reached nobody.
    Unreachable,
    /// No call was made yet, or none is due any more.
    None,
}

impl Connection {
    /// The words for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Paused => "paused",
            Self::AuthenticationError => "authentication error",
            Self::Unreachable => "unreachable",
            Self::None => "none",
        }
    }
}

/// One pairing, for people and scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pairing {
    /// Where it stands.
    pub state: State,
    /// How the line is.
    pub connection: Connection,
    /// The target: the name it told, once it knows this source; until then its host and port.
    pub target: Option<String>,
    /// The target as the operator named it: host and port.
    #[serde(default)]
    pub address: Option<String>,
    /// The check code to compare with the target's console, while a decision is awaited.
    pub check_code: Option<String>,
    /// What the operator should know: the target's message, or what is wrong.
    pub message: Option<String>,
    /// What the operator can do about it.
    #[serde(default)]
    pub next: Option<String>,
    /// Whether the target's key changed: nothing is sent until the operator decides.
    #[serde(default)]
    pub alarm: bool,
    /// The target's core id, once it told.
    #[serde(default)]
    pub target_id: Option<Text<CoreId>>,
    /// SHA-256 of the target's public key that is remembered, in hexadecimal.
    #[serde(default)]
    pub target_fingerprint: Option<String>,
    /// SHA-256 of the public key this source shows to the target.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// The request at the target.
    #[serde(default)]
    pub request_id: Option<Text<RequestId>>,
    /// When an undecided request lapses.
    #[serde(default)]
    pub expires_at: Option<Time>,
    /// When the certificate ends.
    #[serde(default)]
    pub certificate_ends_at: Option<Time>,
    /// Whether a renewal of the certificate is under way.
    #[serde(default)]
    pub renewing: bool,
    /// How far this clock is before (+) or behind (-) the target's, in seconds, as last measured.
    #[serde(default)]
    pub clock_skew_seconds: Option<i64>,
    /// When the target last answered.
    #[serde(default)]
    pub last_answer_at: Option<Time>,
    /// Names of the agents of the pairing.
    #[serde(default)]
    pub agents: Vec<String>,
    /// Counts changes of this view; the query `after` waits for the next one.
    #[serde(default)]
    pub change: u64,
}

impl Pairing {
    /// What is shown where there is no pairing.
    #[must_use]
    pub fn none() -> Self {
        Self {
            state: State::Unpaired,
            connection: Connection::None,
            target: None,
            address: None,
            check_code: None,
            message: None,
            next: Some(
                "ask a target to pair: offsite-source pair request URL --agent NAME".to_owned(),
            ),
            alarm: false,
            target_id: None,
            target_fingerprint: None,
            fingerprint: None,
            request_id: None,
            expires_at: None,
            certificate_ends_at: None,
            renewing: false,
            clock_skew_seconds: None,
            last_answer_at: None,
            agents: Vec::new(),
            change: 0,
        }
    }

    /// Whether nothing more will happen without a person.
    #[must_use]
    pub const fn is_resolved(&self) -> bool {
        self.alarm || !matches!(self.state, State::Pending | State::Accepted)
    }
}

/// Asks to end a pairing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndPairing {
    /// The target: its core id, or host and port as `pair status` shows them.
    pub target: String,
    /// Whether the target shall delete this source's recovery points as well.
    #[serde(default)]
    pub delete_recovery_points: bool,
}

/// What a reset gave up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetDone {
    /// The pairing afterwards.
    pub pairing: Pairing,
    /// What is given up, in a sentence each.
    pub given_up: Vec<String>,
}

/// The agent in the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfAgent(pub String);

impl Params for OfAgent {
    fn read(values: &Values) -> Result<Self, Refusal> {
        values.parse("agent").map(Self)
    }

    fn write(&self, values: &mut Values) {
        values.insert("agent", self.0.clone());
    }
}

/// The target in the query; without one the newest pairing is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfTarget(pub Option<String>);

impl Params for OfTarget {
    fn read(values: &Values) -> Result<Self, Refusal> {
        values.parse_optional("target").map(Self)
    }

    fn write(&self, values: &mut Values) {
        if let Some(target) = &self.0 {
            values.insert("target", target.clone());
        }
    }
}

/// Which pairing to show, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShowPairing {
    /// The target; without one the newest pairing is meant.
    pub target: Option<String>,
    /// Answer only once the view changed after this count, or after some seconds without a change.
    pub after: Option<u64>,
}

impl Params for ShowPairing {
    fn read(values: &Values) -> Result<Self, Refusal> {
        Ok(Self {
            target: values.parse_optional("target")?,
            after: values.parse_optional("after")?,
        })
    }

    fn write(&self, values: &mut Values) {
        if let Some(target) = &self.target {
            values.insert("target", target.clone());
        }
        if let Some(after) = self.after {
            values.insert("after", after.to_string());
        }
    }
}

endpoint! {
    /// The daemon at a glance.
    ReadStatus = STATUS, (), () => Json<Status>
}
endpoint! {
    /// All agents, by name.
    ListAgents = AGENTS_LIST, (), () => Json<Vec<Agent>>
}
endpoint! {
    /// A new agent.
    CreateAgent = AGENTS_ADD, (), Json<AddAgent> => Json<Agent>
}
endpoint! {
    /// One agent.
    ShowAgent = AGENTS_SHOW, OfAgent, () => Json<Agent>
}
endpoint! {
    /// Forgets an agent; its volumes are never touched.
    RemoveAgent = AGENTS_REMOVE, OfAgent, () => Json<Agent>
}
endpoint! {
    /// All pairings, the newest last.
    ListPairings = PAIRINGS_LIST, (), () => Json<Vec<Pairing>>
}
endpoint! {
    /// Files a request to pair with a target.
    FileRequest = PAIRINGS_REQUEST, (), Json<RequestPairing> => Json<Pairing>
}
endpoint! {
    /// The newest pairing, or that with a target.
    ReadPairing = PAIRINGS_SHOW, ShowPairing, () => Json<Pairing>
}
endpoint! {
    /// Takes a request back that is not decided yet.
    Withdraw = PAIRINGS_WITHDRAW, OfTarget, () => Json<Pairing>
}
endpoint! {
    /// Renews the certificate now.
    Renew = PAIRINGS_RENEW, OfTarget, () => Json<Pairing>
}
endpoint! {
    /// Goes on after an alarm, with the key that was remembered.
    Retry = PAIRINGS_RETRY, OfTarget, () => Json<Pairing>
}
endpoint! {
    /// Forgets a pairing after an alarm or at its end, at this side only.
    Reset = PAIRINGS_RESET, OfTarget, () => Json<ResetDone>
}
endpoint! {
    /// Ends a pairing on both sides.
    End = PAIRINGS_END, (), Json<EndPairing> => Json<Pairing>
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_one_of_a_kind_and_for_the_local_socket_only() {
        for (index, row) in ROWS.iter().enumerate() {
            assert_eq!(row.listener, Listener::Source, "{}", row.id);
            assert_eq!(row.action, Action::SourceOperator, "{}", row.id);
            let again = ROWS[..index].iter().any(|other| {
                other.id == row.id || (other.method == row.method && other.path == row.path)
            });
            assert!(!again, "{}", row.id);
        }
    }

    #[test]
    fn the_words_of_a_pairing_are_those_of_the_vocabulary() {
        let view = serde_json::to_value(Pairing::none()).unwrap();
        for key in ["state", "connection", "target", "check_code", "message"] {
            assert!(view.get(key).is_some(), "{key}");
        }
        for state in [
            State::Unpaired,
            State::Pending,
            State::Accepted,
            State::Rejected,
            State::Active,
            State::Ended,
            State::Expired,
        ] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert_eq!(
            serde_json::to_value(Connection::AuthenticationError).unwrap(),
            "authentication_error"
        );
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        let misspelt = br#"{"target":"a:1","delete_recovery_point":true}"#;
        assert!(crate::json::from_slice::<EndPairing>(misspelt).is_err());
    }
}
