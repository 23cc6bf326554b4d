//! Verbs about sources.

use offsite_proto::admin::target::{
    Adopt, AdoptSource, AllowRestore, DenyRestore, ListSources, OfSource, RevokeSource, ShowSource,
    Source,
};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, facts, or_dash, size, table};

use super::approvals;
use crate::cli::Sources;
use crate::context::Context;

/// Runs them.
pub(crate) async fn run(context: &Context, verb: Sources) -> Result<Exit, Failure> {
    match verb {
        Sources::List => list(context).await,
        Sources::Show { id } => {
            let Json(source) = context.ask::<ShowSource>(&OfSource(id), &()).await?;
            context.out.result(&source, text)
        }
        Sources::Revoke { id } => {
            let Json(source) = context.ask::<RevokeSource>(&OfSource(id), &()).await?;
            context.out.result(&source, text)
        }
        Sources::AllowRestore { id } => {
            let Json(source) = context.ask::<AllowRestore>(&OfSource(id), &()).await?;
            context.out.result(&source, text)
        }
        Sources::DenyRestore { id } => {
            let Json(source) = context.ask::<DenyRestore>(&OfSource(id), &()).await?;
            context.out.result(&source, text)
        }
        Sources::Adopt { id, request } => {
            let body = Json(Adopt { request });
            let Json(approval) = context.ask::<AdoptSource>(&OfSource(id), &body).await?;
            context.out.result(&approval, approvals::waiting)
        }
    }
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let Json(sources) = context.ask::<ListSources>(&(), &()).await?;
    context.out.result(&sources, |sources| {
        table(
            ["ID", "NAME", "TENANT", "STATE", "CONNECTION", "LAST SEEN", "AGENTS"],
            sources.iter().map(|source| {
                [
                    source.source_id.to_string(),
                    source.name.clone(),
                    source.tenant.clone(),
                    source.state.clone(),
                    source.connection.clone(),
                    or_dash(source.last_seen.as_ref()),
                    source.agents.len().to_string(),
                ]
            }),
        )
    })
}

fn text(source: &Source) -> String {
    let mut lines = vec![
        ("source", Some(source.source_id.to_string())),
        ("core id", Some(source.core_id.to_string())),
        ("name", Some(source.name.clone())),
        ("tenant", Some(source.tenant.clone())),
        ("role", Some(source.role.clone())),
        ("state", Some(source.state.clone())),
        ("connection", Some(source.connection.clone())),
        ("last seen", source.last_seen.map(|at| at.to_string())),
        ("fingerprint", Some(source.fingerprint.clone())),
        ("certificate until", source.certificate_not_after.map(|at| at.to_string())),
        ("storage", Some(source.storage_id.to_string())),
        (
            "quota",
            Some(source.quota_bytes.map_or_else(|| "none".to_owned(), |bytes| size(bytes.0))),
        ),
        ("may restore", Some(if source.allow_restore { "yes" } else { "no" }.to_owned())),
        ("lock", Some(format!("{} days", source.lock_days))),
    ];
    let agents = source.agents.iter();
    lines.extend(agents.map(|agent| ("agent", Some(format!("{} ({})", agent.name, agent.state)))));
    facts(&lines)
}
