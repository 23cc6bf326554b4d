//! Source half of replication: a [`Job`] for one agent, and within it a [`Transfer`] for each
//! image.
//!
//! ```text
//!  Job       Asking (everything at once) ─► plan ─► Sending (some images at a time) ─► Ended
//!
//!  Transfer  Opening ─► Offering ─► Closing ─► AwaitCommit ─► Committing ─► Ended: Committed
//!               ▲          │           │            │              │
//!               └─ Resting ◄── cut, or a refusal that a new opening mends
//!                                                                  aside: Ended: Failed, Stopped
//! ```
//!
//! Each step of a transfer that may be lost leads to the same place: the image is opened again and
//! the target's bitmap says what need not be sent. Two round trips before the first key: what a job
//! asks, and row 56.
//!
//! **Absent:** this module cannot wait, read a clock, connect, read a record or encode a group.

mod flow;
mod job;
mod parcels;
mod transfer;
mod words;

pub use job::{Answer, Ask, Event, Job, JobEffect, JobOutcome, JobRules, Preflight};
pub use parcels::{Listed, Parcel, Place};
pub use transfer::Transfer;
pub use words::{Call, Effect, Failure, Given, Input, Outcome, Progress, Rules, Stop};
