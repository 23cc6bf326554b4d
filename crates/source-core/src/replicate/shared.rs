//! What one job shares with its transfers and their streams.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use offsite_exchange::replication::source::Progress as Sent;
use offsite_model::JobId;

use super::link::Link;
use crate::pairing::Means;
use crate::progress::Progress;
use crate::protect::Protection;

/// What one job shares with its transfers.
pub(crate) struct Shared {
    pub(crate) means: Arc<Means>,
    pub(crate) protection: Arc<Protection>,
    pub(crate) link: Arc<Link>,
    pub(crate) job: JobId,
    pub(crate) wire_out: AtomicU64,
    pub(crate) wire_in: AtomicU64,
    pub(crate) records_sent: AtomicU64,
    sent: Mutex<BTreeMap<usize, (u64, Sent)>>,
    progress: Arc<Progress>,
}

impl Shared {
    /// For a job over this link.
    pub(super) fn new(
        means: &Arc<Means>,
        protection: &Arc<Protection>,
        link: Arc<Link>,
        job: JobId,
        progress: &Arc<Progress>,
    ) -> Self {
        Self {
            means: Arc::clone(means),
            protection: Arc::clone(protection),
            link,
            job,
            wire_out: AtomicU64::new(0),
            wire_in: AtomicU64::new(0),
            records_sent: AtomicU64::new(0),
            sent: Mutex::default(),
            progress: Arc::clone(progress),
        }
    }

    /// Notes how far a transfer is.
    pub(crate) fn note(&self, index: usize, record_bytes: u32, sent: &Sent) {
        let mut all = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(index, (u64::from(record_bytes), *sent));
        let done = all.values().fold(0_u64, |sum, (bytes, sent)| {
            sum.saturating_add(sent.n_decided.min(sent.n_entries).saturating_mul(*bytes))
        });
        self.progress.set_done(done);
    }

    /// Entries that were offered, of all its images.
    pub(super) fn n_offered(&self) -> u64 {
        let all = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().fold(0, |sum, (_, sent)| sent.n_offered.saturating_add(sum))
    }
}
