//! What the source daemon answers about replication: a job for one agent, started by hand.

use offsite_model::JobId;
use serde::{Deserialize, Serialize};

use crate::admin::jobs::Job;
use crate::endpoint;
use crate::endpoint::{Access, Action, Class, Listener, Method, Params, Row, Values};
use crate::error::Refusal;
use crate::json::Json;
use crate::text::{Big, Text};

/// The source's call `S-agents-replicate`: starts a job and follows it, or with `wait=false` only
/// starts it.
pub const REPLICATE: Row = Row {
    id: "S-agents-replicate",
    method: Method::Post,
    path: "/api/v1/agents/{agent}/replicate",
    query: &["target", "wait"],
    access: Access::AnyOf(&[Class::Token]),
    action: Action::SourceOperator,
    listener: Listener::Source,
    request_bytes_max: 0,
};

const fn of_pair(id: &'static str, path: &'static str) -> Row {
    Row {
        id,
        method: Method::Post,
        path,
        query: &["target"],
        access: Access::AnyOf(&[Class::Token]),
        action: Action::SourceOperator,
        listener: Listener::Source,
        request_bytes_max: 0,
    }
}

/// The source's call `S-agents-pause`.
pub const PAUSE: Row = of_pair("S-agents-pause", "/api/v1/agents/{agent}/pause");
/// The source's call `S-agents-resume`.
pub const RESUME: Row = of_pair("S-agents-resume", "/api/v1/agents/{agent}/resume");

/// Every call of this file.
pub const ROWS: &[Row] = &[REPLICATE, PAUSE, RESUME];

/// The path and query of [`PAUSE`] and [`RESUME`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfPair {
    /// The agent: name or id.
    pub agent: String,
    /// The target: `HOST:PORT` or id. Where none is named: pausing, the newest pairing; resuming,
    /// all that are paused.
    pub target: Option<String>,
}

impl Params for OfPair {
    fn read(values: &Values) -> Result<Self, Refusal> {
        Ok(Self { agent: values.parse("agent")?, target: values.parse_optional("target")? })
    }

    fn write(&self, values: &mut Values) {
        values.insert("agent", self.agent.clone());
        if let Some(target) = &self.target {
            values.insert("target", target.clone());
        }
    }
}

endpoint! {
    /// Does not replicate an agent to a target until it is resumed.
    Pause = PAUSE, OfPair, () => Json<Job>
}
endpoint! {
    /// Replicates an agent again; the pauses that ended.
    Resume = RESUME, OfPair, () => Json<Vec<Job>>
}

/// The path and query of [`REPLICATE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicate {
    /// The agent: name or id.
    pub agent: String,
    /// The target: `HOST:PORT` or id; the newest pairing where none is named.
    pub target: Option<String>,
    /// Whether the answer follows the job to its end. Whoever hangs up then stops it.
    pub wait: bool,
}

impl Params for Replicate {
    fn read(values: &Values) -> Result<Self, Refusal> {
        Ok(Self {
            agent: values.parse("agent")?,
            target: values.parse_optional("target")?,
            wait: values.flag("wait", Some(false))?,
        })
    }

    fn write(&self, values: &mut Values) {
        values.insert("agent", self.agent.clone());
        if let Some(target) = &self.target {
            values.insert("target", target.clone());
        }
        values.insert("wait", self.wait.to_string());
    }
}

/// A job that was begun and is not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Its id, as the target and both logs name it.
    pub job_id: Text<JobId>,
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replicated {
    /// The job's id.
    pub job_id: Text<JobId>,
    /// Recovery points of which something was sent, all of it committed now.
    pub points: u64,
    /// Entries of lists that were offered.
    pub records_offered: Big,
    /// Records that were sent.
    pub records_sent: Big,
    /// Bytes of record streams to the target.
    pub wire_bytes_out: Big,
    /// Bytes of record streams from the target.
    pub wire_bytes_in: Big,
    /// How long it took.
    pub seconds: f64,
    /// Damaged records that the target has again.
    #[serde(default)]
    pub records_healed: Big,
    /// Damaged records that this source has again.
    #[serde(default)]
    pub records_regained: Big,
}
