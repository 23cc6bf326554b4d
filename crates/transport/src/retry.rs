//! What may be tried again, and when.
//!
//! One layer retries, the engine of sessions; it asks here. Delays grow and are drawn from the
//! whole range (full jitter), so that a hundred sources cut off together do not come back together.

use std::time::Duration;

use offsite_model::Luck;

/// The longest advice of a peer's that is followed: a peer may ask us to wait, not to give up.
const ADVICE_MAX: Duration = Duration::from_secs(300);

/// Whether the same call may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No: somebody must change something first.
    Never,
    /// Yes, and not before this long from now, if the peer said so.
    Later(Option<Duration>),
}

/// How often and how far apart.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Attempts in all, the first one included.
    pub attempts_max: u32,
    /// The range of the first delay; each next range is twice as large.
    pub first: Duration,
    /// The largest range.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { attempts_max: 8, first: Duration::from_secs(1), cap: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// How long to wait before the next attempt, after so many have failed, the last one in this
    /// way. `None` when there is none.
    #[must_use]
    pub fn delay(&self, n_failed: u32, last: Retry, luck: &dyn Luck) -> Option<Duration> {
        let Retry::Later(advice) = last else { return None };
        if n_failed >= self.attempts_max {
            return None;
        }
        let doublings = n_failed.saturating_sub(1).min(31);
        let range = self.first.saturating_mul(1_u32 << doublings).min(self.cap);
        let micros = u64::try_from(range.as_micros()).unwrap_or(u64::MAX);
        let jitter = Duration::from_micros(luck.below(micros.saturating_add(1)));
        // Advice is a floor: everybody who was given the same one still comes back at another
        // moment.
        Some(match advice {
            Some(advice) => advice.min(ADVICE_MAX).saturating_add(jitter.min(self.first)),
            None => jitter,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A counter that is stirred: enough to see a range filled.
    struct Seeded(AtomicU64);

    impl Luck for Seeded {
        fn fill(&self, bytes: &mut [u8]) {
            for byte in bytes {
                let x = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
                *byte = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes()[0];
            }
        }
    }

    #[test]
    fn delays_fill_a_growing_range_and_end() {
        let luck = Seeded(AtomicU64::new(7));
        let backoff = Backoff::default();
        for (n_failed, range) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60)] {
            let range = Duration::from_secs(range);
            let delays: Vec<_> = (0..200)
                .map(|_| backoff.delay(n_failed, Retry::Later(None), &luck).unwrap())
                .collect();
            assert!(delays.iter().all(|delay| *delay <= range), "seed 7, {n_failed}");
            assert!(delays.iter().any(|delay| *delay > range / 2), "seed 7, {n_failed}");
            assert!(delays.iter().any(|delay| *delay < range / 4), "seed 7, {n_failed}");
        }
        assert_eq!(backoff.delay(8, Retry::Later(None), &luck), None);
        assert_eq!(backoff.delay(1, Retry::Never, &luck), None);
    }

    #[test]
    fn advice_is_a_floor_and_bounded() {
        let luck = Seeded(AtomicU64::new(8));
        let backoff = Backoff::default();
        let delay = |secs| {
            let advice = Retry::Later(Some(Duration::from_secs(secs)));
            backoff.delay(1, advice, &luck).unwrap()
        };
        assert!((30..=31).contains(&delay(30).as_secs()));
        assert!(delay(u64::MAX) <= ADVICE_MAX + backoff.first);
    }
}
