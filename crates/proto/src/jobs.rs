//! The shadow of a source's job on the target: rows 29 and 30.

use offsite_model::{AgentId, JobId, VolumeId};
use serde::{Deserialize, Serialize};

use crate::endpoint;
use crate::error::Refusal;
use crate::json::Json;
use crate::rows;
use crate::text::{Big, Text};

open_enum! {
    /// Where a job stands.
    JobState {
        /// Waiting for its turn.
        Queued,
        /// At work.
        Running,
        /// Stopped for now.
        Paused,
        /// Stopping for good.
        Cancelling,
        /// Done.
        Succeeded,
        /// Stopped for good.
        Cancelled,
    } else
    /// Ended by an error; also a word of a later version.
    Failed
}

/// Row 29: a job begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartMirror {
    /// Its agent.
    pub agent_id: Text<AgentId>,
    /// The source's job.
    pub job_id: Text<JobId>,
    /// The volumes it will replicate.
    #[serde(default)]
    pub volumes: Vec<Text<VolumeId>>,
    /// Bytes of them, as the source knows them.
    #[serde(default)]
    pub total_bytes: Big,
    /// Whether a person started it out of turn.
    #[serde(default)]
    pub is_forced: bool,
    /// The job it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_job_id: Option<Text<JobId>>,
}

/// The answer to row 29: 201; 200 when the mirror was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorStarted {
    /// The mirror's id; the source's own one is good enough.
    pub remote_job_id: Text<JobId>,
    /// Where the mirror stands.
    pub state: JobState,
}

/// Row 30: how a job stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncMirror {
    /// The source's job.
    pub job_id: Text<JobId>,
    /// Where it stands.
    pub state: JobState,
    /// What it is doing, for people.
    #[serde(default)]
    pub phase: String,
    /// How far it is, 0 to 100.
    #[serde(default)]
    pub percent: u8,
    /// Bytes of changed positions that are decided and, where wanted, sent.
    #[serde(default)]
    pub bytes_done: Big,
    /// Bytes of changed positions in all.
    #[serde(default)]
    pub bytes_total: Big,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

/// The answer to row 30: what the target's operator wishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorWishes {
    /// Where the mirror stands.
    pub remote_state: JobState,
    /// The job shall stop for good.
    #[serde(default)]
    pub cancel_requested: bool,
    /// The job shall stop for now.
    #[serde(default)]
    pub pause_requested: bool,
}

endpoint! {
    /// Row 29: the mirror of a job.
    Start = rows::R29, (), Json<StartMirror> => Json<MirrorStarted>
}
endpoint! {
    /// Row 30: progress one way, wishes the other.
    Sync = rows::R30, (), Json<SyncMirror> => Json<MirrorWishes>
}
