//! The pool in which TLS handshakes run: one thread of its own.
//!
//! A handshake is the costliest thing a stranger can make us do. Here a flood of them has one
//! thread to quarrel about, and the requests of those who are connected run elsewhere.

use std::future::Future;
use std::io;

use tokio::runtime::Runtime;

#[derive(Debug)]
pub(crate) struct Handshakes(Option<Runtime>);

impl Handshakes {
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("handshakes")
            .enable_time()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Runs a handshake to its end; `None` if it panicked or the pool is being torn down. Dropping
    /// the returned future abandons the handshake.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        handshake: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let task = self.0.as_ref()?.spawn(handshake);
        let mut task = AbortOnDrop(task);
        (&mut task.0).await.ok()
    }
}

impl Drop for Handshakes {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting for the thread is not allowed where async work runs.
            runtime.shutdown_background();
        }
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
