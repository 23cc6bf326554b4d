//! What the source daemon answers about which of its own recovery points stay.
//!
//! A policy travels as its text, `last=7 daily=14 min-age=3d` or `all`.
//!
//! **Absent:** the target's retention, which is another policy over other points.

use offsite_model::PointId;
use serde::{Deserialize, Serialize};

use crate::endpoint;
use crate::endpoint::{Access, Action, Class, Listener, Method, Params, Row, Values};
use crate::error::Refusal;
use crate::json::Json;
use crate::limits::JSON_BYTES_MAX;
use crate::text::{Big, Text, Time};

macro_rules! keeping_rows {
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

        /// Every call of this file.
        pub const ROWS: &[Row] = &[$($name),*];
    };
}

keeping_rows! {
    SHOW: "S-retention-show" Get "/api/v1/retention" ["agent"], 0;
    SET: "S-retention-set" Put "/api/v1/retention" ["agent"], JSON_BYTES_MAX;
    PREVIEW: "S-retention-preview" Get "/api/v1/retention/preview" ["agent", "policy"], 0;
    APPLY: "S-retention-apply" Post "/api/v1/retention/apply" ["agent"], 0;
}

/// Whose retention is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfRetention {
    /// The agent: name or id; absent means what holds for all that have no policy of their own.
    pub agent: Option<String>,
    /// A policy to look at in place of the one that holds, for a preview.
    pub policy: Option<String>,
}

impl Params for OfRetention {
    fn read(values: &Values) -> Result<Self, Refusal> {
        let agent = values.parse_optional("agent")?;
        Ok(Self { agent, policy: values.parse_optional("policy")? })
    }

    fn write(&self, values: &mut Values) {
        for (name, value) in [("agent", &self.agent), ("policy", &self.policy)] {
            if let Some(value) = value {
                values.insert(name, value.clone());
            }
        }
    }
}

/// A policy, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Name of the agent; absent for the policy of all that have none of their own.
    pub agent: Option<String>,
    /// The policy.
    pub policy: String,
    /// Whether the agent has none of its own, and this one holds for it.
    pub inherited: bool,
}

/// Sets a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetRetention {
    /// The policy; absent gives the agent that of all others again.
    #[serde(default)]
    pub policy: Option<String>,
}

/// What a policy says of a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The point.
    pub point: Text<PointId>,
    /// Name of its agent.
    pub agent: String,
    /// When it was made.
    pub created_at: Time,
    /// Bytes of records that came with it.
    pub new_bytes: Big,
    /// Why it stays; empty where it goes.
    pub why: Vec<String>,
}

endpoint! {
    /// A policy.
    ShowRetention = SHOW, OfRetention, () => Json<Retention>
}
endpoint! {
    /// Sets a policy, or takes an agent's own one away.
    ChangeRetention = SET, OfRetention, Json<SetRetention> => Json<Retention>
}
endpoint! {
    /// What would stay and what would go, oldest first; changes nothing.
    PreviewRetention = PREVIEW, OfRetention, () => Json<Vec<Verdict>>
}
endpoint! {
    /// Deletes what goes, of an agent or of all; what went.
    ApplyRetention = APPLY, OfRetention, () => Json<Vec<Verdict>>
}
