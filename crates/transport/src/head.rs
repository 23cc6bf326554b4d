//! Checks of a request's head that belong to no row.

use http::header::{CONTENT_ENCODING, HOST, HeaderMap};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::limits::{HEADERS_MAX, URI_BYTES_MAX};
use offsite_proto::version::ProtocolVersion;

/// What the libraries below let through although two readers could disagree about it, or it is
/// long.
///
/// # Errors
/// `too_large` or `bad_request`.
pub(crate) fn check(head: &http::request::Parts) -> Result<(), Refusal> {
    if head.headers.len() > HEADERS_MAX {
        return Err(Refusal::new(ErrorCode::TooLarge, "the request has too many headers"));
    }
    if head.uri.to_string().len() > URI_BYTES_MAX {
        return Err(Refusal::new(ErrorCode::TooLarge, "the request's address is too long"));
    }
    let n_hosts = head.headers.get_all(HOST).iter().count();
    let needs_host = head.version == http::Version::HTTP_11;
    if n_hosts > 1 || (needs_host && n_hosts == 0) {
        return Err(Refusal::new(ErrorCode::BadRequest, "the request must name one host"));
    }
    Ok(())
}

/// The version that a caller speaks; absent means the first.
///
/// # Errors
/// `version_unsupported` with the range of this build, `bad_request` for anything but one number.
pub(crate) fn version(headers: &HeaderMap) -> Result<ProtocolVersion, Refusal> {
    let mut given = headers.get_all(ProtocolVersion::HEADER).iter();
    let (first, second) = (given.next(), given.next());
    let Some(value) = first else { return Ok(ProtocolVersion::V1) };
    let number = value.to_str().ok().and_then(|text| text.parse::<u32>().ok());
    let (Some(number), None) = (number, second) else {
        return Err(Refusal::new(
            ErrorCode::BadRequest,
            "the version of the protocol is malformed",
        ));
    };
    ProtocolVersion::from_number(number).ok_or_else(|| {
        Refusal::new(
            ErrorCode::VersionUnsupported,
            "both sides speak no common version of the protocol",
        )
        .with("min", ProtocolVersion::OLDEST.number())
        .with("max", ProtocolVersion::NEWEST.number())
    })
}

/// # Errors
/// `media_type_unsupported`: what a body unfolds to cannot be bounded by its length.
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(Refusal::new(
            ErrorCode::MediaTypeUnsupported,
            "a body with a content encoding is not taken",
        ));
    }
    Ok(())
}
