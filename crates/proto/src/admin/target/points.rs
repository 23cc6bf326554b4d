//! Recovery points at the target, and the long work that reads them.
//!
//! A restore answers with [`crate::admin::content`], verify with a stream of
//! [`crate::admin::protection::Event`]s: both as on the source.

use offsite_model::{AgentId, PointId};
use serde::{Deserialize, Serialize};

use crate::admin::protection::PointVolume;
use crate::endpoint::{Params, Values};
use crate::error::Refusal;
use crate::text::{Big, Text, Time};

/// A recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Its id.
    pub id: Text<PointId>,
    /// Name of the agent.
    pub agent: String,
    /// The agent.
    pub agent_id: Text<AgentId>,
    /// When it was made, by the source's clock.
    pub created_at: Time,
    /// When its last image was committed here.
    pub received_at: Time,
    /// `ok`, `orphaned` while what it builds on is missing, or `deleted` while it can be undeleted.
    pub state: String,
    /// When it was marked as deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Time>,
    /// When it will be removed for good, where it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge_at: Option<Time>,
    /// When its lock ends, where it is locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Time>,
    /// Whether `created_at` is more than a day from `received_at`: a source whose clock is wrong,
    /// that lies, or that was away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub time_odd: bool,
    /// What an orphaned point waits for, by volume, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
    /// Bytes of all volumes.
    pub logical_bytes: Big,
    /// Bytes of the records that changed with it.
    pub new_bytes: Big,
    /// Its volumes.
    pub volumes: Vec<PointVolume>,
}

/// The path of a recovery point.
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

/// A volume of a recovery point, for reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfContent {
    /// The agent: its id, `SOURCE/NAME`, or its name where only one has it.
    pub agent: String,
    /// The volume's label or id.
    pub volume: String,
    /// The point: id or `latest`; absent means the latest.
    pub point: Option<String>,
}

impl Params for OfContent {
    fn read(values: &Values) -> Result<Self, Refusal> {
        let point = values.parse_optional("point")?;
        Ok(Self { agent: values.parse("agent")?, volume: values.parse("volume")?, point })
    }

    fn write(&self, values: &mut Values) {
        values.insert("agent", self.agent.clone());
        values.insert("volume", self.volume.clone());
        if let Some(point) = &self.point {
            values.insert("point", point.clone());
        }
    }
}

/// Whose points a verify is about; everything is read in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfVerify {
    /// The agent; absent means all.
    pub agent: Option<String>,
}

impl Params for OfVerify {
    fn read(values: &Values) -> Result<Self, Refusal> {
        Ok(Self { agent: values.parse_optional("agent")? })
    }

    fn write(&self, values: &mut Values) {
        if let Some(agent) = &self.agent {
            values.insert("agent", agent.clone());
        }
    }
}
