//! What the source daemon answers about recovery points: making, listing, restoring and verifying
//! them.
//!
//! Long work answers with a stream. Protecting and verifying send one JSON object per line
//! ([`Event`]); a restore sends [`crate::admin::content`]. Whoever hangs up cancels the work.
//!
//! **Absent:** agents and pairings ([`super::source`]).

use offsite_model::{AgentId, Digest, PointId, VolumeId};
use serde::{Deserialize, Serialize};

use crate::endpoint;
use crate::endpoint::{Access, Action, Class, Listener, Method, Params, Row, Values};
use crate::error::Refusal;
use crate::json::Json;
use crate::limits::JSON_BYTES_MAX;
use crate::text::{Big, Text, Time};

macro_rules! protection_rows {
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

protection_rows! {
    PROTECT: "S-agents-protect" Post "/api/v1/agents/{agent}/protect" [], 0;
    HOOKS_SHOW: "S-agents-hooks" Get "/api/v1/agents/{agent}/hooks" [], 0;
    HOOKS_SET: "S-agents-hooks-set" Put "/api/v1/agents/{agent}/hooks" [], JSON_BYTES_MAX;
    POINTS_LIST: "S-points-list" Get "/api/v1/agents/{agent}/points" [], 0;
    POINTS_SHOW: "S-points-show" Get "/api/v1/points/{point}" [], 0;
    POINTS_DELETE: "S-points-delete" Delete "/api/v1/points/{point}" ["sure"], 0;
    CONTENT: "S-volumes-content" Get "/api/v1/agents/{agent}/volumes/{volume}/content" ["point", "from"], 0;
    VERIFY: "S-verify" Post "/api/v1/verify" [], 0;
}

/// The media type of a stream of [`Event`]s.
pub const EVENTS_MEDIA: &str = "application/x-ndjson";
/// The media type of a volume's content.
pub const CONTENT_MEDIA: &str = "application/vnd.offsite.volume";
/// Most bytes of one line of a stream of events.
pub const EVENT_BYTES_MAX: usize = 8 << 20;

/// One line of a stream: how far the work is, or how it ended. The last line is never a `Progress`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event<T> {
    /// It goes on.
    Progress(Progress),
    /// It is done.
    Done(T),
    /// It failed, and nothing of it remains.
    Failed(Refusal),
}

/// How far work has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done: `waiting`, `hook`, `reading`, `committing`, `verifying`.
    pub phase: String,
    /// The volume in hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Bytes done; holes count.
    pub bytes_done: Big,
    /// Bytes in all.
    pub bytes_total: Big,
    /// The present pace.
    pub bytes_per_second: Big,
    /// Seconds until the end at this pace, once there is a pace.
    pub eta_seconds: Option<u64>,
}

/// What came of protecting an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Protected {
    /// The new recovery point.
    pub point: Text<PointId>,
    /// Bytes of all volumes.
    pub logical_bytes: Big,
    /// Bytes that were read; holes are not.
    pub read_bytes: Big,
    /// Bytes of records that were not stored before.
    pub new_bytes: Big,
    /// Bytes they take in the store.
    pub stored_bytes: Big,
    /// How long it took, hooks included.
    pub seconds: f64,
    /// What a person should know besides, such as a hook that failed and was told not to matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// A volume of a recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointVolume {
    /// Its label.
    pub label: String,
    /// Its id, the same in all points.
    pub volume_id: Text<VolumeId>,
    /// Its size.
    pub bytes: Big,
    /// Size of its records.
    pub record_bytes: u32,
    /// The `imageDigest`: over the list of what changed since the point before.
    pub digest: Text<Digest>,
    /// BLAKE3 of the whole volume, where it was read as a whole; null here.
    pub blake3: Option<Text<Digest>>,
}

/// A recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Its id.
    pub id: Text<PointId>,
    /// Name of the agent when the point was made.
    pub agent: String,
    /// The agent.
    pub agent_id: Text<AgentId>,
    /// When it was made.
    pub created_at: Time,
    /// `ok`, `incomplete`, or `deleted` while its space is not yet freed.
    pub state: String,
    /// Bytes of all volumes.
    pub logical_bytes: Big,
    /// Bytes of records that were new with it.
    pub new_bytes: Big,
    /// Its volumes.
    pub volumes: Vec<PointVolume>,
    /// Targets that are to have it and have not got it, as far as this source knows; told of one
    /// point alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacking: Vec<String>,
}

/// Something that is damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedPart {
    /// What: a file of the store and the place in it.
    pub what: String,
    /// The recovery points it hurts.
    pub points: Vec<Text<PointId>>,
}

