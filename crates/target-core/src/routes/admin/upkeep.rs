//! Space and damage: `gc` and `scrub`.

use std::sync::Arc;

use offsite_proto::admin::upkeep::OfGc;
use offsite_proto::endpoint::Params as _;
use offsite_proto::error::Refusal;
use offsite_transport::{RawCall, RawReply};

use super::context::{Operators, check_unbounded};
use super::stream::told_as_it_goes;
use crate::principal::Principal;

/// Takes space back.
pub(super) async fn gc(
    state: Arc<Operators>,
    call: RawCall<Principal>,
) -> Result<RawReply, Refusal> {
    let OfGc { all } = OfGc::read(&call.values)?;
    check_unbounded(&call.principal, "gc works on the whole store")?;
    let target = Arc::clone(&state.target);
    Ok(told_as_it_goes(Arc::clone(&target), &call, move |shown| {
        target.collect(all, &|phase, done, total| shown.show(phase, done, total))
    }))
}

/// Reads everything, or the rest of it.
pub(super) async fn scrub(
    state: Arc<Operators>,
    call: RawCall<Principal>,
) -> Result<RawReply, Refusal> {
    check_unbounded(&call.principal, "scrub reads the whole store")?;
    let target = Arc::clone(&state.target);
    Ok(told_as_it_goes(Arc::clone(&target), &call, move |shown| {
        // Somebody waits for it.
        target.scrub(Some(100), &|phase, done, total| shown.show(phase, done, total))
    }))
}
