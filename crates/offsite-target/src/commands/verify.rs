//! `verify`: reads everything; ends with the exit code for damage where there is some.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use offsite_daemon::SystemFiles;
use offsite_proto::admin::protection::Verified;
use offsite_proto::admin::target::{OfVerify, VERIFY};
use offsite_store::{Settings, Store, StoreError};
use offsite_target_core::content::refusal;
use offsite_target_core::verify::told;
use offsite_terminal::{Bar, Exit, Failure, size, visible};

use super::offline::{self, Stop};
use crate::cli::Verify;
use crate::context::Context;
use crate::exit::refused;
use crate::place::STORE;
use crate::watch::follow;

/// Runs it.
pub(crate) async fn run(context: &Context, asked: Verify) -> Result<Exit, Failure> {
    let verified: Verified = if asked.offline {
        let (data, bar) = (context.data.clone(), context.out.bar(0));
        bar.say("verifying");
        offline::work(move |stop| alone(&data, &bar, stop)).await?
    } else {
        follow(context, &VERIFY, &OfVerify { agent: asked.agent }).await?
    };
    context.out.result(&verified, text)?;
    Ok(if verified.damaged == 0 { Exit::Done } else { Exit::Damaged })
}

fn alone(data: &Path, bar: &Bar, stop: &Stop) -> Result<Verified, Failure> {
    let _directory = offline::take(data)?;
    let failed = |error: StoreError| -> Failure { refused(refusal(&error)) };
    let (files, settings) = (Arc::new(SystemFiles), Settings::default());
    let store = Store::open_read_only(files, &data.join(STORE), settings).map_err(failed)?;
    let report = store.verify(&mut |read, all| {
        bar.at(read, all);
        if stop.is_wished() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    Ok(told(&report.map_err(failed)?))
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
