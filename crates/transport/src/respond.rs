//! From a [`Refusal`] or a [`Reply`] to what goes out: the only file that knows how either looks on
//! the wire.
//!
//! Errors have two faces. A known caller reads the sentence and the facts; a stranger reads a code,
//! the fixed sentence of that code and the number of his request, and nothing that could tell him
//! what stands behind it.

use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue,
    RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, StatusCode};
use offsite_proto::bitmap::BITMAP_MEDIA;
use offsite_proto::endpoint::{Body, Media, Method};
use offsite_proto::error::{ErrorBody, ErrorCode, Facts, Refusal};
use offsite_proto::version::ProtocolVersion;
use serde::Serialize;

use crate::body::Outgoing;

/// The header that carries the number of the request.
pub const REQUEST_HEADER: &str = "offsite-request";
/// Seconds after which to come back, where a refusal should say so and does not.
const RETRY_AFTER_SECS: u32 = 5;

/// What a handler answers: a body, and whatever is out of the ordinary.
#[derive(Debug)]
pub struct Reply<T> {
    pub(crate) body: T,
    pub(crate) status: Option<u16>,
    pub(crate) retry_after_secs: Option<u32>,
    pub(crate) close: bool,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl<T> From<T> for Reply<T> {
    fn from(body: T) -> Self {
        Self { body, status: None, retry_after_secs: None, close: false, headers: Vec::new() }
    }
}

impl<T> Reply<T> {
    /// An answer with this body: 200, or 204 where the call has no body.
    #[must_use]
    pub fn new(body: T) -> Self {
        Self::from(body)
    }

    /// The same with this status.
    #[must_use]
    pub const fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The same with the advice to come back after so many seconds.
    #[must_use]
    pub const fn retry_after(mut self, secs: u32) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }

    /// The same, and the connection ends once the body is out.
    #[must_use]
    pub const fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// How an answer has to look, besides what it says.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    /// The number of the request.
    pub(crate) request: String,
    /// Whether errors repeat themselves as the published result object.
    pub(crate) list_a: bool,
    /// Whether the caller has not been approved.
    pub(crate) stranger: bool,
    /// Whether the connection speaks HTTP/2.
    pub(crate) http2: bool,
    /// Whether the answer names the version of the protocol.
    pub(crate) versioned: bool,
}

/// An answer, and whether the connection ends after it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: http::Response<Outgoing>,
    pub(crate) close: bool,
}

/// The media type of a body.
pub(crate) const fn media_type(media: Media) -> Option<&'static str> {
    match media {
        Media::Empty => None,
        Media::Json => Some("application/json"),
        Media::Pem => Some("application/x-pem-file"),
        Media::Text => Some("text/plain; charset=utf-8"),
        Media::Bitmap => Some(BITMAP_MEDIA),
    }
}

/// The answer of a handler.
pub(crate) fn reply<T: Body>(reply: Reply<T>, manner: &Manner) -> Answer {
    let content_type = media_type(T::MEDIA).map(HeaderValue::from_static);
    let whole = Reply {
        body: Outgoing::whole(reply.body.encode()),
        status: reply.status,
        retry_after_secs: reply.retry_after_secs,
        close: reply.close,
        headers: reply.headers,
    };
    streamed(whole, content_type, manner)
}

/// The answer of a handler that writes its own body.
pub(crate) fn streamed(
    reply: Reply<Outgoing>,
    content_type: Option<HeaderValue>,
    manner: &Manner,
) -> Answer {
    let ordinary = if content_type.is_some() { StatusCode::OK } else { StatusCode::NO_CONTENT };
    let status = reply.status.map_or(Ok(ordinary), StatusCode::from_u16).unwrap_or(ordinary);
    let mut headers = common(manner);
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, content_type);
    }
    if let Some(secs) = reply.retry_after_secs {
        headers.insert(RETRY_AFTER, HeaderValue::from(secs));
    }
    for (name, value) in reply.headers {
        headers.append(name, value);
    }
    finish(status, headers, reply.body, reply.close, manner)
}

