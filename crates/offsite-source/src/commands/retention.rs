//! Verbs about retention.

use offsite_proto::admin::keeping::{
    ApplyRetention, ChangeRetention, OfRetention, PreviewRetention, SetRetention, ShowRetention,
    Verdict,
};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, facts, size, table};

use crate::cli::Retention;
use crate::context::Context;

pub(crate) async fn run(context: &Context, verb: Retention) -> Result<Exit, Failure> {
    match verb {
        Retention::Show { name } => {
            let of = OfRetention { agent: name, policy: None };
            let Json(shown) = context.ask::<ShowRetention>(&of, &()).await?;
            context.out.result(&shown, text)
        }
        Retention::Set { name, policy, inherit: _ } => {
            let of = OfRetention { agent: name, policy: None };
            let body = Json(SetRetention { policy });
            let Json(set) = context.ask::<ChangeRetention>(&of, &body).await?;
            context.out.result(&set, text)
        }
        Retention::Preview { name, policy } => {
            let of = OfRetention { agent: Some(name), policy };
            let Json(points) = context.ask::<PreviewRetention>(&of, &()).await?;
            context.out.result(&points, |points| verdicts(points))
        }
        Retention::Apply { name } => {
            let of = OfRetention { agent: name, policy: None };
            let Json(gone) = context.ask::<ApplyRetention>(&of, &()).await?;
            context.out.result(&gone, |gone| match gone.len() {
                0 => "nothing goes".to_owned(),
                n => format!("{n} deleted; their space comes back with: offsite-source gc"),
            })
        }
    }
}

fn text(shown: &offsite_proto::admin::keeping::Retention) -> String {
    let whose = match (&shown.agent, shown.inherited) {
        (None, _) => "of all agents that have none of their own".to_owned(),
        (Some(agent), true) => format!("of agent {agent}, which has none of its own"),
        (Some(agent), false) => format!("of agent {agent}"),
    };
    facts(&[("policy", Some(shown.policy.clone())), ("", Some(whose))])
}

fn verdicts(points: &[Verdict]) -> String {
    if points.is_empty() {
        return "no recovery points".to_owned();
    }
    let rows = points.iter().map(|verdict| {
        let fate = if verdict.why.is_empty() { "goes" } else { "stays" };
        [
            verdict.point.to_string(),
            verdict.created_at.to_string(),
            size(verdict.new_bytes.0),
            fate.to_owned(),
            verdict.why.join(", "),
        ]
    });
    table(["POINT", "MADE", "NEW", "", "WHY"], rows)
}
