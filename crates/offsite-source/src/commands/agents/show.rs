//! `agents show`.

use offsite_proto::admin::source::{OfAgent, ShowAgent};
use offsite_proto::json::Json;

use super::text;
use crate::context::Context;
use crate::exit::Failure;

pub(crate) async fn run(context: &Context, name: String) -> Result<(), Failure> {
    let Json(agent) = context.ask::<ShowAgent>(&OfAgent(name), &()).await?;
    context.out.result(&agent, || text(&agent))
}
