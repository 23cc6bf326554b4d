//! List A: the operator's decision on a pending source (row 60) and its neighbours N1 to N4 and
//! N10.
//!
//! Fields are snake_case. These are commands of people and scripts, so an unknown field is a typing
//! error and refused: a misspelt `quota_bytes` must not become "no quota".

use offsite_model::{AgentId, CoreId, RequestId};
use serde::{Deserialize, Serialize};

use crate::endpoint;
use crate::endpoint::{Params, Values};
use crate::error::Refusal;
use crate::json::{Json, PlainText};
use crate::pairing::{AgentDescription, Resolution};
use crate::rows;
use crate::text::{Big, Text, Time};

/// How an operator names a request: by its short number, as a number or a text, or by its GUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestName {
    /// The short number that the pending list shows.
    Number(u64),
    /// The id.
    Id(RequestId),
}

impl std::str::FromStr for RequestName {
    type Err = offsite_model::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(number) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Self::Number(number))
            }
            _ => text.parse().map(Self::Id),
        }
    }
}

impl std::fmt::Display for RequestName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Id(id) => write!(f, "{id}"),
        }
    }
}

impl Serialize for RequestName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RequestName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = RequestName;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the number or the id of a request")
            }

            fn visit_u64<E>(self, number: u64) -> Result<RequestName, E> {
                Ok(RequestName::Number(number))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RequestName, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Row 60: accepts or rejects a pending request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    /// The request.
    pub request_id: RequestName,
    /// Whether it is accepted.
    pub accept: bool,
    /// A word to the source's operator; required when rejecting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where the source's images go; absent = the default storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_id: Option<i64>,
    /// The check code that the source's operator read out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_code: Option<String>,
    /// The digest of what the operator saw; a changed request is then refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The tenant, by name or id; absent = one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The most the source may store, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<Big>,
    /// Whether the source may read its own points back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_restore: Option<bool>,
    /// The least time a point of this source is kept from deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_days: Option<u32>,
    /// The agents accepted; absent = all of them. The others are denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<Vec<Text<AgentId>>>,
}

/// The answer to row 60.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// The request, by its id.
    pub request_id: Text<RequestId>,
    /// The decision.
    pub status: Resolution,
    /// The system's id in the systems table; absent when rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<i64>,
    /// Its role there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The tenant it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// N1: the credentials of an operator.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The account's name.
    pub username: String,
    /// Its password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The answer to N1.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedIn {
    /// The token, for the header `AuthToken`.
    pub auth_token: String,
    /// When it lapses.
    pub expires: Time,
    /// What its holder may do.
    pub role: String,
}

impl std::fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoggedIn").field("role", &self.role).finish_non_exhaustive()
    }
}

/// One row of N2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRequest {
    /// The short number.
    pub request_id: u64,
    /// The id.
    pub request_guid: Text<RequestId>,
    /// The core id the source claims.
    pub source_id: Text<CoreId>,
    /// The name the source claims.
    pub source_name: String,
    /// The same, under the published name of the column.
    pub host: String,
    /// Always empty: ours has no asset tags.
    #[serde(default)]
    pub asset_tag: String,
    /// The address the request came from.
    pub address: String,
    /// The product version the source claims.
    pub version: String,
    /// Where it stands.
    pub status: Resolution,
    /// The check code.
    pub check_code: String,
    /// The digest of what is shown here, to be sent with the decision.
    pub digest: String,
    /// The agents asked for.
    pub agents: Vec<AgentDescription>,
    /// The customer's number.
    pub customer_id: String,
    /// The e-mail address.
    pub email: String,
    /// The comment.
    pub comment: String,
    /// When it arrived.
    pub created_at: Time,
    /// When it lapses.
    pub expires_at: Time,
    /// Whether wrong codes have locked it until the source submits again.
    #[serde(default)]
    pub locked: bool,
    /// Names with characters that look like others or turn the direction of the text.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// One row of N3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// Its id; negative while pending.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its host name.
    pub host: String,
    /// Always empty: ours has no asset tags.
    #[serde(default)]
    pub asset_tag: String,
    /// Its role, in the published words.
    pub role: String,
    /// Whether it waits for a decision.
    pub is_pending: bool,
    /// Its request, by short number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<u64>,
    /// Where its request or pairing stands.
    pub status: String,
    /// Its storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_id: Option<i64>,
    /// When it was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
}

/// The query of N3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemsShown {
    /// Whether pending requests are among the rows.
    pub include_pending: bool,
    /// Whether rejected ones are.
    pub include_rejected: bool,
}

impl Params for SystemsShown {
    fn read(values: &Values) -> Result<Self, Refusal> {
        Ok(Self {
            include_pending: values.flag("include_pending", Some(false))?,
            include_rejected: values.flag("include_rejected", Some(false))?,
        })
    }

    fn write(&self, values: &mut Values) {
        values.insert("include_pending", self.include_pending.to_string());
        values.insert("include_rejected", self.include_rejected.to_string());
    }
}

/// One row of N4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// Its short number.
    pub storage_id: i64,
    /// Its repository's id.
    pub repository_id: String,
    /// Its name.
    pub name: String,
    /// `local`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Bytes of its file system.
    pub bytes_total: Big,
    /// Bytes the store uses.
    pub bytes_used: Big,
    /// Bytes still free.
    pub bytes_free: Big,
    /// `online`, or what is wrong.
    pub state: String,
}

endpoint! {
    /// Row 60: the operator's decision.
    DecideRequest = rows::R60, (), Json<Decide> => Json<Decided>
}
endpoint! {
    /// N1: opens an operator session.
    OpenLogin = rows::N1, (), Json<Login> => Json<LoggedIn>
}
endpoint! {
    /// N2: requests waiting for a decision.
    ListPending = rows::N2, (), () => Json<Vec<PendingRequest>>
}
endpoint! {
    /// N3: the systems table.
    ListSystems = rows::N3, SystemsShown, () => Json<Vec<System>>
}
endpoint! {
    /// N4: the storage of this target.
    ListStorage = rows::N4, (), () => Json<Vec<Storage>>
}
endpoint! {
    /// N10: liveness on both listeners.
    Healthz = rows::N10, (), () => PlainText
}
