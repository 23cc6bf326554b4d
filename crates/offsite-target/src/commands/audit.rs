//! Verbs about the audit log.

use offsite_proto::admin::target::{AuditShown, ListAudit, VerifyAudit};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, table};

use crate::cli::Audit;
use crate::context::Context;

/// Runs them.
pub(crate) async fn run(context: &Context, verb: Audit) -> Result<Exit, Failure> {
    match verb {
        Audit::Verify => verify(context).await,
        Audit::List { limit } => list(context, limit).await,
    }
}

async fn verify(context: &Context) -> Result<Exit, Failure> {
    let Json(found) = context.ask::<VerifyAudit>(&(), &()).await?;
    context.out.result(&found, |found| match found.first_bad {
        None => format!("{} entries, all good", found.entries),
        Some(number) => {
            format!("entry {number} was changed or removed; {} were looked at", found.entries)
        }
    })?;
    Ok(if found.first_bad.is_none() { Exit::Done } else { Exit::Damaged })
}

async fn list(context: &Context, limit: u32) -> Result<Exit, Failure> {
    let Json(entries) = context.ask::<ListAudit>(&AuditShown { limit: Some(limit) }, &()).await?;
    context.out.result(&entries, |entries| {
        table(
            ["NO", "AT", "WHO", "WHAT", "FACTS"],
            entries.iter().map(|entry| {
                let facts: Vec<_> = entry
                    .facts
                    .iter()
                    .map(|fact| format!("{}={}", fact.name, fact.value))
                    .collect();
                [
                    entry.number.to_string(),
                    entry.at.to_string(),
                    entry.principal.clone(),
                    entry.event.clone(),
                    facts.join(" "),
                ]
            }),
        )
    })
}
