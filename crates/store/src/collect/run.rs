//! What a collection is asked for, what it tells, and what its steps share.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use offsite_model::TenantId;

use super::live::Live;
use crate::error::StoreError;
use crate::store::{Core, Store};

/// Stored bytes that are moved before their new places are made durable and used.
pub(super) const PORTION_BYTES: u64 = 128 << 20;

/// How a collection weighs space against work.
#[derive(Clone, Copy, Debug)]
pub struct CollectOptions {
    /// A segment of which fewer percent are alive is emptied, and of a group of which fewer percent
    /// are alive the live records alone are moved, put together with others. 100 frees everything;
    /// 0 takes those segments alone that are wholly dead, and moves nothing.
    pub live_percent: u8,
    /// Stored bytes that one run moves at most; what is left over waits for the next.
    pub moved_bytes_max: u64,
    /// Memory for what is alive. With less than 24 bits per stored record more garbage stays.
    pub filter_bytes_max: u64,
    /// zstd level of groups that are made anew of small rests.
    pub level: i32,
    /// The tenant whose space is collected; none for all at once. Doubt about one tenant then ends
    /// nobody else's collection, and memory is that of one.
    pub tenant: Option<TenantId>,
    /// Threads that read, decode and check what is to be moved ahead of the one that moves it; with
    /// 1 or less that one does it all.
    pub n_threads: usize,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self {
            live_percent: 75,
            moved_bytes_max: 4 << 30,
            filter_bytes_max: 256 << 20,
            level: 3,
            tenant: None,
            n_threads: 1,
        }
    }
}

/// What a collection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Finding out what is alive.
    Mark,
    /// Finding out where garbage lies.
    Weigh,
    /// Moving what is alive out of segments that are mostly garbage.
    Move,
    /// Removing rows and files. No longer to be interrupted.
    Remove,
}

/// How far a collection is.
#[derive(Clone, Copy, Debug)]
pub struct CollectProgress {
    /// What it is at.
    pub stage: Stage,
    /// Stored bytes read so far: pages, lists of segments, what is moved; for
    /// [`crate::Share::wait`] together with `bytes_moved`.
    pub bytes_read: u64,
    /// Stored bytes written so far.
    pub bytes_moved: u64,
    /// Segments that this stage has still to look at.
    pub n_segments_left: u64,
}

/// Why a segment with garbage stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kept {
    /// An open session writes it, or was told that it need not send what lies in it.
    InUse,
    /// It is not closed, or only a part of it is committed.
    Open,
    /// Too much of it is alive to be worth the move.
    MostlyAlive,
    /// Its list cannot be read whole.
    Damaged,
    /// Something that is alive is damaged in it and has no good copy yet.
    PutAside,
    /// The disk has no room to move what is alive.
    NoSpace,
    /// The run has moved as much as it may.
    NextRun,
}

/// What came of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectReport {
    /// Images whose pages were marked, those of open readers included.
    pub n_images: u64,
    /// Pages read.
    pub n_pages: u64,
    /// Segments removed.
    pub n_segments: u64,
    /// Manifests removed.
    pub n_manifests: u64,
    /// Bytes of the files that were removed.
    pub bytes_freed: u64,
    /// Stored bytes that were written elsewhere before.
    pub bytes_moved: u64,
    /// Bytes of segments that were emptied because of what is damaged in them: they lie in
    /// quarantine, see [`crate::Store::clear_quarantine`].
    pub bytes_quarantined: u64,
    /// Of the bytes that were removed, those of files that somebody still reads.
    pub bytes_waiting: u64,
    /// Segments with garbage that stay: how many, and about how many bytes of garbage.
    pub kept: BTreeMap<Kept, (u64, u64)>,
}

impl CollectReport {
    /// Adds what another run came to.
    pub fn add(&mut self, other: &Self) {
        self.n_images = self.n_images.saturating_add(other.n_images);
        self.n_pages = self.n_pages.saturating_add(other.n_pages);
        self.n_segments = self.n_segments.saturating_add(other.n_segments);
        self.n_manifests = self.n_manifests.saturating_add(other.n_manifests);
        self.bytes_freed = self.bytes_freed.saturating_add(other.bytes_freed);
        self.bytes_moved = self.bytes_moved.saturating_add(other.bytes_moved);
        self.bytes_quarantined = self.bytes_quarantined.saturating_add(other.bytes_quarantined);
        // Each run counts all that wait.
        self.bytes_waiting = self.bytes_waiting.max(other.bytes_waiting);
        for (why, (n, bytes)) in &other.kept {
            let (all, all_bytes) = self.kept.entry(*why).or_default();
            *all = all.saturating_add(*n);
            *all_bytes = all_bytes.saturating_add(*bytes);
        }
    }
}

/// Whether to go on; asked between steps, with no lock held.
pub(super) type Progress<'a> = &'a mut dyn FnMut(&CollectProgress) -> ControlFlow<()>;

/// A collection under way.
pub(super) struct Run<'a> {
    pub(super) store: &'a Store,
    pub(super) core: &'a Core,
    pub(super) options: CollectOptions,
    pub(super) progress: Progress<'a>,
    pub(super) live: Arc<Live>,
    pub(super) report: CollectReport,
    pub(super) bytes_read: u64,
    pub(super) n_left: u64,
}

/// Whatever keeps us from knowing what is alive.
pub(super) fn doubt(error: StoreError) -> StoreError {
    match error {
        StoreError::Doubt(_) | StoreError::Interrupted | StoreError::VersionUnknown { .. } => error,
        other => StoreError::Doubt(other.to_string()),
    }
}

impl Run<'_> {
    /// Says how far it is, and asks whether to go on.
    pub(super) fn go_on(&mut self, stage: Stage) -> Result<(), StoreError> {
        let progress = CollectProgress {
            stage,
            bytes_read: self.bytes_read,
            bytes_moved: self.report.bytes_moved,
            n_segments_left: self.n_left,
        };
        match (self.progress)(&progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(StoreError::Interrupted),
        }
    }

    pub(super) fn keep(&mut self, why: Kept, garbage_bytes: u64) {
        let (n, bytes) = self.report.kept.entry(why).or_default();
        *n += 1;
        *bytes = bytes.saturating_add(garbage_bytes);
    }
}
