//! A disk in memory that misbehaves by a seed, and keeps a record of every call.
//!
//! [`Disk`] keeps what a program sees apart from what would survive a power cut. A cut keeps, drops
//! or tears (at 512 bytes) every write since the last sync of its file, each piece for itself,
//! which covers every order in which a cache may write back; names that were made, changed or
//! removed since the last sync of their directory come back as they were or as they are, each for
//! itself. Beyond cuts: the n-th call fails once or for good, a full disk, a read-only disk, short
//! reads, bytes that rot. A failed sync loses part of what it should have saved although it still
//! reads back, as kernels do.
//!
//! Programs reach it through [`Disk::files`]; such a mount is dead after [`Disk::power_cut`] or
//! [`Disk::kill`], as open files of a dead process are.
//!
//! **Absent:** symbolic links, permissions, devices, time.

mod content;
mod dice;
mod mount;
mod names;
mod state;
mod trace;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use offsite_model::FileSystem;

use content::{Content, Stored};
use dice::Dice;
use mount::Mount;
use names::Names;
pub use state::{Fault, Which};
use state::{State, lock};
pub use trace::{Call, Step};

/// A disk; clones are the same disk.
#[derive(Clone)]
pub struct Disk {
    state: Arc<Mutex<State>>,
}

impl Disk {
    /// An empty disk with a root directory `/`, whose whole future follows from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                dice: Dice::new(seed),
                generation: 0,
                files: Vec::new(),
                names: Names::default(),
                faults: Vec::new(),
                calls_to_cut: None,
                bytes_max: None,
                is_read_only: false,
                has_short_reads: false,
                n_changes: 0,
                n_reads: 0,
                n_opened: 0,
                trace: None,
            })),
        }
    }

    /// Another disk with the same content, seen and durable, and a future of its own.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        let state = self.state();
        Self {
            state: Arc::new(Mutex::new(State {
                dice: Dice::new(seed),
                generation: 0,
                files: state.files.iter().map(Stored::fork).collect(),
                names: state.names.clone(),
                faults: Vec::new(),
                calls_to_cut: None,
                bytes_max: state.bytes_max,
                is_read_only: state.is_read_only,
                has_short_reads: state.has_short_reads,
                n_changes: 0,
                n_reads: 0,
                n_opened: 0,
                trace: None,
            })),
        }
    }

    /// Its files, until the next [`Disk::power_cut`] or [`Disk::kill`].
    #[must_use]
    pub fn files(&self) -> Arc<dyn FileSystem> {
        let generation = self.state().generation;
        Arc::new(Mount { state: Arc::clone(&self.state), generation })
    }

    /// The power fails and comes back: what was not synced is kept, dropped or torn by the dice.
    pub fn power_cut(&self) {
        let mut state = self.state();
        let State { dice, files, names, .. } = &mut *state;
        for file in files {
            file.survive(dice);
        }
        names.survive(dice);
        state.restart();
    }

    /// The process dies; what it wrote stays, as it would in the system's cache.
    pub fn kill(&self) {
        self.state().restart();
    }

    /// The power fails at a changing call to come: `after` more succeed, then this call and all
    /// later ones fail until [`Disk::power_cut`], which every caller must call next.
    pub fn cut_after(&self, after: u64) {
        self.state().calls_to_cut = Some(after);
    }

    /// Whether the cut that [`Disk::cut_after`] announced has come.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.state().calls_to_cut == Some(0)
    }

    /// Adds a failure to come.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Forgets all failures, and lets the disk be written and grow again.
    pub fn mend(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.bytes_max = None;
        state.is_read_only = false;
    }

    /// Bounds what the disk holds: whole pages of files, and a page for every name.
    pub fn set_bytes_max(&self, bytes_max: Option<u64>) {
        self.state().bytes_max = bytes_max;
    }

    /// Bytes in use, counted as [`Disk::set_bytes_max`] counts them.
    #[must_use]
    pub fn bytes_used(&self) -> u64 {
        self.state().bytes_used()
    }

    /// Refuses every change from now on, or no longer.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.state().is_read_only = is_read_only;
    }

    /// Lets reads return less than was asked, or no longer.
    pub fn set_short_reads(&self, has_short_reads: bool) {
        self.state().has_short_reads = has_short_reads;
    }

    /// How many changing calls there have been.
    #[must_use]
    pub fn n_changes(&self) -> u64 {
        self.state().n_changes
    }

    /// How many reads of files there have been.
    #[must_use]
    pub fn n_reads(&self) -> u64 {
        self.state().n_reads
    }

    /// Begins a new record of calls.
    pub fn start_trace(&self) {
        self.state().trace = Some(Vec::new());
    }

    /// The record since [`Disk::start_trace`]; it goes on.
    #[must_use]
    pub fn trace(&self) -> Vec<Step> {
        self.state().trace.clone().unwrap_or_default()
    }

    /// Puts a remark of the test into the record, between the calls before and after it.
    pub fn mark(&self, remark: &str) {
        self.state().note(Call::Mark(remark.to_owned()));
    }

    /// All files with their lengths in bytes, in order of their paths.
    #[must_use]
    pub fn paths(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let files = state.names.seen_files();
        files.map(|(path, index)| (path.clone(), state.files[index].seen.bytes())).collect()
    }

    /// Changes a file's bytes behind everybody's back, durably: bit rot, cuts, zeroed blocks.
    ///
    /// # Panics
    /// When there is no such file.
    #[expect(clippy::panic, reason = "a test that names a file which is not there is wrong")]
    pub fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let Some(index) = state.names.file(path) else { panic!("no file {}", path.display()) };
        let mut bytes = state.files[index].seen.to_vec();
        change(&mut bytes);
        state.files[index] = Stored::durable(Content::from_slice(&bytes));
    }

    /// Exchanges the contents of two files, as a disk does that mixes up two blocks.
    ///
    /// # Panics
    /// When one of them is not there.
    #[expect(clippy::panic, reason = "a test that names a file which is not there is wrong")]
    pub fn swap(&self, a: &Path, b: &Path) {
        let mut state = self.state();
        let (Some(a), Some(b)) = (state.names.file(a), state.names.file(b)) else {
            panic!("one of the files is not there")
        };
        state.files.swap(a, b);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests;
