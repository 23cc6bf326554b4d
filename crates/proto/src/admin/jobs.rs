//! Work of the source daemon that takes long: what runs, what ran, and stopping it.
//!
//! Jobs are remembered while the daemon lives, the newest of them.
//!
//! Pauses outlive it.
//!
//! **Absent:** jobs at the target, which are mirrors ([`crate::jobs`]).

use offsite_model::JobId;
use serde::{Deserialize, Serialize};

use crate::endpoint;
use crate::endpoint::{Access, Action, Class, Listener, Method, Params, Row, Values};
use crate::error::Refusal;
use crate::json::Json;
use crate::text::{Big, Text, Time};

macro_rules! job_rows {
    ($($name:ident: $id:literal $method:ident $path:literal;)*) => {
        $(
            #[doc = concat!("The source's call `", $id, "`: `", $path, "`.")]
            pub const $name: Row = Row {
                id: $id,
                method: Method::$method,
                path: $path,
                query: &[],
                access: Access::AnyOf(&[Class::Token]),
                action: Action::SourceOperator,
                listener: Listener::Source,
                request_bytes_max: 0,
            };
        )*

        /// Every call of this file.
        pub const ROWS: &[Row] = &[$($name),*];
    };
}

job_rows! {
    JOBS_LIST: "S-jobs-list" Get "/api/v1/jobs";
    JOBS_SHOW: "S-jobs-show" Get "/api/v1/jobs/{job}";
    JOBS_CANCEL: "S-jobs-cancel" Post "/api/v1/jobs/{job}/cancel";
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id; a replication has the same at the target.
    pub id: Text<JobId>,
    /// `protect`, `replicate`, `gc` or `scrub`.
    pub kind: String,
    /// Name of the agent; empty for work on the whole store.
    pub agent: String,
    /// `running`, `cancelling`, `succeeded`, `failed` or `cancelled`; `paused` for a replication
    /// that is not to run until it is resumed.
    pub state: String,
    /// What is being done, while it runs.
    pub phase: String,
    /// Bytes done.
    pub bytes_done: Big,
    /// Bytes in all, once that is known.
    pub bytes_total: Big,
    /// When it began.
    pub started_at: Time,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// Why it failed.
    pub message: Option<String>,
}

/// The path of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfJob(pub JobId);

impl Params for OfJob {
    fn read(values: &Values) -> Result<Self, Refusal> {
        values.parse("job").map(Self)
    }

    fn write(&self, values: &mut Values) {
        values.insert("job", self.0.to_string());
    }
}

endpoint! {
    /// Jobs, the newest first.
    ListJobs = JOBS_LIST, (), () => Json<Vec<Job>>
}
endpoint! {
    /// One job.
    ShowJob = JOBS_SHOW, OfJob, () => Json<Job>
}
endpoint! {
    /// Stops a job at its next safe point.
    CancelJob = JOBS_CANCEL, OfJob, () => Json<Job>
}
