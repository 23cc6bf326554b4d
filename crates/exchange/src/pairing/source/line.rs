//! The state of one conversation with the target, beside the stage and below everything that takes
//! steps.

use serde::{Deserialize, Serialize};

use super::words::{Ticket, Trouble};

/// How the conversation goes: what is awaited, what went wrong. It starts anew with the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) n_calls: u32,
    pub(super) awaited: Option<Ticket>,
    pub(super) n_failures: u32,
    pub(super) trouble: Option<Trouble>,
    pub(super) skew_secs: Option<i64>,
}
