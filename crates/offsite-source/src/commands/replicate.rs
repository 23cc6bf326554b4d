//! `replicate`: an agent's recovery points go to its target, now.

use offsite_proto::admin::replication::{REPLICATE, Replicate, Replicated};
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
    let done: Replicated = follow(context, &REPLICATE, &asked, hint).await?;
    context.out.result(&done, |done| {
        if !wait {
            return "begun; follow it with --wait next time, or see the log".to_owned();
        }
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
