//! The transfer of one volume image: rows 56, 5, 6, 52, 8, 57, 47 and 7.
//!
//! A session is opened under what the source already knows of the image (its list's digest, its
//! number of entries, a token for the commit), so that every call can be repeated and no answer is
//! lost for good.

use offsite_model::{AgentId, Digest, ImageId, JobId, PointId, SessionId, VolumeId};
use serde::{Deserialize, Serialize};

use crate::catalog::RollupGranularityCell;
use crate::endpoint::{Body, Media, Params, Values};
use crate::error::Refusal;
use crate::json::Json;
use crate::rows;
use crate::stream::StreamKind;
use crate::text::{Big, Text, Time};
use crate::{endpoint, params, stream_endpoint};

open_enum! {
    /// What an image is to its chain.
    ImageType {
        /// The whole volume.
        Base,
        /// The positions changed since its parent.
        Incremental,
        /// Not a new image: good copies of damaged records of a committed one.
        Heal,
    } else
    /// Not said, or a word of a later version.
    None
}

/// Row 56: opens a session for one volume image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenSession {
    /// The agent.
    pub agent_id: Text<AgentId>,
    /// The source's job.
    pub job_id: Text<JobId>,
    /// The point the image belongs to.
    pub recovery_point_id: Text<PointId>,
    /// The image's id, made by the source.
    pub image_id: Text<ImageId>,
    /// The volume.
    pub volume_driver_id: Text<VolumeId>,
    /// The image's number in the chain of its volume.
    pub epoch_number: u32,
    /// Number of the image it refers to; absent for a base image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_epoch_number: Option<u32>,
    /// Id of the image it refers to; absent for a base image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_image_id: Option<Text<ImageId>>,
    /// `imageDigest` of the image it refers to; absent for a base image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_image_digest: Option<Text<Digest>>,
    /// What the image is.
    #[serde(default)]
    pub image_type: ImageType,
    /// Bytes of the volume.
    pub size_bytes: Big,
    /// Bytes of a record, a power of two from 4 KiB to 1 MiB; only the last of a volume may be
    /// shorter.
    pub record_size: u32,
    /// Entries of the image's list.
    pub record_count: Big,
    /// BLAKE3-256 over that list; for a heal session that of the committed image.
    pub image_digest: Text<Digest>,
    /// Name of the key the source encrypted the records with; absent = they are plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_key_id: Option<String>,
    /// Carried for the source.
    #[serde(default)]
    pub rollup_granularity_cell: RollupGranularityCell,
    /// When the image was taken.
    pub utc_created_timestamp: Time,
    /// Images that the point will have.
    pub volume_image_count: u32,
    /// 128 bits made by the source for this image, in the form of a GUID: asking to commit again
    /// under it repeats the first answer.
    pub commit_token: Text<CommitToken>,
    /// Carried for the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_hash: Option<String>,
    /// Carried for the source; proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_image_hash: Option<i32>,
    /// Whether the image may land without its parent, which is on its way on a seed drive.
    #[serde(default)]
    pub allow_orphan: bool,
    /// What people call the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// 128 bits under which a commit is known, made by the source.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitToken([u8; 16]);

impl CommitToken {
    /// The token with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl std::fmt::Display for CommitToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        SessionId::from_bytes(self.0).fmt(f)
    }
}

impl std::fmt::Debug for CommitToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for CommitToken {
    type Err = offsite_model::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        SessionId::from_str(text).map(|id| Self(id.to_bytes()))
    }
}

open_enum! {
    /// Where a session stands.
    SessionState {
        /// Opened, nothing offered.
        Open,
        /// Keys were offered.
        Transferring,
        /// The commit runs.
        Committing,
        /// Committed: there is nothing left to do.
        Committed,
        /// Ended without commit.
        Aborted,
        /// Idle for too long.
        Expired,
    } else
    /// Ended by an error; also a word of a later version.
    Failed
}

