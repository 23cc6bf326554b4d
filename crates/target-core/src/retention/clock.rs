//! The retention clock (C-04): the time by which locks end, soft deletion ends and points grow old.
//!
//! It begins as the system's clock and then goes its own way. While the daemon runs it follows the
//! time since boot, which nobody can set. Time spent down is credited from the system's clock, at
//! most [`CREDIT_MAX`] in any [`CREDIT_WINDOW`]; what is beyond that is kept as *owed*, and two
//! persons may credit it (C-06). So it never runs backwards and never fast: locks may end late,
//! and not early.
//!
//! A system clock that jumps is an alarm. One that was set back also stops everything that removes
//! points for [`PAUSE`]: somebody should look.
//!
//! **Absent:** the file or row in which it is kept (`state`), and what it rules over.

use offsite_model::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// The most that is credited for time spent down, within [`CREDIT_WINDOW`].
pub(crate) const CREDIT_MAX: Span = Span::from_days(7);
/// The time over which credits are added up.
pub(crate) const CREDIT_WINDOW: Span = Span::from_days(365);
/// How long nothing is removed after the system's clock was set back.
pub(crate) const PAUSE: Span = Span::from_hours(24);
/// A system clock that differs by less from what passed is not told of.
const JUMP_MIN: Span = Span::from_secs(60);
/// Credits of one such time are remembered as one, as if given at its end.
const CREDITS_TOGETHER_MICROS: i64 = 86_400_000_000;

/// Both clocks of the system, read at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) wall: Timestamp,
    pub(crate) boot: Span,
}

/// The clock as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RetentionClock {
    /// What it shows, in microseconds since 1970.
    now_micros: i64,
    /// What the system's clock showed then.
    wall_micros: i64,
    /// The time since boot then; it means nothing in another process.
    boot_micros: u64,
    /// What was credited within the window: when, and how much.
    credits: Vec<(i64, u64)>,
    /// Time that passed, as the system's clock says, and was not credited.
    owed_micros: u64,
    /// Nothing is removed before this.
    paused_until_micros: i64,
}

/// A system clock that did not show what passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Jump {
    /// It was set forward by so much.
    Forward(Span),
    /// It was set back by so much.
    Back(Span),
}

impl RetentionClock {
    /// A clock that shows this time.
    pub(crate) const fn starting_at(now: Timestamp, reading: Reading) -> Self {
        Self {
            now_micros: now.as_micros(),
            wall_micros: reading.wall.as_micros(),
            boot_micros: reading.boot.as_micros(),
            credits: Vec::new(),
            owed_micros: 0,
            paused_until_micros: i64::MIN,
        }
    }

    /// What it showed when it was moved last.
    pub(crate) const fn shown(&self) -> Timestamp {
        Timestamp::from_micros(self.now_micros)
    }

    /// What it shows at this time since boot, by the process that moved it last.
    pub(crate) fn at(&self, boot: Span) -> Timestamp {
        self.shown() + self.run(boot)
    }

    fn run(&self, boot: Span) -> Span {
        Span::from_micros(boot.as_micros().saturating_sub(self.boot_micros))
    }

    /// Whether points may be removed.
    pub(crate) const fn is_paused(&self) -> bool {
        self.now_micros < self.paused_until_micros
    }

    /// When points may be removed again.
    pub(crate) const fn paused_until(&self) -> Timestamp {
        Timestamp::from_micros(self.paused_until_micros)
    }

    /// Time spent down that was not credited.
    pub(crate) const fn owed(&self) -> Span {
        Span::from_micros(self.owed_micros)
    }

    /// Goes on after the daemon was down, never behind `newest`, the newest moment that the store
    /// remembers.
    pub(crate) fn resume(&mut self, reading: Reading, newest: Option<Timestamp>) -> Option<Jump> {
        let before = Timestamp::from_micros(self.wall_micros);
        let down = reading.wall.since(before);
        let back = before.since(reading.wall);
        self.now_micros = newest.map_or(self.now_micros, |at| self.now_micros.max(at.as_micros()));
        let credit = down.as_micros().min(self.credit_left().as_micros());
        if credit > 0 {
            self.credit(credit);
        }
        let not_credited = down.as_micros().saturating_sub(credit);
        self.owed_micros = self.owed_micros.saturating_add(not_credited);
        self.wall_micros = reading.wall.as_micros();
        self.boot_micros = reading.boot.as_micros();
        if back > Span::ZERO {
            self.pause();
            return Some(Jump::Back(back));
        }
        (not_credited > 0).then(|| Jump::Forward(Span::from_micros(not_credited)))
    }

    /// Lets the time pass that passed since it was moved last, while the daemon ran.
    pub(crate) fn advance(&mut self, reading: Reading) -> Option<Jump> {
        let run = self.run(reading.boot);
        let expected = Timestamp::from_micros(self.wall_micros) + run;
        self.now_micros = self.at(reading.boot).as_micros();
        self.boot_micros = self.boot_micros.max(reading.boot.as_micros());
        self.wall_micros = reading.wall.as_micros();
        let (forward, back) = (reading.wall.since(expected), expected.since(reading.wall));
        if back > JUMP_MIN {
            self.pause();
            return Some(Jump::Back(back));
        }
        (forward > JUMP_MIN).then_some(Jump::Forward(forward))
    }

    /// Credits owed time; how much is owed then. Two persons agreed before.
    pub(crate) fn credit_owed(&mut self, span: Span) -> Span {
        let credit = span.as_micros().min(self.owed_micros);
        self.owed_micros = self.owed_micros.saturating_sub(credit);
        self.now_micros = self.now_micros.saturating_add_unsigned(credit);
        self.owed()
    }

    fn pause(&mut self) {
        let until = self.shown() + PAUSE;
        self.paused_until_micros = self.paused_until_micros.max(until.as_micros());
    }

    /// How much may still be credited at this time.
    fn credit_left(&mut self) -> Span {
        let begin = (self.shown() - CREDIT_WINDOW).as_micros();
        self.credits.retain(|(at, _)| *at > begin);
        let used = self.credits.iter().fold(0_u64, |sum, (_, micros)| sum.saturating_add(*micros));
        Span::from_micros(CREDIT_MAX.as_micros().saturating_sub(used))
    }

    fn credit(&mut self, micros: u64) {
        self.now_micros = self.now_micros.saturating_add_unsigned(micros);
        let together = self.now_micros.div_euclid(CREDITS_TOGETHER_MICROS).saturating_add(1);
        let end = together.saturating_mul(CREDITS_TOGETHER_MICROS);
        match self.credits.last_mut() {
            Some((at, sum)) if *at == end => *sum = sum.saturating_add(micros),
            _ => self.credits.push((end, micros)),
        }
    }
}
