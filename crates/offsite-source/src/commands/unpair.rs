//! `unpair`.

use offsite_proto::admin::source::{End, EndPairing};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure};

use super::pair::text;
use crate::context::Context;

pub(crate) async fn run(
    context: &Context,
    target: String,
    delete_recovery_points: bool,
) -> Result<Exit, Failure> {
    let order = Json(EndPairing { target, delete_recovery_points });
    let Json(pairing) = context.ask::<End>(&(), &order).await?;
    context.out.result(&pairing, text)
}
