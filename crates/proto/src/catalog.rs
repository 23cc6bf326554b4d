//! What the target holds for the caller: rows 1, 9 to 11, 13, 20 to 25, 48 and 50.
//!
//! Everything here is seen through the caller's own pairing: what is not his is not there. Counts
//! and sizes are those of his own data, so that they say nothing about anybody else's.

use offsite_model::{AgentId, Digest, ImageId, PointId, RepositoryId, VolumeId};
use serde::{Deserialize, Serialize};

use crate::endpoint::{Params, Values};
use crate::error::{ErrorCode, Refusal};
use crate::json::Json;
use crate::page::{Page, Paged};
use crate::pairing::{AgentPairingState, Reason};
use crate::rows;
use crate::text::{Big, Text, Time};
use crate::{endpoint, params};

params! {
    /// The agent in a path.
    OfAgent {
        /// The agent.
        agent: AgentId = "agentId",
    }
}

params! {
    /// Row 25: one page of an agent's points, newest first.
    PageOfPoints {
        /// The agent.
        agent: AgentId = "agentId",
        /// Points to leave out at the front.
        skip: u32 = "skipCount",
        /// Points to answer, 1 to 1000.
        n_points: u32 = "maxCount",
    }
}

/// The largest `maxCount` of row 25.
pub const POINTS_PER_PAGE_MAX: u32 = 1_000;

/// Which of the three lists that share one path is meant: rows 9, 10 and 11.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Row 9: the caller's replicated agents. The bare path means this one.
    #[default]
    Replicated,
    /// Row 10: storage used by them.
    Storage,
    /// Row 11: all agents that the caller may see.
    All,
}

impl View {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Replicated => "replicated",
            Self::Storage => "storage",
            Self::All => "all",
        }
    }
}

impl Params for View {
    fn read(values: &Values) -> Result<Self, Refusal> {
        match values.parse_optional::<String>("view")?.as_deref() {
            None | Some("replicated") => Ok(Self::Replicated),
            Some("storage") => Ok(Self::Storage),
            Some("all") => Ok(Self::All),
            Some(_) => Err(Refusal::new(
                ErrorCode::BadRequest,
                "the parameter view is none of replicated, storage and all",
            )),
        }
    }

    fn write(&self, values: &mut Values) {
        values.insert("view", self.as_str());
    }
}

/// Row 9: an agent that the caller replicates to this target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicatedAgent {
    /// The agent.
    pub id: Text<AgentId>,
    /// Its name for people.
    pub display_name: String,
    /// Its host name; empty where it has none.
    #[serde(default)]
    pub host_name: String,
    /// Where it stands.
    #[serde(default)]
    pub agent_pairing_state: AgentPairingState,
    /// The repository that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<Text<RepositoryId>>,
    /// When its newest complete point was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_replicated_recovery_point_timestamp: Option<Time>,
    /// Whether the target has paused it.
    #[serde(default)]
    pub paused: bool,
}

/// Rows 10 and 58: storage used by one agent, counted from the caller's own logical data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStorageUsage {
    /// Its name for people.
    pub display_name: String,
    /// Its host name; empty where it has none.
    #[serde(default)]
    pub host_name: String,
    /// The agent.
    pub id: Text<AgentId>,
    /// When its newest point was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_rp_timestamp: Option<Time>,
    /// When its oldest point was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_rp_timestamp: Option<Time>,
    /// Its points.
    pub recovery_point_count: u32,
    /// Bytes of the volumes that its points protect.
    pub total_bytes_protected: Big,
}

open_enum! {
    /// What an agent is to the target.
    AgentType {
        /// A copy of an agent of this source.
        Replicated,
        /// Its replication has ended; its points stay.
        RecoveryPointsOnly,
        /// It runs at the target's site.
        Failover,
    } else
    /// Protected at its own core; also a word of a later version.
    Protected
}

/// Row 11: an agent that the caller may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VisibleAgent {
    /// The agent.
    pub id: Text<AgentId>,
    /// Its name for people.
    pub display_name: String,
    /// Its host name; empty where it has none.
    #[serde(default)]
    pub host_name: String,
    /// What it is to the target.
    pub agent_type: AgentType,
}

