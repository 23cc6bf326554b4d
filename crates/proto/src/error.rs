//! Every error that crosses the wire: one stable code per situation, and the body it travels in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! codes {
    ($($(#[doc = $meaning:literal])+ $name:ident = $text:literal, $status:literal, $retryable:literal;)*) => {
        /// What went wrong, as a word that never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[doc = $meaning])+ $name,)*
        }

        impl ErrorCode {
            /// Every code, in the order of the table in `docs/protocol.md`.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it means, in a sentence for readers of the protocol.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($meaning),+).trim(),)* }
            }

            /// The HTTP status that carries it (RFC 9110).
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// Whether the same call may succeed later without anybody changing anything.
            #[must_use]
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)* }
            }
        }
    };
}

codes! {
    /// Malformed id, query, body or frame; missing field; length other than announced.
    BadRequest = "bad_request", 400, false;
    /// A rejection without a message.
    MessageRequired = "message_required", 400, false;
    /// No credential, or a wrong one.
    Unauthenticated = "unauthenticated", 401, false;
    /// A known caller without this right.
    Forbidden = "forbidden", 403, false;
    /// The certificate's key is bound to no pairing, or the pairing has ended.
    NotPaired = "not_paired", 403, false;
    /// The caller's request was rejected.
    PairingDenied = "pairing_denied", 403, false;
    /// No such path.
    RouteUnknown = "route_unknown", 404, false;
    /// Agent not known to this caller.
    AgentUnknown = "agent_unknown", 404, false;
    /// Session not known to this caller.
    SessionUnknown = "session_unknown", 404, false;
    /// Volume image not known to this caller.
    ImageUnknown = "image_unknown", 404, false;
    /// Repository or storage not known or not offered to this caller.
    RepoUnknown = "repo_unknown", 404, false;
    /// Pairing request not known to this caller.
    RequestUnknown = "request_unknown", 404, false;
    /// A commit names a record that this tenant never stored.
    UnknownRecord = "unknown_record", 404, false;
    /// Mirrored job or queue entry not known to this caller.
    JobUnknown = "job_unknown", 404, false;
    /// No system with this id.
    SystemUnknown = "system_unknown", 404, false;
    /// An acceptance names a tenant that does not exist.
    TenantUnknown = "tenant_unknown", 404, false;
    /// Recovery point not known to this caller.
    PointUnknown = "point_unknown", 404, false;
    /// Operator's account or token not known. Ours, for the admin API.
    AccountUnknown = "account_unknown", 404, false;
    /// The target does not answer. Ours, for the source's local socket.
    TargetUnreachable = "target_unreachable", 502, true;
    /// Something answers, and it is no Offsite target. Ours, for the source's local socket.
    NotATarget = "not_a_target", 502, false;
    /// The target's key is not the remembered one. Ours, for the source's local socket.
    TargetChanged = "target_changed", 502, false;
    /// Known path, other method.
    MethodNotAllowed = "method_not_allowed", 405, false;
    /// Request not resolved yet, or its artifacts not ready.
    PairingPending = "pairing_pending", 409, true;
    /// The same thing exists with other content.
    AlreadyExists = "already_exists", 409, false;
    /// A second decision on one request.
    AlreadyResolved = "already_resolved", 409, false;
    /// The request changed after the operator saw it.
    RequestChanged = "request_changed", 409, false;
    /// Call out of order.
    WrongState = "wrong_state", 409, false;
    /// Commit or close while wanted records or bytes are missing.
    Incomplete = "incomplete", 409, false;
    /// A promise of "held" did not last until the commit.
    LeaseLost = "lease_lost", 409, true;
    /// Two contents under one key.
    KeyCollision = "key_collision", 409, false;
    /// Parent image or previous epoch not on the target.
    BaseMissing = "base_missing", 409, false;
    /// Direct replication impossible.
    EngineMismatch = "engine_mismatch", 409, false;
    /// Paused on the target for this agent or source.
    ReplicationPaused = "replication_paused", 409, true;
    /// Session idle for too long.
    SessionExpired = "session_expired", 410, false;
    /// Request not resolved in time, as operators see it.
    RequestExpired = "request_expired", 410, false;
    /// Body, frame, list or file above its limit.
    TooLarge = "too_large", 413, false;
    /// Unknown media type, stream version or content encoding.
    MediaTypeUnsupported = "media_type_unsupported", 415, false;
    /// Bytes differ from their checksum; they are discarded.
    HashMismatch = "hash_mismatch", 422, false;
    /// Check code wrong, demanded and absent, or the request is locked by wrong entries.
    CheckCodeMismatch = "check_code_mismatch", 422, false;
    /// Well-formed transfer of the wrong thing.
    ContentInvalid = "content_invalid", 422, false;
    /// Deletion refused by a retention lock.
    RetentionLocked = "retention_locked", 423, false;
    /// No common protocol version.
    VersionUnsupported = "version_unsupported", 426, false;
    /// Too many calls from this address or caller.
    RateLimited = "rate_limited", 429, true;
    /// The target could not be configured for the source.
    ConfigurationFailed = "configuration_failed", 500, false;
    /// Declared, not in this build.
    NotImplemented = "not_implemented", 501, false;
    /// Anything else, on our side.
    Internal = "internal", 500, true;
    /// Concurrency limit or maintenance.
    Busy = "busy", 503, true;
    /// Repository offline or failing; an operator must act.
    RepositoryUnavailable = "repository_unavailable", 503, true;
    /// Repository below its reserve, or quota used up.
    NoSpace = "no_space", 507, false;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no code of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCode;

impl FromStr for ErrorCode {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text).ok_or(UnknownCode)
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    /// A code of a later version is read as [`ErrorCode::Internal`]; the status tells the rest.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(text.parse().unwrap_or(Self::Internal))
    }
}

/// Facts about an error, by name: counts, the first decision, the supported versions.
pub type Facts = std::collections::BTreeMap<String, serde_json::Value>;

/// A refusal: what a handler answers instead of a response, and what a caller receives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The stable word.
    pub code: ErrorCode,
    /// One sentence for a person, saying which side is at fault.
    pub message: String,
    /// Facts, where the code's description promises some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Facts>,
    /// Whether the same call may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// Link to the page that explains the code, on the operator listener.
    #[serde(default)]
    pub kb: String,
    /// Seconds after which to try again; travels as the header `Retry-After`.
    #[serde(skip)]
    pub retry_after_secs: Option<u32>,
}

impl Refusal {
    /// A refusal with this code and sentence.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            detail: None,
            retryable: code.is_retryable(),
            kb: format!("/help/errors/{code}"),
            retry_after_secs: None,
        }
    }

    /// The same refusal with one more fact.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.detail.get_or_insert_default().insert(name.to_owned(), value.into());
        self
    }

    /// The same refusal with the advice to try again after so many seconds.
    #[must_use]
    pub const fn after(mut self, secs: u32) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}

/// The body of every error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The refusal.
    pub error: Refusal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_read_back() {
        for (index, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!(!ErrorCode::ALL[..index].iter().any(|other| other.as_str() == code.as_str()));
            assert!((400..600).contains(&code.status()), "{code}");
        }
    }
}
