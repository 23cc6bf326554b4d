//! `agents remove`.

use offsite_proto::admin::source::{OfAgent, RemoveAgent};
use offsite_proto::json::Json;

use crate::context::Context;
use crate::exit::Failure;

pub(crate) async fn run(context: &Context, name: String) -> Result<(), Failure> {
    let Json(agent) = context.ask::<RemoveAgent>(&OfAgent(name), &()).await?;
    context.out.result(&agent, || {
        format!("agent {} is forgotten; its volumes were not touched", agent.name)
    })
}
