//! When to ask again: `Retry-After`, growing pauses, and jitter that keeps many sources apart.
//!
//! Pure arithmetic over a handed-down [`Luck`], and the one place where the source waits for time.
//!
//! **Absent:** what is asked, and what an answer means.

use std::future::Future;
use std::pin::Pin;

use offsite_model::{Luck, Span};

/// The longest `Retry-After` that is obeyed: a target cannot silence a source for ever by accident.
pub const RETRY_AFTER_MAX: Span = Span::from_hours(1);

/// How pauses grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The first pause.
    pub first: Span,
    /// The longest pause, jitter aside.
    pub longest: Span,
}

impl Pace {
    /// The pause between polls of an undecided request: it grows by a half each time, and a quarter of jitter
    /// is added, never subtracted, so that what the target asked for is the least that is kept.
    #[must_use]
    pub fn after_answer(
        &self,
        n_polls: u32,
        retry_after_secs: Option<u32>,
        luck: &dyn Luck,
    ) -> Span {
        let mut pause = self.first;
        for _ in 0..n_polls.min(32) {
            if pause >= self.longest {
                break;
            }
            pause = pause.times(3).divided_by(2);
        }
        let pause = pause.min(self.longest).max(asked(retry_after_secs));
        with_jitter(pause, pause.divided_by(4), luck)
    }

    /// The pause after a call that failed: doubled each time, with full jitter, on top of what the target asked for.
    /// Never less than half of the first pause, so that a target that just came up meets no stampede.
    #[must_use]
    pub fn after_failure(
        &self,
        n_failures: u32,
        retry_after_secs: Option<u32>,
        luck: &dyn Luck,
    ) -> Span {
        let factor = 1_u64.checked_shl(n_failures.min(32)).unwrap_or(u64::MAX);
        let ceiling = self.first.times(factor).min(self.longest);
        let floor = asked(retry_after_secs).max(self.first.divided_by(2));
        with_jitter(floor, ceiling, luck)
    }

    /// The regular pause between calls that keep a pairing alive, a tenth of jitter either way.
    #[must_use]
    pub fn regular(interval: Span, luck: &dyn Luck) -> Span {
        let tenth = interval.divided_by(10);
        let least = Span::from_micros(interval.as_micros().saturating_sub(tenth.as_micros()));
        with_jitter(least, tenth.times(2), luck)
    }
}

fn asked(retry_after_secs: Option<u32>) -> Span {
    Span::from_secs(u64::from(retry_after_secs.unwrap_or(0))).min(RETRY_AFTER_MAX)
}

fn with_jitter(least: Span, jitter: Span, luck: &dyn Luck) -> Span {
    let extra = luck.below(jitter.as_micros().saturating_add(1));
    Span::from_micros(least.as_micros().saturating_add(extra))
}

/// A wait that is under way.
pub type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who waits. Simulated worlds let time pass instead.
pub trait Waiter: Send + Sync {
    /// Ends after this long.
    fn wait(&self, pause: Span) -> Wait;
}

/// Waits in real time.
#[derive(Clone, Copy, Debug)]
pub struct RealWaiter;

impl Waiter for RealWaiter {
    fn wait(&self, pause: Span) -> Wait {
        Box::pin(tokio::time::sleep(pause.to_std()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use offsite_testkit::luck::SeededLuck;

    use super::*;

    const PACE: Pace = Pace { first: Span::from_secs(5), longest: Span::from_secs(60) };

    #[test]
    fn pauses_grow_to_their_bound_and_obey_retry_after() {
        let luck = SeededLuck::new(7);
        for n_polls in 0..100 {
            let pause = PACE.after_answer(n_polls, None, &luck);
            assert!(pause >= PACE.first && pause <= Span::from_secs(75), "{n_polls}: {pause:?}");
            let asked = PACE.after_answer(n_polls, Some(300), &luck);
            assert!(asked >= Span::from_secs(300) && asked <= Span::from_secs(375), "{asked:?}");
            let failed = PACE.after_failure(n_polls, None, &luck);
            assert!(
                failed >= Span::from_millis(2_500) && failed <= Span::from_secs(63),
                "{failed:?}"
            );
            let refused = PACE.after_failure(n_polls, Some(20), &luck);
            assert!(
                refused >= Span::from_secs(20) && refused <= Span::from_secs(80),
                "{refused:?}"
            );
            let regular = Pace::regular(Span::from_secs(60), &luck);
            assert!(
                regular >= Span::from_secs(54) && regular <= Span::from_secs(66),
                "{regular:?}"
            );
        }
        assert!(PACE.after_answer(50, None, &luck) >= Span::from_secs(60), "grown to the bound");
        assert!(PACE.after_answer(0, Some(u32::MAX), &luck) <= RETRY_AFTER_MAX.times(2));
    }

    /// E-13: a target that was away, for a short or a long time, and 500 sources that wait for it.
    #[test]
    fn e_13_no_stampede_after_a_restart() {
        const N_SOURCES: u64 = 500;
        for seed in 0..20 {
            for away_secs in [3, 20, 60, 600] {
                let luck = SeededLuck::new(seed);
                let (down, up) = (Span::from_secs(1_000), Span::from_secs(1_000 + away_secs));
                let mut n_in_second = BTreeMap::<u64, u32>::new();
                let mut back_at_most = Span::ZERO;
                for _ in 0..N_SOURCES {
                    // Long-waiting sources: their polls are spread over the longest pause.
                    let mut at = Span::from_micros(luck.below(Span::from_secs(75).as_micros()));
                    let mut n_failures = 0;
                    let mut back = None;
                    while at < Span::from_secs(up.as_secs() + 180) {
                        let pause = if at >= down && at < up {
                            n_failures += 1;
                            PACE.after_failure(n_failures - 1, None, &luck)
                        } else {
                            if at >= up {
                                *n_in_second.entry(at.as_secs()).or_default() += 1;
                                back.get_or_insert(at);
                            }
                            n_failures = 0;
                            PACE.after_answer(40, None, &luck)
                        };
                        at = Span::from_micros(at.as_micros() + pause.as_micros());
                    }
                    back_at_most = back_at_most.max(back.unwrap());
                }
                let busiest = n_in_second.values().max().copied().unwrap();
                assert!(busiest <= 50, "seed {seed}, away {away_secs} s: {busiest} in one second");
                let late = back_at_most.as_secs() - up.as_secs();
                assert!(
                    late <= 90,
                    "seed {seed}, away {away_secs} s: the last one back after {late} s"
                );
            }
        }
    }
}
