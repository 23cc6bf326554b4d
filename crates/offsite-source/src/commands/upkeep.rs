//! `gc` and `scrub`.

use offsite_proto::admin::upkeep::{Collected, OfGc, SOURCE_GC, SOURCE_SCRUB, Scrubbed};
use offsite_terminal::{Exit, Failure, size};
use offsite_upkeep::words;

use crate::context::Context;
use crate::watch::follow;

/// Takes back the space of deleted recovery points.
pub(crate) async fn gc(context: &Context, all: bool) -> Result<Exit, Failure> {
    let hint = "what was not freed is freed by the next gc";
    let done: Collected = follow(context, &SOURCE_GC, &OfGc { all }, hint).await?;
    context.out.result(&done, |done| words::collected(done, size))?;
    Ok(if done.doubts.is_empty() { Exit::Done } else { Exit::Damaged })
}

/// Reads the whole store, or the rest of it.
pub(crate) async fn scrub(context: &Context) -> Result<Exit, Failure> {
    let hint = "the next scrub goes on where this one stopped";
    let done: Scrubbed = follow(context, &SOURCE_SCRUB, &(), hint).await?;
    context.out.result(&done, |done| words::scrubbed(done, size))?;
    Ok(if done.damaged == 0 { Exit::Done } else { Exit::Damaged })
}
