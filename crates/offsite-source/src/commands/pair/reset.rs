//! `pair reset`: forgets a pairing at this side only, and says what that gives up.

use offsite_proto::admin::source::{OfTarget, Reset};
use offsite_proto::json::Json;

use crate::context::Context;
use crate::exit::Failure;

pub(crate) async fn run(context: &Context, target: Option<String>) -> Result<(), Failure> {
    let Json(done) = context.ask::<Reset>(&OfTarget(target), &()).await?;
    context.out.result(&done, || {
        if done.given_up.is_empty() {
            return "forgotten; nothing was given up".to_owned();
        }
        format!("forgotten; given up:\n  {}", done.given_up.join("\n  "))
    })
}
