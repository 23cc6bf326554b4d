//! Whom a caller trusts, and the error when somebody else answers.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::{CertificateError, OtherError};

use crate::key::Thumbprint;

/// Which key a caller accepts from a server. Names, chains and dates play no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// This key only.
    Pin(Thumbprint),
    /// Any key: the first contact, whose key is then shown to a person and remembered
    /// ([`super::presented`] says which it was).
    FirstSight,
}

/// Another key than the pinned one answered: the target was replaced, or somebody stands between.
/// Nothing was sent; nothing more may be sent; a person must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the target answered with the key {found}, pinned is {pinned}")]
pub struct PinMismatch {
    /// The remembered key.
    pub pinned: Thumbprint,
    /// The key that answered.
    pub found: Thumbprint,
}

impl PinMismatch {
    pub(super) fn into_rustls(self) -> rustls::Error {
        CertificateError::Other(OtherError(Arc::new(self))).into()
    }

    /// Finds a mismatch in the error of a handshake.
    #[must_use]
    pub fn within(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
                cause.downcast_ref().copied()
            }
            _ => None,
        }
    }

    /// Finds a mismatch in the error of a stream, as asynchronous streams wrap it.
    #[must_use]
    pub fn within_io(error: &io::Error) -> Option<Self> {
        let inner: &(dyn Error + Send + Sync + 'static) = error.get_ref()?;
        inner.downcast_ref::<rustls::Error>().and_then(Self::within)
    }
}
