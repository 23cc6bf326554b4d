//! Bodies in both directions: bounded, paced, never interpreted.
//!
//! A length that a peer declares is compared with the row's limit and never allocated from; memory
//! grows with what has arrived. A body that crawls is ended, because each one holds a stream and a
//! task.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use offsite_proto::error::{ErrorCode, Refusal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::pulse::OpenRequest;

/// Bytes of one piece of an answer. HTTP/2 keeps a piece in memory until the peer's window takes
/// it, so this bounds what a peer that never reads can pin down, and it is large enough never to be
/// counted among the small frames that peers punish.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces between a writer of an answer and the connection.
const PIECES_AHEAD: usize = 4;

/// How fast a body must come.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The length of time over which progress is measured.
    pub over: Duration,
    /// The bytes that must arrive in it, unless the body ends.
    pub bytes: u64,
    /// The longest silence of a body that is a stream.
    pub stream_idle: Duration,
}

impl Default for Pace {
    /// 1 KiB/s over 30 s; streams may be silent for 60 s (their senders ping every 10 s).
    fn default() -> Self {
        Self {
            over: Duration::from_secs(30),
            bytes: 30 << 10,
            stream_idle: Duration::from_secs(60),
        }
    }
}

/// The body of a request (or, at a client, of an answer) as it arrives.
#[derive(Debug)]
pub struct BodyStream {
    inner: Incoming,
    bytes_max: u64,
    bytes: u64,
    pace: Pace,
    /// When listening for the next piece began. Whoever listens beside other work drops `next` and
    /// calls it again: the silence goes on meanwhile.
    listening_since: Option<Instant>,
}

impl BodyStream {
    /// A body of at most so many bytes.
    ///
    /// # Errors
    /// `too_large` where the declared length is above the limit already, `bad_request` where no
    /// body is allowed at all.
    pub(crate) fn new(inner: Incoming, bytes_max: u64, pace: Pace) -> Result<Self, Refusal> {
        if inner.size_hint().lower() > bytes_max {
            return Err(above(bytes_max));
        }
        Ok(Self { inner, bytes_max, bytes: 0, pace, listening_since: None })
    }

    /// Whether nothing can come any more.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.inner.is_end_stream()
    }

    /// The bytes that have arrived so far.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next piece, `None` at the end.
    ///
    /// # Errors
    /// `too_large` above the limit; `bad_request` where the body was cut or fell silent.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        let since = *self.listening_since.get_or_insert_with(Instant::now);
        match tokio::time::timeout_at(since + self.pace.stream_idle, self.piece()).await {
            Ok(piece) => {
                // Time that the reader takes over a piece is not the sender's silence.
                self.listening_since = None;
                piece
            }
            Err(_) => Err(Refusal::new(ErrorCode::BadRequest, "the body fell silent")),
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let Some(frame) = self.inner.frame().await else { return Ok(None) };
            let frame = frame.map_err(|error| {
                tracing::debug!(cause = %error, "body was cut");
                Refusal::new(ErrorCode::BadRequest, "the body was cut or its framing is broken")
            })?;
            // Trailers mean nothing to us.
            let Ok(piece) = frame.into_data() else { continue };
            if piece.is_empty() {
                continue;
            }
            self.bytes = self.bytes.saturating_add(piece.len() as u64);
            if self.bytes > self.bytes_max {
                return Err(above(self.bytes_max));
            }
            return Ok(Some(piece));
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// As [`Self::next`]; also `bad_request` where it comes slower than the pace.
    pub async fn whole(mut self) -> Result<Bytes, Refusal> {
        let mut whole = BytesMut::new();
        let mut window_end = Instant::now() + self.pace.over;
        let mut window_bytes = 0_u64;
        loop {
            match tokio::time::timeout_at(window_end, self.piece()).await {
                Ok(piece) => {
                    let Some(piece) = piece? else { return Ok(whole.freeze()) };
                    window_bytes = window_bytes.saturating_add(piece.len() as u64);
                    whole.extend_from_slice(&piece);
                }
                Err(_) if window_bytes < self.pace.bytes => {
                    return Err(Refusal::new(
                        ErrorCode::BadRequest,
                        "the body came too slowly and was given up",
                    ));
                }
                Err(_) => {}
            }
            // A peer with pieces always ready never lets the timer win; the clock is asked as well.
            if Instant::now() >= window_end {
                if window_bytes < self.pace.bytes {
                    return Err(Refusal::new(
                        ErrorCode::BadRequest,
                        "the body came too slowly and was given up",
                    ));
                }
                window_end = Instant::now() + self.pace.over;
                window_bytes = 0;
            }
        }
    }
}

fn above(bytes_max: u64) -> Refusal {
    if bytes_max == 0 {
        return Refusal::new(ErrorCode::BadRequest, "this call takes no body");
    }
    Refusal::new(ErrorCode::TooLarge, format!("the body is larger than {bytes_max} bytes"))
        .with("bytesMax", bytes_max)
}

/// A body that was not written to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body was given up before its end")]
pub struct Cut;

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    End,
}

/// The writing half of a body that is a stream.
#[derive(Debug)]
pub struct BodySender(mpsc::Sender<Piece>);

impl BodySender {
    /// Sends a piece; waits while the peer is slower than we are.
    ///
    /// # Errors
    /// [`Cut`] when nobody reads any more.
    pub async fn send(&self, bytes: Bytes) -> Result<(), Cut> {
        self.0.send(Piece::Bytes(bytes)).await.map_err(|_| Cut)
    }

    /// Ends the body properly. A sender that is dropped without this makes the peer see a cut, so
    /// that half an answer is never taken for a whole one.
    ///
    /// # Errors
    /// [`Cut`] when nobody reads any more.
    pub async fn finish(self) -> Result<(), Cut> {
        self.0.send(Piece::End).await.map_err(|_| Cut)
    }
}

#[derive(Debug)]
enum Source {
    Whole(Bytes),
    Stream(mpsc::Receiver<Piece>),
}

/// A body on its way out.
#[derive(Debug)]
pub struct Outgoing {
    source: Source,
    request: Option<OpenRequest>,
}

impl Outgoing {
    /// A body that is there already.
    #[must_use]
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { source: Source::Whole(bytes.into()), request: None }
    }

    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self::whole(Bytes::new())
    }

    /// A body that is written while it is sent, with a bounded number of pieces ahead.
    #[must_use]
    pub fn stream() -> (BodySender, Self) {
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        (BodySender(sender), Self { source: Source::Stream(receiver), request: None })
    }

    /// The length, where it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match &self.source {
            Source::Whole(bytes) => Some(bytes.len() as u64),
            Source::Stream(_) => None,
        }
    }

    /// Keeps the request open until the body has been taken.
    pub(crate) fn holding(mut self, mut request: OpenRequest) -> Self {
        request.answering();
        self.request = Some(request);
        self
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let polled = match &mut self.source {
            Source::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Source::Whole(bytes) => {
                let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Source::Stream(receiver) => receiver.poll_recv(context).map(|piece| match piece {
                Some(Piece::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
                Some(Piece::End) => {
                    receiver.close();
                    None
                }
                None => Some(Err(Cut)),
            }),
        };
        // Being asked for more is progress of the peer's; having nothing yet is our own slowness.
        if let Some(request) = &mut self.request {
            if polled.is_pending() {
                request.waiting_for_us();
            } else {
                request.answering();
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.source, Source::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
