//! Taking space back, tenant by tenant: what is in doubt at one stops nobody else.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use offsite_model::{Span, TenantId, Timestamp};
use offsite_proto::admin::upkeep::{Collected, LeftBehind};
use offsite_proto::text::Big;
use offsite_store::{
    CollectOptions, CollectProgress, CollectReport, Kept, Share, Stage, Store, StoreError,
};

use crate::Surroundings;
use crate::pace::DutyCycle;
use crate::settings::CollectSettings;
use crate::timetable::note_collection;

/// The share of the time for which a collection works while somebody waits for other work.
const BESIDE_PERCENT: u8 = 50;

/// Collects the space of these tenants, and removes what has lain in quarantine for long enough by
/// `kept_now`: the clock of what must not go too early. Blocks.
///
/// # Errors
/// [`StoreError::CollectionRuns`] while one runs; [`StoreError::Interrupted`] when it was told to
/// stop; the disk's. Doubt about a tenant is in the outcome.
pub fn collect(
    store: &Store,
    tenants: &[TenantId],
    settings: &CollectSettings,
    kept_now: Timestamp,
    around: &dyn Surroundings,
) -> Result<Collected, StoreError> {
    let began = around.clock().uptime();
    let mut share = (settings.bytes_per_sec > 0).then(|| Share::new(settings.bytes_per_sec));
    let mut turns = DutyCycle::new(BESIDE_PERCENT, began);
    let (mut all, mut doubts, mut n_before) = (CollectReport::default(), Vec::new(), 0_u64);
    for tenant in tenants {
        let options = CollectOptions {
            live_percent: 100_u8.saturating_sub(settings.dead_percent.min(100)).saturating_add(1),
            tenant: Some(*tenant),
            n_threads: std::thread::available_parallelism().map_or(1, usize::from),
            ..CollectOptions::default()
        };
        let mut n_bytes = n_before;
        let mut progress = |at: &CollectProgress| {
            // A run begins to count anew.
            n_bytes =
                n_bytes.max(n_before.saturating_add(at.bytes_read).saturating_add(at.bytes_moved));
            around.show(phase(at.stage), n_bytes, 0);
            if around.is_stopped() {
                return ControlFlow::Break(());
            }
            let now = around.clock().uptime();
            let share = share.as_mut().map_or(Span::ZERO, |share| share.wait(now, n_bytes));
            let turns = match around.is_busy() {
                true => turns.pause(now),
                false => {
                    turns = DutyCycle::new(BESIDE_PERCENT, now);
                    Span::ZERO
                }
            };
            let wait = share.max(turns);
            if wait > Span::ZERO {
                around.pause(wait);
            }
            ControlFlow::Continue(())
        };
        loop {
            match store.collect(&options, &mut progress) {
                Ok(mut report) => {
                    // One run moves so much and no more; the next goes on where it stopped.
                    let goes_on = report.n_segments > 0 && report.kept.contains_key(&Kept::NextRun);
                    if goes_on {
                        report.kept.clear();
                    }
                    all.add(&report);
                    if !goes_on {
                        break;
                    }
                }
                Err(StoreError::Doubt(what)) => {
                    doubts.push(what);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        n_before = n_bytes;
    }
    store.clear_quarantine(kept_now, settings.quarantine)?;
    let micros = around.clock().uptime().as_micros().saturating_sub(began.as_micros());
    let collected = told(&all, doubts, micros as f64 / 1e6);
    note_collection(store, around.clock().now(), &collected)?;
    Ok(collected)
}

const fn phase(stage: Stage) -> &'static str {
    match stage {
        Stage::Mark => "marking what is alive",
        Stage::Weigh => "looking for garbage",
        Stage::Move => "moving what is alive",
        Stage::Remove => "removing garbage",
    }
}

fn told(report: &CollectReport, doubts: Vec<String>, seconds: f64) -> Collected {
    Collected {
        points_purged: 0,
        segments: report.n_segments,
        manifests: report.n_manifests,
        bytes_freed: Big(report.bytes_freed),
        bytes_moved: Big(report.bytes_moved),
        bytes_waiting: Big(report.bytes_waiting),
        bytes_quarantined: Big(report.bytes_quarantined),
        left: left(&report.kept),
        doubts,
        seconds,
    }
}

fn left(kept: &BTreeMap<Kept, (u64, u64)>) -> Vec<LeftBehind> {
    let left = kept.iter().map(|(why, (segments, bytes))| LeftBehind {
        why: word(*why).to_owned(),
        segments: *segments,
        bytes: Big(*bytes),
    });
    left.collect()
}

const fn word(why: Kept) -> &'static str {
    match why {
        Kept::InUse => "in_use",
        Kept::Open => "open",
        Kept::MostlyAlive => "mostly_alive",
        Kept::Damaged => "damaged",
        Kept::PutAside => "not_healed",
        Kept::NoSpace => "no_space",
        Kept::NextRun => "next_run",
        _ => "other",
    }
}
