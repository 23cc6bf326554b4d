//! Reading back and healing: H1 and H2.

use offsite_model::{AgentId, ImageId, Key, PointId, VolumeId};
use serde::{Deserialize, Serialize};

use crate::catalog::OfAgent;
use crate::json::Json;
use crate::page::{Page, Paged};
use crate::rows;
use crate::stream::StreamKind;
use crate::text::{Big, Text, Time};
use crate::{endpoint, params, stream_endpoint};

/// H1: a record of the caller's own that the target has no good copy of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DamagedRecord {
    /// The image, ordered by which the list comes.
    pub image_id: Text<ImageId>,
    /// Its volume.
    pub driver_volume_id: Text<VolumeId>,
    /// Its number in the chain.
    pub epoch_number: u32,
    /// Its point.
    pub recovery_point_id: Text<PointId>,
    /// Index in the image's list.
    pub ordinal: Big,
    /// Offset in the volume.
    pub offset: Big,
    /// Bytes of the record.
    pub length: u32,
    /// Its key.
    pub key: Text<Key>,
    /// When the damage was found.
    pub found_at: Time,
}

params! {
    /// The path of H2.
    OfPoint {
        /// The agent.
        agent: AgentId = "agentId",
        /// The point.
        point: PointId = "recoveryPointId",
    }
}

/// Which list of a volume is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WhichList {
    /// The image's own list: the positions it changed.
    Image,
    /// The whole volume at this point, inherited positions included.
    Volume,
}

/// A run of ordinals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrdinalRange {
    /// The first.
    pub first: Big,
    /// How many, at least 1.
    pub count: Big,
}

/// Ranges of one call of H2.
pub const RANGES_MAX: usize = 4_096;

/// Ordinals whose records one call of H2 may ask for; of keys alone there is no such bound.
pub const ORDINALS_WITH_RECORDS_MAX: u64 = 1 << 18;

/// H2: records of an own point, by ordinals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadRecords {
    /// The volume.
    pub driver_volume_id: Text<VolumeId>,
    /// Which of its lists the ordinals count in.
    pub list: WhichList,
    /// What to read, ascending and apart, at most [`RANGES_MAX`]; ordinals beyond the end of the
    /// list are left out.
    pub ranges: Vec<OrdinalRange>,
    /// Whether only the keys are wanted.
    #[serde(default)]
    pub keys_only: bool,
}

/// The header of H2's answer: digest of the whole list by the rule of `imageDigest`.
pub const LIST_DIGEST_HEADER: &str = "offsite-list-digest";
/// The header of H2's answer: entries of the whole list.
pub const LIST_COUNT_HEADER: &str = "offsite-list-count";
/// The header of H2's answer: size of the volume in bytes.
pub const VOLUME_BYTES_HEADER: &str = "offsite-volume-bytes";
/// The header of H2's answer: bytes of all records of the list, the zeros left out.
pub const RECORD_BYTES_HEADER: &str = "offsite-record-bytes";

endpoint! {
    /// H1: records of own points that are damaged here.
    ListDamaged = rows::H1, Paged<OfAgent>, () => Json<Page<DamagedRecord>>
}
stream_endpoint! {
    /// H2: KEYS frames of the ranges, then RECORDS frames. The preamble carries the first 8 bytes
    /// of the point's id.
    ReadBack = rows::H2, OfPoint, Body(Json<ReadRecords>) => StreamKind::Records
}
