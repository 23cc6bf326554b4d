//! The store's tables in the catalog, and what a journal entry says.
//!
//! [`apply`] is the one place where an entry becomes rows: the commit and the recovery of a catalog
//! that lost one both go through it, so they cannot differ.

use offsite_model::{AgentId, Digest, ImageId, PointId, TenantId, Timestamp, VolumeId};
use serde::{Deserialize, Serialize};

use crate::catalog::{
    CatalogError, RowsMut, Table, TypedRows, TypedRowsMut, VALUE_BYTES_MAX, Value, decode_value,
    encode_value,
};
use crate::locks::{self, Lock};

pub(crate) const STATE: Table = Table::new("store.state");
pub(crate) const POINTS: Table = Table::new("store.points");
pub(crate) const TOKENS: Table = Table::new("store.tokens");
pub(crate) const SEGMENTS: Table = Table::new("store.segments");
pub(crate) const MANIFESTS: Table = Table::new("store.manifests");
pub(crate) const ENTRIES: Table = Table::new("store.entries");
pub(crate) const PURGED: Table = Table::new("store.purged");
pub(crate) const COLLECT: Table = Table::new("store.collect");
pub(crate) const STATE_KEY: &[u8] = b"state";

/// Most images of a point.
pub const IMAGES_MAX: usize = 256;
/// Most bytes of a point's note.
pub const NOTE_BYTES_MAX: usize = 64 << 10;

/// The one row of [`STATE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateRow {
    pub(crate) fence: u64,
    pub(crate) next_number: u32,
    /// The newest journal entry that the catalog knows.
    pub(crate) entry: u64,
    pub(crate) entry_digest: [u8; 32],
    /// The newest entry known to be durable in the journal, and the journal's length up to it.
    pub(crate) synced_entry: u64,
    pub(crate) synced_digest: [u8; 32],
    pub(crate) synced_bytes: u64,
}

impl Value for StateRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 256;
}

/// One volume of a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRow {
    pub(crate) image: [u8; 16],
    pub(crate) volume: [u8; 16],
    pub(crate) bytes: u64,
    pub(crate) record_bytes: u32,
    pub(crate) is_encrypted: bool,
    pub(crate) manifest: u32,
    pub(crate) root_offset: u64,
    pub(crate) root_bytes: u32,
    pub(crate) root_digest: [u8; 32],
    pub(crate) list_digest: [u8; 32],
}

impl ImageRow {
    pub(crate) const fn image(&self) -> ImageId {
        ImageId::from_bytes(self.image)
    }

    pub(crate) const fn volume(&self) -> VolumeId {
        VolumeId::from_bytes(self.volume)
    }
}

/// A recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PointRow {
    pub(crate) agent: [u8; 16],
    pub(crate) taken_at: i64,
    pub(crate) committed_at: i64,
    pub(crate) n_images: u32,
    pub(crate) images: Vec<ImageRow>,
    pub(crate) note: Vec<u8>,
    pub(crate) deleted_at: Option<i64>,
}

impl PointRow {
    pub(crate) const fn agent(&self) -> AgentId {
        AgentId::from_bytes(self.agent)
    }

    /// Whose it is, and the moment from which its lock counts.
    pub(crate) const fn counts_from(&self) -> (AgentId, Timestamp) {
        (self.agent(), Timestamp::from_micros(self.committed_at))
    }

    pub(crate) const fn taken_at(&self) -> Timestamp {
        Timestamp::from_micros(self.taken_at)
    }
}

impl Value for PointRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = NOTE_BYTES_MAX + IMAGES_MAX * 256 + 256;
}

/// What came of a commit, kept under its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenRow {
    pub(crate) point: [u8; 16],
    pub(crate) digest: [u8; 32],
    pub(crate) entry: u64,
    pub(crate) committed_at: i64,
}

impl Value for TokenRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 128;
}

/// A point that was purged: its id is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PurgedRow {
    pub(crate) at: i64,
}

impl Value for PurgedRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 32;
}

/// A committed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentRow {
    pub(crate) tenant: [u8; 16],
    pub(crate) bytes: u64,
    pub(crate) is_closed: bool,
}

impl Value for SegmentRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64;
}

/// A committed manifest file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestRow {
    pub(crate) tenant: [u8; 16],
    pub(crate) point: [u8; 16],
    pub(crate) bytes: u64,
}

impl Value for ManifestRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64;
}

