//! The jobs of this daemon: what runs, what ran lately, and the wish to stop one.
//!
//! **Absent:** the work itself, and anything that outlives the daemon: what a job leaves behind is
//! recovery points, here or at a target.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use offsite_model::{JobId, Timestamp};
use offsite_proto::admin::jobs::Job;
use offsite_proto::error::ErrorCode;
use offsite_proto::text::{Big, Text, Time};

use crate::error::Trouble;
use crate::progress::Progress;

/// Jobs that are remembered.
const JOBS_MAX: usize = 200;

struct Entry {
    id: JobId,
    kind: &'static str,
    agent: String,
    started_at: Timestamp,
    progress: Arc<Progress>,
    /// When it ended, and why it failed.
    ended: Option<(Timestamp, Option<String>)>,
}

/// All jobs, the oldest first.
#[derive(Default)]
pub struct Jobs(Mutex<VecDeque<Entry>>);

impl Jobs {
    fn with<T>(&self, look: impl FnOnce(&mut VecDeque<Entry>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A job begins.
    pub fn begin(
        &self,
        id: JobId,
        kind: &'static str,
        agent: &str,
        now: Timestamp,
        progress: &Arc<Progress>,
    ) {
        let entry = Entry {
            id,
            kind,
            agent: agent.to_owned(),
            started_at: now,
            progress: Arc::clone(progress),
            ended: None,
        };
        self.with(|jobs| {
            jobs.push_back(entry);
            // What runs is never forgotten: there are as many of those as there are agents.
            while jobs.len() > JOBS_MAX
                && let Some(oldest) = jobs.iter().position(|job| job.ended.is_some())
            {
                jobs.remove(oldest);
            }
        });
    }

    /// A job has ended.
    pub fn end<T>(&self, id: JobId, now: Timestamp, outcome: &Result<T, Trouble>) {
        let why = outcome.as_ref().err().map(|trouble| trouble.message.clone());
        self.with(|jobs| {
            if let Some(job) = jobs.iter_mut().find(|job| job.id == id) {
                job.ended = Some((now, why));
            }
        });
    }

    /// All jobs, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Job> {
        self.with(|jobs| jobs.iter().rev().map(view).collect())
    }

    /// One job.
    ///
    /// # Errors
    /// `job_unknown`.
    pub fn show(&self, id: JobId) -> Result<Job, Trouble> {
        self.with(|jobs| jobs.iter().find(|job| job.id == id).map(view)).ok_or_else(unknown)
    }

    /// Asks a job to stop at its next safe point.
    ///
    /// # Errors
    /// `job_unknown`; `wrong_state` where it has ended.
    pub fn cancel(&self, id: JobId) -> Result<Job, Trouble> {
        self.with(|jobs| {
            let job = jobs.iter().find(|job| job.id == id).ok_or_else(unknown)?;
            if job.ended.is_some() {
                return Err(Trouble::operator(
                    ErrorCode::WrongState,
                    "the job has ended already",
                    format!("see how with: offsite-source jobs show {id}"),
                ));
            }
            job.progress.cancel();
            Ok(view(job))
        })
    }
}

fn unknown() -> Trouble {
    Trouble::operator(
        ErrorCode::JobUnknown,
        "there is no such job",
        "see what there is with: offsite-source jobs list",
    )
}

fn view(job: &Entry) -> Job {
    let is_cancelled = job.progress.check().is_err();
    let state = match (&job.ended, is_cancelled) {
        (None, false) => "running",
        (None, true) => "cancelling",
        (Some((_, None)), _) => "succeeded",
        (Some((_, Some(_))), false) => "failed",
        (Some((_, Some(_))), true) => "cancelled",
    };
    let (done, total) = job.progress.bytes();
    let ended = job.ended.as_ref();
    Job {
        id: Text(job.id),
        kind: job.kind.to_owned(),
        agent: job.agent.clone(),
        state: state.to_owned(),
        phase: if ended.is_none() { job.progress.now().phase.to_owned() } else { String::new() },
        bytes_done: Big(done),
        bytes_total: Big(total),
        started_at: Time(job.started_at),
        ended_at: ended.map(|(at, _)| Time(*at)),
        message: ended.and_then(|(_, why)| why.clone()),
    }
}
