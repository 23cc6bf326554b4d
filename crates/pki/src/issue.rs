//! The authority of a target, and the only three certificates that are ever made.
//!
//! Each is built from nothing, in one place, with every field said. A request gives its
//! public key and no more, so that whatever else somebody writes into one cannot arrive here: there
//! is no type that could carry it.
//!
//! **Absent:** intermediate authorities, names from requests, revocation lists.

use std::time::Duration;

use offsite_model::{CoreId, Luck, Span, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PublicKeyData, SerialNumber, SigningKey,
};
use rustls_pki_types::pem::SectionKind;
use zeroize::Zeroizing;

use crate::certificate::{Certificate, CertificateError, Serial};
use crate::key::{KeyError, PrivateKey, Spki};
use crate::pem::{self, PemError};

/// A certificate begins this long before it is made, so that a clock a little behind accepts it.
pub(crate) const HEAD_START: Span = Span::from_hours(1);
/// The life of a source's certificate where nobody said otherwise.
const CLIENT_DAYS: u32 = 90;
/// The longest life of a source's certificate.
const CLIENT_DAYS_MAX: u32 = 400;
/// The life of the target's own certificate. Its key is pinned and kept for life; the certificate
/// is a frame around it, so it is made to last and still below what browsers refuse.
pub const SERVER_DAYS: u32 = 397;
/// The life of an authority: no rollover is built yet, so it outlives the machine.
const AUTHORITY_DAYS: u32 = 25 * 365;
/// The life of the certificate that an enrolling source makes for itself.
const SELF_SIGNED_DAYS: u32 = 365;
const AUTHORITY_TEXT_BYTES_MAX: usize = 32 * 1024;
const NAME_BYTES_MAX: usize = 64;
const NAMES_MAX: usize = 32;

/// A number of days that no certificate of ours lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a certificate lives 1 to {CLIENT_DAYS_MAX} days, not {0}")]
pub struct ValidityError(u32);

/// From when, and for how many days, a certificate is to be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    now: Timestamp,
    days: u32,
}

impl Validity {
    /// From `now` on for the usual 90 days.
    #[must_use]
    pub const fn usual(now: Timestamp) -> Self {
        Self { now, days: CLIENT_DAYS }
    }

    /// From `now` on for this many days.
    ///
    /// # Errors
    /// [`ValidityError`] outside 1 to 400 days.
    pub const fn days(now: Timestamp, days: u32) -> Result<Self, ValidityError> {
        match days {
            1..=CLIENT_DAYS_MAX => Ok(Self { now, days }),
            _ => Err(ValidityError(days)),
        }
    }
}

