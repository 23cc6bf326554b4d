//! The recovery points of this source: listing, finding, deleting.
//!
//! What the store does not know of a point (names, its place in the chain) stands in its note.

use std::collections::BTreeMap;

use offsite_model::{AgentId, PointId, TenantId, Timestamp};
use offsite_proto::admin::protection::{Point, PointVolume};
use offsite_proto::endpoint::Body as _;
use offsite_proto::error::ErrorCode;
use offsite_proto::json::{Json, from_slice};
use offsite_proto::text::{Big, Text, Time};
use offsite_store::catalog::{RowsMut, Table, Transactions, TypedRows, TypedRowsMut, Value};
use offsite_store::{self as store, NOTE_BYTES_MAX, Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::agents;
use crate::causes::LIST_POINTS;
use crate::error::Trouble;
use crate::memory::Memory;

/// The highest number of a point that was removed for good, by agent.
const SEQUENCES: Table = Table::new("source_sequences");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SequenceRow {
    newest: u32,
}

impl Value for SequenceRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 16;
}

/// What a point's note says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Name of the agent when the point was made.
    pub agent: String,
    /// Counts the points of the agent from 1; the newest has the highest, whatever clocks do.
    pub sequence: u32,
    /// Labels of the volumes, in the order of the images.
    pub labels: Vec<String>,
    /// Bytes of records that were new.
    pub new_bytes: Big,
    /// Bytes they take in the store.
    pub stored_bytes: Big,
    /// How the lists of the images were made, in their order, so that they are not read again to be
    /// announced; empty where that was not noted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<ListNote>,
}

/// How the list of an image was made, whose digest the store has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListNote {
    /// The point whose image it was made against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Text<PointId>>,
    /// Its entries.
    pub entries: Big,
}

impl Note {
    /// As it stands in the store. The lists are left out where it would be too long with them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let whole = Json(self.clone()).encode();
        if whole.len() <= NOTE_BYTES_MAX {
            return whole;
        }
        Json(Self { lists: Vec::new(), ..self.clone() }).encode()
    }
}

/// A point with its note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// As the store has it.
    pub point: store::Point,
    /// What its note says.
    pub note: Note,
}

impl Kept {
    fn read(point: store::Point) -> Result<Self, Trouble> {
        let note = from_slice(&point.note).map_err(|refusal| {
            Trouble::us(format!(
                "the note of recovery point {} is unreadable: {}",
                point.point, refusal.message
            ))
        })?;
        Ok(Self { point, note })
    }

    /// Whether it can be restored and will stay.
    pub(crate) fn is_good(&self) -> bool {
        self.point.is_complete() && self.point.deleted_at.is_none()
    }

    /// The point for people and scripts.
    #[must_use]
    pub fn view(&self) -> Point {
        let Self { point, note } = self;
        let state = match (point.deleted_at, point.is_complete()) {
            (Some(_), _) => "deleted",
            (None, true) => "ok",
            (None, false) => "incomplete",
        };
        let volumes = point.images.iter().zip(&note.labels).map(|(image, label)| PointVolume {
            label: label.clone(),
            volume_id: Text(image.volume),
            bytes: Big(image.bytes),
            record_bytes: image.record_bytes,
            digest: Text(image.list_digest),
            blake3: None,
        });
        Point {
            id: Text(point.point),
            agent: note.agent.clone(),
            agent_id: Text(point.agent),
            created_at: Time(point.taken_at),
            state: state.to_owned(),
            logical_bytes: Big(point
                .images
                .iter()
                .fold(0, |sum, image| image.bytes.saturating_add(sum))),
            new_bytes: note.new_bytes,
            volumes: volumes.collect(),
            lacking: Vec::new(),
        }
    }

    /// The image of the volume with this label.
    #[must_use]
    pub fn image(&self, label: &str) -> Option<&store::ImageSummary> {
        let index = self.note.labels.iter().position(|known| known == label)?;
        self.point.images.get(index)
    }
}

/// The points of an agent, oldest first, deleted ones included.
///
/// # Errors
/// The disk's.
pub fn all(store: &Store, tenant: TenantId, agent: AgentId) -> Result<Vec<Kept>, Trouble> {
    let points = store.points(tenant)?.into_iter().filter(|point| point.agent == agent);
    let mut kept = points.map(Kept::read).collect::<Result<Vec<_>, _>>()?;
    kept.sort_by_key(|kept| (kept.note.sequence, kept.point.taken_at));
    Ok(kept)
}

/// The newest point of an agent that is complete and not deleted.
///
/// # Errors
/// The disk's.
pub fn newest(store: &Store, tenant: TenantId, agent: AgentId) -> Result<Option<Kept>, Trouble> {
    Ok(all(store, tenant, agent)?.into_iter().rfind(Kept::is_good))
}

/// The points of an agent as they are listed: without deleted ones.
///
/// # Errors
/// `agent_unknown`; the disk's.
pub fn list(
    store: &Store,
    tenant: TenantId,
    memory: &Memory,
    agent: &str,
) -> Result<Vec<Point>, Trouble> {
    let points = all(store, tenant, agent_id(memory, agent)?)?;
    let listed = points.iter().filter(|kept| kept.point.deleted_at.is_none());
    Ok(listed.map(Kept::view).collect())
}

/// The id of an agent; that of one that was removed is accepted, since its points outlive it.
///
/// # Errors
/// `agent_unknown`; the disk's.
pub fn agent_id(memory: &Memory, agent: &str) -> Result<AgentId, Trouble> {
    match (agents::find(memory, agent), agent.parse()) {
        (Ok(row), _) => Ok(row.agent_id()),
        (Err(trouble), Ok(id)) if trouble.code == ErrorCode::AgentUnknown => Ok(id),
        (Err(trouble), _) => Err(trouble),
    }
}

