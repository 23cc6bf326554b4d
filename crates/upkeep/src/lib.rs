//! Upkeep of a store, the same at both sides: space is collected and damage is looked for, by order
//! and by timetable, at a pace that leaves the disk to others.
//!
//! **Absent:** what may go (retention, and who deletes), threads and sleeping: the daemons hand in
//! a way to wait, and run this where it may block.

mod collect;
pub mod figures;
mod pace;
mod rebuild;
mod scrub;
mod settings;
mod timetable;
pub mod words;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use offsite_model::{Clock, Span};

pub use collect::collect;
pub use pace::DutyCycle;
pub use rebuild::rebuild;
pub use scrub::scrub;
pub use settings::{CollectSettings, ScrubSettings, Settings};
pub use timetable::{Due, state};

/// What long work of the store is surrounded with.
pub trait Surroundings {
    /// Time.
    fn clock(&self) -> &dyn Clock;

    /// Lets this much time pass, or less when the work is to stop.
    fn pause(&self, span: Span);

    /// Whether the work is to stop at its next safe point.
    fn is_stopped(&self) -> bool;

    /// Whether somebody waits for work of the same store that is being done now.
    fn is_busy(&self) -> bool;

    /// Is told what is being done, and how far it is: bytes done and in all; 0 in all where that is
    /// not known.
    fn show(&self, phase: &'static str, done: u64, total: u64);
}

/// How often a pause looks for the wish to stop.
const LOOK_EVERY: Span = Span::from_millis(100);

/// Lets time pass in this thread, until it is over or the work is to stop.
pub fn pause(span: Span, is_stopped: &dyn Fn() -> bool) {
    let (nothing, never) = (Mutex::new(()), Condvar::new());
    let mut left = span.as_micros();
    while left > 0 && !is_stopped() {
        let step = left.min(LOOK_EVERY.as_micros());
        let held = nothing.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody rings: what ends it is the time.
        drop(never.wait_timeout(held, Span::from_micros(step).to_std()));
        left = left.saturating_sub(step);
    }
}

/// The right to scrub, or to collect: there is one of each per store.
#[derive(Debug, Default)]
pub struct Turn(AtomicBool);

/// A turn that was taken; dropping it gives it back.
pub struct Taken<'a>(&'a AtomicBool);

impl Turn {
    /// Takes it; none while somebody has it.
    pub fn take(&self) -> Option<Taken<'_>> {
        let was_free = self.0.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire);
        was_free.is_ok().then_some(Taken(&self.0))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
