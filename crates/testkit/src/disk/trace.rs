//! The record of calls, for oracles that check an order.

use std::path::PathBuf;

/// A call that changed something, or a remark of the test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A file was made.
    Create(PathBuf),
    /// A file was opened that was there.
    Open(PathBuf),
    /// Bytes were written.
    Write {
        /// The file, by its name at the time.
        path: PathBuf,
        /// The first byte.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// A length was set.
    Resize(PathBuf, u64),
    /// A file was synced, successfully.
    Sync(PathBuf),
    /// A directory was made.
    CreateDir(PathBuf),
    /// A directory was synced, successfully.
    SyncDir(PathBuf),
    /// A file was renamed.
    Rename(PathBuf, PathBuf),
    /// A file or directory was removed.
    Remove(PathBuf),
    /// A remark.
    Mark(String),
}

/// A call and its place among the changing calls of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Changing calls up to and with this one.
    pub n_changes: u64,
    /// The call.
    pub call: Call,
}
