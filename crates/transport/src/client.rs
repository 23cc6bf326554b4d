//! The calling end over the network: dial, pin, prefer HTTP/2, call.

use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderValue;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use offsite_pki::Spki;
use offsite_pki::tls::{ClientTls, presented};
use offsite_proto::endpoint::{Endpoint, Row, Values};
use offsite_proto::limits::{HEAD_BYTES_MAX, HEADERS_MAX};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::body::Outgoing;
use crate::caller::{Answer, CallError, Caller, StreamAnswer};
use crate::congestion::Congestion;
use crate::dial::{self, DialError, HostPort, Remembering};
use crate::pacing;

/// HTTP/2 window of a stream and of the connection: at 100 ms of distance, 80 MB/s.
const WINDOW_BYTES: u32 = 8 << 20;
const FRAME_BYTES: u32 = 256 << 10;
/// Streams that are opened before the target has said how many it takes; more would be refused.
const FIRST_STREAMS: usize = 16;
const SEND_BUFFER_BYTES: usize = 1 << 20;
const HTTP1_BUFFER_BYTES: usize = 256 << 10;
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// How long each step of a call may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To find the host and connect.
    pub connect: Duration,
    /// To shake hands.
    pub handshake: Duration,
    /// To answer a call whose body is read whole, from its first byte to the answer's last.
    pub answer: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            answer: Duration::from_secs(60),
        }
    }
}

/// An open connection to a target. Clones share it; it ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Connection {
    caller: Caller,
    peer: Spki,
    round_trip: Duration,
}

impl Connection {
    /// Connects, shakes hands, and checks the pin before one byte of HTTP is sent.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(
        target: &HostPort,
        tls: &ClientTls,
        timeouts: &Timeouts,
    ) -> Result<Self, DialError> {
        Self::dial_with(target, tls, timeouts, None).await
    }

    /// The same for a connection that carries much, with this congestion control, paced over a
    /// distance.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial_with(
        target: &HostPort,
        tls: &ClientTls,
        timeouts: &Timeouts,
        congestion: Option<&Congestion>,
    ) -> Result<Self, DialError> {
        let (tcp, round_trip) = dial::connect(target, timeouts.connect).await?;
        if let Some(congestion) = congestion {
            congestion.set(&tcp);
            pacing::pace(&tcp, round_trip);
        }
        // Small calls go out at once; bulk is coalesced above.
        tcp.set_nodelay(true)
            .map_err(|cause| DialError::Unreachable { target: target.clone(), cause })?;
        let stream = shake_hands(target, tls, tcp, timeouts.handshake).await?;
        let state = stream.get_ref().1;
        let http2 = state.alpn_protocol() == Some(b"h2");
        let Ok(Some(shown)) = presented(state) else {
            return Err(DialError::NotTls { target: target.clone() });
        };
        let peer = shown.spki().clone();
        let host = target.to_string();
        let fault = |cause| DialError::Http { target: target.clone(), cause };
        let caller = if http2 {
            let (sender, connection) =
                http2_builder().handshake(TokioIo::new(stream)).await.map_err(fault)?;
            run(connection);
            Caller::http2(sender, host, timeouts.answer)
        } else {
            let (sender, connection) = http1::Builder::new()
                .max_headers(HEADERS_MAX)
                .max_header_size(HEAD_BYTES_MAX)
                .max_buf_size(HTTP1_BUFFER_BYTES)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(fault)?;
            run(connection);
            Caller::http1(sender, host, timeouts.answer)
        };
        Ok(Self { caller, peer, round_trip })
    }

    /// The key that the target proved to hold.
    #[must_use]
    pub const fn peer(&self) -> &Spki {
        &self.peer
    }

    /// How long it took to connect: about one round trip.
    #[must_use]
    pub const fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Whether the connection speaks HTTP/2, and so takes several calls at once.
    #[must_use]
    pub const fn is_http2(&self) -> bool {
        self.caller.is_http2()
    }

    /// Whether no further call can be made: the target said so, or it is gone. Answers to pairing
    /// calls end their connection.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.caller.is_closed()
    }

    /// Makes a call and reads its whole answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<E: Endpoint>(
        &self,
        params: &E::Params,
        body: &E::Request,
    ) -> Result<Answer<E::Response>, CallError> {
        self.caller.call::<E>(params, body, HeaderMap::new()).await
    }

    /// The same with more headers, such as `AuthToken`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call_with<E: Endpoint>(
        &self,
        params: &E::Params,
        body: &E::Request,
        headers: HeaderMap,
    ) -> Result<Answer<E::Response>, CallError> {
        self.caller.call::<E>(params, body, headers).await
    }

    /// Sends a body as it is written, and returns when the head of the answer is there, which may
    /// be before the body has ended. The caller bounds the answer and sets the time for it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stream(
        &self,
        row: &Row,
        values: &Values,
        media: HeaderValue,
        body: Outgoing,
        answer_bytes_max: u64,
    ) -> Result<StreamAnswer, CallError> {
        let headers = HeaderMap::new();
        self.caller.stream(row, values, Some(media), headers, body, answer_bytes_max).await
    }
}

/// Drives a connection in a task of its own; it ends when every sender is gone.
fn run<C>(connection: C)
where
    C: Future<Output = Result<(), hyper::Error>> + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(cause = %error, "connection ended");
        }
    });
}

fn http2_builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_max_send_streams(FIRST_STREAMS)
        .max_frame_size(FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// What is encrypted before the socket takes it: fewer and larger writes.
const TLS_BUFFER_BYTES: usize = 256 << 10;

async fn shake_hands(
    target: &HostPort,
    tls: &ClientTls,
    tcp: TcpStream,
    within: Duration,
) -> Result<TlsStream<Remembering<TcpStream>>, DialError> {
    // The name plays no part in trust: the key does. A host that is no name of the DNS is called by
    // its address.
    let name = ServerName::try_from(target.host().to_owned())
        .or_else(|_| tcp.peer_addr().map(|address| ServerName::IpAddress(address.ip().into())));
    let name = name.map_err(|cause| DialError::Unreachable { target: target.clone(), cause })?;
    let connector = TlsConnector::from(tls.config());
    let handshake = connector.connect(name, Remembering::new(tcp)).into_fallible();
    match tokio::time::timeout(within, handshake).await {
        Ok(Ok(mut stream)) => {
            stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER_BYTES));
            Ok(stream)
        }
        Ok(Err((cause, stream))) => Err(dial::handshake_failed(target, cause, stream.first())),
        Err(_) => {
            let target = target.clone();
            Err(DialError::TimedOut { target, stage: "shaking hands", within })
        }
    }
}
