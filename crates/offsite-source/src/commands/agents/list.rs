//! `agents list`.

use offsite_proto::admin::source::ListAgents;
use offsite_proto::json::Json;

use crate::context::Context;
use crate::exit::Failure;
use crate::output::{size, table, visible};

pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let Json(agents) = context.ask::<ListAgents>(&(), &()).await?;
    context.out.result(&agents, || {
        if agents.is_empty() {
            return "no agents; add one with: offsite-source agents add NAME --volume LABEL=PATH"
                .to_owned();
        }
        let mut rows = table(&["AGENT", "VOLUMES", "SIZE", "PROBLEM"]);
        for agent in &agents {
            let labels: Vec<_> = agent.volumes.iter().map(|volume| volume.label.as_str()).collect();
            let problem = agent.volumes.iter().find_map(|volume| volume.problem.as_deref());
            rows.add_row([
                visible(&agent.name),
                visible(&labels.join(" ")),
                size(agent.logical_bytes.0),
                visible(problem.unwrap_or_default()),
            ]);
        }
        rows.to_string()
    })
}