/// One point.
///
/// # Errors
/// `point_unknown`; the disk's.
pub fn show(store: &Store, tenant: TenantId, point: PointId) -> Result<Kept, Trouble> {
    Kept::read(store.point(tenant, point)?)
}

/// The point of an agent that an operator means: an id, or `latest`, which is the newest one that
/// has the volume, for volumes come and go.
///
/// # Errors
/// `point_unknown`; the disk's.
pub fn find(
    store: &Store,
    tenant: TenantId,
    agent: AgentId,
    volume: &str,
    point: Option<&str>,
) -> Result<Kept, Trouble> {
    let unknown =
        |message: String| Trouble::operator(ErrorCode::PointUnknown, message, LIST_POINTS);
    let Some(id) = point.filter(|point| *point != "latest") else {
        let mut good = all(store, tenant, agent)?;
        good.retain(Kept::is_good);
        let meant = good.iter().rposition(|kept| kept.image(volume).is_some());
        // Where none has it, the newest says what there is.
        let newest = match meant {
            Some(at) => Some(good.swap_remove(at)),
            None => good.pop(),
        };
        return newest.ok_or_else(|| {
            let mut none = unknown("the agent has no recovery point".to_owned());
            none.hint = "make one with: offsite-source protect NAME".to_owned();
            none
        });
    };
    let shown: String = id.chars().take(64).flat_map(char::escape_debug).collect();
    let id = id
        .parse::<PointId>()
        .map_err(|_| unknown(format!("there is no recovery point {shown}")))?;
    let kept = show(store, tenant, id)?;
    if kept.point.agent != agent {
        return Err(unknown(format!("recovery point {id} is of agent {}", kept.note.agent)));
    }
    Ok(kept)
}

/// The number of an agent's next point. Numbers name images at targets, so none is used twice,
/// whatever was deleted.
///
/// # Errors
/// The disk's.
pub fn next_sequence(store: &Store, tenant: TenantId, agent: AgentId) -> Result<u32, Trouble> {
    let points = all(store, tenant, agent)?;
    let newest = points.iter().map(|kept| kept.note.sequence).max().unwrap_or(0);
    let row = store.catalog().read::<_, StoreError>(|rows| {
        Ok(rows.value::<SequenceRow>(SEQUENCES, &agent.to_bytes())?)
    })?;
    Ok(row.map_or(newest, |row| row.newest.max(newest)).saturating_add(1))
}

/// The highest number of each agent's points, as a journal that is replayed tells of them: those
/// that were removed for good as well.
#[derive(Debug, Default)]
pub struct Numbers(BTreeMap<AgentId, u32>);

impl Numbers {
    /// Takes note of a commit. One whose note cannot be read has no number.
    pub fn see(&mut self, commit: &store::Replayed<'_>) {
        if let Ok(note) = from_slice::<Note>(commit.note) {
            let newest = self.0.entry(commit.agent).or_default();
            *newest = note.sequence.max(*newest);
        }
    }

    /// Writes them down, so that none is used twice.
    ///
    /// # Errors
    /// The disk's.
    pub fn keep(&self, store: &Store) -> Result<(), Trouble> {
        Ok(store.catalog().write::<_, StoreError>(|rows| {
            for (agent, newest) in &self.0 {
                remember_number(rows, *agent, *newest)?;
            }
            Ok(())
        })?)
    }
}

/// Raises the highest number of an agent's points that were removed.
fn remember_number(rows: &mut dyn RowsMut, agent: AgentId, number: u32) -> Result<(), StoreError> {
    let key = agent.to_bytes();
    let before = rows.value::<SequenceRow>(SEQUENCES, &key)?.map_or(0, |row| row.newest);
    Ok(rows.put_value(SEQUENCES, &key, &SequenceRow { newest: before.max(number) })?)
}

/// The points that are marked as deleted, of all agents.
///
/// # Errors
/// The disk's.
pub(crate) fn deleted(store: &Store, tenant: TenantId) -> Result<Vec<Kept>, Trouble> {
    let points = store.points(tenant)?.into_iter().filter(|point| point.deleted_at.is_some());
    points.map(Kept::read).collect()
}

/// Removes points for good that are marked as deleted. Their numbers are remembered before.
///
/// # Errors
/// The disk's.
pub(crate) fn purge(
    store: &Store,
    tenant: TenantId,
    points: &[Kept],
    now: Timestamp,
) -> Result<(), Trouble> {
    store.catalog().write::<_, StoreError>(|rows| {
        let mut numbers = points.iter().map(|kept| (kept.point.agent, kept.note.sequence));
        numbers.try_for_each(|(agent, number)| remember_number(rows, agent, number))
    })?;
    let ids: Vec<PointId> = points.iter().map(|kept| kept.point.point).collect();
    Ok(store.purge(tenant, &ids, now)?)
}

/// Marks a point as deleted.
///
/// # Errors
/// `point_unknown`, also for one that is deleted already; the disk's.
pub fn delete(
    store: &Store,
    tenant: TenantId,
    point: PointId,
    now: Timestamp,
) -> Result<Point, Trouble> {
    let kept = show(store, tenant, point)?;
    if kept.point.deleted_at.is_some() {
        let message = format!("recovery point {point} is deleted already");
        return Err(Trouble::operator(ErrorCode::PointUnknown, message, LIST_POINTS));
    }
    store.delete_point(tenant, point, now)?;
    Ok(show(store, tenant, point)?.view())
}
