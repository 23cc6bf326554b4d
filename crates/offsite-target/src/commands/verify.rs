//! `verify`: reads everything; ends with the exit code for damage where there is some.

use std::path::Path;
use std::sync::Arc;

use offsite_daemon::{DataDir, SystemFiles};
use offsite_model::FileSystem;
use offsite_proto::admin::protection::Verified;
use offsite_proto::admin::target::{OfVerify, VERIFY};
use offsite_target_core::verify::verify_offline;
use offsite_terminal::{Bar, Exit, Failure, size, visible};

use crate::context::Context;
use crate::exit::refused;
use crate::place::{PROGRAM, STORE};
use crate::watch::follow;

/// Runs it.
pub(crate) async fn run(
    context: &Context,
    agent: Option<String>,
    offline: bool,
) -> Result<Exit, Failure> {
    let verified: Verified = if offline {
        let (data, bar) = (context.data.clone(), context.out.bar(0));
        bar.say("verifying");
        let read = tokio::task::spawn_blocking(move || alone(&data, &bar)).await;
        read.map_err(|error| Failure::failed(format!("verify failed: {error}")))??
    } else {
        follow(context, &VERIFY, &OfVerify { agent }).await?
    };
    context.out.result(&verified, text)?;
    Ok(if verified.damaged == 0 { Exit::Done } else { Exit::Damaged })
}

fn alone(data: &Path, bar: &Bar) -> Result<Verified, Failure> {
    let files: Arc<dyn FileSystem> = Arc::new(SystemFiles);
    // Taken as the daemon takes it: one of the two has the directory.
    let _alone = DataDir::open(Arc::clone(&files), data, PROGRAM)
        .map_err(|error| Failure::new(Exit::Failed, "data_directory", error.to_string(), ""))?;
    verify_offline(files, &data.join(STORE), &mut |read, all| bar.at(read, all)).map_err(refused)
}

fn text(verified: &Verified) -> String {
    let Verified { records, points, damaged, .. } = verified;
    let read = size(verified.bytes.0);
    let mut lines = vec![format!("{records} records of {points} recovery points read, {read}")];
    match damaged {
        0 => lines.push("everything is as it was written".to_owned()),
        _ => {
            lines.push(format!("{damaged} damaged parts; their sources heal what they still have"))
        }
    }
    for part in &verified.damage {
        let hurt = match part.points.first() {
            None => "hurts no recovery point".to_owned(),
            Some(first) => format!("hurts {} recovery points, such as {first}", part.points.len()),
        };
        lines.push(format!("  {}: {hurt}", visible(&part.what)));
    }
    for point in &verified.points_affected {
        lines.push(format!("cannot be restored whole: {point}"));
    }
    lines.join("\n")
}
