//! The line to a target, as the engine sees it: one call in, one outcome out.
//!
//! [`crate::calls`] is the real one; tests put a scripted target behind the same trait.
//!
//! **Absent:** what an outcome means (the machine), and when to try again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use offsite_exchange::pairing::source::{Answer, Call, Failure};
use offsite_model::{AgentId, CoreId};

/// Who calls, as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// The source's core id.
    pub core_id: CoreId,
    /// Its name.
    pub name: String,
    /// The agents of the pairing, for row 45.
    pub agents: Vec<AgentId>,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The answer, or why there is none.
    pub result: Result<Answer, Failure>,
    /// How far the target's clock is ahead of ours, where the call measured it, in seconds.
    pub skew_secs: Option<i64>,
    /// What a person should know besides, such as an older target.
    pub remark: Option<String>,
    /// What the target calls itself, where it told; checked to be one plain line.
    pub target_name: Option<String>,
    /// What a person can do about a failure; empty where the machine's own words suffice.
    pub hint: String,
}

impl Outcome {
    /// An outcome with nothing besides.
    #[must_use]
    pub const fn plain(result: Result<Answer, Failure>) -> Self {
        Self { result, skew_secs: None, remark: None, target_name: None, hint: String::new() }
    }
}

/// A call under way.
pub type Underway = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Whoever can make calls.
pub trait Line: Send + Sync {
    /// Makes a call. Dropping the future abandons it; the target may or may not have heard it.
    fn call(self: Arc<Self>, call: Call, speaker: Speaker) -> Underway;
}
