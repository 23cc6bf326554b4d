//! Calls over an established connection, the same for the network and the local socket.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use offsite_proto::endpoint::{Body, Endpoint, Media, Params, Row, Values};
use offsite_proto::error::{ErrorBody, ErrorCode, Refusal};
use offsite_proto::json;
use offsite_proto::version::ProtocolVersion;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body::{BodyStream, Outgoing, Pace};
use crate::path;
use crate::respond::media_type;
use crate::retry::Retry;

/// Bytes of an answer that is read whole: a list of the most items, with room to spare.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Bytes of an error.
const ERROR_BYTES_MAX: u64 = 256 << 10;

/// What came back.
#[derive(Debug)]
pub struct Answer<T> {
    /// The status, 200 to 299.
    pub status: u16,
    /// Seconds after which to come back, if the answer says so.
    pub retry_after: Option<u32>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: T,
}

/// An answer whose body is read as it comes.
#[derive(Debug)]
pub struct StreamAnswer {
    /// The status, 200 to 299.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, bounded by what the caller allowed.
    pub body: BodyStream,
    slot: Option<Slot>,
}

impl StreamAnswer {
    /// The media type of the body, as the peer names it.
    #[must_use]
    pub fn media(&self) -> Option<&str> {
        self.headers.get(CONTENT_TYPE)?.to_str().ok()
    }
}

/// What failed on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection ended before the answer did.
    Closed,
    /// No answer within the time for one.
    TimedOut,
    /// The answer is none of Offsite's: another program listens there, or something stands between.
    Foreign,
    /// The answer is larger than any answer may be, or came too slowly.
    Unbounded,
    /// The call itself cannot be written: a mistake of ours.
    Ours,
}

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The peer refused it, with this status.
    #[error("{0}")]
    Refused(Refusal, u16),
    /// It failed on the way; nobody knows whether the peer did it. Every call is safe to repeat.
    #[error("{sentence}")]
    Transport {
        /// What failed.
        fault: Fault,
        /// The same in an operator's words.
        sentence: String,
    },
}

impl CallError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Refused(refusal, _) if refusal.retryable => {
                let advice = refusal.retry_after_secs.map(u64::from).map(Duration::from_secs);
                Retry::Later(advice)
            }
            Self::Transport { fault: Fault::Closed | Fault::TimedOut, .. } => Retry::Later(None),
            Self::Refused(..) | Self::Transport { .. } => Retry::Never,
        }
    }

    fn transport(fault: Fault, sentence: impl Into<String>) -> Self {
        Self::Transport { fault, sentence: sentence.into() }
    }
}

/// The one sender of an HTTP/1.1 connection, which takes a request at a time.
#[derive(Debug)]
struct Lane {
    sender: Mutex<Option<http1::SendRequest<Outgoing>>>,
    turn: Arc<Semaphore>,
}

/// The sender, lent to one exchange; given back when the answer has been read, or never, and then
/// the connection is over.
#[derive(Debug)]
struct Slot {
    lane: Arc<Lane>,
    sender: Option<http1::SendRequest<Outgoing>>,
    _turn: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take().filter(|sender| !sender.is_closed()) {
            *self.lane.sender.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        }
    }
}

#[derive(Clone, Debug)]
enum Sender {
    Http1(Arc<Lane>),
    Http2(http2::SendRequest<Outgoing>),
}

/// The calling half of a connection. Clones share the connection.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    sender: Sender,
    /// For `Host`, and for people.
    host: String,
    answer_within: Duration,
}

impl Caller {
    pub(crate) fn http1(
        sender: http1::SendRequest<Outgoing>,
        host: String,
        answer_within: Duration,
    ) -> Self {
        let lane = Lane { sender: Mutex::new(Some(sender)), turn: Arc::new(Semaphore::new(1)) };
        Self { sender: Sender::Http1(Arc::new(lane)), host, answer_within }
    }

    pub(crate) const fn http2(
        sender: http2::SendRequest<Outgoing>,
        host: String,
        answer_within: Duration,
    ) -> Self {
        Self { sender: Sender::Http2(sender), host, answer_within }
    }

