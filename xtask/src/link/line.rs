//! One direction of a line: packets go in at a time and come out at others, or do not. Seed,
//! packets and times decide everything.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use serde::Serialize;

use super::conditions::{Conditions, Way};

/// Bounds what a line without a limit of its rate holds, in packets.
const FLIGHT_MAX: usize = 1 << 16;

/// What became of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// Packets that were put in.
    pub(crate) offered: u64,
    /// Bytes of packets that came out, twice for those that did twice.
    pub(crate) bytes: u64,
    /// Lost by the dice, alone or in a burst.
    pub(crate) lost: u64,
    /// Dropped because the queue was full.
    pub(crate) dropped: u64,
    /// Vanished in a cut.
    pub(crate) cut: u64,
    pub(crate) reordered: u64,
    pub(crate) duplicated: u64,
    pub(crate) corrupted: u64,
}

/// A packet on its way. The number keeps the order of those that arrive at the same time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    due: Duration,
    number: u64,
    packet: Vec<u8>,
}

/// One direction. Times are since its conditions hold.
pub(super) struct Line {
    way: Way,
    conditions: Conditions,
    dice: Dice,
    /// In a bad time.
    is_bad: bool,
    /// When the turn of the last packet ends.
    free: Duration,
    /// When the last packet that kept its place arrives.
    last: Duration,
    /// Share of the jitter that the delay has now, from -1 to 1, and until when.
    shake: (f64, Duration),
    flying: BinaryHeap<Reverse<Flying>>,
    n_flown: u64,
    counts: Counts,
}

impl Line {
    pub(super) fn new(way: Way, conditions: Conditions) -> Self {
        let dice = Dice(conditions.seed.wrapping_mul(2).wrapping_add(way as u64));
        Self {
            way,
            conditions,
            dice,
            is_bad: false,
            free: Duration::ZERO,
            last: Duration::ZERO,
            shake: (0.0, Duration::ZERO),
            flying: BinaryHeap::new(),
            n_flown: 0,
            counts: Counts::default(),
        }
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes a packet that was sent now.
    pub(super) fn put(&mut self, now: Duration, packet: &[u8]) {
        self.counts.offered += 1;
        if self.conditions.is_cut(self.way, now) {
            self.counts.cut += 1;
            return;
        }
        let turn = self.free.max(now);
        if turn - now > self.conditions.queue || self.flying.len() >= FLIGHT_MAX {
            self.counts.dropped += 1;
            return;
        }
        // What gets lost is lost behind the bottleneck: it has had its turn.
        self.free = turn + self.turn_of(packet.len());
        let fate = self.throw();
        if fate.is_lost {
            self.counts.lost += 1;
            return;
        }
        let due = self.due(&fate);
        let mut packet = packet.to_vec();
        if let Some(place) = fate.corrupt {
            self.counts.corrupted += 1;
            let bit = (place * packet.len() as f64 * 8.0) as usize;
            if let Some(byte) = packet.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
        if fate.is_twice {
            self.counts.duplicated += 1;
            self.fly(due, packet.clone());
        }
        self.fly(due, packet);
    }

    /// The next packet that has arrived.
    pub(super) fn take(&mut self, now: Duration) -> Option<Vec<u8>> {
        self.next_due().filter(|due| *due <= now)?;
        let Reverse(flying) = self.flying.pop()?;
        self.counts.bytes += flying.packet.len() as u64;
        Some(flying.packet)
    }

    /// When the next packet arrives.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.flying.peek().map(|Reverse(flying)| flying.due)
    }

    /// How long a packet of so many bytes takes of the line's rate.
    fn turn_of(&self, n_bytes: usize) -> Duration {
        if self.conditions.rate == 0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(n_bytes as f64 * 8.0 / self.conditions.rate as f64)
    }

    /// Every packet throws all dice, so that its fate does not hang on what else is switched on.
    fn throw(&mut self) -> Fate {
        let Conditions { loss, burst, reorder, duplicate, corrupt, .. } = self.conditions;
        let [lose, turn, early, advance, twice, flip, place, shake] =
            std::array::from_fn(|_| self.dice.throw());
        // Both ways of the model's two states, so that the share and the mean length come out.
        let leave = 1.0 / burst.length.max(1.0);
        let enter = leave * burst.share / (1.0 - burst.share);
        self.is_bad = if self.is_bad { turn >= leave } else { turn < enter };
        Fate {
            is_lost: self.is_bad || lose < loss,
            advance: (early < reorder).then_some(advance),
            is_twice: twice < duplicate,
            corrupt: (flip < corrupt).then_some(place),
            shake: shake * 2.0 - 1.0,
        }
    }

    fn due(&mut self, fate: &Fate) -> Duration {
        let Conditions { delay, jitter, .. } = self.conditions;
        if self.free >= self.shake.1 {
            // Thrown for each packet, the order of packets would leave only the largest delay. In
            // so long a time a delay that falls from one end to the other gets there.
            self.shake = (fate.shake, self.free + jitter * 2);
        }
        let shaken = (delay.as_secs_f64() + jitter.as_secs_f64() * self.shake.0).max(0.0);
        if let Some(advance) = fate.advance {
            self.counts.reordered += 1;
            return self.free + Duration::from_secs_f64(shaken * (1.0 - advance / 2.0));
        }
        self.last = self.last.max(self.free + Duration::from_secs_f64(shaken));
        self.last
    }

    fn fly(&mut self, due: Duration, packet: Vec<u8>) {
        self.n_flown += 1;
        self.flying.push(Reverse(Flying { due, number: self.n_flown, packet }));
    }
}

/// What happens to a packet.
struct Fate {
    is_lost: bool,
    /// How early it is, as a share of half its delay.
    advance: Option<f64>,
    is_twice: bool,
    /// Where a bit is flipped, as a share of the packet.
    corrupt: Option<f64>,
    /// Share of the jitter from now on, from -1 to 1.
    shake: f64,
}

/// SplitMix64: small, and good enough to lose packets by.
struct Dice(u64);

impl Dice {
    /// From 0 to below 1.
    fn throw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests;