/// A commit, whole: enough to make its rows again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommitEntry {
    pub(crate) tenant: [u8; 16],
    pub(crate) point: [u8; 16],
    pub(crate) token: [u8; 16],
    pub(crate) digest: [u8; 32],
    /// The point with the images of this commit alone.
    pub(crate) row: PointRow,
    /// Number, durable bytes, closed.
    pub(crate) segments: Vec<(u32, u64, bool)>,
    /// Number, bytes.
    pub(crate) manifests: Vec<(u32, u64)>,
}

/// What a journal entry records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Happening {
    /// Images of a point were committed.
    Commit(CommitEntry),
    /// A point was marked as deleted.
    Delete { tenant: [u8; 16], point: [u8; 16], at: i64 },
    /// The mark was taken back.
    Undelete { tenant: [u8; 16], point: [u8; 16], at: i64 },
    /// Segments of a commit that has more of them than one entry holds; the commit follows, in the
    /// same transaction. Number, durable bytes, closed.
    Segments { tenant: [u8; 16], segments: Vec<(u32, u64, bool)> },
    /// A point that was marked as deleted was removed for good. Of version 2, like all below.
    Purge { tenant: [u8; 16], point: [u8; 16], at: i64 },
    /// Segments and manifests that nothing refers to have no rows any more.
    Collect { tenant: [u8; 16], segments: Vec<u32>, manifests: Vec<u32> },
    /// The lock of a tenant (agent 0) or of one agent was set. Of version 3.
    Lock { tenant: [u8; 16], agent: [u8; 16], lock: Lock, at: i64 },
}

impl Happening {
    /// The version of an entry that says this: programs that know only earlier ones must not pass
    /// it over.
    const fn version(&self) -> u8 {
        match self {
            Self::Commit(_) | Self::Delete { .. } | Self::Undelete { .. } => Entry::VERSION,
            Self::Segments { .. } => Entry::VERSION,
            Self::Purge { .. } | Self::Collect { .. } => LaterEntry::VERSION,
            Self::Lock { .. } => LockEntry::VERSION,
        }
    }
}

/// A journal entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) previous: [u8; 32],
    pub(crate) happening: Happening,
}

impl Value for Entry {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = VALUE_BYTES_MAX;
}

/// An entry of version 2: the same layout, with kinds that version 1 does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct LaterEntry(pub(crate) Entry);

impl Value for LaterEntry {
    const VERSION: u8 = 2;
    const BYTES_MAX: usize = VALUE_BYTES_MAX;
}

/// An entry of version 3: the same layout again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct LockEntry(pub(crate) Entry);

impl Value for LockEntry {
    const VERSION: u8 = 3;
    const BYTES_MAX: usize = VALUE_BYTES_MAX;
}

/// The one row of [`COLLECT`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CollectRow {
    /// Collections that took something, so far.
    pub(crate) epoch: u64,
}

impl Value for CollectRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64;
}

/// Segments that one journal entry names; a commit with more of them is preceded by others.
#[cfg(not(test))]
pub(crate) const ENTRY_SEGMENTS_MAX: usize = 16_384;
#[cfg(test)]
pub(crate) const ENTRY_SEGMENTS_MAX: usize = 2;

pub(crate) fn point_key(tenant: TenantId, point: PointId) -> [u8; 32] {
    pair(tenant.to_bytes(), point.to_bytes())
}

pub(crate) fn token_key(tenant: TenantId, token: [u8; 16]) -> [u8; 32] {
    pair(tenant.to_bytes(), token)
}

fn pair(a: [u8; 16], b: [u8; 16]) -> [u8; 32] {
    let mut key = [0; 32];
    let (first, second) = key.split_at_mut(16);
    first.copy_from_slice(&a);
    second.copy_from_slice(&b);
    key
}

pub(crate) const fn number_key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

/// The entry's bytes as they stand in the journal and in [`ENTRIES`], and their digest.
pub(crate) fn encode_entry(entry: &Entry) -> Result<(Vec<u8>, Digest), CatalogError> {
    let bytes = match entry.happening.version() {
        Entry::VERSION => encode_value(ENTRIES, entry)?,
        LaterEntry::VERSION => encode_value(ENTRIES, &LaterEntry(entry.clone()))?,
        _ => encode_value(ENTRIES, &LockEntry(entry.clone()))?,
    };
    let digest = Digest::of(&bytes);
    Ok((bytes, digest))
}

