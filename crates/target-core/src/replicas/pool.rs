//! Threads for look-ups, decoding and appending: so many at most, whoever asks.
//!
//! A thread that is done takes the next piece of work itself. Handing each piece to a thread anew
//! costs two wake-ups, which on a small machine is a tenth of the time that a group takes.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

type Work = Box<dyn FnOnce() + Send>;

/// A bounded pool of threads that may block.
pub(crate) struct Pool {
    n_threads: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    n_at_work: usize,
    /// In the order in which it came.
    waiting: VecDeque<Work>,
}

impl Pool {
    /// At least one thread.
    pub(super) fn new(n_threads: usize) -> Arc<Self> {
        Arc::new(Self { n_threads: n_threads.max(1), state: Mutex::default() })
    }

    /// Runs work and waits for it; none where it panicked. It is done also where nobody waits any
    /// more.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, outcome) = oneshot::channel();
        self.take(Box::new(move || {
            // Whoever asked may be gone.
            drop(done.send(work()));
        }));
        outcome.await.inspect_err(|_| tracing::error!("blocking work failed")).ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, work: Work) {
        {
            let mut state = self.state();
            state.waiting.push_back(work);
            if state.n_at_work == self.n_threads {
                return;
            }
            state.n_at_work += 1;
        }
        let pool = Arc::clone(self);
        drop(tokio::task::spawn_blocking(move || {
            while let Some(work) = pool.next() {
                // The panic was printed, and whoever waits is told by the channel that ends.
                drop(catch_unwind(AssertUnwindSafe(work)));
            }
        }));
    }

    /// What waits longest; where nothing does, one thread less is at work.
    fn next(&self) -> Option<Work> {
        let mut state = self.state();
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.n_at_work -= 1;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn no_more_work_at_once_than_threads_and_all_of_it_gets_done() {
        let pool = Pool::new(2);
        let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let works: Vec<_> = (0..200)
            .map(|n| {
                let (pool, at_once, most) =
                    (Arc::clone(&pool), Arc::clone(&at_once), Arc::clone(&most));
                tokio::spawn(async move {
                    let work = move || {
                        most.fetch_max(
                            at_once.fetch_add(1, Ordering::SeqCst) + 1,
                            Ordering::SeqCst,
                        );
                        std::thread::yield_now();
                        at_once.fetch_sub(1, Ordering::SeqCst);
                        n
                    };
                    pool.run(work).await
                })
            })
            .collect();
        for (n, work) in works.into_iter().enumerate() {
            assert_eq!(work.await.unwrap(), Some(n));
        }
        assert!(most.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn a_panic_ends_the_work_and_not_the_thread() {
        let pool = Pool::new(1);
        for n in 0..4 {
            let failed: Option<()> = pool.run(|| panic!("as it must")).await;
            assert_eq!(failed, None);
            assert_eq!(pool.run(move || n).await, Some(n));
        }
    }
}
