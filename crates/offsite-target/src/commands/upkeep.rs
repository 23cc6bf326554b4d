//! `gc` and `scrub`.

use offsite_proto::admin::upkeep::{Collected, OfGc, Scrubbed, TARGET_GC, TARGET_SCRUB};
use offsite_terminal::{Exit, Failure, size};
use offsite_upkeep::words;

use crate::context::Context;
use crate::watch::follow;

/// Takes back the space of what was removed for good.
pub(crate) async fn gc(context: &Context, all: bool) -> Result<Exit, Failure> {
    let done: Collected = follow(context, &TARGET_GC, &OfGc { all }).await?;
    context.out.result(&done, |done| words::collected(done, size))?;
    Ok(if done.doubts.is_empty() { Exit::Done } else { Exit::Damaged })
}

/// Reads the whole store, or the rest of it.
pub(crate) async fn scrub(context: &Context) -> Result<Exit, Failure> {
    let done: Scrubbed = follow(context, &TARGET_SCRUB, &()).await?;
    context.out.result(&done, |done| words::scrubbed(done, size))?;
    Ok(if done.damaged == 0 { Exit::Done } else { Exit::Damaged })
}
