//! `status`.

use offsite_proto::admin::source::ReadStatus;
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, facts, size};
use offsite_upkeep::words;

use super::pair::text;
use crate::context::Context;

pub(crate) async fn run(context: &Context) -> Result<Exit, Failure> {
    let Json(status) = context.ask::<ReadStatus>(&(), &()).await?;
    context.out.result(&status, |status| {
        let mut parts = vec![facts(&[
            ("source", Some(status.name.clone())),
            ("id", Some(status.source_id.to_string())),
            ("version", Some(status.version.clone())),
            ("state", Some(status.state.clone())),
            ("uptime", Some(format!("{} seconds", status.uptime_seconds))),
            ("agents", Some(status.agents.to_string())),
        ])];
        parts.extend(status.pairings.iter().map(text));
        parts.extend(status.paused.iter().map(|job| {
            let because = job.message.clone();
            facts(&[("paused", Some(format!("agent {}", job.agent))), ("", because)])
        }));
        let upkeep = words::state(&status.upkeep, size).into_iter();
        let upkeep: Vec<_> = upkeep.map(|(what, how)| (what, Some(how))).collect();
        parts.push(facts(&upkeep));
        parts.join("\n\n")
    })
}
