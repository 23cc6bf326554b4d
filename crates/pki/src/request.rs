//! Certificate requests (PKCS#10): made by a source, read by a target.
//!
//! A request is read for one thing, its public key, and for the proof that whoever wrote it has the
//! private half. Everything else in it, subject, attributes and wished-for extensions, is skipped
//! unread: it is covered by the signature and means nothing. So there is no extension, known
//! or unknown, that could break the reading or bend the certificate.
//!
//! **Absent:** the proof that the caller of this very connection has the key; that is the
//! handshake's.

use rcgen::{CertificateParams, DistinguishedName};
use rustls_pki_types::pem::SectionKind;

use crate::der::{INTEGER, NotDer, Reader, SEQUENCE, Signed, only};
use crate::key::{KeyError, PrivateKey, Spki};
use crate::pem::{self, PemError};
use crate::signature;

/// The longest text of a request, in bytes; operators may set less. It bounds the DER as well.
pub const REQUEST_TEXT_BYTES_MAX: usize = 16 * 1024;
/// Attributes: context tag 0, constructed.
const ATTRIBUTES: u8 = 0xa0;

/// A request that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The text around the request cannot be read.
    #[error("cannot read the certificate request: {0}")]
    Text(#[from] PemError),
    /// The bytes are no PKCS#10 request in strict DER.
    #[error("the certificate request is not PKCS#10 in DER form")]
    Malformed,
    /// The key is not one that we use.
    #[error("cannot use the key of the certificate request: {0}")]
    Key(#[from] KeyError),
    /// The request is not signed by its own key.
    #[error("the certificate request is not signed by its own key")]
    Signature,
    /// The library could not make a request.
    #[error("the cryptographic library could not make the certificate request")]
    Library,
}

impl From<NotDer> for RequestError {
    fn from(_: NotDer) -> Self {
        Self::Malformed
    }
}

/// What survives of a request: a key whose private half the writer of the request has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    spki: Spki,
}

impl CertificateRequest {
    /// The public key.
    #[must_use]
    pub const fn spki(&self) -> &Spki {
        &self.spki
    }

    /// The public key, by value.
    #[must_use]
    pub fn into_spki(self) -> Spki {
        self.spki
    }
}

/// Makes a request over this key, with an empty subject: the target chooses all names.
///
/// # Errors
/// [`RequestError::Library`] when the library cannot sign.
pub fn make(key: &PrivateKey) -> Result<String, RequestError> {
    let mut wish = CertificateParams::default();
    wish.distinguished_name = DistinguishedName::new();
    let request = wish.serialize_request(key.pair()).map_err(|_| RequestError::Library)?;
    let mut text = String::new();
    pem::append(&mut text, "CERTIFICATE REQUEST", request.der());
    Ok(text)
}

/// Reads a request and checks that it is signed by its own key.
///
/// # Errors
/// The first rule that it breaks. The caller answers all of them alike.
pub fn read(text: &str) -> Result<CertificateRequest, RequestError> {
    let expected = "one CERTIFICATE REQUEST section";
    let der = pem::only(text, SectionKind::Csr, REQUEST_TEXT_BYTES_MAX, expected)?;
    from_der(&der)
}

/// As [`read`], from the bytes inside the text.
///
/// # Errors
/// As [`read`].
pub fn from_der(der: &[u8]) -> Result<CertificateRequest, RequestError> {
    if der.len() > REQUEST_TEXT_BYTES_MAX {
        return Err(RequestError::Malformed);
    }
    let signed = Signed::read(der)?;
    let mut body = Reader::new(only(signed.body, SEQUENCE)?);
    if body.expect(INTEGER)?.content != [0] {
        return Err(RequestError::Malformed);
    }
    body.expect(SEQUENCE)?;
    let key = body.expect(SEQUENCE)?.raw;
    body.expect(ATTRIBUTES)?;
    body.end()?;
    let spki = Spki::from_der(key)?;
    if !signature::is_by(&signed, &spki) {
        return Err(RequestError::Signature);
    }
    Ok(CertificateRequest { spki })
}