/// The three answers of the one path. A client that asks for one view uses the endpoint of that
/// view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AgentLists {
    /// Row 10, tried first: its items have the most fields that must be there.
    Storage(Vec<AgentStorageUsage>),
    /// Row 11.
    All(Vec<VisibleAgent>),
    /// Row 9.
    Replicated(Vec<ReplicatedAgent>),
}

macro_rules! views {
    ($($(#[$doc:meta])* $name:ident = $view:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name;

        impl Params for $name {
            fn read(values: &Values) -> Result<Self, Refusal> {
                match View::read(values)? {
                    View::$view => Ok(Self),
                    _ => Err(Refusal::new(ErrorCode::BadRequest, "another view was asked for")),
                }
            }

            fn write(&self, values: &mut Values) {
                View::$view.write(values);
            }
        }
    )*};
}

views! {
    /// The query of row 9.
    ViewReplicated = Replicated;
    /// The query of row 10.
    ViewStorage = Storage;
    /// The query of row 11.
    ViewAll = All;
}

/// Rows 13 and V3: room for an agent, as far as the caller may know. The smaller of its quota left
/// and the repository's free space, rounded down to a GiB unless the tenant is alone in the
/// repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FreeSpace {
    /// Bytes that may still be stored.
    pub bytes_free: Big,
    /// Bytes of the caller's own that are stored.
    pub bytes_used: Big,
    /// The repository.
    pub repository_id: Text<RepositoryId>,
}

/// A granularity of rollups, carried and never interpreted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollupGranularityCell {
    /// Lower bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_bound: Option<Time>,
    /// Upper bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_bound: Option<Time>,
    /// Whether it was made by hand.
    #[serde(default)]
    pub is_ad_hoc: bool,
}

/// Rows 20 and 21: a committed volume image of the caller's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeImageSummary {
    /// The image, as its source named it.
    pub id: Text<ImageId>,
    /// The volume.
    pub driver_volume_id: Text<VolumeId>,
    /// Its number in the chain of the volume.
    pub epoch_number: u32,
    /// The number of the image it refers to; absent for a base image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_epoch_number: Option<u32>,
    /// The point it belongs to.
    pub recovery_point_id: Text<PointId>,
    /// Digest of its list.
    pub image_digest: Text<Digest>,
    /// Whether its base or a predecessor is absent here.
    #[serde(default)]
    pub is_orphaned: bool,
    /// Whether it was here once and the target's retention has removed it for good. It need not be
    /// sent again, and nothing can refer to it: it is told as orphaned, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_purged: bool,
    /// Carried for the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_hash: Option<String>,
    /// Carried for the source.
    #[serde(default)]
    pub rollup_granularity_cell: RollupGranularityCell,
    /// When it was taken.
    pub utc_created_timestamp: Time,
    /// Carried for the source; proves nothing.
    #[serde(default)]
    pub volume_image_hash: i32,
    /// What people call the volume, as it was announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// Row 22: may a replication of this agent start now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanReplicate {
    /// Whether it may.
    pub can_start: bool,
    /// Why not, or what to know.
    #[serde(default)]
    pub reasons: Vec<Reason>,
    /// The agent's repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<Text<RepositoryId>>,
    /// Bytes that may still be stored, as in [`FreeSpace`].
    pub bytes_free: Big,
}

open_enum! {
    /// How complete a recovery point is.
    PointStatus {
        /// All images are here and linked.
        Ok,
        /// An image's base or predecessor is absent.
        Orphaned,
    } else
    /// Images are still missing; also a word of a later version.
    Incomplete
}

/// Rows 23 and 25: a recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryPointSummary {
    /// The point.
    pub id: Text<PointId>,
    /// Its agent.
    pub agent_id: Text<AgentId>,
    /// When it was taken.
    pub timestamp: Time,
    /// Its images.
    pub volume_image_ids: Vec<Text<ImageId>>,
    /// How complete it is.
    #[serde(default)]
    pub status: PointStatus,
    /// The key its source encrypted it with, as a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_key_id: Option<String>,
    /// Bytes of its volumes.
    pub size_bytes: Big,
}

/// Row 48: an agent with points here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentPoints {
    /// The agent.
    pub agent_id: Text<AgentId>,
    /// Its name for people.
    pub display_name: String,
    /// Its points.
    pub recovery_point_count: u32,
    /// When the oldest was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_rp_timestamp: Option<Time>,
    /// When the newest was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_rp_timestamp: Option<Time>,
}

