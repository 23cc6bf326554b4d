//! Verbs about jobs.

use offsite_model::JobId;
use offsite_proto::admin::jobs::{CancelJob, Job, ListJobs, OfJob, ShowJob};
use offsite_proto::admin::replication::{OfPair, Pause, Resume};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, facts, size, table};

use crate::cli::Jobs;
use crate::context::Context;

pub(crate) async fn run(context: &Context, verb: Jobs) -> Result<Exit, Failure> {
    match verb {
        Jobs::List => list(context).await,
        Jobs::Show { job } => {
            let Json(job) = context.ask::<ShowJob>(&id(&job)?, &()).await?;
            context.out.result(&job, text)
        }
        Jobs::Cancel { job } => {
            let Json(job) = context.ask::<CancelJob>(&id(&job)?, &()).await?;
            context.out.result(&job, |job| format!("job {} stops at its next safe point", job.id))
        }
        Jobs::Pause { agent, target } => {
            let Json(paused) = context.ask::<Pause>(&OfPair { agent, target }, &()).await?;
            context.out.result(&paused, text)
        }
        Jobs::Resume { agent, target } => {
            let Json(resumed) = context.ask::<Resume>(&OfPair { agent, target }, &()).await?;
            context.out.result(&resumed, |resumed| match resumed.len() {
                0 => "nothing was paused".to_owned(),
                n => format!("{n} resumed; the next replication goes on where it stopped"),
            })
        }
    }
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let Json(jobs) = context.ask::<ListJobs>(&(), &()).await?;
    context.out.result(&jobs, |jobs| {
        if jobs.is_empty() {
            return "no jobs since the daemon began".to_owned();
        }
        let rows = jobs.iter().map(|job| {
            [
                job.id.to_string(),
                job.kind.clone(),
                job.agent.clone(),
                job.state.clone(),
                format!("{} of {}", size(job.bytes_done.0), size(job.bytes_total.0)),
                job.started_at.to_string(),
            ]
        });
        table(["JOB", "KIND", "AGENT", "STATE", "DONE", "BEGAN"], rows)
    })
}

fn id(text: &str) -> Result<OfJob, Failure> {
    text.parse::<JobId>().map(OfJob).map_err(|_| {
        Failure::new(
            Exit::Unknown,
            "job_unknown",
            format!("there is no job {}", text.escape_debug()),
            "see what there is with: offsite-source jobs list",
        )
    })
}

fn text(job: &Job) -> String {
    facts(&[
        ("job", Some(job.id.to_string())),
        ("kind", Some(job.kind.clone())),
        ("agent", Some(job.agent.clone())),
        ("state", Some(job.state.clone())),
        ("doing", Some(job.phase.clone()).filter(|phase| !phase.is_empty())),
        ("done", Some(format!("{} of {}", size(job.bytes_done.0), size(job.bytes_total.0)))),
        ("began", Some(job.started_at.to_string())),
        ("ended", job.ended_at.map(|at| at.to_string())),
        ("because", job.message.clone()),
    ])
}
