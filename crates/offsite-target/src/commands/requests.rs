//! Verbs about requests: the list, one of them, the decision.

use offsite_proto::admin::target::{
    self as calls, AcceptRequest, Decided, ListRequests, OfRequest, RejectRequest, Request,
    RequestsShown, ShowRequest,
};
use offsite_proto::json::Json;
use offsite_proto::pairing::Resolution;
use offsite_proto::text::Big;
use offsite_terminal::{Exit, Failure, facts, size, table};

use crate::cli::{Accept, Requests};
use crate::context::Context;

/// Runs them.
pub(crate) async fn run(context: &Context, verb: Requests) -> Result<Exit, Failure> {
    match verb {
        Requests::List { all } => list(context, all).await,
        Requests::Show { id } => context.out.result(&find(context, &id).await?, text),
        Requests::Accept(accept) => self::accept(context, accept).await,
        Requests::Reject { id, message } => reject(context, id, message).await,
    }
}

async fn list(context: &Context, all: bool) -> Result<Exit, Failure> {
    let Json(requests) = context.ask::<ListRequests>(&RequestsShown { all }, &()).await?;
    context.out.result(&requests, |requests| {
        table(
            ["NO", "SOURCE", "ADDRESS", "AGENTS", "CHECK CODE", "STATUS", "ASKED AT", "WARNINGS"],
            requests.iter().map(|request| {
                [
                    request.number.to_string(),
                    request.source_name.clone(),
                    request.address.clone(),
                    request.agents.len().to_string(),
                    request.check_code.clone(),
                    status(request).to_owned(),
                    request.created_at.to_string(),
                    request.warnings.len().to_string(),
                ]
            }),
        )
    })
}

const fn status(request: &Request) -> &'static str {
    match request.status {
        Resolution::Pending if request.locked => "pending, locked",
        Resolution::Pending => "pending",
        Resolution::Accepted => "accepted",
        Resolution::Rejected => "rejected",
        Resolution::Expired => "expired",
    }
}

async fn find(context: &Context, id: &str) -> Result<Request, Failure> {
    let Json(request) = context.ask::<ShowRequest>(&OfRequest(id.to_owned()), &()).await?;
    Ok(request)
}

fn text(request: &Request) -> String {
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mut lines = vec![
        ("request", Some(format!("{} ({})", request.number, request.request_id))),
        ("status", Some(status(request).to_owned())),
        ("source", Some(request.source_name.clone())),
        ("source id", Some(request.source_id.to_string())),
        ("version", Some(request.version.clone())),
        ("address", Some(request.address.clone())),
        ("check code", Some(request.check_code.clone())),
        ("tenant", request.tenant.clone()),
        ("customer", given(&request.customer_id)),
        ("e-mail", given(&request.email)),
        ("comment", given(&request.comment)),
        ("asked at", Some(request.created_at.to_string())),
        ("lapses at", Some(request.expires_at.to_string())),
    ];
    lines.extend(
        request.agents.iter().map(|agent| {
            ("agent", Some(format!("{} ({})", agent.name, size(agent.logical_bytes.0))))
        }),
    );
    lines.extend(request.warnings.iter().map(|warning| ("warning", Some(warning.clone()))));
    facts(&lines)
}

async fn accept(context: &Context, told: Accept) -> Result<Exit, Failure> {
    let request = find(context, &told.id).await?;
    let code = match (told.code, told.without_code) {
        (Some(code), _) => Some(code),
        (None, true) => None,
        (None, false) => Some(ask_code(context, &request)?),
    };
    let body = calls::Accept {
        // What was just read; if it changes before the daemon decides, the answer is
        // `request_changed`.
        digest: request.digest.clone(),
        without_code: code.is_none(),
        check_code: code,
        tenant: told.tenant,
        storage_id: told.storage,
        quota_bytes: told.quota.map(|quota| Big(quota.bytes())),
        allow_restore: told.allow_restore.then_some(true),
        lock_days: None,
        agents: (!told.agents.is_empty()).then_some(told.agents),
        message: told.message,
    };
    let name = OfRequest(request.request_id.to_string());
    let Json(decided) = context.ask::<AcceptRequest>(&name, &Json(body)).await?;
    context.out.result(&decided, |decided| decided_text("accepted", decided))
}

/// Asks a person for the code: what is shown here must be compared with what the other operator
/// reads out, so it is not shown.
fn ask_code(context: &Context, request: &Request) -> Result<String, Failure> {
    if !context.out.is_conversation() {
        return Err(Failure::usage(
            "give the check code with --code, or go without it with --without-code",
            "the source's operator reads it with: offsite-source pair code",
        ));
    }
    let hidden =
        Request { check_code: "compare it with the source's operator".into(), ..request.clone() };
    context.out.note(&text(&hidden));
    let typed = context
        .out
        .ask("\nCheck code, as the source's operator reads it out: ")
        .map_err(|error| Failure::failed(format!("cannot ask for the check code: {error}")))?;
    match typed.trim() {
        "" => Err(Failure::usage("no check code was entered", "nothing was decided")),
        code => Ok(code.to_owned()),
    }
}

async fn reject(context: &Context, id: String, message: String) -> Result<Exit, Failure> {
    let body = Json(calls::Reject { message });
    let Json(decided) = context.ask::<RejectRequest>(&OfRequest(id), &body).await?;
    context.out.result(&decided, |decided| decided_text("rejected", decided))
}

fn decided_text(word: &str, decided: &Decided) -> String {
    facts(&[
        (word, Some(decided.request_id.to_string())),
        ("system", decided.sid.map(|sid| sid.to_string())),
        ("role", decided.role.clone()),
        ("tenant", decided.tenant.clone()),
    ])
}