/// The answer to a call that is refused.
pub(crate) fn refuse(
    refusal: Refusal,
    allow: &[Method],
    challenge: Option<HeaderValue>,
    close: bool,
    manner: &Manner,
) -> Answer {
    let status =
        StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut headers = common(manner);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(secs) = retry_after(&refusal) {
        headers.insert(RETRY_AFTER, HeaderValue::from(secs));
    }
    if let Some(value) = allowed(allow) {
        headers.insert(ALLOW, value);
    }
    if let Some(challenge) = challenge {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if refusal.code == ErrorCode::VersionUnsupported && !manner.http2 {
        headers.insert(UPGRADE, HeaderValue::from_static("Offsite/1"));
    }
    let body = Outgoing::whole(error_body(shown(refusal, manner), manner));
    finish(status, headers, body, close, manner)
}

fn common(manner: &Manner) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(&manner.request) {
        headers.insert(HeaderName::from_static(REQUEST_HEADER), value);
    }
    if manner.versioned {
        let version = HeaderValue::from(ProtocolVersion::NEWEST.number());
        headers.insert(HeaderName::from_static(ProtocolVersion::HEADER), version);
    }
    // GETs with effects and DELETEs that create stand in the table: no answer may be kept by
    // anybody.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers
}

fn finish(
    status: StatusCode,
    mut headers: HeaderMap,
    body: Outgoing,
    close: bool,
    manner: &Manner,
) -> Answer {
    if let Some(length) = body.length().filter(|_| status != StatusCode::NO_CONTENT) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if close && !manner.http2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Answer { response, close }
}

fn retry_after(refusal: &Refusal) -> Option<u32> {
    let must = matches!(
        refusal.code,
        ErrorCode::PairingPending | ErrorCode::RateLimited | ErrorCode::Busy
    );
    refusal.retry_after_secs.or(must.then_some(RETRY_AFTER_SECS))
}

fn allowed(methods: &[Method]) -> Option<HeaderValue> {
    let mut words: Vec<_> = methods.iter().map(|method| method.as_str()).collect();
    if methods.contains(&Method::Get) {
        words.push("HEAD");
    }
    let text = (!words.is_empty()).then(|| words.join(", "))?;
    HeaderValue::from_str(&text).ok()
}

/// What this caller may read of a refusal.
fn shown(mut refusal: Refusal, manner: &Manner) -> Refusal {
    if manner.stranger {
        refusal.message = sentence(refusal.code).to_owned();
        if refusal.code != ErrorCode::VersionUnsupported {
            refusal.detail = None;
        }
    }
    refusal.with("requestId", manner.request.clone())
}

/// The sentence for callers who may not know more. It says which side is at fault.
const fn sentence(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::BadRequest => "the request is malformed",
        ErrorCode::Unauthenticated => "the caller showed no valid credential",
        ErrorCode::Forbidden => "the caller may not do this",
        ErrorCode::NotPaired => "the caller's certificate belongs to no pairing",
        ErrorCode::PairingDenied => "the caller's request to pair was rejected",
        ErrorCode::RouteUnknown => "there is no such path",
        ErrorCode::MethodNotAllowed => "this path takes other methods",
        ErrorCode::PairingPending => "the caller's request to pair is not decided yet",
        ErrorCode::TooLarge => "the request is too large",
        ErrorCode::MediaTypeUnsupported => "the body's media type or encoding is not supported",
        ErrorCode::VersionUnsupported => "both sides speak no common version of the protocol",
        ErrorCode::RateLimited => "too many calls; come back later",
        ErrorCode::Busy => "the target is busy; come back later",
        ErrorCode::NotImplemented => "this call is not part of this build",
        ErrorCode::Internal => "something went wrong on this side",
        _ => "the call was refused",
    }
}

#[derive(Serialize)]
struct ListABody<'a> {
    error: &'a Refusal,
    result: [ResultItem<'a>; 1],
}

#[derive(Serialize)]
struct ResultItem<'a> {
    code: ErrorCode,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Facts>,
    kb: &'a str,
}

fn error_body(refusal: Refusal, manner: &Manner) -> Vec<u8> {
    // Both types have text keys and cannot fail; an empty body would still carry the status.
    if manner.list_a {
        let item = ResultItem {
            code: refusal.code,
            message: &refusal.message,
            details: refusal.detail.as_ref(),
            kb: &refusal.kb,
        };
        serde_json::to_vec(&ListABody { error: &refusal, result: [item] }).unwrap_or_default()
    } else {
        serde_json::to_vec(&ErrorBody { error: refusal }).unwrap_or_default()
    }
}
