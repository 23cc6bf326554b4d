//! Verbs about agents, and how an agent is shown.

pub(crate) mod add;
pub(crate) mod hooks;
pub(crate) mod list;
pub(crate) mod remove;
pub(crate) mod show;

use offsite_proto::admin::source::Agent;
use offsite_terminal::{facts, size};

/// An agent for people.
fn text(agent: &Agent) -> String {
    let mut lines = vec![
        ("agent", Some(agent.name.clone())),
        ("id", Some(agent.agent_id.to_string())),
        ("size", Some(size(agent.logical_bytes.0))),
        ("added", Some(agent.created_at.to_string())),
    ];
    lines.extend(agent.volumes.iter().map(|volume| {
        let problem = volume.problem.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        let (label, path, bytes) = (&volume.label, &volume.path, size(volume.bytes.0));
        ("volume", Some(format!("{label}={path}, {bytes}{problem}")))
    }));
    facts(&lines)
}
