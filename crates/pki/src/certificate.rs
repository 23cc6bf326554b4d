//! A certificate: its bytes and the facts it states, read once and bounded.
//!
//! Reading judges nothing but form. What form excludes, no later rule has to think of: other
//! versions than 3, negative or long serials, keys outside the list, SHA-1, doubled extensions,
//! critical extensions that we do not understand.
//!
//! **Absent:** who may do what with it; see [`crate::Presented::judge`] and [`crate::bundle`].

use std::fmt;

use offsite_model::{CoreId, Luck, Timestamp};
use rustls::server::ParsedCertificate;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::SectionKind;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Version};

use crate::der::{self, Signed};
use crate::key::{KeyError, Spki, Thumbprint, sha256};
use crate::pem::{self, PemError};
use crate::signature;

/// The longest certificate that is read, in bytes of DER: the bound of a whole client chain.
pub(crate) const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;
/// The longest text of one certificate, in bytes.
const CERTIFICATE_TEXT_BYTES_MAX: usize = 24 * 1024;
/// RFC 5280, 4.1.2.2.
const SERIAL_BYTES_MAX: usize = 20;
const EXTENSIONS_MAX: usize = 32;

/// Bytes that are no certificate we would look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Longer than the bound of [`crate::CHAIN_BYTES_MAX`].
    #[error("the certificate is longer than {CERTIFICATE_BYTES_MAX} bytes")]
    TooLong,
    /// No DER, or bytes after the end.
    #[error("not a certificate in DER form")]
    Malformed,
    /// Version 1 or 2.
    #[error("the certificate is not of version 3")]
    Version,
    /// The serial number is negative, zero or longer than 20 bytes.
    #[error("the serial number is not between 1 and 20 bytes and positive")]
    Serial,
    /// The key is not one we use.
    #[error("cannot use the key of the certificate: {0}")]
    Key(KeyError),
    /// The certificate is signed by SHA-1 or an algorithm not on the list.
    #[error("the signature of the certificate is of an unknown algorithm")]
    SignatureAlgorithm,
    /// An extension is there twice, damaged, or critical and unknown.
    #[error("an extension of the certificate is doubled, damaged, or critical and unknown")]
    Extension,
    /// The text around it cannot be read.
    #[error("cannot read the certificate: {0}")]
    Text(#[from] PemError),
}

/// A serial number: positive, at most 20 bytes, shortest form.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Serial(Box<[u8]>);

