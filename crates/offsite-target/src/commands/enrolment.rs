//! Verbs about enrolment codes.

use offsite_proto::admin::target::{AddEnrolment, ListEnrolment, MakeEnrolment};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, facts, table};

use crate::cli::Enrolment;
use crate::context::Context;

/// Runs them.
pub(crate) async fn run(context: &Context, verb: Enrolment) -> Result<Exit, Failure> {
    match verb {
        Enrolment::Add { tenant, days, note } => {
            let body = Json(AddEnrolment { tenant, days, note });
            let Json(added) = context.ask::<MakeEnrolment>(&(), &body).await?;
            context.out.note("the code is shown this once; it is good for one source");
            context.out.result(&added, |added| {
                facts(&[
                    ("code", Some(added.code.clone())),
                    ("tenant", Some(added.tenant.clone())),
                    ("until", Some(added.expires_at.to_string())),
                ])
            })
        }
        Enrolment::List => list(context).await,
    }
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let Json(codes) = context.ask::<ListEnrolment>(&(), &()).await?;
    context.out.result(&codes, |codes| {
        table(
            ["TENANT", "NOTE", "STATE", "MADE AT", "UNTIL"],
            codes.iter().map(|code| {
                [
                    code.tenant.clone(),
                    code.note.clone(),
                    code.state.clone(),
                    code.created_at.to_string(),
                    code.expires_at.to_string(),
                ]
            }),
        )
    })
}
