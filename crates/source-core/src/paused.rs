//! Agents that are not replicated to a target until somebody says so again.
//!
//! A pause is a row of the catalog, so it outlives the daemon, and a note in memory that a job
//! which runs looks at.
//!
//! **Absent:** pauses by the target's operator, which row 30 tells.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use offsite_model::{AgentId, JobId, Timestamp};
use offsite_proto::admin::jobs::Job;
use offsite_proto::error::ErrorCode;
use offsite_proto::text::{Big, Text, Time};
use offsite_store::catalog::{
    CatalogError, Order, Table, Transactions, TypedRows, TypedRowsMut, Value,
};
use serde::{Deserialize, Serialize};

use crate::error::Trouble;
use crate::memory::{AgentRow, Memory};

/// Pauses, by agent and target.
const PAUSED: Table = Table::new("source_paused");
/// Rows read at a time.
const PAGE: usize = 256;

/// A pause as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PausedRow {
    job: [u8; 16],
    agent: String,
    at: i64,
}

impl Value for PausedRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 1_024;
}

fn key(agent: AgentId, target: &str) -> Vec<u8> {
    [&agent.to_bytes(), target.as_bytes()].concat()
}

/// Pauses that were made since the daemon began.
#[derive(Debug, Default)]
pub(crate) struct Paused(Mutex<BTreeSet<Vec<u8>>>);

impl Paused {
    fn with<T>(&self, look: impl FnOnce(&mut BTreeSet<Vec<u8>>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a job that runs is to stop.
    pub(crate) fn stops(&self, agent: AgentId, target: &str) -> bool {
        self.with(|paused| paused.contains(&key(agent, target)))
    }

    /// Pauses; again is no mistake. Blocks.
    pub(crate) fn pause(
        &self,
        memory: &Memory,
        agent: &AgentRow,
        target: &str,
        job: JobId,
        now: Timestamp,
    ) -> Result<Job, CatalogError> {
        let key = key(agent.agent_id(), target);
        let row = memory.catalog().write(|rows| {
            if let Some(row) = rows.value::<PausedRow>(PAUSED, &key)? {
                return Ok::<_, CatalogError>(row);
            }
            let (job, agent) = (job.to_bytes(), agent.name.clone());
            let row = PausedRow { job, agent, at: now.as_micros() };
            rows.put_value(PAUSED, &key, &row)?;
            Ok(row)
        })?;
        self.with(|paused| paused.insert(key.clone()));
        Ok(view(&key, &row))
    }

    /// Ends the pauses of an agent, or the one of this target; which. Blocks.
    pub(crate) fn resume(
        &self,
        memory: &Memory,
        agent: AgentId,
        target: Option<&str>,
    ) -> Result<Vec<Job>, CatalogError> {
        let rows = rows(memory, &agent.to_bytes())?;
        let meant: Vec<_> = rows
            .into_iter()
            .filter(|(key, _)| target.is_none_or(|target| target_in(key) == target))
            .collect();
        memory.catalog().write(|rows| {
            for (key, _) in &meant {
                rows.remove(PAUSED, key)?;
            }
            Ok::<_, CatalogError>(())
        })?;
        self.with(|paused| paused.retain(|key| meant.iter().all(|(gone, _)| gone != key)));
        Ok(meant.iter().map(|(key, row)| view(key, row)).collect())
    }
}

/// All pauses. Blocks.
///
/// # Errors
/// What the catalog says.
pub fn list(memory: &Memory) -> Result<Vec<Job>, CatalogError> {
    Ok(rows(memory, &[])?.iter().map(|(key, row)| view(key, row)).collect())
}

/// Refuses where an agent is paused for a target. Blocks.
///
/// # Errors
/// `replication_paused`; what the catalog says.
pub(crate) fn check(memory: &Memory, agent: &AgentRow, target: &str) -> Result<(), Trouble> {
    let key = key(agent.agent_id(), target);
    let row = memory.catalog().read(|rows| rows.value::<PausedRow>(PAUSED, &key))?;
    if row.is_some() { Err(refusal(agent, target)) } else { Ok(()) }
}

/// What somebody is told who asks for a replication that is paused.
pub(crate) fn refusal(agent: &AgentRow, target: &str) -> Trouble {
    let message = format!("the replication of agent {} to {target} is paused", agent.name);
    let hint = format!("go on with: offsite-source jobs resume {}", agent.name);
    Trouble::operator(ErrorCode::ReplicationPaused, message, hint)
}

fn rows(memory: &Memory, prefix: &[u8]) -> Result<Vec<(Vec<u8>, PausedRow)>, CatalogError> {
    let mut all = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = memory.catalog().read(|rows| {
            rows.scan_values::<PausedRow>(PAUSED, prefix, after.as_deref(), Order::Ascending, PAGE)
        })?;
        let Some((last, _)) = page.last() else { return Ok(all) };
        after = Some(last.clone());
        all.extend(page);
    }
}

fn target_in(key: &[u8]) -> String {
    String::from_utf8_lossy(key.get(16..).unwrap_or_default()).into_owned()
}

/// A pause is shown among the jobs, as one that waits.
fn view(key: &[u8], row: &PausedRow) -> Job {
    Job {
        id: Text(JobId::from_bytes(row.job)),
        kind: "replicate".to_owned(),
        agent: row.agent.clone(),
        state: "paused".to_owned(),
        phase: String::new(),
        bytes_done: Big(0),
        bytes_total: Big(0),
        started_at: Time(Timestamp::from_micros(row.at)),
        ended_at: None,
        message: Some(format!("to {}, until somebody resumes it", target_in(key))),
    }
}