/// Row 1: a seed drive that the target has consumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumedSeedDrive {
    /// The drive, as its source named it.
    pub id: String,
    /// When it was consumed.
    pub consumed_at: Time,
    /// When its oldest point was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_rp_timestamp: Option<Time>,
    /// When its newest point was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rp_timestamp: Option<Time>,
}

open_enum! {
    /// Whether a repository can take data.
    RepositoryState {
        /// It can.
        Online,
        /// It cannot: an operator must act.
        Offline,
        /// It can be read only.
        ReadOnly,
    } else
    /// A word of a later version.
    Unknown
}

/// Row 50: a repository that is offered to the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferedRepository {
    /// The repository.
    pub id: Text<RepositoryId>,
    /// Its name for people.
    pub name: String,
    /// What it is made of, as a word: `local`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// As in [`FreeSpace`].
    pub bytes_free: Big,
    /// As in [`FreeSpace`].
    pub bytes_used: Big,
    /// Whether it only receives replicas.
    #[serde(default)]
    pub is_replication_only: bool,
    /// Whether it can take data.
    #[serde(default)]
    pub state: RepositoryState,
}

endpoint! {
    /// Row 1: seed drives consumed for the agent.
    ListConsumedSeedDrives = rows::R01, OfAgent, () => Json<Vec<ConsumedSeedDrive>>
}
endpoint! {
    /// Rows 9, 10 and 11 as the target serves them: one handler, chosen by [`View`].
    ListAgents = rows::R09, View, () => Json<AgentLists>
}
endpoint! {
    /// Row 9, as a source asks.
    ListReplicatedAgents = rows::R09, ViewReplicated, () => Json<Vec<ReplicatedAgent>>
}
endpoint! {
    /// Row 10, as a source asks.
    ListAgentStorage = rows::R10, ViewStorage, () => Json<Vec<AgentStorageUsage>>
}
endpoint! {
    /// V1: row 10 under its other name.
    ListAgentStorageToo = rows::V1, (), () => Json<Vec<AgentStorageUsage>>
}
endpoint! {
    /// Row 11, as a source asks.
    ListVisibleAgents = rows::R11, ViewAll, () => Json<Vec<VisibleAgent>>
}
endpoint! {
    /// V2: row 11 under its other name.
    ListVisibleAgentsToo = rows::V2, (), () => Json<Vec<VisibleAgent>>
}
endpoint! {
    /// Row 12: deletes the agent's points; how long they are kept back is the target's policy.
    DeleteAgent = rows::R12, OfAgent, () => ()
}
endpoint! {
    /// Row 13: room for the agent.
    AskFreeSpace = rows::R13, OfAgent, () => Json<FreeSpace>
}
endpoint! {
    /// V3: row 13 under its other name.
    AskFreeSpaceToo = rows::V3, OfAgent, () => Json<FreeSpace>
}
endpoint! {
    /// Row 20: images whose base or predecessor is absent.
    ListOrphans = rows::R20, Paged<OfAgent>, () => Json<Page<VolumeImageSummary>>
}
endpoint! {
    /// Row 21: all committed images of the agent.
    ListImages = rows::R21, Paged<OfAgent>, () => Json<Page<VolumeImageSummary>>
}
endpoint! {
    /// Row 22: may a replication start now.
    VerifyReplication = rows::R22, OfAgent, () => Json<CanReplicate>
}
endpoint! {
    /// Row 23: all recovery points of the agent, newest first.
    ListPoints = rows::R23, Paged<OfAgent>, () => Json<Page<RecoveryPointSummary>>
}
endpoint! {
    /// Row 24: their number.
    CountPoints = rows::R24, OfAgent, () => Json<u32>
}
endpoint! {
    /// Row 25: one page of them.
    ListPointsPage = rows::R25, PageOfPoints, () => Json<Page<RecoveryPointSummary>>
}
endpoint! {
    /// Row 48: agents that have points here, replicated or not.
    ListAgentsWithPoints = rows::R48, Paged<()>, () => Json<Page<AgentPoints>>
}
endpoint! {
    /// Row 50: repositories that are offered to the caller.
    ListRepositories = rows::R50, (), () => Json<Vec<OfferedRepository>>
}
