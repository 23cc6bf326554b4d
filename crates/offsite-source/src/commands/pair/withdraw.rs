//! `pair withdraw`.

use offsite_proto::admin::source::{OfTarget, Withdraw};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure};

use super::text;
use crate::context::Context;

pub(crate) async fn run(context: &Context, target: Option<String>) -> Result<Exit, Failure> {
    let Json(pairing) = context.ask::<Withdraw>(&OfTarget(target), &()).await?;
    context.out.result(&pairing, text)
}
