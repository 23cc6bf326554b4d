//! What a caller showed in the handshake, and whether it agrees with a row of the catalog.
//!
//! The handshake accepts any certificate in form, because enrolling sources show one that they made
//! themselves. So nothing is known about a caller but his key until [`Presented::judge`] has
//! compared the certificate with the row of that key; a gate asks it on every request.
//!
//! **Absent:** the row itself, revocation (the row is gone or inactive), the 180 days of renewal
//! (the gate's rule over [`Standing::Expired`]).

use std::sync::OnceLock;

use offsite_model::{Span, Timestamp};
use rustls_pki_types::CertificateDer;

use crate::certificate::{CERTIFICATE_BYTES_MAX, Certificate, CertificateError, Serial};
use crate::key::{Spki, Thumbprint};

/// The most certificates a caller may show.
pub const CHAIN_CERTIFICATES_MAX: usize = 4;
/// The most bytes of certificates a caller may show, all together.
pub const CHAIN_BYTES_MAX: usize = CERTIFICATE_BYTES_MAX;
/// How far two clocks may be apart: authority is the pin, so time is judged with tolerance.
pub const SKEW: Span = Span::from_hours(24);

/// A chain that the handshake refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresentedError {
    /// No certificate at all.
    #[error("no certificate was shown")]
    Nothing,
    /// More certificates or bytes than allowed.
    #[error(
        "the chain is longer than {CHAIN_CERTIFICATES_MAX} certificates or {CHAIN_BYTES_MAX} bytes"
    )]
    TooLong,
    /// The caller's own certificate is not in form.
    #[error(transparent)]
    Leaf(#[from] CertificateError),
}

/// The certificate of a caller, whose key the handshake has proven.
#[derive(Debug)]
pub struct Presented {
    leaf: Certificate,
    thumbprint: Thumbprint,
    /// Whether the authority of this thumbprint signed the leaf: a connection asks about one
    /// authority, on every request, and a signature is too dear to be checked each time.
    signed: OnceLock<(Thumbprint, bool)>,
}

/// What the row of an active pairing says about the certificate it was given.
#[derive(Clone, Copy, Debug)]
pub struct Pinned<'a> {
    /// The pinned key.
    pub thumbprint: Thumbprint,
    /// The serial number of the certificate issued to it.
    pub serial: &'a Serial,
    /// The certificate of the authority that issued it.
    pub authority: &'a Certificate,
}

/// How a certificate stands to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the row's certificate, inside its time.
    Active,
    /// It is the row's certificate, out of time.
    Expired {
        /// How long ago it ran out, by this clock.
        since: Span,
    },
    /// It is the row's certificate, and its time has not begun.
    NotYet {
        /// How long until it begins, by this clock.
        ahead: Span,
    },
    /// It is not the row's certificate, whatever else it may be.
    NotOurs,
}

impl Presented {
    /// Reads the chain that the peer of a finished handshake showed, its own certificate first. The
    /// rest is counted and never read: nothing follows from a chain.
    ///
    /// # Errors
    /// Which bound or rule of form is broken.
    pub fn from_chain(chain: &[CertificateDer<'_>]) -> Result<Self, PresentedError> {
        let (leaf, others) = chain.split_first().ok_or(PresentedError::Nothing)?;
        Self::from_parts(leaf, others)
    }

    pub(crate) fn from_parts(
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<Self, PresentedError> {
        let others_bytes = others.iter().fold(0_usize, |sum, one| sum.saturating_add(one.len()));
        let is_short = others.len() < CHAIN_CERTIFICATES_MAX
            && others_bytes.saturating_add(leaf.len()) <= CHAIN_BYTES_MAX;
        if !is_short {
            return Err(PresentedError::TooLong);
        }
        let leaf = Certificate::from_der(leaf)?;
        let thumbprint = leaf.thumbprint();
        Ok(Self { leaf, thumbprint, signed: OnceLock::new() })
    }

    /// The caller's own certificate.
    #[must_use]
    pub const fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// The caller's key.
    #[must_use]
    pub const fn spki(&self) -> &Spki {
        self.leaf.spki()
    }

    /// The thumbprint of the caller's key.
    #[must_use]
    pub const fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// Compares the certificate with a row, at this moment by our clock, with [`SKEW`] of
    /// tolerance.
    ///
    /// A certificate of the right key that the authority did not sign is [`Standing::NotOurs`]: the
    /// holder of an expired one could otherwise prolong it by signing a copy himself.
    #[must_use]
    pub fn judge(&self, row: Pinned<'_>, now: Timestamp) -> Standing {
        let is_row = self.thumbprint == row.thumbprint
            && self.leaf.serial() == row.serial
            && self.leaf.is_client_only()
            && self.is_signed_by(row.authority);
        let (begin, end) = (self.leaf.not_before(), self.leaf.not_after());
        if !is_row {
            Standing::NotOurs
        } else if now < begin - SKEW {
            Standing::NotYet { ahead: begin.since(now) }
        } else if now >= end + SKEW {
            Standing::Expired { since: now.since(end) }
        } else {
            Standing::Active
        }
    }

    fn is_signed_by(&self, authority: &Certificate) -> bool {
        let name = authority.thumbprint();
        let check = || (name, self.leaf.is_signed_by(authority));
        match *self.signed.get_or_init(check) {
            (known, is_signed) if known == name => is_signed,
            _ => self.leaf.is_signed_by(authority),
        }
    }
}
