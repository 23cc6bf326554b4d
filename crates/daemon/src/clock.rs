//! Real time, and the only module of the product that reads it.

use std::time::SystemTime;

use offsite_model::{Clock, Span, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// The clocks of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the module that reads the real clock")]
    fn now(&self) -> Timestamp {
        let now = SystemTime::now();
        // A clock set before 1970 is a fault of the machine; saturating keeps it visible as 1970.
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn uptime(&self) -> Span {
        // Unlike the monotonic clock this one counts the time a machine spends suspended, so a
        // lease or a lock cannot be stretched by putting the machine to sleep.
        let time = clock_gettime(ClockId::Boottime);
        let secs = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        Span::from_micros(secs.saturating_mul(1_000_000).saturating_add(nanos / 1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_show_a_time_that_can_be() {
        let clock = SystemClock;
        assert!(clock.now() > Timestamp::from_secs(1_700_000_000));
        let before = clock.uptime();
        assert!(before > Span::ZERO);
        assert!(clock.uptime() >= before);
    }
}
