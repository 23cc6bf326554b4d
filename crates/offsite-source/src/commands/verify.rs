//! `verify`: reads everything; ends with the exit code for damage where there is some.

use offsite_proto::admin::protection::{VERIFY, Verified};
use offsite_terminal::{Exit, Failure, size, visible};

use crate::context::Context;
use crate::watch::follow;

pub(crate) async fn run(context: &Context) -> Result<Exit, Failure> {
    let verified: Verified = follow(context, &VERIFY, &(), "nothing was changed").await?;
    context.out.result(&verified, text)?;
    Ok(if verified.damaged == 0 { Exit::Done } else { Exit::Damaged })
}

fn text(verified: &Verified) -> String {
    let Verified { records, points, damaged, .. } = verified;
    let read = size(verified.bytes.0);
    let mut lines = vec![format!("{records} records of {points} recovery points read, {read}")];
    match damaged {
        0 => lines.push("everything is as it was written".to_owned()),
        _ => lines.push(format!("{damaged} damaged parts")),
    }
    for part in &verified.damage {
        let hurt = match part.points.len() {
            0 => "hurts no recovery point".to_owned(),
            n => format!("hurts {n} recovery points, such as {}", part.points[0]),
        };
        lines.push(format!("  {}: {hurt}", visible(&part.what)));
    }
    for point in &verified.points_affected {
        lines.push(format!("cannot be restored whole: {point}"));
    }
    lines.join("\n")
}
