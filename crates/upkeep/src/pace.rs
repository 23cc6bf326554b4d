//! A share of the disk in time: work for a while, pause for as long as the share asks.
//!
//! A share of time needs no knowledge of how fast a disk is, and of a disk that others make slow it
//! takes less.

use offsite_model::Span;

/// Work that is not interrupted for less than this: pausing for each group would be all pausing.
const WORK: Span = Span::from_millis(50);

/// A share in percent of the time. Pure: it is handed the time and says how long to pause.
#[derive(Clone, Copy, Debug)]
pub struct DutyCycle {
    percent: u64,
    since: Span,
}

impl DutyCycle {
    /// A share that begins now; 0 counts as 1, more than 100 as 100.
    #[must_use]
    pub fn new(percent: u8, now: Span) -> Self {
        Self { percent: u64::from(percent.clamp(1, 100)), since: now }
    }

    /// How long to pause now. `now` never runs backwards, as `Clock::uptime` does not.
    pub fn pause(&mut self, now: Span) -> Span {
        let worked = now.as_micros().saturating_sub(self.since.as_micros());
        if worked < WORK.as_micros() {
            return Span::ZERO;
        }
        let rest = worked.saturating_mul(100_u64.saturating_sub(self.percent));
        let pause = rest.checked_div(self.percent).unwrap_or(0);
        self.since = Span::from_micros(now.as_micros().saturating_add(pause));
        Span::from_micros(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_share_is_worked_over_any_time() {
        for percent in [1, 10, 50, 100] {
            let mut now = Span::from_secs(100);
            let mut cycle = DutyCycle::new(percent, now);
            let (mut worked, mut paused) = (0_u64, 0_u64);
            for n in 0..10_000_u64 {
                let work = 1 + n * 7_919 % 30_000;
                worked += work;
                now = Span::from_micros(now.as_micros() + work);
                let pause = cycle.pause(now).as_micros();
                paused += pause;
                now = Span::from_micros(now.as_micros() + pause);
            }
            let share = worked * 100 / (worked + paused);
            assert!(share.abs_diff(u64::from(percent)) <= 1, "{share} % of {percent} %");
        }
    }
}
