//! How far long work has come, written by the threads that do it and read by whoever watches; and
//! the wish to stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use offsite_proto::error::ErrorCode;

use crate::error::Trouble;

/// Shared between the work and its watcher.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    is_cancelled: AtomicBool,
    stage: Mutex<Stage>,
}

/// What is being done, to which volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// The word.
    pub phase: &'static str,
    /// The volume's label.
    pub volume: Option<String>,
}

impl Progress {
    /// Work of so many bytes.
    #[must_use]
    pub fn of(total: u64) -> Self {
        let progress = Self::default();
        progress.set_total(total);
        progress
    }

    /// Asks the work to stop at the next safe point.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }

    /// To be asked at every safe point.
    ///
    /// # Errors
    /// Once somebody wished to stop.
    pub fn check(&self) -> Result<(), Trouble> {
        if !self.is_cancelled.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Trouble::operator(
            ErrorCode::WrongState,
            "interrupted before it was done",
            "start it again",
        ))
    }

    /// Says what is being done.
    pub fn stage(&self, phase: &'static str, volume: Option<&str>) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        *stage = Stage { phase, volume: volume.map(str::to_owned) };
    }

    /// What is being done.
    #[must_use]
    pub fn now(&self) -> Stage {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the bytes in all.
    pub fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    /// Sets the bytes done.
    pub fn set_done(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Relaxed);
    }

    /// Bytes done and bytes in all.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}
