//! Who has his turn to keep the store in order, and whether the daemon stops.
//!
//! **Absent:** the work (`keeper`).

use std::sync::atomic::AtomicBool;

use offsite_upkeep::Turn;

/// The turns of one target.
#[derive(Default)]
pub(crate) struct Turns {
    pub(crate) collecting: Turn,
    pub(crate) scrubbing: Turn,
    pub(crate) is_stopping: AtomicBool,
}
