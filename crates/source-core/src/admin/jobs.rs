//! Answers `proto::admin::jobs`.

use std::sync::Arc;

use offsite_proto::admin::jobs::{CancelJob, Job, ListJobs, OfJob, ShowJob};

use crate::pairing::off;
use crate::paused;

use super::state::{Admin, Answered, Asked, reply};

pub(super) async fn list(admin: Arc<Admin>, _: Asked<ListJobs>) -> Answered<Vec<Job>> {
    let mut jobs = off(&admin.means, |means| Ok(paused::list(&means.memory)?)).await?;
    jobs.extend(admin.jobs.list());
    reply(jobs)
}

pub(super) async fn show(admin: Arc<Admin>, call: Asked<ShowJob>) -> Answered<Job> {
    let OfJob(id) = call.params;
    reply(admin.jobs.show(id)?)
}

pub(super) async fn cancel(admin: Arc<Admin>, call: Asked<CancelJob>) -> Answered<Job> {
    let OfJob(id) = call.params;
    let job = admin.jobs.cancel(id)?;
    tracing::info!(%id, agent = job.agent, uid = call.principal.uid, "a job is cancelled");
    reply(job)
}
