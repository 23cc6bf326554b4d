//! Verbs about what waits for a second person.

use offsite_proto::admin::target::{
    Approval, Approve, ApproveApproval, ListApprovals, OfApproval, RejectApproval,
};
use offsite_proto::error::ErrorCode;
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, facts, table};

use crate::cli::Approvals;
use crate::context::Context;

/// How a second person says who he is.
const SECOND_PERSON: &str = "the second person logs in with: offsite-target login --user NAME \
    --password-file FILE, and gives the token with --token-file";

/// Runs them.
pub(crate) async fn run(context: &Context, verb: Approvals) -> Result<Exit, Failure> {
    match verb {
        Approvals::List => list(context).await,
        Approvals::Show { id } => context.out.result(&find(context, &id).await?, text),
        Approvals::Approve { id, digest } => {
            // Between this look and the answer nothing can change: the digest binds both.
            let digest = match digest {
                Some(digest) => digest,
                None => find(context, &id).await?.digest,
            };
            let (named, body) = (OfApproval(id), Json(Approve { digest }));
            let answered = context.ask::<ApproveApproval>(&named, &body).await;
            let Json(done) = answered.map_err(|failure| say_who(context, failure))?;
            context.out.result(&done, text)
        }
        Approvals::Reject { id } => {
            let answered = context.ask::<RejectApproval>(&OfApproval(id), &()).await;
            let Json(ended) = answered.map_err(|failure| say_who(context, failure))?;
            context.out.result(&ended, text)
        }
    }
}

async fn find(context: &Context, id: &str) -> Result<Approval, Failure> {
    let Json(all) = context.ask::<ListApprovals>(&(), &()).await?;
    all.into_iter().find(|approval| approval.approval_id == id).ok_or_else(|| {
        Failure::new(
            Exit::Unknown,
            ErrorCode::RequestUnknown.as_str(),
            format!("there is no approval {id}"),
            "list what there is with: offsite-target approvals list",
        )
    })
}

/// The administrator of this machine is one person, whoever he is; a second one says who he is.
fn say_who(context: &Context, failure: Failure) -> Failure {
    if failure.code == ErrorCode::Forbidden.as_str() && context.token.is_none() {
        failure.hinting(SECOND_PERSON)
    } else {
        failure
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
    let (until, id) = (approval.expires_at, &approval.approval_id);
    format!(
        "{}\n\nNothing is done yet. Another administrator or an officer must agree before {until}, \
         with a token of his own:\noffsite-target approvals approve {id} --token-file FILE",
        text(approval),
    )
}

fn text(approval: &Approval) -> String {
    let mut lines = vec![
        ("approval", Some(approval.approval_id.clone())),
        ("what", Some(approval.act.clone())),
        ("state", Some(approval.state.clone())),
        ("begun by", Some(approval.initiator.clone())),
        ("begun at", Some(approval.asked_at.to_string())),
        ("lapses at", Some(approval.expires_at.to_string())),
        ("digest", Some(approval.digest.clone())),
    ];
    let what = approval.what.iter();
    lines.extend(what.map(|fact| ("fact", Some(format!("{}: {}", fact.name, fact.value)))));
    facts(&lines)
}