/// The entry with these bytes. Each kind is read under its own version alone.
pub(crate) fn decode_entry(bytes: &[u8]) -> Result<Entry, CatalogError> {
    let entry = match bytes.first() {
        Some(&Entry::VERSION) => decode_value::<Entry>(ENTRIES, bytes)?,
        Some(&LaterEntry::VERSION) => decode_value::<LaterEntry>(ENTRIES, bytes)?.0,
        _ => decode_value::<LockEntry>(ENTRIES, bytes)?.0,
    };
    match bytes.first() == Some(&entry.happening.version()) {
        true => Ok(entry),
        false => Err(CatalogError::Damaged("a journal entry under another version".to_owned())),
    }
}

/// Makes the rows that an entry stands for. Applying an entry twice changes nothing the second
/// time.
pub(crate) fn apply(rows: &mut dyn RowsMut, entry: &Entry) -> Result<(), CatalogError> {
    match &entry.happening {
        Happening::Commit(commit) => apply_commit(rows, entry.number, commit),
        Happening::Delete { tenant, point, at } => mark(rows, *tenant, *point, Some(*at)),
        Happening::Undelete { tenant, point, .. } => mark(rows, *tenant, *point, None),
        Happening::Segments { tenant, segments } => put_segments(rows, *tenant, segments),
        Happening::Purge { tenant, point, at } => {
            let (tenant, point) = (TenantId::from_bytes(*tenant), PointId::from_bytes(*point));
            rows.remove(POINTS, &point_key(tenant, point))?;
            rows.put_value(PURGED, &point_key(tenant, point), &PurgedRow { at: *at })
        }
        Happening::Collect { segments, manifests, .. } => {
            for number in segments {
                rows.remove(SEGMENTS, &number_key(*number))?;
            }
            for number in manifests {
                rows.remove(MANIFESTS, &number_key(*number))?;
            }
            Ok(())
        }
        Happening::Lock { tenant, agent, lock, .. } => locks::apply(rows, *tenant, *agent, *lock),
    }
}

fn apply_commit(
    rows: &mut dyn RowsMut,
    entry: u64,
    commit: &CommitEntry,
) -> Result<(), CatalogError> {
    let tenant = TenantId::from_bytes(commit.tenant);
    let key = point_key(tenant, PointId::from_bytes(commit.point));
    let mut row = commit.row.clone();
    if let Some(before) = rows.value::<PointRow>(POINTS, &key)? {
        let added = std::mem::replace(&mut row.images, before.images);
        for image in added {
            if !row.images.contains(&image) {
                row.images.push(image);
            }
        }
        row.deleted_at = before.deleted_at;
    }
    rows.put_value(POINTS, &key, &row)?;
    let token = TokenRow {
        point: commit.point,
        digest: commit.digest,
        entry,
        committed_at: commit.row.committed_at,
    };
    rows.put_value(TOKENS, &token_key(tenant, commit.token), &token)?;
    put_segments(rows, commit.tenant, &commit.segments)?;
    for &(number, bytes) in &commit.manifests {
        let row = ManifestRow { tenant: commit.tenant, point: commit.point, bytes };
        rows.put_value(MANIFESTS, &number_key(number), &row)?;
    }
    Ok(())
}

fn put_segments(
    rows: &mut dyn RowsMut,
    tenant: [u8; 16],
    segments: &[(u32, u64, bool)],
) -> Result<(), CatalogError> {
    for &(number, bytes, is_closed) in segments {
        let key = number_key(number);
        // Two commits may name one segment while it grows; its longest durable length counts.
        let before = rows.value::<SegmentRow>(SEGMENTS, &key)?;
        if before.is_none_or(|before| before.bytes < bytes) {
            let row = SegmentRow { tenant, bytes, is_closed };
            rows.put_value(SEGMENTS, &key, &row)?;
        }
    }
    Ok(())
}

fn mark(
    rows: &mut dyn RowsMut,
    tenant: [u8; 16],
    point: [u8; 16],
    at: Option<i64>,
) -> Result<(), CatalogError> {
    let key = point_key(TenantId::from_bytes(tenant), PointId::from_bytes(point));
    match rows.value::<PointRow>(POINTS, &key)? {
        None => Ok(()),
        Some(row) => rows.put_value(POINTS, &key, &PointRow { deleted_at: at, ..row }),
    }
}
