//! What both daemons answer about taking space back and looking for damage.
//!
//! Both answer with a stream of [`super::protection::Event`]s.
//!
//! **Absent:** retention, which decides what may go.

use offsite_model::{ImageId, PointId, TenantId, VolumeId};
use serde::{Deserialize, Serialize};

use crate::admin::protection::DamagedPart;
use crate::endpoint::{Access, Action, Class, Listener, Method, Params, Row, Values};
use crate::error::Refusal;
use crate::text::{Big, Text, Time};

macro_rules! upkeep_rows {
    ($(
        $name:ident: $id:literal $path:literal [$($query:literal),*] $listener:ident $action:ident;
    )*) => {
        $(
            #[doc = concat!("The call `", $id, "`: `", $path, "`.")]
            pub const $name: Row = Row {
                id: $id,
                method: Method::Post,
                path: $path,
                query: &[$($query),*],
                access: Access::AnyOf(&[Class::Token]),
                action: Action::$action,
                listener: Listener::$listener,
                request_bytes_max: 0,
            };
        )*
    };
}

upkeep_rows! {
    SOURCE_GC: "S-gc" "/api/v1/gc" ["all"] Source SourceOperator;
    SOURCE_SCRUB: "S-scrub" "/api/v1/scrub" [] Source SourceOperator;
    TARGET_GC: "T-gc" "/api/v1/gc" ["all"] Operator Upkeep;
    TARGET_SCRUB: "T-scrub" "/api/v1/scrub" [] Operator Upkeep;
}

/// The calls of the source.
pub const SOURCE_ROWS: &[Row] = &[SOURCE_GC, SOURCE_SCRUB];
/// The calls of the target.
pub const TARGET_ROWS: &[Row] = &[TARGET_GC, TARGET_SCRUB];

/// How thoroughly space is taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfGc {
    /// Empties segments of which little is garbage as well.
    pub all: bool,
}

impl Params for OfGc {
    fn read(values: &Values) -> Result<Self, Refusal> {
        Ok(Self { all: values.flag("all", Some(false))? })
    }

    fn write(&self, values: &mut Values) {
        if self.all {
            values.insert("all", "true");
        }
    }
}

/// Garbage that stays, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftBehind {
    /// `in_use`, `open`, `mostly_alive`, `damaged`, `not_healed`, `no_space` or `next_run`.
    pub why: String,
    /// Segments.
    pub segments: u64,
    /// About how many bytes of garbage they hold, where that is known.
    pub bytes: Big,
}

/// What came of a collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Collected {
    /// Deleted recovery points that were removed for good before.
    pub points_purged: u64,
    /// Segments removed.
    pub segments: u64,
    /// Manifests removed.
    pub manifests: u64,
    /// Bytes of what was removed.
    pub bytes_freed: Big,
    /// Bytes that were written elsewhere before.
    pub bytes_moved: Big,
    /// Of the bytes removed, those that readers still hold.
    pub bytes_waiting: Big,
    /// Bytes that lie in quarantine since something in them is damaged.
    pub bytes_quarantined: Big,
    /// Garbage that stays.
    pub left: Vec<LeftBehind>,
    /// Why nothing was taken of a part of the store, in words, a tenant each.
    pub doubts: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// What a scrub read and found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrubbed {
    /// When the pass began.
    pub began_at: Time,
    /// When it ended; absent while it goes on.
    pub ended_at: Option<Time>,
    /// Bytes read.
    pub bytes: Big,
    /// Groups of records that were decoded and compared with their keys.
    pub groups: u64,
    /// Recovery points that were walked.
    pub points: u64,
    /// Parts that were found damaged.
    pub damaged: u64,
    /// The first of them.
    pub damage: Vec<DamagedPart>,
}

/// An image that is whole and that the journal of its store does not name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInDoubt {
    /// Whose it would be.
    pub tenant: Text<TenantId>,
    /// The recovery point it would belong to.
    pub point: Text<PointId>,
    /// The image.
    pub image: Text<ImageId>,
    /// The volume it shows.
    pub volume: Text<VolumeId>,
    /// Size of the volume.
    pub bytes: Big,
    /// Its manifest in the store's directory.
    pub file: String,
}

/// What a rebuild of a store's catalog and index came to. A command prints it; no call answers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rebuilt {
    /// Whether the catalog was made again; else it was whole and the index alone was.
    pub catalog_made: bool,
    /// Entries of the journal that were replayed.
    pub entries: u64,
    /// Bytes of the journal that were not believed.
    pub journal_left: Big,
    /// Recovery points, deleted ones included.
    pub points: u64,
    /// Of these, deleted, to be undeleted or removed for good in their time.
    pub points_deleted: u64,
    /// Recovery points that were removed for good and stay so.
    pub points_purged: u64,
    /// Locks of tenants and agents that hold.
    pub locks: u64,
    /// Images that nobody is shown.
    pub in_doubt: Vec<ImageInDoubt>,
    /// Files that are missing or too short.
    pub missing: u64,
    /// The first of them.
    pub missing_files: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// The last collection, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCollection {
    /// When it ended.
    pub at: Time,
    /// Bytes of what was removed.
    pub bytes_freed: Big,
    /// Bytes that were written elsewhere before.
    pub bytes_moved: Big,
    /// Parts of the store of which nothing could be taken.
    pub doubts: u64,
}

/// When a store is full, if the trend of the last days goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// Days until then.
    pub full_in_days: u64,
    /// By how much it grows.
    pub bytes_per_day: Big,
    /// Days from which that is told.
    pub days_seen: u64,
    /// How sure that is: `well`, `fairly` or `hardly`.
    pub sure: String,
}

/// How upkeep stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upkeep {
    /// The last collection.
    pub collected: Option<LastCollection>,
    /// The last scrub that came to its end.
    pub scrubbed: Option<Scrubbed>,
    /// The scrub that goes on, or waits to be gone on with.
    pub scrubbing: Option<Scrubbed>,
    /// When the store is full; absent where that cannot be told, or it does not grow.
    #[serde(default)]
    pub forecast: Option<Forecast>,
}
