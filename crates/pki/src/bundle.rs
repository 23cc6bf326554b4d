//! What a paired source keeps: its key, its certificate, the target's key and the target's
//! authority, checked together when they arrive and kept in one text, so that installing them is
//! one rename.
//!
//! **Absent:** the file, its mode and its rename (`daemon::files`); where the pinned key came from
//! (the handshake of the submit, never a value that somebody sent).

use std::fmt;

use offsite_model::Timestamp;
use rustls_pki_types::pem::SectionKind;
use zeroize::Zeroizing;

use crate::certificate::{Certificate, CertificateError};
use crate::issue::HEAD_START;
use crate::key::{KeyError, PrivateKey, Spki, Thumbprint};
use crate::pem::{self, PemError};
use crate::presented::SKEW;
use crate::tls::{self, ClientIdentity, ClientTls, TlsError, Trust};

/// The longest text of a bundle, in bytes.
pub const BUNDLE_TEXT_BYTES_MAX: usize = 96 * 1024;

/// What was downloaded after an acceptance, as it came.
#[derive(Clone, Copy, Debug)]
pub struct Artifacts<'a> {
    /// The answer of P2: our certificate.
    pub certificate: &'a str,
    /// The answer of P3: the target's certificate, then its authority's.
    pub target: &'a str,
    /// SHA-256 of our certificate's DER, as the resolution (P1) named it.
    pub certificate_sha256: [u8; 32],
    /// SHA-256 of the target's certificate's DER, as the resolution (P1) named it.
    pub target_sha256: [u8; 32],
}

/// The two clocks at the moment of the check.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The clock of this machine.
    pub now: Timestamp,
    /// The target's clock, where an answer of this minute told it. Without it, only a clock that is
    /// behind shows, against the moment at which the certificate was issued.
    pub target_now: Option<Timestamp>,
}

/// Which of the downloaded certificates is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Ours.
    Own,
    /// The target's.
    Target,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "certificate of this source",
            Self::Target => "certificate of the target",
        })
    }
}

/// Why nothing is installed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// A downloaded certificate cannot be read.
    #[error("cannot read the {which}: {cause}")]
    Certificate {
        /// Which one.
        which: Which,
        /// Why.
        cause: CertificateError,
    },
    /// A downloaded certificate is not the one that the resolution named.
    #[error("the {0} is not the one that the target announced (its sha-256 differs)")]
    Sha256(Which),
    /// The certificate is over another key.
    #[error("the certificate is not over the key of this source")]
    Key,
    /// The certificate is not for client authentication alone, or names no core.
    #[error("the certificate is not a client certificate of the agreed form")]
    Profile,
    /// The authority that came along did not sign this certificate, or is no authority.
    #[error("the {0} is not signed by the authority that came with it")]
    Authority(Which),
    /// The target's key is another than the remembered one: stop, send nothing, tell a person.
    #[error("the key of the target has changed from {pinned} to {found}")]
    TargetKey {
        /// The remembered key.
        pinned: Thumbprint,
        /// The key in the target's certificate.
        found: Thumbprint,
    },
    /// The clocks are further apart than is tolerated.
    #[error(
        "the clock of this machine is {}, more than the {} that are tolerated; set it right and \
         try again", Apart(*skew_secs), SKEW.as_secs()
    )]
    Skew {
        /// The target's clock less ours, in seconds: positive where the target's is ahead.
        skew_secs: i64,
    },
    /// The certificate ran out, or has not begun, beyond the tolerance.
    #[error(
        "the certificate is out of its time by {secs} seconds by the clock of this machine, which \
         is {}", Apart(*skew_secs)
    )]
    Time {
        /// How far outside, in seconds.
        secs: u64,
        /// The target's clock less ours, in seconds, as far as it could be measured.
        skew_secs: i64,
    },
    /// The text of an installed bundle cannot be read.
    #[error("cannot read the pairing of this source: {0}")]
    Text(#[from] PemError),
    /// The private key of an installed bundle cannot be read.
    #[error("cannot read the key of this source: {0}")]
    PrivateKey(KeyError),
    /// The text of an installed bundle was altered or is half of one.
    #[error("the pairing of this source is not as it was written")]
    Altered,
}

/// The target's clock less ours, in words: which clock is ahead is what an operator has to know.
struct Apart(i64);

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.0 > 0 { "behind" } else { "ahead of" };
        write!(f, "{} seconds {side} the target's", self.0.unsigned_abs())
    }
}

/// A complete pairing, from the source's side. Invariant: the certificate is over the key, both it
/// and the target's were signed by the authority, and the pinned key is that of the target's
/// certificate.
pub struct Bundle {
    key: PrivateKey,
    certificate: Certificate,
    target: Certificate,
    authority: Certificate,
}

/// Checks what was downloaded against our own key and the remembered key of the target.
///
/// # Errors
/// The first rule that is broken; nothing may be installed then, and the key is to be kept.
pub fn verify(
    key: &PrivateKey,
    artifacts: &Artifacts<'_>,
    pinned: Thumbprint,
    clocks: Clocks,
) -> Result<Bundle, BundleError> {
    let unreadable = |which| move |cause| BundleError::Certificate { which, cause };
    let certificate =
        Certificate::from_pem(artifacts.certificate).map_err(unreadable(Which::Own))?;
    let (target, authority) =
        Certificate::pair_from_pem(artifacts.target).map_err(unreadable(Which::Target))?;
    if certificate.sha256() != artifacts.certificate_sha256 {
        return Err(BundleError::Sha256(Which::Own));
    }
    if target.sha256() != artifacts.target_sha256 {
        return Err(BundleError::Sha256(Which::Target));
    }
    let found = target.thumbprint();
    if found != pinned {
        return Err(BundleError::TargetKey { pinned, found });
    }
    check_parts(key, &certificate, &target, &authority)?;
    check_time(&certificate, clocks)?;
    let key = key.duplicate().map_err(BundleError::PrivateKey)?;
    Ok(Bundle { key, certificate, target, authority })
}

