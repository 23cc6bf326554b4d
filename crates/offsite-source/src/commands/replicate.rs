//! `replicate`: an agent's recovery points go to its target, now.

use offsite_proto::admin::replication::{Begun, REPLICATE, Replicate, Replicated};
use offsite_terminal::{Exit, Failure, facts, size};

use crate::context::Context;
use crate::watch::follow;

pub(crate) async fn run(
    context: &Context,
    agent: String,
    target: Option<String>,
    wait: bool,
) -> Result<Exit, Failure> {
    let hint = "what arrived stays; start it again to go on";
    let asked = Replicate { agent, target, wait };
    if !wait {
        let begun: Begun = follow(context, &REPLICATE, &asked, hint).await?;
        return context.out.result(&begun, |begun| {
            format!("begun: job {}; the daemon's log says how it ends", begun.job_id)
        });
    }
    let done: Replicated = follow(context, &REPLICATE, &asked, hint).await?;
    context.out.result(&done, |done| {
        facts(&[
            ("points", Some(done.points.to_string())),
            ("offered", Some(format!("{} records", done.records_offered.0))),
            ("sent", Some(format!("{} records", done.records_sent.0))),
            ("out", Some(size(done.wire_bytes_out.0))),
            ("in", Some(size(done.wire_bytes_in.0))),
            ("took", Some(format!("{:.1} s", done.seconds))),
        ])
    })
}
