//! How fast something may go: `maxTransferSpeed`.
//!
//! A bucket that fills with time and may run into debt: whoever takes from it goes ahead when the
//! debt is paid. What is taken is as large as it is, so a frame is never cut for its sake.

use offsite_model::Span;

/// The time for which an idle line may make up afterwards.
const CREDIT: Span = Span::from_millis(250);

/// What was taken so far, by the time at which it is paid for.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    bytes_per_sec: u64,
    paid_at: Span,
}

impl Pace {
    /// So many bytes per second; none where that is 0, which means no limit.
    #[must_use]
    pub fn new(bytes_per_sec: u64) -> Option<Self> {
        (bytes_per_sec > 0).then_some(Self { bytes_per_sec, paid_at: Span::ZERO })
    }

    /// Takes bytes at this time of a clock that never runs backwards; how long to wait before they
    /// may go.
    pub fn take(&mut self, bytes: u64, now: Span) -> Span {
        let micros = u128::from(bytes).saturating_mul(1_000_000) / u128::from(self.bytes_per_sec);
        let costs = u64::try_from(micros).unwrap_or(u64::MAX);
        let earliest = now.as_micros().saturating_sub(CREDIT.as_micros());
        let from = self.paid_at.as_micros().max(earliest);
        self.paid_at = Span::from_micros(from.saturating_add(costs));
        Span::from_micros(from.saturating_sub(now.as_micros()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_any_time_no_more_goes_than_the_speed_and_one_burst() {
        const SPEED: u64 = 1_000_000;
        let mut pace = Pace::new(SPEED).unwrap();
        // When each piece was free to go, and what had gone by then, this one not counted.
        let (mut now, mut sent, mut went) = (Span::from_secs(1_000), 0_u64, Vec::new());
        for round in 0..1_000_u64 {
            let bytes = 1 + (round * 7_919) % 60_000;
            now = Span::from_micros(now.as_micros() + pace.take(bytes, now).as_micros());
            went.push((now, sent));
            sent += bytes;
            if round % 100 == 50 {
                now = Span::from_micros(now.as_micros() + 60_000_000);
            }
        }
        for (n, (begun, before)) in went.iter().enumerate() {
            for (ended, after) in went.iter().skip(n) {
                let micros = ended.as_micros() - begun.as_micros();
                let bound = micros * SPEED / 1_000_000 + SPEED / 4 + 60_000;
                assert!(after - before <= bound, "{} bytes in {micros} us", after - before);
            }
        }
        let busy = went.last().unwrap().0.as_micros() - 1_000_000_000 - 10 * 60_000_000;
        assert!(busy <= sent * 1_000_000 / SPEED, "slower than it may be: {busy} us");
    }

    #[test]
    fn no_limit_is_none_and_the_largest_is_no_trouble() {
        assert!(Pace::new(0).is_none());
        let mut pace = Pace::new(u64::MAX).unwrap();
        assert_eq!(pace.take(u64::MAX, Span::from_secs(5)), Span::ZERO);
        let mut slow = Pace::new(1).unwrap();
        slow.take(u64::MAX, Span::from_secs(5));
        assert!(slow.take(1, Span::from_secs(5)) > Span::from_days(365));
    }
}
