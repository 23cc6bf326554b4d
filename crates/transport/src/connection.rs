//! One connection of a server, from its first byte of HTTP to its end: the builder that ALPN chose,
//! the limits of its class, and a watchdog over all of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use offsite_proto::limits::{HEAD_BYTES_MAX, HEADERS_MAX};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::connections::Ticket;
use crate::peer::{PeerKey, Place};
use crate::policy::ConnectionPolicy;
use crate::pulse::{Patience, Pulse};
use crate::routes::{Answering, Arrival};
use crate::wire::Wire;

/// Streams that were reset before we looked at them, and errors of the peer's on single streams,
/// after which an HTTP/2 connection is ended: what the rapid-reset attacks are made of.
const PENDING_RESETS_MAX: usize = 20;
const ERROR_RESETS_MAX: usize = 128;
/// The library's buffer for reading HTTP/1.1: heads are far smaller, bodies come in pieces of it.
const HTTP1_BUFFER_BYTES: usize = 64 << 10;
/// HTTP/2 frames that we take from paired sources, who send in bulk.
const PAIRED_FRAME_BYTES: u32 = 256 << 10;
/// The HTTP/2 ping that tells a dead peer from a silent one, while requests are open.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// How finely the watchdog looks, as a part of the shortest deadline.
const LOOKS_PER_DEADLINE: u32 = 8;
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_secs(1);

/// What the server found out before the first byte of HTTP.
pub(crate) struct Peer {
    pub(crate) address: Place,
    pub(crate) key: Option<PeerKey>,
    pub(crate) http2: bool,
    /// Whether the key has an active row: larger windows, more patience.
    pub(crate) known: bool,
}

/// Serves requests until the connection ends by itself, is cut, or deserves to be.
pub(crate) async fn serve<T>(
    stream: T,
    peer: Peer,
    ticket: &Ticket,
    policy: &ConnectionPolicy,
    service: impl Answering,
    draining: &CancellationToken,
) where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Peer { address, key, http2: is_http2, known } = peer;
    let (pulse, number) = (Arc::clone(&ticket.pulse), ticket.number);
    let service = TowerToHyperService::new(service.map_request(move |request| Arrival {
        request,
        address,
        peer: key.clone(),
        connection: number,
        http2: is_http2,
        open: pulse.open(),
    }));
    let pulse = Arc::clone(&ticket.pulse);
    let watch = Watch { ticket, patience: policy.patience(known), draining };
    if is_http2 {
        let io = TokioIo::new(Wire::http2(stream, pulse));
        let connection = http2_builder(policy, known).serve_connection(io, service);
        watch.drive(connection, |connection| connection.graceful_shutdown()).await;
    } else {
        let io = TokioIo::new(Wire::http1(stream, pulse));
        let connection = http1_builder(policy).serve_connection(io, service);
        watch.drive(connection, |connection| connection.graceful_shutdown()).await;
    }
}

fn http1_builder(policy: &ConnectionPolicy) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(policy.head)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HTTP1_BUFFER_BYTES)
        .half_close(false);
    builder
}

fn http2_builder(policy: &ConnectionPolicy, known: bool) -> http2::Builder<TokioExecutor> {
    let window = if known { policy.window_paired } else { policy.window_unknown };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(policy.streams)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    if known {
        builder.max_frame_size(PAIRED_FRAME_BYTES);
    }
    builder
}

struct Watch<'a> {
    ticket: &'a Ticket,
    patience: Patience,
    draining: &'a CancellationToken,
}

impl Watch<'_> {
    async fn drive<C>(self, connection: C, stop: fn(Pin<&mut C>))
    where
        C: Future<Output = Result<(), hyper::Error>>,
    {
        let pulse: &Pulse = &self.ticket.pulse;
        let mut connection = std::pin::pin!(connection);
        let mut stopping = false;
        let mut looks = tokio::time::interval(self.patience.look());
        loop {
            // The watchdog comes before the connection: one that is flooded with frames is always
            // ready and uses up the task's budget, after which no timer would ever be seen to fire.
            tokio::select! {
                biased;
                () = self.ticket.cut.cancelled() => {
                    tracing::debug!("connection cut");
                    return;
                }
                () = self.draining.cancelled(), if !stopping => {
                    stopping = true;
                    stop(connection.as_mut());
                }
                () = pulse.hung_up(), if !stopping => {
                    stopping = true;
                    stop(connection.as_mut());
                }
                _ = looks.tick() => {
                    if let Some((at, fault)) = pulse.deadline(&self.patience)
                        && at <= Instant::now()
                    {
                        tracing::debug!(cause = fault, "connection closed");
                        return;
                    }
                }
                ended = &mut connection => {
                    if let Err(error) = ended {
                        tracing::debug!(cause = %error, "connection ended");
                    }
                    return;
                }
            }
        }
    }
}

impl Patience {
    fn look(&self) -> Duration {
        let shortest = self.first_request.min(self.idle).min(self.unread);
        shortest.div_f64(f64::from(LOOKS_PER_DEADLINE)).clamp(LOOK_MIN, LOOK_MAX)
    }
}
