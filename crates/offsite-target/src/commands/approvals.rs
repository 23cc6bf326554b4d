//! Verbs about what waits for a second person.

use offsite_proto::admin::target::{
    Approval, Approve, ApproveApproval, ListApprovals, OfApproval, RejectApproval,
};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, facts, table};

use crate::cli::Approvals;
use crate::context::Context;

/// Runs them.
pub(crate) async fn run(context: &Context, verb: Approvals) -> Result<Exit, Failure> {
    match verb {
        Approvals::List => list(context).await,
        Approvals::Approve { id } => {
            let Json(all) = context.ask::<ListApprovals>(&(), &()).await?;
            let found = all.into_iter().find(|approval| approval.approval_id == id);
            let found = found.ok_or_else(|| {
                Failure::new(
                    Exit::Unknown,
                    "request_unknown",
                    format!("there is no approval {id}"),
                    "",
                )
            })?;
            let body = Json(Approve { digest: found.digest });
            let Json(done) = context.ask::<ApproveApproval>(&OfApproval(id), &body).await?;
            context.out.result(&done, text)
        }
        Approvals::Reject { id } => {
            let Json(ended) = context.ask::<RejectApproval>(&OfApproval(id), &()).await?;
            context.out.result(&ended, text)
        }
    }
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let Json(approvals) = context.ask::<ListApprovals>(&(), &()).await?;
    context.out.result(&approvals, |approvals| {
        table(
            ["ID", "WHAT", "BEGUN BY", "STATE", "UNTIL"],
            approvals.iter().map(|approval| {
                [
                    approval.approval_id.clone(),
                    approval.act.clone(),
                    approval.initiator.clone(),
                    approval.state.clone(),
                    approval.expires_at.to_string(),
                ]
            }),
        )
    })
}

/// What was begun, and what is still needed.
pub(crate) fn waiting(approval: &Approval) -> String {
    format!(
        "{}\n\nA second person must agree before {}: another administrator or an officer, with a \
            token of his own.",
        text(approval),
        approval.expires_at
    )
}

fn text(approval: &Approval) -> String {
    let mut lines = vec![
        ("approval", Some(approval.approval_id.clone())),
        ("what", Some(approval.act.clone())),
        ("state", Some(approval.state.clone())),
        ("begun by", Some(approval.initiator.clone())),
        ("digest", Some(approval.digest.clone())),
    ];
    let what = approval.what.iter();
    lines.extend(what.map(|fact| ("fact", Some(format!("{}: {}", fact.name, fact.value)))));
    facts(&lines)
}
