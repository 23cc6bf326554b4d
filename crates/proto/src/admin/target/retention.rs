//! Bodies about retention: policies, soft deletion, the clock, and what a policy would do.

use offsite_model::{AgentId, PointId, Policy};
use serde::{Deserialize, Serialize};

use crate::endpoint::{Params, Values};
use crate::error::Refusal;
use crate::text::{Text, Time};

/// Whose retention is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfRetention {
    /// The agent: its id, `SOURCE/NAME`, or its name where only one has it; absent means all.
    pub agent: Option<String>,
}

impl Params for OfRetention {
    fn read(values: &Values) -> Result<Self, Refusal> {
        Ok(Self { agent: values.parse_optional("agent")? })
    }

    fn write(&self, values: &mut Values) {
        if let Some(agent) = &self.agent {
            values.insert("agent", agent.clone());
        }
    }
}

/// What is previewed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfPreview {
    /// The agent; absent means all.
    pub agent: Option<String>,
    /// This policy instead of the one that is set.
    pub policy: Option<Text<Policy>>,
}

impl Params for OfPreview {
    fn read(values: &Values) -> Result<Self, Refusal> {
        let policy = values.parse_optional::<Policy>("policy")?.map(Text);
        Ok(Self { agent: values.parse_optional("agent")?, policy })
    }

    fn write(&self, values: &mut Values) {
        if let Some(agent) = &self.agent {
            values.insert("agent", agent.clone());
        }
        if let Some(policy) = &self.policy {
            values.insert("policy", policy.to_string());
        }
    }
}

/// Retention as it is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// The policy of agents that have none of their own.
    pub default_policy: Text<Policy>,
    /// The policy of each agent that was asked for.
    pub agents: Vec<PolicyShown>,
    /// How long what is deleted can be undeleted.
    pub soft_delete_days: u32,
    /// What the retention clock shows.
    pub clock: Time,
    /// Seconds that passed while the target was down and were not credited to it.
    pub owed_seconds: u64,
    /// Nothing is removed before this, since the system's clock was set back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Time>,
}

/// The policy of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyShown {
    /// The agent.
    pub agent_id: Text<AgentId>,
    /// Its name, after its source's.
    pub agent: String,
    /// The policy that holds for it.
    pub policy: Text<Policy>,
    /// Whether it is its own.
    pub own: bool,
    /// The least time its points are kept from deletion.
    pub lock_days: u32,
}

/// Sets what is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetRetention {
    /// The policy of the agent, or of all that have none of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Text<Policy>>,
    /// How long what is deleted can be undeleted, for the whole target; it can only grow here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_delete_days: Option<u32>,
}

/// Shortens soft deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShortenSoftDelete {
    /// How long what is deleted can be undeleted from then on.
    pub soft_delete_days: u32,
}

/// Shortens a governance lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShortenLock {
    /// The least time a point is kept from then on.
    pub governance_days: u32,
}

/// Credits time to the retention clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditClock {
    /// How much of what is owed.
    pub seconds: u64,
}

/// What a policy would do to an agent's points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previewed {
    /// The agent.
    pub agent_id: Text<AgentId>,
    /// Its name, after its source's.
    pub agent: String,
    /// The policy.
    pub policy: Text<Policy>,
    /// Its points, newest first by when they were received.
    pub points: Vec<PreviewedPoint>,
}

/// What a policy would do to a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewedPoint {
    /// The point.
    pub id: Text<PointId>,
    /// When it was received: what counts.
    pub received_at: Time,
    /// When it was made, by its source's clock.
    pub created_at: Time,
    /// Whether the two are more than a day apart.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub time_odd: bool,
    /// Whether it stays.
    pub keep: bool,
    /// Every reason for that; empty where it goes.
    pub why: Vec<String>,
    /// When its lock ends, where that is a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Time>,
}

/// An agent whose points were marked as deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentDeleted {
    /// The agent.
    pub agent_id: Text<AgentId>,
    /// How many points were marked now.
    pub points: u64,
    /// How long they can be undeleted.
    pub soft_delete_days: u32,
}
