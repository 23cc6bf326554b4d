//! `protect`: a recovery point, now.

use offsite_proto::admin::protection::{OfAgent, PROTECT, Protected};
use offsite_terminal::{Exit, Failure, facts, size};

use crate::context::Context;
use crate::watch::follow;

pub(crate) async fn run(context: &Context, name: String) -> Result<Exit, Failure> {
    let hint = "unless it was being committed already, no recovery point was made";
    let made: Protected = follow(context, &PROTECT, &OfAgent(name), hint).await?;
    context.out.result(&made, |made| {
        let mut lines = vec![
            ("point", Some(made.point.to_string())),
            ("size", Some(size(made.logical_bytes.0))),
            ("read", Some(size(made.read_bytes.0))),
            ("new", Some(size(made.new_bytes.0))),
            ("stored", Some(size(made.stored_bytes.0))),
            ("took", Some(format!("{:.1} s", made.seconds))),
        ];
        lines.extend(made.remarks.iter().map(|remark| ("remark", Some(remark.clone()))));
        facts(&lines)
    })
}
