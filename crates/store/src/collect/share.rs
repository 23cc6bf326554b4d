//! A share of a disk: how long to wait so that no more than so many bytes a second are moved.

use offsite_model::Span;

/// A share in bytes per second. Pure: it is handed the time and says how long to wait; whoever
/// calls [`crate::Store::collect`] waits in the progress function, where no lock is held.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    bytes_per_sec: u64,
    /// What was counted so far, and when the share of it will have been used up.
    n_bytes: u64,
    free_at: Span,
}

/// What may be moved at once after a pause.
const BURST: Span = Span::from_millis(200);

impl Share {
    /// A share of so many bytes a second; 0 counts as 1.
    #[must_use]
    pub const fn new(bytes_per_sec: u64) -> Self {
        let bytes_per_sec = if bytes_per_sec == 0 { 1 } else { bytes_per_sec };
        Self { bytes_per_sec, n_bytes: 0, free_at: Span::ZERO }
    }

    /// How long to wait now that `n_bytes` were moved in all. `now` never runs backwards, as
    /// `Clock::uptime` does not.
    pub fn wait(&mut self, now: Span, n_bytes: u64) -> Span {
        let moved = n_bytes.saturating_sub(self.n_bytes);
        self.n_bytes = self.n_bytes.max(n_bytes);
        let micros = u128::from(moved) * 1_000_000 / u128::from(self.bytes_per_sec);
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        let earliest = now.as_micros().saturating_sub(BURST.as_micros());
        let free_at = self.free_at.as_micros().max(earliest).saturating_add(micros);
        self.free_at = Span::from_micros(free_at);
        Span::from_micros(free_at.saturating_sub(now.as_micros()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_share_is_moved_over_any_time() {
        let mut share = Share::new(1_000_000);
        let (mut now, mut n_bytes) = (Span::from_secs(100), 0_u64);
        let start = now;
        for n in 0..1_000_u64 {
            n_bytes += 1 + n * 37 % 9_000;
            let wait = share.wait(now, n_bytes);
            now = Span::from_micros(now.as_micros() + wait.as_micros());
        }
        let micros = now.as_micros() - start.as_micros();
        // A byte is a microsecond; the first burst comes on top.
        assert!(micros + BURST.as_micros() >= n_bytes, "{n_bytes} bytes in {micros} µs");
        assert!(micros <= n_bytes, "{n_bytes} bytes took {micros} µs");
        // A long pause gives no more than a burst.
        now = Span::from_micros(now.as_micros() + 60_000_000);
        let wait = share.wait(now, n_bytes + 1_000_000).as_micros();
        assert_eq!(wait, 1_000_000 - BURST.as_micros());
    }
}
