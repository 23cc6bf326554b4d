//! Verbs about retention.

use offsite_model::Policy;
use offsite_proto::admin::target::{
    ChangeRetention, CreditClock, CreditRetention, OfPreview, OfRetention, PreviewRetention,
    Previewed, PreviewedPoint, Retention as Told, SetRetention, ShortenRetention,
    ShortenSoftDelete, ShowRetention,
};
use offsite_proto::json::Json;
use offsite_proto::text::Text;
use offsite_terminal::{Exit, Failure, facts, table};

use super::approvals;
use crate::cli::retention::{Retention, agent_and_policy};
use crate::context::Context;

/// Runs them.
pub(crate) async fn run(context: &Context, verb: Retention) -> Result<Exit, Failure> {
    match verb {
        Retention::Show { agent } => {
            let Json(told) = context.ask::<ShowRetention>(&OfRetention { agent }, &()).await?;
            context.out.result(&told, text)
        }
        Retention::Set { words, soft_delete } => set(context, &words, soft_delete).await,
        Retention::Preview { agent, policy } => {
            let of = OfPreview { agent, policy: policy.map(Text) };
            let Json(previewed) = context.ask::<PreviewRetention>(&of, &()).await?;
            context.out.result(&previewed, |previewed| {
                let agents: Vec<String> = previewed.iter().map(preview).collect();
                agents.join("\n\n")
            })
        }
        Retention::Shorten { soft_delete } => {
            let body = Json(ShortenSoftDelete { soft_delete_days: soft_delete });
            let Json(approval) = context.ask::<ShortenRetention>(&(), &body).await?;
            context.out.result(&approval, approvals::waiting)
        }
        Retention::CreditClock { seconds } => {
            let body = Json(CreditClock { seconds });
            let Json(approval) = context.ask::<CreditRetention>(&(), &body).await?;
            context.out.result(&approval, approvals::waiting)
        }
    }
}

async fn set(
    context: &Context,
    words: &[String],
    soft_delete: Option<u32>,
) -> Result<Exit, Failure> {
    let (agent, policy) = match soft_delete {
        Some(_) => (None, None),
        None => {
            let (agent, policy) = agent_and_policy(words);
            let policy: Policy = policy
                .parse()
                .map_err(|cause| Failure::usage(format!("that is no policy: {cause}"), ""))?;
            (agent, Some(Text(policy)))
        }
    };
    let body = Json(SetRetention { policy, soft_delete_days: soft_delete });
    let Json(told) = context.ask::<ChangeRetention>(&OfRetention { agent }, &body).await?;
    context.out.result(&told, text)
}

fn text(told: &Told) -> String {
    let mut lines = vec![
        ("default policy", Some(told.default_policy.to_string())),
        ("a deletion can be taken back for", Some(format!("{} days", told.soft_delete_days))),
        ("retention clock", Some(told.clock.to_string())),
    ];
    if told.owed_seconds > 0 {
        lines.push(("owed to the clock", Some(format!("{} seconds", told.owed_seconds))));
    }
    if let Some(until) = &told.paused_until {
        lines.push(("nothing is removed before", Some(until.to_string())));
    }
    let facts = facts(&lines);
    if told.agents.is_empty() {
        return facts;
    }
    let rows = told.agents.iter().map(|agent| {
        let whose = if agent.own { "its own" } else { "default" };
        let lock = format!("{} days", agent.lock_days);
        [agent.agent.clone(), agent.policy.to_string(), whose.to_owned(), lock]
    });
    format!("{facts}\n\n{}", table(["AGENT", "POLICY", "WHOSE", "LOCK"], rows))
}

fn preview(of: &Previewed) -> String {
    let n_kept = of.points.iter().filter(|point| point.keep).count();
    let n_gone = of.points.len().saturating_sub(n_kept);
    let head = format!("{} under {}: {n_kept} stay, {n_gone} go", of.agent, of.policy);
    if of.points.is_empty() {
        return head;
    }
    let rows = of.points.iter().map(|point| {
        let word = if point.keep { "stays" } else { "goes" };
        [point.id.to_string(), point.received_at.to_string(), word.to_owned(), why(point)]
    });
    format!("{head}\n{}", table(["POINT", "RECEIVED", "", "WHY"], rows))
}

fn why(point: &PreviewedPoint) -> String {
    let mut words = point.why.clone();
    if let Some(until) = &point.locked_until {
        words.push(format!("until {until}"));
    }
    if point.time_odd {
        words.push(format!("(its source says it is of {})", point.created_at));
    }
    words.join(", ")
}
