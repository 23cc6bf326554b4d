//! `status`, `fingerprint`, `doctor`.

use offsite_proto::admin::target::{ReadFingerprint, ReadStatus, RunDoctor};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, facts, size, table};
use offsite_upkeep::words;

use crate::context::Context;

/// The daemon, at a glance.
pub(crate) async fn status(context: &Context) -> Result<Exit, Failure> {
    let Json(status) = context.ask::<ReadStatus>(&(), &()).await?;
    context.out.result(&status, |status| {
        let upkeep = status.upkeep.iter().flat_map(|upkeep| words::state(upkeep, size));
        let mut lines = vec![
            ("target", Some(format!("{} ({})", status.name, status.target_id))),
            ("state", Some(status.state.clone())),
            ("version", Some(status.version.clone())),
            ("up", Some(format!("{} s", status.uptime_seconds))),
            ("pairing", Some(if status.pairing_open { "open" } else { "closed" }.to_owned())),
            ("requests waiting", Some(status.requests_waiting.to_string())),
            ("sources", Some(status.sources.to_string())),
        ];
        lines.extend(upkeep.map(|(what, how)| (what, Some(how))));
        lines.extend(status.alarms.iter().map(|alarm| {
            let facts = alarm.facts.iter().map(|fact| format!("{} {}", fact.name, fact.value));
            let facts = facts.collect::<Vec<_>>().join(", ");
            ("alarm", Some(format!("{} {}: {facts}", alarm.at, alarm.what)))
        }));
        facts(&lines)
    })
}

/// What sources' operators compare.
pub(crate) async fn fingerprint(context: &Context) -> Result<Exit, Failure> {
    let Json(shown) = context.ask::<ReadFingerprint>(&(), &()).await?;
    context.out.result(&shown, |shown| shown.fingerprint.clone())
}

/// Everything that commonly goes wrong.
pub(crate) async fn doctor(context: &Context) -> Result<Exit, Failure> {
    let Json(checks) = context.ask::<RunDoctor>(&(), &()).await?;
    context.out.result(&checks, |checks| {
        table(
            ["CHECK", "STATE", "FINDING"],
            checks.iter().map(|check| {
                let state = if check.ok { "ok" } else { "NOT WELL" };
                [check.name.clone(), state.to_owned(), check.finding.clone()]
            }),
        )
    })?;
    Ok(if checks.iter().all(|check| check.ok) { Exit::Done } else { Exit::Failed })
}