/// The answer to row 56: 201 for a new session, 200 for one that was open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionOpened {
    /// The session.
    pub session_id: Text<SessionId>,
    /// When it expires if nothing happens.
    pub expires_at: Time,
    /// `blake3-256`.
    pub hash_algorithm: String,
    /// Bytes of a frame's payload.
    pub max_frame_bytes: u32,
    /// Record streams at once.
    pub max_parallel_streams: u32,
    /// Keys of a window.
    pub window_keys: u32,
    /// Windows that may be undecided at once.
    pub windows_in_flight: u32,
    /// Bytes of RECORDS payloads granted from now on. Counting starts at 0 with every answer to row
    /// 56.
    pub initial_credit: Big,
    /// Whether what was transferred earlier under the same image counts: the bitmap of row 52 or 8
    /// may be used. When false, everything is offered again.
    pub resumed: bool,
    /// Where the session stands: `Open` or `Transferring`, or a commit that runs or is done
    /// already.
    #[serde(default = "open_state")]
    pub state: SessionState,
}

const fn open_state() -> SessionState {
    SessionState::Open
}

/// The only `hashAlgorithm` there is.
pub const HASH_ALGORITHM: &str = "blake3-256";

params! {
    /// The three ids of a session's path, which must belong together.
    InSession {
        /// The agent.
        agent: AgentId = "agentId",
        /// The job.
        job: JobId = "jobId",
        /// The session.
        session: SessionId = "sessionId",
    }
}

params! {
    /// The path of row 52.
    OfSession {
        /// The session.
        session: SessionId = "sessionId",
    }
}

params! {
    /// The path of row 8.
    OfImage {
        /// The agent.
        agent: AgentId = "agentId",
        /// The volume.
        volume: VolumeId = "volumeDriverId",
        /// The image's number.
        epoch: u32 = "epochNumber",
    }
}

/// Rows 7 and 57: which session, and whether what it holds shall become visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndSession {
    /// The session.
    pub session: InSession,
    /// Commit or abort. It must be said: nobody may guess whether an image should become visible.
    pub commit: bool,
}

impl Params for EndSession {
    fn read(values: &Values) -> Result<Self, Refusal> {
        Ok(Self { session: InSession::read(values)?, commit: values.flag("commit", None)? })
    }

    fn write(&self, values: &mut Values) {
        self.session.write(values);
        values.insert("commit", self.commit.to_string());
    }
}

/// Seconds that row 47 may be asked to wait.
pub const POKE_WAIT_SECS_MAX: u32 = 30;

/// Row 47: which session, and how long to wait for the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poke {
    /// The session.
    pub session: InSession,
    /// Seconds, at most [`POKE_WAIT_SECS_MAX`]; more is read as that.
    pub wait_secs: u32,
}

impl Params for Poke {
    fn read(values: &Values) -> Result<Self, Refusal> {
        let wait_secs = values.parse_optional::<u32>("wait")?.unwrap_or(0);
        Ok(Self { session: InSession::read(values)?, wait_secs: wait_secs.min(POKE_WAIT_SECS_MAX) })
    }

    fn write(&self, values: &mut Values) {
        self.session.write(values);
        if self.wait_secs > 0 {
            values.insert("wait", self.wait_secs.to_string());
        }
    }
}

/// A bitmap in the layout of [`crate::bitmap`], not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitmapBody(pub Vec<u8>);

impl Body for BitmapBody {
    const MEDIA: Media = Media::Bitmap;

    fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        Ok(Self(bytes.to_vec()))
    }

    fn encode(&self) -> Vec<u8> {
        self.0.clone()
    }
}

endpoint! {
    /// Row 56: opens a session, or answers with the one that is open for this image.
    Open = rows::R56, (), Json<OpenSession> => Json<SessionOpened>
}
stream_endpoint! {
    /// Row 5: windows of keys up; what the target wants of each, and credit, down.
    OfferKeys = rows::R05, InSession, Stream(StreamKind::Keys) => StreamKind::Wanted
}
stream_endpoint! {
    /// Row 6: groups up; credit and what is durable down.
    SendRecords = rows::R06, InSession, Stream(StreamKind::Records) => StreamKind::Receipt
}
endpoint! {
    /// Row 52: what of the image is durable, while the session lives.
    TransferredBlocks = rows::R52, OfSession, () => BitmapBody
}
endpoint! {
    /// Row 8: the same by image, when the session is gone.
    TransferredBlocksOfImage = rows::R08, OfImage, () => BitmapBody
}
endpoint! {
    /// Row 57: starts ending the session and returns at once.
    StartEnd = rows::R57, EndSession, () => ()
}
endpoint! {
    /// Row 47: how the commit stands; false = it runs, true = committed.
    AskCommitted = rows::R47, Poke, () => Json<bool>
}
endpoint! {
    /// Row 7: ends the session and waits for the outcome.
    End = rows::R07, EndSession, () => ()
}