    pub(crate) const fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Whether no further call can be made.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http2(sender) => sender.is_closed(),
            Sender::Http1(lane) => {
                let sender = lane.sender.lock().unwrap_or_else(PoisonError::into_inner);
                let idle = lane.turn.available_permits() > 0;
                sender.as_ref().map_or(idle, http1::SendRequest::is_closed)
            }
        }
    }

    pub(crate) async fn call<E: Endpoint>(
        &self,
        params: &E::Params,
        body: &E::Request,
        headers: HeaderMap,
    ) -> Result<Answer<E::Response>, CallError> {
        let exchange = self.whole::<E>(params, body, headers);
        match tokio::time::timeout(self.answer_within, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::transport(
                Fault::TimedOut,
                format!("{} did not answer within {} s", self.host, self.answer_within.as_secs()),
            )),
        }
    }

    async fn whole<E: Endpoint>(
        &self,
        params: &E::Params,
        body: &E::Request,
        headers: HeaderMap,
    ) -> Result<Answer<E::Response>, CallError> {
        let mut values = Values::new();
        params.write(&mut values);
        let media = media_type(E::Request::MEDIA).map(HeaderValue::from_static);
        let sent = Outgoing::whole(body.encode());
        let answer = self.stream(E::ROW, &values, media, headers, sent, ANSWER_BYTES_MAX).await?;
        let StreamAnswer { status, headers, body, slot } = answer;
        if !is_media(E::Response::MEDIA, &headers) {
            return Err(self.foreign(status));
        }
        let bytes = body.whole().await.map_err(|refusal| self.unread(&refusal))?;
        drop(slot);
        let body = E::Response::decode(&bytes).map_err(|refusal| {
            let sentence = format!("cannot read the answer of {}: {}", self.host, refusal.message);
            CallError::transport(Fault::Foreign, sentence)
        })?;
        Ok(Answer { status, retry_after: retry_after(&headers), headers, body })
    }

    /// Sends a request and returns once the head of a good answer is there.
    pub(crate) async fn stream(
        &self,
        row: &Row,
        values: &Values,
        media: Option<HeaderValue>,
        headers: HeaderMap,
        body: Outgoing,
        answer_bytes_max: u64,
    ) -> Result<StreamAnswer, CallError> {
        let request = self.request(row, values, media, headers, body)?;
        let (response, slot) = self.send(request).await?;
        let (head, incoming) = response.into_parts();
        let status = head.status;
        let limit = if status.is_success() { answer_bytes_max } else { ERROR_BYTES_MAX };
        let body = BodyStream::new(incoming, limit, Pace::default())
            .map_err(|refusal| self.unread(&refusal))?;
        if status.is_success() {
            let headers = head.headers;
            return Ok(StreamAnswer { status: status.as_u16(), headers, body, slot });
        }
        let bytes = body.whole().await.map_err(|refusal| self.unread(&refusal))?;
        drop(slot);
        Err(self.refused(status, &head.headers, &bytes))
    }

    fn request(
        &self,
        row: &Row,
        values: &Values,
        media: Option<HeaderValue>,
        headers: HeaderMap,
        body: Outgoing,
    ) -> Result<Request<Outgoing>, CallError> {
        let ours = |cause: &dyn std::fmt::Display| {
            CallError::transport(Fault::Ours, format!("cannot write call {}: {cause}", row.id))
        };
        let target = path::write(row, values).map_err(|refusal| ours(&refusal))?;
        let uri = if self.is_http2() { format!("https://{}{target}", self.host) } else { target };
        let mut request = Request::builder()
            .method(row.method.as_str())
            .uri(uri)
            .body(body)
            .map_err(|e| ours(&e))?;
        *request.headers_mut() = headers;
        let all = request.headers_mut();
        if !self.is_http2() {
            all.insert(HOST, HeaderValue::from_str(&self.host).map_err(|error| ours(&error))?);
        }
        if let Some(media) = media {
            all.insert(CONTENT_TYPE, media);
        }
        all.insert(
            HeaderName::from_static(ProtocolVersion::HEADER),
            HeaderValue::from(ProtocolVersion::NEWEST.number()),
        );
        Ok(request)
    }

    async fn send(
        &self,
        request: Request<Outgoing>,
    ) -> Result<(Response<Incoming>, Option<Slot>), CallError> {
        let closed = |error: hyper::Error| {
            tracing::debug!(cause = %error, "a call failed on the way");
            self.closed()
        };
        match &self.sender {
            Sender::Http2(sender) => {
                let mut sender = sender.clone();
                sender.ready().await.map_err(closed)?;
                Ok((sender.send_request(request).await.map_err(closed)?, None))
            }
            Sender::Http1(lane) => {
                let turn = Arc::clone(&lane.turn).acquire_owned().await;
                let turn = turn.map_err(|_| self.closed())?;
                let taken = lane.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
                let mut sender = taken.ok_or_else(|| self.closed())?;
                sender.ready().await.map_err(closed)?;
                let response = sender.send_request(request).await.map_err(closed)?;
                let slot = Slot { lane: Arc::clone(lane), sender: Some(sender), _turn: turn };
                Ok((response, Some(slot)))
            }
        }
    }

    fn closed(&self) -> CallError {
        let sentence = format!("{} closed the connection before it had answered", self.host);
        CallError::transport(Fault::Closed, sentence)
    }

    fn foreign(&self, status: u16) -> CallError {
        let sentence = format!(
            "{} answered {status}, but not as Offsite does: another program listens on this port, \
                or \
             a proxy stands between",
            self.host
        );
        CallError::transport(Fault::Foreign, sentence)
    }

    fn unread(&self, refusal: &Refusal) -> CallError {
        let fault = match refusal.code {
            ErrorCode::TooLarge => Fault::Unbounded,
            _ => Fault::Closed,
        };
        let sentence = format!("cannot read the answer of {}: {}", self.host, refusal.message);
        CallError::transport(fault, sentence)
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap, bytes: &[u8]) -> CallError {
        match json::from_slice::<ErrorBody>(bytes) {
            Ok(ErrorBody { error: mut refusal }) => {
                refusal.retry_after_secs = retry_after(headers);
                CallError::Refused(refusal, status.as_u16())
            }
            Err(_) => self.foreign(status.as_u16()),
        }
    }
}

fn is_media(media: Media, headers: &HeaderMap) -> bool {
    let Some(wanted) = media_type(media) else { return true };
    let essence = |text: &str| text.split(';').next().unwrap_or_default().trim().to_owned();
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    given.is_some_and(|given| essence(given).eq_ignore_ascii_case(&essence(wanted)))
}

fn retry_after(headers: &HeaderMap) -> Option<u32> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()
}
