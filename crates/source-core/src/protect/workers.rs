//! The threads that hash what was read and compress what is new.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, PoisonError};

use offsite_model::Key;
use offsite_store::group::{CheckedGroup, GroupError};
use offsite_volume::{VolumeError, is_zero};

use super::buffers::Buffer;
use super::group::Draft;

/// Work for any thread.
pub(super) enum Job {
    /// Name the records of a chunk.
    Hash { number: u64, offset: u64, buffer: Buffer },
    /// Compress a group.
    Encode { number: u64, draft: Draft },
}

/// What came of it.
pub(super) enum Report {
    /// A chunk with the keys of its records.
    Hashed { number: u64, chunk: Hashed },
    /// A group.
    Encoded { number: u64, group: Result<CheckedGroup, GroupError> },
    /// So many chunks were read, and there are no more.
    End { n_chunks: u64 },
    /// The volume cannot be read.
    Unreadable(VolumeError),
    /// A thread panicked: what it held will never come.
    Lost,
}

/// A chunk and the keys of its records; [`Key::ZERO`] for zeros.
pub(super) struct Hashed {
    pub(super) offset: u64,
    pub(super) buffer: Buffer,
    pub(super) keys: Vec<Key>,
}

/// Jobs that wait. Its length is bounded by the buffers that jobs hold.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Compressing frees buffers and goes first.
    encode: VecDeque<Job>,
    hash: VecDeque<Job>,
    is_closed: bool,
}

impl Queue {
    pub(super) fn push(&self, job: Job) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match job {
            Job::Encode { .. } => state.encode.push_back(job),
            Job::Hash { .. } => state.hash.push_back(job),
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for a job; none once the queue is closed.
    fn pop(&self) -> Option<Job> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(job) = state.encode.pop_front() {
                return Some(job);
            }
            if let Some(job) = state.hash.pop_front() {
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sends everybody home and drops what waits.
    pub(super) fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_closed = true;
        let waiting = (std::mem::take(&mut state.encode), std::mem::take(&mut state.hash));
        drop(state);
        // Buffers return to their pool outside the lock.
        drop(waiting);
        self.changed.notify_all();
    }
}

/// Tells that a thread panicked, which nobody would notice otherwise.
struct Watch<'a>(&'a Sender<Report>);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.0.send(Report::Lost));
        }
    }
}

/// Works until the queue is closed.
pub(super) fn work(queue: &Queue, record_bytes: usize, level: i32, reports: &Sender<Report>) {
    let _watch = Watch(reports);
    while let Some(job) = queue.pop() {
        let report = match job {
            Job::Hash { number, offset, buffer } => {
                let keys = buffer.bytes.chunks(record_bytes).map(key_of).collect();
                Report::Hashed { number, chunk: Hashed { offset, buffer, keys } }
            }
            Job::Encode { number, draft } => Report::Encoded { number, group: draft.encode(level) },
        };
        if reports.send(report).is_err() {
            return;
        }
    }
}

fn key_of(record: &[u8]) -> Key {
    if is_zero(record) { Key::ZERO } else { Key::of(record) }
}
