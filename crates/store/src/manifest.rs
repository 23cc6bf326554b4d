//! Manifests: which record stands at which position of an image, in pages shared with the parent.
//!
//! [`ImageWriter`] takes an image's list in order and writes the pages that differ from the
//! parent's; [`Image`] reads them back, each page compared with the digest its root states.
//! Every image is complete by itself: its root refers to all its pages wherever they lie.
//!
//! **Absent:** records: whether a key is stored is asked by `commit`.

mod changes;
pub(crate) mod page;
mod read;
mod write;

use offsite_model::{ImageId, Key, VolumeId};

pub use changes::Changes;
pub use read::Image;
pub(crate) use read::{ManifestFiles, ROOT_BYTES_MAX, is_none};
pub use write::ImageWriter;
pub(crate) use write::Prepared;

use crate::group::Form;

/// Positions of a page.
pub(crate) const PAGE_POSITIONS: u64 = 4096;
/// A run of zeros is cut at multiples of this.
const ZERO_RUN_BYTES: u64 = 2 << 30;
/// Smallest and largest size of a record.
pub const RECORD_BYTES_RANGE: std::ops::RangeInclusive<u32> = 4096..=1 << 20;

/// One entry of an image's list: a record, or a run of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// Where it begins in the volume, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u32,
    /// The record's key; [`Key::ZERO`] for a run of zeros.
    pub key: Key,
}

/// What an image is, before its list is known.
#[derive(Clone, Copy, Debug)]
pub struct ImageSpec {
    /// Its id.
    pub image: ImageId,
    /// The volume it shows.
    pub volume: VolumeId,
    /// Size of the volume in bytes.
    pub bytes: u64,
    /// Size of its records: a power of two within [`RECORD_BYTES_RANGE`]; the same as the parent's.
    pub record_bytes: u32,
    /// What its keys are the hash of.
    pub form: Form,
}

/// Positions of a volume of this size.
pub(crate) const fn n_positions(bytes: u64, record_bytes: u32) -> u64 {
    bytes.div_ceil(record_bytes as u64)
}

/// Length of the record at a position.
pub(crate) fn length_at(position: u64, bytes: u64, record_bytes: u32) -> u32 {
    let rest = bytes.saturating_sub(position.saturating_mul(u64::from(record_bytes)));
    u32::try_from(rest).map_or(record_bytes, |rest| rest.min(record_bytes))
}
