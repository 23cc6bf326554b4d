//! How a daemon ends: signal → drain → deadline.
//!
//! The first `SIGTERM` or `SIGINT` asks for a stop: no new work, sessions go on to a commit or a
//! barrier. When the drain deadline passes, or at a second signal, what is left is cut off. Nothing
//! durable depends on the drain: a cut connection changes no state, it only costs the peer a retry.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code of a command that was interrupted.
pub const EXIT_INTERRUPTED: u8 = 130;

/// The two stages of an end, to be handed to whatever must take part in it. Clones share them.
#[derive(Clone, Debug)]
pub struct Shutdown {
    draining: CancellationToken,
    overdue: CancellationToken,
}

impl Shutdown {
    /// Listens for the signals from now on, in a task that ends with the process.
    ///
    /// # Errors
    ///
    /// The signal handlers cannot be installed.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time.
    pub fn on_signals(drain: Duration) -> io::Result<Self> {
        let mut signals = Signals::listen()?;
        let shutdown = Self::by_hand();
        let watched = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                name = signals.next() => tracing::info!(signal = name, "asked to stop"),
                () = watched.draining.cancelled() => {}
            }
            watched.begin();
            tokio::select! {
                name = signals.next() => tracing::warn!(signal = name, "asked again, not waiting"),
                () = tokio::time::sleep(drain) => {}
            }
            watched.overdue.cancel();
        });
        Ok(shutdown)
    }

    /// An end that no signal brings about, only [`Shutdown::begin`]; it has no deadline. For tests
    /// and for commands that serve for a while.
    #[must_use]
    pub fn by_hand() -> Self {
        Self { draining: CancellationToken::new(), overdue: CancellationToken::new() }
    }

    /// Starts the drain, as a signal does.
    pub fn begin(&self) {
        self.draining.cancel();
    }

    /// Cancelled when the drain begins: take no new work.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Cancelled when the drain has taken too long: let go of what is left.
    #[must_use]
    pub fn overdue(&self) -> &CancellationToken {
        &self.overdue
    }
}

/// Waits for the first `SIGINT` or `SIGTERM`; a command then cleans up and ends with
/// [`EXIT_INTERRUPTED`].
///
/// # Errors
///
/// The signal handlers cannot be installed.
pub async fn interrupted() -> io::Result<()> {
    Signals::listen()?.next().await;
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal as Number, getpid, kill_process};

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    // One test for all signals: a signal goes to the whole process, so two tests would hear each
    // other's.
    #[tokio::test]
    async fn a_signal_drains_and_a_second_one_or_the_deadline_ends_it() {
        for number in [Number::TERM, Number::INT] {
            let patient = Shutdown::on_signals(LONG).unwrap();
            let hasty = Shutdown::on_signals(Duration::ZERO).unwrap();
            let command = tokio::spawn(interrupted());
            tokio::task::yield_now().await;
            assert!(!patient.draining().is_cancelled());
            kill_process(getpid(), number).unwrap();
            patient.draining().cancelled().await;
            command.await.unwrap().unwrap();
            hasty.overdue().cancelled().await;
            assert!(!patient.overdue().is_cancelled(), "the deadline is an hour away");
            kill_process(getpid(), number).unwrap();
            patient.overdue().cancelled().await;
        }
    }

    #[tokio::test]
    async fn an_end_by_hand_keeps_the_deadline() {
        let shutdown = Shutdown::on_signals(Duration::ZERO).unwrap();
        shutdown.begin();
        shutdown.overdue().cancelled().await;
    }
}
