//! Waiting: the one place where the source lets time pass.
//!
//! How long is the machine's decision (pauses that grow, `Retry-After`, jitter); here is who waits.
//! Simulated worlds move a clock instead.
//!
//! **Absent:** what is asked after the wait.

use std::future::Future;
use std::pin::Pin;

use offsite_model::Span;

/// A wait that is under way.
pub type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who waits.
pub trait Waiter: Send + Sync {
    /// Ends after this long.
    fn wait(&self, pause: Span) -> Wait;
}

/// Waits in real time.
#[derive(Clone, Copy, Debug)]
pub struct RealWaiter;

impl Waiter for RealWaiter {
    fn wait(&self, pause: Span) -> Wait {
        Box::pin(tokio::time::sleep(pause.to_std()))
    }
}
