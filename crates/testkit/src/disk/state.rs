//! What a disk is made of, below its two faces: the one for tests (`disk`) and the one for programs
//! (`mount`).

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::content::{PAGE_BYTES, Stored};
use super::dice::Dice;
use super::names::Names;
use super::trace::{Call, Step};

/// Which calls a [`Fault`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Everything that changes something: writes, lengths, syncs, names.
    Changes,
    /// Syncs of files and directories.
    Syncs,
    /// Reads of files.
    Reads,
}

/// A failure to come.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Which calls are counted.
    pub which: Which,
    /// How many of them still succeed.
    pub after: u64,
    /// What the failing call returns.
    pub error: io::ErrorKind,
    /// Whether all later calls of this sort fail too.
    pub for_good: bool,
}

/// All of a disk, behind the one lock.
pub(super) struct State {
    pub(super) dice: Dice,
    /// Raised by every cut and kill; a mount of an earlier generation is dead.
    pub(super) generation: u64,
    pub(super) files: Vec<Stored>,
    pub(super) names: Names,
    pub(super) faults: Vec<Fault>,
    /// Changing calls left until the power fails.
    pub(super) calls_to_cut: Option<u64>,
    pub(super) bytes_max: Option<u64>,
    pub(super) is_read_only: bool,
    pub(super) has_short_reads: bool,
    pub(super) n_changes: u64,
    pub(super) n_reads: u64,
    pub(super) n_opened: u64,
    pub(super) trace: Option<Vec<Step>>,
}

/// A test that panicked elsewhere does not make the disk unusable for its report.
pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(super) fn restart(&mut self) {
        self.generation += 1;
        self.calls_to_cut = None;
        self.faults.clear();
        for file in &mut self.files {
            file.locked_by = super::content::Lock::default();
        }
    }

    pub(super) fn note(&mut self, call: Call) {
        let index = self.n_changes;
        if let Some(trace) = &mut self.trace {
            trace.push(Step { n_changes: index, call });
        }
    }

    pub(super) fn bytes_used(&self) -> u64 {
        let pages: u64 =
            self.names.seen_files().map(|(_, i)| self.files[i].seen.bytes_held()).sum();
        pages + self.names.n_seen() * PAGE_BYTES as u64
    }
}
