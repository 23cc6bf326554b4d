//! Every number of a listener: deadlines, caps, windows. Settings with the defaults of
//! `docs/security.md`; tests make the deadlines short.

use std::time::Duration;

use crate::pulse::Patience;

/// The deadlines and caps of one listener.
#[derive(Clone, Debug)]
pub struct ConnectionPolicy {
    /// From the accepted connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// From the handshake to the first request, its first byte included.
    pub first_request: Duration,
    /// From the first byte of a request's head to its last (HTTP/1.1; over HTTP/2 a head that does
    /// not end is no request).
    pub head: Duration,
    /// Without an open request, for peers without an active row.
    pub idle_unknown: Duration,
    /// The same for paired sources and operators.
    pub idle_known: Duration,
    /// With an answer that the peer does not read.
    pub unread: Duration,
    /// Connections without an active row, per address (/32, /56).
    pub unknown_per_address: usize,
    /// The same, of all addresses.
    pub unknown_total: usize,
    /// Connections of paired sources, reserved.
    pub paired_total: usize,
    /// Connections of one paired source.
    pub paired_per_key: usize,
    /// Connections of operators, reserved.
    pub operators: usize,
    /// New handshakes per second and address; twice as many may come at once.
    pub handshakes_per_sec: u32,
    /// Handshakes under way at once.
    pub handshakes_at_once: usize,
    /// HTTP/2 streams of one connection.
    pub streams: u32,
    /// HTTP/2 windows, connection and stream each, for paired sources.
    pub window_paired: u32,
    /// The same for everybody else.
    pub window_unknown: u32,
    /// How long requests may go on when the daemon stops.
    pub drain: Duration,
}

impl Default for ConnectionPolicy {
    fn default() -> Self {
        let ten = Duration::from_secs(10);
        Self {
            handshake: ten,
            first_request: ten,
            head: ten,
            idle_unknown: ten,
            idle_known: Duration::from_secs(120),
            unread: Duration::from_secs(30),
            unknown_per_address: 16,
            unknown_total: 256,
            paired_total: 1_024,
            paired_per_key: 16,
            operators: 32,
            handshakes_per_sec: 20,
            handshakes_at_once: 64,
            streams: 32,
            window_paired: 8 << 20,
            window_unknown: 256 << 10,
            drain: Duration::from_secs(25),
        }
    }
}

impl ConnectionPolicy {
    pub(crate) fn patience(&self, known: bool) -> Patience {
        Patience {
            first_request: self.first_request,
            idle: if known { self.idle_known } else { self.idle_unknown },
            unread: self.unread,
        }
    }
}
