//! What may happen in a world, and the limits of both its halves.

use offsite_model::Span;
use offsite_testkit::SeededLuck;

use crate::replication::target;

/// What may happen, and how often: once in so many chances; 0 = never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) n_volumes: u64,
    pub(super) n_epochs: u64,
    pub(super) n_records: u64,
    pub(super) cut: u64,
    pub(super) kill_target: u64,
    pub(super) kill_source: u64,
    pub(super) wrong_group: u64,
    pub(super) collect: u64,
    pub(super) lost_answer: u64,
    /// After so many events nothing bad happens any more.
    pub(super) calm_after: u64,
    pub(super) jitter: u64,
    /// Once in so many pieces of the target's work on its disk.
    pub(super) disk_fault: u64,
    pub(super) trace: bool,
}

impl Plan {
    pub(super) fn calm(seed: u64) -> Self {
        Self {
            seed,
            n_volumes: 1,
            n_epochs: 1,
            n_records: 12,
            cut: 0,
            kill_target: 0,
            kill_source: 0,
            wrong_group: 0,
            collect: 0,
            lost_answer: 0,
            calm_after: 0,
            jitter: 0,
            disk_fault: 0,
            trace: true,
        }
    }

    pub(super) fn storm(seed: u64) -> Self {
        let luck = SeededLuck::new(seed).split("plan");
        let some = |n: u64| if luck.chance(1, 4) { 0 } else { luck.between(n, n * 6) };
        Self {
            seed,
            n_volumes: luck.between(1, 3),
            n_epochs: luck.between(1, 4),
            n_records: luck.between(1, 200),
            cut: some(60),
            kill_target: some(90),
            kill_source: some(90),
            wrong_group: some(8),
            collect: some(15),
            lost_answer: some(10),
            calm_after: luck.between(50, 1_500),
            jitter: luck.between(1, 50_000),
            disk_fault: some(60),
            trace: false,
        }
    }
}

pub(super) fn target_rules() -> target::Rules {
    target::Rules {
        window_keys: 16,
        windows_in_flight: 3,
        credit_bytes: 16 * 6_000,
        parallel_streams_max: 3,
        barrier_bytes: 32 * 4_096,
        behind_bytes: 8 * 4_096,
        barrier_after: Span::from_secs(10),
        idle: Span::from_hours(1),
        owed_keys_max: 160,
    }
}