impl Serial {
    /// The bytes, most significant first, without a leading zero.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The serial with these bytes, most significant first, as a catalog row keeps them.
    ///
    /// # Errors
    /// [`CertificateError::Serial`] when they are none, too many or begin with zero.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CertificateError> {
        let is_shortest = bytes.first().is_some_and(|&first| first != 0);
        if is_shortest && bytes.len() <= SERIAL_BYTES_MAX {
            Ok(Self(bytes.into()))
        } else {
            Err(CertificateError::Serial)
        }
    }

    /// A new serial number: 126 random bits, positive, always 16 bytes long.
    #[must_use]
    pub fn random(luck: &dyn Luck) -> Self {
        let mut bytes = [0; 16];
        luck.fill(&mut bytes);
        let [first, ..] = &mut bytes;
        *first = (*first & 0x3f) | 0x40;
        Self(bytes.into())
    }

    fn from_integer(content: &[u8]) -> Result<Self, CertificateError> {
        Self::from_bytes(der::positive(content).map_err(|_| CertificateError::Serial)?)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

/// A certificate in form, and what it states.
#[derive(Clone)]
pub struct Certificate {
    der: CertificateDer<'static>,
    spki: Spki,
    serial: Serial,
    not_before: Timestamp,
    not_after: Timestamp,
    issuer: Box<[u8]>,
    subject: Box<[u8]>,
    common_name: Option<String>,
    usage: Usage,
    subject_key_id: Option<Box<[u8]>>,
    authority_key_id: Option<Box<[u8]>>,
}

/// What the extensions permit.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
struct Usage {
    authority: bool,
    client: bool,
    server: bool,
    names: bool,
    digital_signature: bool,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("key", &self.spki.thumbprint())
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// The first rule of form that the bytes break.
    pub fn from_der(bytes: &[u8]) -> Result<Self, CertificateError> {
        if bytes.len() > CERTIFICATE_BYTES_MAX {
            return Err(CertificateError::TooLong);
        }
        let signed = Signed::read(bytes).map_err(|_| CertificateError::Malformed)?;
        if !signature::is_known(signed.algorithm) {
            return Err(CertificateError::SignatureAlgorithm);
        }
        let (rest, parsed) =
            X509Certificate::from_der(bytes).map_err(|_| CertificateError::Malformed)?;
        if !rest.is_empty() {
            return Err(CertificateError::Malformed);
        }
        if parsed.version() != X509Version::V3 {
            return Err(CertificateError::Version);
        }
        let serial = Serial::from_integer(parsed.raw_serial())?;
        let spki = Spki::from_der(parsed.public_key().raw).map_err(CertificateError::Key)?;
        let mut certificate = Self {
            der: CertificateDer::from(bytes.to_vec()),
            spki,
            serial,
            not_before: Timestamp::from_secs(parsed.validity().not_before.timestamp()),
            not_after: Timestamp::from_secs(parsed.validity().not_after.timestamp()),
            issuer: parsed.issuer().as_raw().into(),
            subject: parsed.subject().as_raw().into(),
            common_name: common_name(&parsed),
            usage: Usage::default(),
            subject_key_id: None,
            authority_key_id: None,
        };
        certificate.read_extensions(&parsed)?;
        // The library that checks handshakes reads the key with a parser of its own. Two readings
        // of one certificate would let a caller sign with one key and be known by another.
        let handshake = ParsedCertificate::try_from(&certificate.der)
            .map_err(|_| CertificateError::Malformed)?;
        if handshake.subject_public_key_info().as_ref() != certificate.spki.as_der() {
            return Err(CertificateError::Malformed);
        }
        Ok(certificate)
    }

    /// Reads exactly one `CERTIFICATE` section.
    ///
    /// # Errors
    /// As [`Certificate::from_der`], or what is wrong with the text.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let expected = "one CERTIFICATE section";
        let kind = SectionKind::Certificate;
        let der = pem::only(text, kind, CERTIFICATE_TEXT_BYTES_MAX, expected)?;
        Self::from_der(&der)
    }

    /// Reads two `CERTIFICATE` sections, as P3 answers them: the target's, then its authority's.
    ///
    /// # Errors
    /// As [`Certificate::from_der`], or what is wrong with the text.
    pub fn pair_from_pem(text: &str) -> Result<(Self, Self), CertificateError> {
        let expected = "two CERTIFICATE sections";
        let sections = pem::sections(text, 2 * CERTIFICATE_TEXT_BYTES_MAX, 2, expected)?;
        match sections.as_slice() {
            [(SectionKind::Certificate, first), (SectionKind::Certificate, second)] => {
                Ok((Self::from_der(first)?, Self::from_der(second)?))
            }
            _ => Err(PemError::Sections { expected }.into()),
        }
    }

    /// The text of the certificate.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let mut text = String::new();
        self.append_pem(&mut text);
        text
    }

    pub(crate) fn append_pem(&self, text: &mut String) {
        pem::append(text, "CERTIFICATE", &self.der);
    }

    /// The DER bytes.
    #[must_use]
    pub const fn as_der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// SHA-256 of the DER bytes, as the resolution of a pairing names it.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&self.der)
    }

    /// The public key.
    #[must_use]
    pub const fn spki(&self) -> &Spki {
        &self.spki
    }

    /// The thumbprint of the public key.
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        self.spki.thumbprint()
    }

    /// The serial number.
    #[must_use]
    pub const fn serial(&self) -> &Serial {
        &self.serial
    }

    /// Valid from this moment, in whole seconds.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Valid until this moment, in whole seconds.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The common name of the subject, where there is exactly one name and it is readable. It is a
    /// stranger's text until the certificate is known to be ours.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The core that the certificate names, where the subject has the form that we issue.
    #[must_use]
    pub fn subject(&self) -> Option<CoreId> {
        self.common_name()?.parse().ok()
    }

    /// Whether it may sign certificates (`CA:TRUE`).
    #[must_use]
    pub const fn is_authority(&self) -> bool {
        self.usage.authority
    }

    /// Whether it is for client authentication and nothing else.
    #[must_use]
    pub const fn is_client_only(&self) -> bool {
        self.usage.client && !self.usage.server && !self.usage.authority && !self.usage.names
    }

    /// Whether it may authenticate a server.
    #[must_use]
    pub const fn is_server(&self) -> bool {
        self.usage.server && !self.usage.authority
    }

    /// Whether the authority signed this certificate: names and key identifiers agree, the
    /// authority may sign, and the signature is its own. Costs one verification of a signature.
    #[must_use]
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        let is_named = self.issuer == authority.subject
            && self.authority_key_id.is_some()
            && self.authority_key_id == authority.subject_key_id;
        is_named
            && authority.usage.authority
            && Signed::read(&self.der)
                .is_ok_and(|signed| signature::is_by(&signed, &authority.spki))
    }

    fn read_extensions(&mut self, parsed: &X509Certificate<'_>) -> Result<(), CertificateError> {
        let extensions = parsed.extensions();
        if extensions.len() > EXTENSIONS_MAX {
            return Err(CertificateError::Extension);
        }
        for (index, extension) in extensions.iter().enumerate() {
            if extensions.iter().take(index).any(|earlier| earlier.oid == extension.oid) {
                return Err(CertificateError::Extension);
            }
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(limits) => self.usage.authority = limits.ca,
                ParsedExtension::KeyUsage(usage) => {
                    self.usage.digital_signature = usage.digital_signature();
                }
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    self.usage.client = usage.client_auth;
                    // "Any" is more than a client; what else is listed only takes away trust.
                    self.usage.server = usage.server_auth || usage.any;
                }
                ParsedExtension::SubjectAlternativeName(_) => self.usage.names = true,
                ParsedExtension::SubjectKeyIdentifier(id) => {
                    self.subject_key_id = Some(id.0.into());
                }
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    self.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.into());
                }
                ParsedExtension::ParseError { .. } => return Err(CertificateError::Extension),
                _ if extension.critical => return Err(CertificateError::Extension),
                _ => {}
            }
        }
        Ok(())
    }
}

fn common_name(parsed: &X509Certificate<'_>) -> Option<String> {
    let mut names = parsed.subject().iter_attributes();
    let name = names.next()?;
    if names.next().is_some()
        || *name.attr_type() != x509_parser::oid_registry::OID_X509_COMMON_NAME
    {
        return None;
    }
    name.as_str().ok().map(str::to_owned)
}
