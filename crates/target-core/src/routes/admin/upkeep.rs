//! Space and damage: `gc` and `scrub`.

use std::sync::Arc;

use offsite_proto::admin::upkeep::OfGc;
use offsite_proto::endpoint::Params as _;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_transport::{RawCall, RawReply};

use super::context::Operators;
use super::stream::told_as_it_goes;
use crate::principal::{Principal, TenantScope};

/// Takes space back.
pub(super) async fn gc(
    state: Arc<Operators>,
    call: RawCall<Principal>,
) -> Result<RawReply, Refusal> {
    let OfGc { all } = OfGc::read(&call.values)?;
    check_unbounded(&call.principal)?;
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
    check_unbounded(&call.principal)?;
    let target = Arc::clone(&state.target);
    Ok(told_as_it_goes(Arc::clone(&target), &call, move |shown| {
        // Somebody waits for it.
        target.scrub(Some(100), &|phase, done, total| shown.show(phase, done, total))
    }))
}

/// What is counted is that of all tenants: one of them would learn of the others.
fn check_unbounded(by: &Principal) -> Result<(), Refusal> {
    match by.tenants() {
        TenantScope::All => Ok(()),
        _ => Err(Refusal::new(
            ErrorCode::Forbidden,
            "this is about the whole store; it takes an account that is not limited to tenants",
        )),
    }
}
