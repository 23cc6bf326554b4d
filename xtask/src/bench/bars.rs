//! What we ask of ourselves, measured: each bar with what it is compared with.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::floor::FLOOR;
use super::report::{Median, OURS, median};
use crate::machines::Machine;

/// Most memory of any of our processes, in MiB.
const PEAK_MIB: f64 = 200.0;

/// Seconds that replicating a version may take, by its number: for 1 % and 5.5 % of 4 GiB changed.
const SECONDS: [f64; 3] = [f64::INFINITY, 0.3, 0.6];

/// A bar and what was measured.
#[derive(Debug, Serialize)]
pub(super) struct Bar {
    /// The step, and whom it is compared with.
    pub(super) bar: String,
    /// What may not be exceeded.
    pub(super) at_most: f64,
    /// What was measured: a median of ratios, or of seconds, or the largest of all MiB.
    pub(super) measured: f64,
    /// Whether it was not exceeded.
    pub(super) is_met: bool,
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_met { "met" } else { "MISSED" };
        write!(f, "{:6} {:.2} of {:.2}: {}", word, self.measured, self.at_most, self.bar)
    }
}

/// What crossed the wire in MiB beside what the records take that had to cross it, by step.
#[derive(Default)]
pub(super) struct Wires(BTreeMap<String, Vec<f64>>);

impl Wires {
    pub(super) fn note(&mut self, step: &str, wire_mib: f64, stored_bytes: u64) {
        let stored_mib = stored_bytes as f64 / f64::from(1 << 20);
        self.0.entry(step.to_owned()).or_default().push(wire_mib / stored_mib);
    }
}

/// Medians, asked by step.
struct Judged<'a>(&'a [Median]);

impl Judged<'_> {
    fn of(&self, step: &str) -> impl Iterator<Item = &Median> {
        self.0.iter().filter(move |one| one.step == step)
    }

    /// Ours in seconds.
    fn seconds(&self, step: &str) -> Option<f64> {
        Some(self.of(step).find(|one| one.contender == OURS)?.durable_seconds)
    }

    /// Ours divided by another's.
    fn to(&self, step: &str, contender: &str) -> Option<f64> {
        self.of(step).find(|one| one.contender == contender)?.ours_to_this
    }

    /// Ours divided by that of the peer that comes nearest to it, or is ahead the most.
    fn to_fastest(&self, step: &str) -> Option<f64> {
        let peers = self.of(step).filter(|one| one.contender != FLOOR);
        peers.filter_map(|one| one.ours_to_this).max_by(f64::total_cmp)
    }

    /// What we keep at the end divided by what the smallest peer keeps.
    fn kept_to_smallest(&self) -> Option<f64> {
        let last = &self.0.last()?.step;
        let kept = |one: &Median| one.repository_mib as f64;
        let ours = self.of(last).find(|one| one.contender == OURS).map(kept)?;
        let peers = self.of(last).filter(|one| one.contender != OURS).map(kept);
        Some(ours / peers.min_by(f64::total_cmp)?)
    }

    fn peak(&self) -> Option<f64> {
        let ours = self.0.iter().filter(|one| one.contender == OURS);
        ours.map(|one| one.peak_mib as f64).max_by(f64::total_cmp)
    }
}

/// The bars for which there are figures.
pub(super) fn judge(medians: &[Median], machines: &[Machine], wires: &Wires) -> Vec<Bar> {
    let judged = Judged(medians);
    let mut bars = Vec::new();
    let mut add = |bar: String, at_most: f64, measured: Option<f64>| {
        bars.extend(measured.map(|measured| {
            let is_met = measured <= at_most;
            Bar { bar, at_most, measured, is_met }
        }));
    };
    for (index, machine) in machines.iter().enumerate() {
        let step = |verb: &str, version: usize| format!("{verb} {}-{version}", machine.name);
        let newest = machine.versions.len().saturating_sub(1);
        if index == 0 {
            let (protect, replicate) = (step("protect", 0), step("replicate", 0));
            let compress = "zstd -1 -T2 of the image";
            add(format!("{protect} / {compress}"), 1.0, judged.to(&protect, FLOOR));
            let pipe = "stored bytes through mutual TLS, decoded, hashed, written";
            add(format!("{replicate} / {pipe}"), 1.4, judged.to(&replicate, FLOOR));
            add(format!("{replicate} / fastest peer"), 1.0, judged.to_fastest(&replicate));
        } else {
            let replicate = step("replicate", 0);
            add(format!("{replicate} / fastest peer"), 0.7, judged.to_fastest(&replicate));
        }
        for version in 1..=newest {
            let (protect, replicate) = (step("protect", version), step("replicate", version));
            add(format!("{protect} / reading the image"), 1.25, judged.to(&protect, FLOOR));
            add(format!("{replicate} / fastest peer"), 1.0, judged.to_fastest(&replicate));
            if let Some(at_most) = SECONDS.get(version) {
                add(format!("{replicate}, seconds"), *at_most, judged.seconds(&replicate));
            }
            let wire = wires.0.get(&replicate).and_then(|ratios| median(ratios.clone()));
            add(
                format!("{replicate}: bytes on the wire / stored bytes of new records"),
                1.15,
                wire,
            );
        }
        let restore = step("restore", newest);
        add(format!("{restore} / fastest peer"), 0.7, judged.to_fastest(&restore));
    }
    add("MiB kept at the end / smallest peer".to_owned(), 0.9, judged.kept_to_smallest());
    add("MiB of memory, any process of ours".to_owned(), PEAK_MIB, judged.peak());
    bars
}