/// What verify read and found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Records that were read and compared with their keys.
    pub records: u64,
    /// Groups of records that were decoded.
    pub groups: u64,
    /// Recovery points that were walked.
    pub points: u64,
    /// Bytes read.
    pub bytes: Big,
    /// Parts that are damaged.
    pub damaged: u64,
    /// The recovery points that cannot be restored whole.
    pub points_affected: Vec<Text<PointId>>,
    /// The damaged parts, at most so many as fit a line.
    pub damage: Vec<DamagedPart>,
}

/// What runs before and after an agent's volumes are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// A program that runs before, such as one that freezes a database or makes a snapshot.
    #[serde(default)]
    pub before: Option<String>,
    /// A program that runs after, whatever happened in between.
    #[serde(default)]
    pub after: Option<String>,
    /// Seconds that each may take before it is killed.
    pub timeout_seconds: u32,
    /// Whether a point is made although a hook failed.
    #[serde(default)]
    pub proceed_on_failure: bool,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { before: None, after: None, timeout_seconds: 60, proceed_on_failure: false }
    }
}

/// The agent in the path.
pub use super::source::OfAgent;

/// The recovery point in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfPoint(pub PointId);

impl Params for OfPoint {
    fn read(values: &Values) -> Result<Self, Refusal> {
        values.parse("point").map(Self)
    }

    fn write(&self, values: &mut Values) {
        values.insert("point", self.0.to_string());
    }
}

/// A recovery point to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfDeletion {
    /// The point.
    pub point: PointId,
    /// Whether it goes although a target that is to have it has not got it.
    pub sure: bool,
}

impl Params for OfDeletion {
    fn read(values: &Values) -> Result<Self, Refusal> {
        Ok(Self { point: values.parse("point")?, sure: values.flag("sure", Some(false))? })
    }

    fn write(&self, values: &mut Values) {
        values.insert("point", self.point.to_string());
        if self.sure {
            values.insert("sure", "true");
        }
    }
}

/// A volume of a recovery point, for reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfContent {
    /// The agent: name or id.
    pub agent: String,
    /// The volume's label.
    pub volume: String,
    /// The point: id or `latest`; absent means the latest.
    pub point: Option<String>,
    /// The target to bring it back from; absent means this source's own store.
    pub from: Option<String>,
}

impl Params for OfContent {
    fn read(values: &Values) -> Result<Self, Refusal> {
        let point = values.parse_optional("point")?;
        let (agent, volume) = (values.parse("agent")?, values.parse("volume")?);
        Ok(Self { agent, volume, point, from: values.parse_optional("from")? })
    }

    fn write(&self, values: &mut Values) {
        values.insert("agent", self.agent.clone());
        values.insert("volume", self.volume.clone());
        if let Some(point) = &self.point {
            values.insert("point", point.clone());
        }
        if let Some(from) = &self.from {
            values.insert("from", from.clone());
        }
    }
}

endpoint! {
    /// The hooks of an agent.
    ShowHooks = HOOKS_SHOW, OfAgent, () => Json<Hooks>
}
endpoint! {
    /// Sets the hooks of an agent.
    SetHooks = HOOKS_SET, OfAgent, Json<Hooks> => Json<Hooks>
}
endpoint! {
    /// The recovery points of an agent, oldest first.
    ListPoints = POINTS_LIST, OfAgent, () => Json<Vec<Point>>
}
endpoint! {
    /// One recovery point.
    ShowPoint = POINTS_SHOW, OfPoint, () => Json<Point>
}
endpoint! {
    /// Marks a recovery point as deleted. `wrong_state` where a target that is to have it has not
    /// got it, unless the caller is sure.
    DeletePoint = POINTS_DELETE, OfDeletion, () => Json<Point>
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::source;

    #[test]
    fn rows_are_one_of_a_kind() {
        let all: Vec<_> = ROWS.iter().chain(source::ROWS).collect();
        for (index, row) in all.iter().enumerate() {
            let is_again = all[..index].iter().any(|other| {
                other.id == row.id || (other.method == row.method && other.path == row.path)
            });
            assert!(!is_again, "{}", row.id);
        }
    }

    #[test]
    fn an_event_is_one_object_with_one_name() {
        let text = serde_json::to_string(&Event::<u8>::Progress(Progress::default())).unwrap();
        assert!(text.starts_with(r#"{"progress":{"#), "{text}");
        assert_eq!(serde_json::from_str::<Event<u8>>(r#"{"done":7}"#).unwrap(), Event::Done(7));
    }
}
