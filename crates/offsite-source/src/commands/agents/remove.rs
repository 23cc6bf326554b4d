//! `agents remove`.

use offsite_proto::admin::source::{OfAgent, RemoveAgent};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure};

use crate::context::Context;

pub(crate) async fn run(context: &Context, name: String) -> Result<Exit, Failure> {
    let Json(agent) = context.ask::<RemoveAgent>(&OfAgent(name), &()).await?;
    context.out.result(&agent, |agent| {
        let (name, id) = (&agent.name, agent.agent_id);
        format!(
            "agent {name} is forgotten; its volumes were not touched, and its recovery points \
                stay: \
             offsite-source points list {id}"
        )
    })
}
