//! `pair reset`: forgets a pairing at this side only, and says what that gives up.

use offsite_proto::admin::source::{OfTarget, Reset};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, visible};

use crate::context::Context;

pub(crate) async fn run(context: &Context, target: Option<String>) -> Result<Exit, Failure> {
    let Json(done) = context.ask::<Reset>(&OfTarget(target), &()).await?;
    context.out.result(&done, |done| {
        if done.given_up.is_empty() {
            return "forgotten; nothing was given up".to_owned();
        }
        let given_up: Vec<_> = done.given_up.iter().map(|what| visible(what)).collect();
        format!("forgotten; given up:\n  {}", given_up.join("\n  "))
    })
}
