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
//! Each stage has one *pursuit*: the effect that it waits for. Entering a stage, starting again with it and being
//! woken in it all do the same, which is why no crash point needs a rule of its own.
//!
//! **Absent:** this module cannot wait, read a clock, open a connection or touch a disk.

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

use super::{IllegalMove, Moment, Rules};

/// The source half of one pairing. To be kept as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    stage: Stage,
    line: Line,
}

/// How the conversation goes: what is awaited, what went wrong. It starts anew with the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    n_calls: u32,
    awaited: Option<Ticket>,
    n_failures: u32,
    trouble: Option<Trouble>,
    skew_secs: Option<i64>,
}

/// What a step leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The machine from now on; to be taken once its first effect is done.
    pub source: Source,
    /// What must be done, in this order.
    pub effects: Vec<Effect>,
}
