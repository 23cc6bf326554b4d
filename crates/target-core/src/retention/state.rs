//! What of retention lives in memory.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use offsite_model::Span;

use super::time::RetentionTime;

/// Retention of a target that has a store.
pub(crate) struct Retention {
    pub(crate) time: Arc<RetentionTime>,
    /// Held through a round.
    pub(super) last: Mutex<Last>,
    /// Whether the next round shall look at the points whatever happened.
    pub(super) is_asked: AtomicBool,
}

impl Retention {
    pub(crate) fn new(time: Arc<RetentionTime>) -> Self {
        Self { time, last: Mutex::default(), is_asked: AtomicBool::new(false) }
    }
}

/// When and at what a round looked last.
#[derive(Debug, Default)]
pub(super) struct Last {
    /// When the clock was kept, by the time since boot.
    pub(super) kept: Option<Span>,
    /// When the points were looked at.
    pub(super) looked: Option<Span>,
    /// The store's newest entry then.
    pub(super) entry: Option<u64>,
}
