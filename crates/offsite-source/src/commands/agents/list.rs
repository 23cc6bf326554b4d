//! `agents list`.

use offsite_proto::admin::source::ListAgents;
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, size, table};

use crate::context::Context;

pub(crate) async fn run(context: &Context) -> Result<Exit, Failure> {
    let Json(agents) = context.ask::<ListAgents>(&(), &()).await?;
    context.out.result(&agents, |agents| {
        if agents.is_empty() {
            return "no agents; add one with: offsite-source agents add NAME --volume LABEL=PATH"
                .to_owned();
        }
        let rows = agents.iter().map(|agent| {
            let labels: Vec<_> = agent.volumes.iter().map(|volume| volume.label.as_str()).collect();
            let problem = agent.volumes.iter().find_map(|volume| volume.problem.as_deref());
            [
                agent.name.clone(),
                labels.join(" "),
                size(agent.logical_bytes.0),
                problem.unwrap_or_default().to_owned(),
            ]
        });
        table(["AGENT", "VOLUMES", "SIZE", "PROBLEM"], rows)
    })
}
