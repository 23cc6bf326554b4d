//! `agents show`.

use offsite_proto::admin::source::{OfAgent, ShowAgent};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure};

use super::text;
use crate::context::Context;

pub(crate) async fn run(context: &Context, name: String) -> Result<Exit, Failure> {
    let Json(agent) = context.ask::<ShowAgent>(&OfAgent(name), &()).await?;
    context.out.result(&agent, text)
}
