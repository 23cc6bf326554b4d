//! Verbs about agents.

use offsite_proto::admin::target::{
    Agent, AgentDeleted, DeleteAgent, ListAgents, OfAgent, ShowAgent,
};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, facts, or_dash, size, table};

use crate::cli::Agents;
use crate::context::Context;

/// Runs them.
pub(crate) async fn run(context: &Context, verb: Agents) -> Result<Exit, Failure> {
    match verb {
        Agents::List => list(context).await,
        Agents::Show { agent } => {
            let Json(agent) = context.ask::<ShowAgent>(&OfAgent(agent), &()).await?;
            context.out.result(&agent, text)
        }
        Agents::Delete { agent } => {
            let Json(deleted) = context.ask::<DeleteAgent>(&OfAgent(agent), &()).await?;
            context.out.result(&deleted, |deleted| {
                let AgentDeleted { points, soft_delete_days, .. } = deleted;
                format!(
                    "{points} recovery points deleted; each can be undeleted for \
                     {soft_delete_days} days"
                )
            })
        }
    }
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let Json(agents) = context.ask::<ListAgents>(&(), &()).await?;
    context.out.result(&agents, |agents| {
        table(
            ["ID", "SOURCE", "NAME", "TENANT", "STATE", "POINTS", "SIZE", "STORED", "LATEST POINT"],
            agents.iter().map(|agent| {
                [
                    agent.agent_id.to_string(),
                    agent.source_name.clone(),
                    agent.name.clone(),
                    agent.tenant.clone(),
                    agent.state.clone(),
                    agent.recovery_points.to_string(),
                    size(agent.logical_bytes.0),
                    size(agent.stored_bytes.0),
                    or_dash(agent.latest_point_at.as_ref()),
                ]
            }),
        )
    })
}

fn text(agent: &Agent) -> String {
    facts(&[
        ("agent", Some(agent.agent_id.to_string())),
        ("name", Some(agent.name.clone())),
        ("source", Some(format!("{} ({})", agent.source_name, agent.source_id))),
        ("tenant", Some(agent.tenant.clone())),
        ("state", Some(agent.state.clone())),
        ("points", Some(agent.recovery_points.to_string())),
        ("size", Some(size(agent.logical_bytes.0))),
        ("stored", Some(size(agent.stored_bytes.0))),
        ("latest point", agent.latest_point_at.map(|at| at.to_string())),
    ])
}
