//! Which of this source's own recovery points stay: a policy for each agent, or the one for all.
//!
//! A point stays, whatever a policy says, until the targets that are to have it have it; for so
//! long and no longer, since a target that is gone for good must not fill the disk.
//!
//! **Absent:** the rules (`offsite_model::retention`), the target's retention, freeing space.

use offsite_model::retention::{Candidate, Hold, decide};
use offsite_model::{PointId, Policy, Span, Timestamp};
use offsite_proto::admin::keeping::{Retention, Verdict};
use offsite_proto::admin::source::Pairing;
use offsite_proto::error::ErrorCode;
use offsite_proto::text::{Text, Time};
use offsite_store::catalog::{Table, Transactions, TypedRows, TypedRowsMut, Value};
use serde::{Deserialize, Serialize};

use crate::agents;
use crate::error::Trouble;
use crate::held;
use crate::memory::{AgentRow, Memory};
use crate::points::{self, Kept};
use crate::protect::Protection;

/// Policies, by agent; under [`ALL`] the one for those that have none.
const RETENTION: Table = Table::new("source_retention");
const ALL: &[u8] = b"all";
/// A target that a point waits for longer than this is told in the log.
const ALERT_AFTER: Span = Span::from_days(7);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RetentionRow {
    policy: String,
}

impl Value for RetentionRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 1 << 10;
}

/// Reads a policy as a person wrote it.
///
/// # Errors
/// `bad_request`, with what is accepted.
pub fn parse(text: &str) -> Result<Policy, Trouble> {
    text.parse::<Policy>().map_err(|error| {
        let hint = "such as \"last=7 daily=14 weekly=8 min-age=3d\", or \"all\"";
        Trouble::operator(ErrorCode::BadRequest, error.to_string(), hint)
    })
}

fn row(memory: &Memory, key: &[u8]) -> Result<Option<Policy>, Trouble> {
    let row = memory.catalog().read(|rows| rows.value::<RetentionRow>(RETENTION, key))?;
    // Written by us, from a policy.
    row.map(|row| parse(&row.policy)).transpose()
}

/// The policy that holds for an agent, or for all that have none, and whether it is inherited.
/// Blocks.
///
/// # Errors
/// The disk's.
pub fn policy(memory: &Memory, agent: Option<&AgentRow>) -> Result<(Policy, bool), Trouble> {
    if let Some(agent) = agent
        && let Some(own) = row(memory, &agent.agent_id().to_bytes())?
    {
        return Ok((own, false));
    }
    Ok((row(memory, ALL)?.unwrap_or_default(), agent.is_some()))
}

/// A policy for people and scripts.
///
/// # Errors
/// The disk's.
pub fn show(memory: &Memory, agent: Option<&AgentRow>) -> Result<Retention, Trouble> {
    let (policy, inherited) = policy(memory, agent)?;
    let agent = agent.map(|agent| agent.name.clone());
    Ok(Retention { agent, policy: policy.to_string(), inherited })
}

/// Sets a policy, or takes an agent's own one away. Blocks.
///
/// # Errors
/// `bad_request`; the disk's.
pub fn set(
    memory: &Memory,
    agent: Option<&AgentRow>,
    policy: Option<&str>,
) -> Result<Retention, Trouble> {
    let policy = policy.map(parse).transpose()?;
    let key = agent.map_or_else(|| ALL.to_vec(), |agent| agent.agent_id().to_bytes().to_vec());
    memory.catalog().write(|rows| match policy {
        Some(policy) => {
            rows.put_value(RETENTION, &key, &RetentionRow { policy: policy.to_string() })
        }
        None => rows.remove(RETENTION, &key).map(drop),
    })?;
    show(memory, agent)
}

/// What decides about points.
pub struct Judge<'a> {
    /// Where the points are.
    pub protection: &'a Protection,
    /// The policies.
    pub memory: &'a Memory,
    /// Targets that are to have the points.
    pub pairings: &'a [Pairing],
    /// How long a point waits for a target.
    pub await_max: Span,
}

impl Judge<'_> {
    /// What a policy says of an agent's points, oldest first; without a policy the one that holds.
    /// Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn preview(&self, agent: &AgentRow, wish: Option<Policy>) -> Result<Vec<Verdict>, Trouble> {
        let Protection { store, tenant, clock, .. } = self.protection;
        let policy = match wish {
            Some(policy) => policy,
            None => policy(self.memory, Some(agent))?.0,
        };
        let now = clock.now();
        let mut kept = points::all(store, *tenant, agent.agent_id())?;
        kept.retain(Kept::is_good);
        let candidates = kept.iter().map(|kept| self.candidate(agent, kept, now));
        let candidates = candidates.collect::<Result<Vec<_>, _>>()?;
        let verdicts = decide(&policy, now, &candidates).into_iter().zip(&kept);
        let shown = verdicts.map(|(verdict, kept)| Verdict {
            point: Text(verdict.point),
            agent: agent.name.clone(),
            created_at: Time(kept.point.taken_at),
            new_bytes: kept.note.new_bytes,
            why: verdict.why.iter().map(ToString::to_string).collect(),
        });
        Ok(shown.collect())
    }

    fn candidate(
        &self,
        agent: &AgentRow,
        kept: &Kept,
        now: Timestamp,
    ) -> Result<Candidate, Trouble> {
        let point = kept.point.point;
        let received_at = kept.point.committed_at;
        let of = (agent.agent_id(), &*agent.name);
        let lacking = held::lacking(self.memory, self.pairings, of, point)?;
        let waits = now.since(received_at);
        if !lacking.is_empty() && waits >= ALERT_AFTER {
            let targets = lacking.join(", ");
            tracing::warn!(%point, agent = agent.name, cause = targets, "a target has not got a \
                recovery point for days");
        }
        let is_awaited = !lacking.is_empty() && waits < self.await_max;
        Ok(Candidate { point, received_at, hold: is_awaited.then_some(Hold::Awaited) })
    }

    /// Deletes what goes, of an agent or of all; what went. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn apply(&self, agent: Option<&AgentRow>) -> Result<Vec<Verdict>, Trouble> {
        let agents = match agent {
            Some(agent) => vec![agent.clone()],
            None => self.memory.agents()?,
        };
        let Protection { store, tenant, clock, .. } = self.protection;
        let mut gone = Vec::new();
        for agent in &agents {
            for verdict in self.preview(agent, None)? {
                if !verdict.why.is_empty() {
                    continue;
                }
                let point: PointId = verdict.point.0;
                points::delete(store, *tenant, point, clock.now())?;
                tracing::info!(%point, agent = agent.name, "recovery point deleted by its policy");
                gone.push(verdict);
            }
        }
        Ok(gone)
    }
}

/// The agent that is meant, if one is.
///
/// # Errors
/// `agent_unknown`; the disk's.
pub fn agent_of(memory: &Memory, name: Option<&str>) -> Result<Option<AgentRow>, Trouble> {
    name.map(|name| agents::find(memory, name)).transpose()
}
