//! How volumes are cut and packed, and the sums that are kept while it happens.

/// How volumes are cut and packed. What a volume was first protected with, its chain keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of a record: a power of two from 4 KiB to 1 MiB.
    pub record_bytes: u32,
    /// Bytes of a group before compression, at most 1 MiB.
    pub group_bytes: u32,
    /// The zstd level.
    pub level: i32,
    /// Threads that hash and compress.
    pub n_workers: usize,
}

impl Settings {
    /// The values the product is shipped with, for a machine of so many processors.
    #[must_use]
    pub fn shipped(n_processors: usize) -> Self {
        let n_workers = n_processors.clamp(1, 8);
        Self { record_bytes: 16 << 10, group_bytes: 256 << 10, level: 1, n_workers }
    }
}

/// What was read and stored, over all volumes of a point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) logical_bytes: u64,
    pub(crate) read_bytes: u64,
    pub(crate) new_bytes: u64,
    pub(crate) stored_bytes: u64,
}
