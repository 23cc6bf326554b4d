//! Source half of one pairing.
//!
//! ```text
//!  Unpaired ─order─► AwaitKey ─► AwaitMeeting ─► AwaitSubmitted ─► AwaitDecision ─┐
//!                                   (pin kept)       ▲    other wish │     │      │ accepted
//!                                                    └───────────────┘     │      ▼
//!                                                                          │  AwaitArtifacts ◄──────┐
//!                                                                          │      │ judged          │ restart
//!                                                                          │      ▼                 │
//!                                                                          │  AwaitInstalled ───────┘
//!                                                                          │      ▼
//!                                                                          │  AwaitFirstSync
//!                                                                          │      ▼
//!                                                                          │   Active ──► Active (renewed key)
//!     aside:                                                               │      │
//!       Refused   the target's program said no            ◄────────────────┤      ├──► Ended   by the target
//!       Rejected  its operator said no                    ◄────────────────┤      │
//!       Expired   nobody said anything in time            ◄────────────────┘      │
//!       Alarmed   somebody is not who he was: nothing more is sent until an order │
//!     leaving, from any stage the target may know of:                             ▼
//!       AwaitForgotten (a note, repeated until the target has heard it) ──► Withdrawn or Ended
//! ```
//!
//! Each stage has one *pursuit*: the effect that it waits for. Entering a stage, starting again
//! with it and being woken in it all do the same, which is why no crash point needs a rule of its
//! own.
//!
//! **Absent:** this module cannot wait, read a clock, open a connection or touch a disk.

mod active;
mod leave;
mod line;
mod orders;
mod request;
mod turn;
mod words;

pub use words::{
    Acceptance, Answer, Artifacts, Ask, Call, Cause, Effect, Event, Failure, Input, Order, Shown,
    Status, Submission, Ticket, Trouble,
};
mod stages;

pub use stages::{
    Active, Alarmed, AwaitArtifacts, AwaitDecision, AwaitForgotten, AwaitInstalled, AwaitKey,
    AwaitMeeting, AwaitSubmitted, Ended, Filed, Identity, Link, Refused, Rejected, Renewal, Stage,
};

use serde::{Deserialize, Serialize};

use self::line::Line;
use self::turn::Turn;
use super::{IllegalMove, Moment, Rules};

/// The source half of one pairing. To be kept as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    stage: Stage,
    line: Line,
}

/// What a step leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The machine from now on; to be taken once its first effect is done.
    pub source: Source,
    /// What must be done, in this order.
    pub effects: Vec<Effect>,
}

impl Default for Source {
    fn default() -> Self {
        Self::new()
    }
}

impl Source {
    /// A machine that was asked nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { stage: Stage::Unpaired, line: Line::default() }
    }

    /// Takes one thing that happened; says what must be done about it.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] for an order that the stage does not allow (to be told to the operator) and
    /// for an input that cannot have happened (the driver's mistake). Whatever the target answers
    /// is no error.
    pub fn step(&self, input: Input, at: Moment, rules: &Rules) -> Result<Step, IllegalMove> {
        let mut turn = Turn::new(self.line.clone(), at, rules);
        let stage = self.stage.clone();
        let stage = match input {
            Input::Start => turn.start(stage),
            Input::Woken => turn.woken(stage),
            Input::Operator(order) => turn.obey(stage, order)?,
            Input::KeyMade(key) => turn.key_made(stage, key)?,
            Input::Installed(key) => turn.installed(stage, &key)?,
            Input::Answered(ticket, outcome) => {
                if turn.line.awaited != Some(ticket) {
                    // A late answer to a call that was abandoned.
                    return Ok(Step { source: self.clone(), effects: Vec::new() });
                }
                turn.line.awaited = None;
                turn.answered(stage, outcome)?
            }
        };
        Ok(Step { source: Self { stage, line: turn.line }, effects: turn.effects })
    }

    /// What it waits for.
    #[must_use]
    pub const fn stage(&self) -> &Stage {
        &self.stage
    }

    /// What went wrong last, while it has not gone right since.
    #[must_use]
    pub const fn trouble(&self) -> Option<&Trouble> {
        self.line.trouble.as_ref()
    }

    /// The target's clock less ours in seconds, as last measured.
    #[must_use]
    pub const fn skew_secs(&self) -> Option<i64> {
        self.line.skew_secs
    }

    /// The identity to replicate with and the target it belongs to, while the pairing is active.
    /// During a renewal this stays the old one until the target has answered a call with the new
    /// one.
    #[must_use]
    pub fn identity(&self) -> Option<(&Identity, &Link)> {
        match &self.stage {
            Stage::Active(active) if !active.is_key_refused => {
                Some((&active.identity, &active.link))
            }
            _ => None,
        }
    }
}
