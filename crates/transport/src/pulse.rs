//! What one connection is doing right now: whether its peer has said anything, how many requests
//! are open, whether somebody reads the answers. The watchdog of `connection` closes what has
//! fallen silent.
//!
//! HTTP/2 has no deadlines of its own in the library, and a peer that answers pings is not one that
//! does anything; therefore requests count here and bytes do not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a connection may stay silent, stage by stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// From the handshake to the first byte, and from there to the first request.
    pub(crate) first_request: Duration,
    /// Without an open request, after the first one.
    pub(crate) idle: Duration,
    /// With an answer that the peer does not take.
    pub(crate) unread: Duration,
}

#[derive(Debug)]
struct State {
    n_requests: u64,
    n_open: usize,
    idle_since: Instant,
    n_answering: usize,
    taken_at: Instant,
    blocked_since: Option<Instant>,
    approved: bool,
}

/// The state of one connection, shared by its parts.
#[derive(Debug)]
pub(crate) struct Pulse {
    state: Mutex<State>,
    hang_up: Notify,
}

impl Pulse {
    pub(crate) fn new() -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            n_requests: 0,
            n_open: 0,
            idle_since: now,
            n_answering: 0,
            taken_at: now,
            blocked_since: None,
            approved: false,
        };
        Arc::new(Self { state: Mutex::new(state), hang_up: Notify::new() })
    }

    /// The state is plain numbers, whole at every moment; a panic elsewhere cannot have torn it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has arrived; it is open until the value is dropped.
    pub(crate) fn open(self: &Arc<Self>) -> OpenRequest {
        let mut state = self.state();
        state.n_requests = state.n_requests.saturating_add(1);
        state.n_open = state.n_open.saturating_add(1);
        OpenRequest { pulse: Arc::clone(self), answering: false, hang_up: false }
    }

    /// A write to the socket did or did not go through.
    pub(crate) fn wrote(&self, through: bool) {
        let mut state = self.state();
        if through {
            state.blocked_since = None;
        } else if state.blocked_since.is_none() {
            state.blocked_since = Some(Instant::now());
        }
    }

    /// A request on this connection was made by somebody who is known.
    pub(crate) fn approve(&self) {
        self.state().approved = true;
    }

    /// Whether such a request was made.
    pub(crate) fn is_approved(&self) -> bool {
        self.state().approved
    }

    /// Resolves when an answer asked for the connection to end after it.
    pub(crate) async fn hung_up(&self) {
        self.hang_up.notified().await;
    }

    /// When the connection must be looked at again, and what it would then be guilty of.
    pub(crate) fn deadline(&self, patience: &Patience) -> Option<(Instant, &'static str)> {
        let state = self.state();
        let quiet = match (state.n_open, state.n_requests) {
            (0, 0) => Some((state.idle_since + patience.first_request, "no request was made")),
            (0, _) => Some((state.idle_since + patience.idle, "no request is open")),
            _ => None,
        };
        let unread = (state.n_answering > 0)
            .then(|| (state.taken_at + patience.unread, "an answer is not being read"));
        let blocked = state
            .blocked_since
            .map(|since| (since + patience.unread, "nothing that is sent is being read"));
        [quiet, unread, blocked].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

/// A request that is being served or answered.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    pulse: Arc<Pulse>,
    answering: bool,
    hang_up: bool,
}

impl OpenRequest {
    /// The head of the answer goes out, or a piece of it was taken: from now on the peer is
    /// expected to read on.
    pub(crate) fn answering(&mut self) {
        let mut state = self.pulse.state();
        if !self.answering {
            state.n_answering = state.n_answering.saturating_add(1);
        }
        state.taken_at = Instant::now();
        drop(state);
        self.answering = true;
    }

    /// The answer waits for us to write more of it; the peer owes nothing.
    pub(crate) fn waiting_for_us(&mut self) {
        if self.answering {
            let mut state = self.pulse.state();
            state.n_answering = state.n_answering.saturating_sub(1);
        }
        self.answering = false;
    }

    /// The request was made by somebody who is known.
    pub(crate) fn approve(&self) {
        self.pulse.approve();
    }

    /// The connection ends after this answer.
    pub(crate) fn hang_up_after(&mut self) {
        self.hang_up = true;
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let mut state = self.pulse.state();
        if self.answering {
            state.n_answering = state.n_answering.saturating_sub(1);
        }
        state.n_open = state.n_open.saturating_sub(1);
        if state.n_open == 0 {
            state.idle_since = Instant::now();
        }
        drop(state);
        if self.hang_up {
            self.pulse.hang_up.notify_one();
        }
    }
}
