//! A clock moved by hand: the wall clock can jump and stop, and runs apart from the boot time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offsite_model::{Clock, Span, Timestamp};

/// 2026-01-01T00:00:00Z, where simulated worlds begin unless told otherwise.
pub const BEGINNING: Timestamp = Timestamp::from_secs(1_767_225_600);

#[derive(Clone, Copy, Debug)]
struct Hands {
    wall: Timestamp,
    boot: Span,
    wall_runs: bool,
    boot_runs: bool,
}

/// A clock that stands still until it is moved. Clones show the same time.
#[derive(Clone, Debug)]
pub struct SimClock(Arc<Mutex<Hands>>);

impl Default for SimClock {
    fn default() -> Self {
        Self::starting_at(BEGINNING)
    }
}

impl SimClock {
    /// A clock that shows [`BEGINNING`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A clock that shows this moment; its boot time begins at one hour, so that subtracting from
    /// it is not by accident zero.
    #[must_use]
    pub fn starting_at(wall: Timestamp) -> Self {
        let boot = Span::from_hours(1);
        Self(Arc::new(Mutex::new(Hands { wall, boot, wall_runs: true, boot_runs: true })))
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass, on the wall and since boot alike, except for what was stopped.
    pub fn advance(&self, span: Span) {
        let mut hands = self.hands();
        if hands.wall_runs {
            hands.wall = hands.wall + span;
        }
        if hands.boot_runs {
            let micros = hands.boot.as_micros().saturating_add(span.as_micros());
            hands.boot = Span::from_micros(micros);
        }
    }

    /// Sets the wall clock alone, either way, as an administrator or a bad time server does.
    pub fn jump_to(&self, wall: Timestamp) {
        self.hands().wall = wall;
    }

    /// Moves the wall clock alone forward.
    pub fn jump_forward(&self, span: Span) {
        let mut hands = self.hands();
        hands.wall = hands.wall + span;
    }

    /// Moves the wall clock alone back.
    pub fn jump_back(&self, span: Span) {
        let mut hands = self.hands();
        hands.wall = hands.wall - span;
    }

    /// Stops the wall clock or lets it run again; the time since boot goes on.
    pub fn set_wall_runs(&self, runs: bool) {
        self.hands().wall_runs = runs;
    }

    /// Stops the time since boot or lets it run again; the wall clock goes on.
    pub fn set_boot_runs(&self, runs: bool) {
        self.hands().boot_runs = runs;
    }

    /// Starts the time since boot anew, as a restart of the machine does.
    pub fn reboot(&self) {
        self.hands().boot = Span::ZERO;
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.hands().wall
    }

    fn uptime(&self) -> Span {
        self.hands().boot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_jumps_alone() {
        let clock = SimClock::new();
        let boot = clock.uptime();
        clock.jump_forward(Span::from_days(30));
        assert_eq!(clock.now(), BEGINNING + Span::from_days(30));
        clock.jump_back(Span::from_days(60));
        assert_eq!(clock.now(), BEGINNING - Span::from_days(30));
        assert_eq!(clock.uptime(), boot);
    }

    #[test]
    fn each_hand_stops_alone() {
        let clock = SimClock::new();
        let boot = clock.uptime();
        clock.set_wall_runs(false);
        clock.advance(Span::from_secs(1));
        assert_eq!((clock.now(), clock.uptime().as_secs()), (BEGINNING, boot.as_secs() + 1));
        clock.set_wall_runs(true);
        clock.set_boot_runs(false);
        clock.advance(Span::from_secs(1));
        assert_eq!(clock.now(), BEGINNING + Span::from_secs(1));
        assert_eq!(clock.uptime().as_secs(), boot.as_secs() + 1);
        clock.reboot();
        assert_eq!(clock.uptime(), Span::ZERO);
    }

    #[test]
    fn clones_show_the_same_time() {
        let clock = SimClock::new();
        let other = clock.clone();
        clock.advance(Span::from_secs(5));
        assert_eq!(other.now(), clock.now());
    }
}
