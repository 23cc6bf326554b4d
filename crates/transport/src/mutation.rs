//! Work that changes something runs in a task of its own, so that a disconnect cannot cut it in
//! half.
//!
//! A server drops the future of a request when its peer goes away; code after an `.await` then
//! simply never runs. A mutation is therefore begun here, finishes whatever the peer does, and is
//! waited for when the daemon stops.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The mutations that are under way. Clones share one list.
#[derive(Clone, Debug, Default)]
pub struct Mutations {
    tracker: TaskTracker,
    stopping: CancellationToken,
}

/// A mutation that panicked; whoever waits for it answers `internal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task that did the work panicked")]
pub struct Panicked;

/// A mutation under way; waiting for it yields its value, or [`Panicked`].
#[derive(Debug)]
pub struct Mutation<T>(JoinHandle<T>);

impl<T> Future for Mutation<T> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Nobody aborts these tasks, so an error is a panic.
        Pin::new(&mut self.0).poll(context).map_err(|_| Panicked)
    }
}

impl Mutations {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs the future to its end in a task of its own. Dropping what is returned gives up waiting
    /// for it and nothing else.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Mutation<T> {
        Mutation(self.tracker.spawn(tracing::Instrument::in_current_span(work)))
    }

    /// Cancelled once the daemon stops: long work looks at it at points where stopping is safe.
    #[must_use]
    pub const fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// How many are under way.
    #[must_use]
    pub fn n_running(&self) -> usize {
        self.tracker.len()
    }

    /// Tells all of them to stop where it is safe and waits for them.
    ///
    /// Returns how many were still running when the time was up; they are not cut off.
    pub async fn finish(&self, within: Duration) -> usize {
        self.stopping.cancel();
        self.tracker.close();
        match tokio::time::timeout(within, self.tracker.wait()).await {
            Ok(()) => 0,
            Err(_) => self.tracker.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn e_14_a_mutation_outlives_whoever_asked_for_it() {
        let mutations = Mutations::new();
        let (go, gate) = oneshot::channel::<()>();
        let (done, seen) = oneshot::channel::<&str>();
        let waiting = mutations.spawn(async move {
            gate.await.unwrap();
            done.send("whole").unwrap();
        });
        drop(waiting);
        go.send(()).unwrap();
        assert_eq!(seen.await, Ok("whole"));
        assert_eq!(mutations.finish(Duration::from_secs(10)).await, 0);
    }

    #[tokio::test]
    async fn f_08_a_panic_stays_in_its_task() {
        let mutations = Mutations::new();
        let panicking = mutations.spawn(async { panic!("deliberate, for the test") });
        assert_eq!(panicking.await, Err::<(), _>(Panicked));
        assert_eq!(mutations.spawn(async { 7 }).await, Ok(7));
    }
}
