//! `agents remove`.

use offsite_proto::admin::source::{OfAgent, RemoveAgent};
use offsite_proto::json::Json;

use crate::context::Context;
use crate::exit::Failure;

pub(crate) async fn run(context: &Context, name: String) -> Result<(), Failure> {
    let Json(agent) = context.ask::<RemoveAgent>(&OfAgent(name), &()).await?;
    context.out.result(&agent, || {
        let (name, id) = (&agent.name, agent.agent_id);
        format!(
            "agent {name} is forgotten; its volumes were not touched, and its recovery points \
                stay: \
             offsite-source points list {id}"
        )
    })
}