/// A certificate or an authority that could not be made or read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// A name for a certificate is empty, too long, has control characters, or there are too many.
    #[error("a name for the certificate is empty, too long or not a name")]
    Name,
    /// The library refused what we asked of it.
    #[error("the cryptographic library could not make the certificate")]
    Library,
    /// The authority's key is unusable.
    #[error("cannot use the key of the authority: {0}")]
    Key(#[from] KeyError),
    /// The authority's certificate is unusable.
    #[error("cannot use the certificate of the authority: {0}")]
    Certificate(#[from] CertificateError),
    /// The text of the authority cannot be read.
    #[error("cannot read the authority: {0}")]
    Text(#[from] PemError),
    /// Key and certificate of the authority do not belong together, or the certificate is none of
    /// an authority that signed itself.
    #[error("the key of the authority is not that of a certificate of its own making")]
    Mismatch,
}

impl From<rcgen::Error> for IssueError {
    fn from(_: rcgen::Error) -> Self {
        Self::Library
    }
}

/// The key and certificate with which a target signs.
pub struct Authority {
    key: PrivateKey,
    certificate: Certificate,
}

impl Authority {
    /// Makes a new authority of this name: 1 to 64 bytes without control characters.
    ///
    /// # Errors
    /// [`IssueError::Name`], or what the library could not do.
    pub fn create(name: &str, now: Timestamp, luck: &dyn Luck) -> Result<Self, IssueError> {
        let key = PrivateKey::generate()?;
        let mut profile = blank(now, AUTHORITY_DAYS);
        profile.serial_number = Some(SerialNumber::from_slice(Serial::random(luck).as_bytes()));
        profile.distinguished_name = named(name)?;
        profile.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        profile.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        profile.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_params(&profile, key.pair());
        let certificate = signed(&profile, key.spki(), &issuer)?;
        Ok(Self { key, certificate })
    }

    /// Reads an authority: its private key, then its certificate.
    ///
    /// # Errors
    /// What is wrong with the text, the key or the certificate.
    pub fn from_pem(text: &str) -> Result<Self, IssueError> {
        let expected = "a PRIVATE KEY section and a CERTIFICATE section";
        let sections = pem::sections(text, AUTHORITY_TEXT_BYTES_MAX, 2, expected)?;
        let [(SectionKind::PrivateKey, key), (SectionKind::Certificate, certificate)] =
            sections.as_slice()
        else {
            return Err(PemError::Sections { expected }.into());
        };
        let key = PrivateKey::from_pkcs8(key)?;
        let certificate = Certificate::from_der(certificate)?;
        if key.spki() != certificate.spki() || !certificate.is_signed_by(&certificate) {
            return Err(IssueError::Mismatch);
        }
        Ok(Self { key, certificate })
    }

    /// The text of the authority, private key included: for a file of mode 0600 and a backup of it.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(AUTHORITY_TEXT_BYTES_MAX));
        self.key.append_pem(&mut text);
        self.certificate.append_pem(&mut text);
        text
    }

    /// The certificate that others may know.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Issues a source's certificate over this key: the fixed profile, client authentication only.
    ///
    /// # Errors
    /// [`IssueError::Library`] when the library refuses.
    pub fn issue_client(
        &self,
        key: &Spki,
        subject: CoreId,
        validity: Validity,
        luck: &dyn Luck,
    ) -> Result<Certificate, IssueError> {
        self.issue_client_as(key, subject, validity, &Serial::random(luck))
    }

    /// As [`Authority::issue_client`], under a serial number that was drawn and kept before, so
    /// that an issue that was cut short can be repeated as the same one.
    ///
    /// # Errors
    /// [`IssueError::Library`] when the library refuses.
    pub fn issue_client_as(
        &self,
        key: &Spki,
        subject: CoreId,
        validity: Validity,
        serial: &Serial,
    ) -> Result<Certificate, IssueError> {
        let mut profile = leaf(validity.now, validity.days, serial);
        profile.distinguished_name = common_name(&subject.to_string());
        profile.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&profile, key)
    }

    /// Issues the target's own certificate, for these DNS names and addresses. None is fine:
    /// sources go by the pinned key, only browsers look at names.
    ///
    /// # Errors
    /// [`IssueError::Name`] for a bad name, [`IssueError::Library`] when the library refuses.
    pub fn issue_server(
        &self,
        key: &PrivateKey,
        subject: CoreId,
        names: &[&str],
        validity: Validity,
        luck: &dyn Luck,
    ) -> Result<Certificate, IssueError> {
        if names.len() > NAMES_MAX || !names.iter().all(|name| is_host_name(name)) {
            return Err(IssueError::Name);
        }
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut profile = leaf(validity.now, validity.days, &Serial::random(luck));
        profile.distinguished_name = common_name(&subject.to_string());
        profile.subject_alt_names =
            CertificateParams::new(names).map_err(|_| IssueError::Name)?.subject_alt_names;
        profile.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&profile, key.spki())
    }

    fn sign(&self, profile: &CertificateParams, key: &Spki) -> Result<Certificate, IssueError> {
        let issuer = Issuer::from_ca_cert_der(self.certificate.as_der(), self.key.pair())?;
        signed(profile, key, &issuer)
    }
}

/// The certificate that an enrolling source shows: over its own key, signed by itself. It states
/// nothing, and opens nothing but the pairing rows.
///
/// # Errors
/// [`IssueError::Library`] when the library refuses.
pub fn self_signed(
    key: &PrivateKey,
    now: Timestamp,
    luck: &dyn Luck,
) -> Result<Certificate, IssueError> {
    let mut profile = leaf(now, SELF_SIGNED_DAYS, &Serial::random(luck));
    profile.distinguished_name = common_name("offsite source, not paired");
    profile.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let issuer = Issuer::from_params(&profile, key.pair());
    signed(&profile, key.spki(), &issuer)
}

/// Signs, and reads back what was signed: what our own reader refuses never leaves this file.
fn signed(
    profile: &CertificateParams,
    key: &impl PublicKeyData,
    issuer: &Issuer<'_, impl SigningKey>,
) -> Result<Certificate, IssueError> {
    let certificate = profile.signed_by(key, issuer)?;
    let certificate = Certificate::from_der(certificate.der())?;
    if certificate.spki().as_der() == key.subject_public_key_info() {
        Ok(certificate)
    } else {
        Err(IssueError::Mismatch)
    }
}

/// No name, no usage, no extension: only times. The library's own defaults last until 4096.
fn blank(now: Timestamp, days: u32) -> CertificateParams {
    let mut profile = CertificateParams::default();
    let start = rcgen::date_time_ymd(1970, 1, 1);
    profile.not_before = start + since_1970(now - HEAD_START);
    profile.not_after = start + since_1970(now + Span::from_days(u64::from(days)));
    profile.distinguished_name = DistinguishedName::new();
    profile
}

/// What every certificate that is no authority has in common.
fn leaf(now: Timestamp, days: u32, serial: &Serial) -> CertificateParams {
    let mut profile = blank(now, days);
    profile.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    // Also writes the critical basic constraints and the subject's key identifier.
    profile.is_ca = IsCa::ExplicitNoCa;
    profile.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    profile.use_authority_key_identifier_extension = true;
    profile
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn named(name: &str) -> Result<DistinguishedName, IssueError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(IssueError::Name);
    }
    Ok(common_name(name))
}

/// A DNS name without wildcards, or an address.
fn is_host_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':');
    !name.is_empty() && name.len() <= 253 && name.bytes().all(is_letter)
}

/// Whole seconds since 1970, before which there is nothing to certify, up to the year 9999, the
/// last that a certificate can state.
fn since_1970(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.as_secs()).unwrap_or(0).min(253_402_300_799))
}