impl Bundle {
    /// The whole pairing as one text, private key included: for one file of mode 0600.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        // The pinned key stands for itself, although the target's certificate holds it too: it is
        // what counts, and a tool that reads keys can show it.
        let mut text = Zeroizing::new(String::with_capacity(BUNDLE_TEXT_BYTES_MAX));
        self.key.append_pem(&mut text);
        self.certificate.append_pem(&mut text);
        self.target.append_pem(&mut text);
        self.authority.append_pem(&mut text);
        pem::append(&mut text, "PUBLIC KEY", self.target.spki().as_der());
        text
    }

    /// Reads a text that [`Bundle::to_pem`] wrote, and nothing else: half a text, an added line or
    /// an exchanged part is refused. Time is not looked at, since an expired pairing may be
    /// renewed.
    ///
    /// # Errors
    /// What is missing, unreadable or does not belong together.
    pub fn from_pem(text: &str) -> Result<Self, BundleError> {
        let expected = "the key, the certificate, the target's, its authority's and the pinned key";
        let sections = pem::sections(text, BUNDLE_TEXT_BYTES_MAX, 5, expected)?;
        let [
            (SectionKind::PrivateKey, key),
            (SectionKind::Certificate, certificate),
            (SectionKind::Certificate, target),
            (SectionKind::Certificate, authority),
            (SectionKind::PublicKey, pinned),
        ] = sections.as_slice()
        else {
            return Err(PemError::Sections { expected }.into());
        };
        let read = |which, der: &[u8]| {
            Certificate::from_der(der).map_err(|cause| BundleError::Certificate { which, cause })
        };
        let key = PrivateKey::from_pkcs8(key).map_err(BundleError::PrivateKey)?;
        let certificate = read(Which::Own, certificate)?;
        let target = read(Which::Target, target)?;
        let authority = read(Which::Target, authority)?;
        check_parts(&key, &certificate, &target, &authority)?;
        if target.spki().as_der() != pinned.as_slice() {
            return Err(BundleError::Altered);
        }
        let bundle = Self { key, certificate, target, authority };
        if *bundle.to_pem() == text { Ok(bundle) } else { Err(BundleError::Altered) }
    }

    /// The private key of this source.
    #[must_use]
    pub const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The private key of this source, by value.
    #[must_use]
    pub fn into_key(self) -> PrivateKey {
        self.key
    }

    /// The certificate of this source.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The target's certificate as it was when this was installed; the target may have renewed it.
    #[must_use]
    pub const fn target(&self) -> &Certificate {
        &self.target
    }

    /// The certificate of the target's authority.
    #[must_use]
    pub const fn authority(&self) -> &Certificate {
        &self.authority
    }

    /// The target's key.
    #[must_use]
    pub const fn target_spki(&self) -> &Spki {
        self.target.spki()
    }

    /// The thumbprint of the target's key.
    #[must_use]
    pub fn pin(&self) -> Thumbprint {
        self.target.thumbprint()
    }

    /// The settings with which this source calls its target.
    ///
    /// # Errors
    /// [`TlsError::Library`] when rustls refuses.
    pub fn client_tls(&self) -> Result<ClientTls, TlsError> {
        let identity = ClientIdentity::Certified(&self.key, &self.certificate);
        tls::client(identity, Trust::Pin(self.pin()))
    }
}

fn check_parts(
    key: &PrivateKey,
    certificate: &Certificate,
    target: &Certificate,
    authority: &Certificate,
) -> Result<(), BundleError> {
    if certificate.spki() != key.spki() {
        return Err(BundleError::Key);
    }
    if !certificate.is_client_only() || certificate.subject().is_none() {
        return Err(BundleError::Profile);
    }
    if !certificate.is_signed_by(authority) {
        return Err(BundleError::Authority(Which::Own));
    }
    // The pin is what counts for the target. Its certificate and the authority's own signature are
    // checked as well so that no bit of what is kept can change unseen.
    let is_whole = target.is_signed_by(authority) && authority.is_signed_by(authority);
    if is_whole { Ok(()) } else { Err(BundleError::Authority(Which::Target)) }
}

/// Time is judged against the target's clock first: a source whose clock is wrong would keep its
/// points under wrong times, and be locked out by its own certificate later.
fn check_time(certificate: &Certificate, clocks: Clocks) -> Result<(), BundleError> {
    // A certificate may have waited for days to be fetched: without the target's clock, only a
    // clock that stands before the moment of issue is known to be wrong.
    let issued = certificate.not_before() + HEAD_START;
    let reference = clocks.target_now.unwrap_or_else(|| issued.max(clocks.now));
    let skew_secs = reference.as_secs().saturating_sub(clocks.now.as_secs());
    if skew_secs.unsigned_abs() > SKEW.as_secs() {
        return Err(BundleError::Skew { skew_secs });
    }
    let early = certificate.not_before().since(clocks.now);
    let late = clocks.now.since(certificate.not_after());
    let outside = early.max(late);
    if outside >= SKEW {
        return Err(BundleError::Time { secs: outside.as_secs(), skew_secs });
    }
    Ok(())
}
