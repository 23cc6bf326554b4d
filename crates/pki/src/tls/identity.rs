//! The certificate that a listener shows, which can be renewed while it listens.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::settings::{TlsError, provider};
use crate::certificate::Certificate;
use crate::key::PrivateKey;

/// A key with its certificate, as rustls wants it.
pub(super) fn certified(
    key: &PrivateKey,
    certificate: &Certificate,
) -> Result<Arc<CertifiedKey>, TlsError> {
    if key.spki() != certificate.spki() {
        return Err(TlsError::Mismatch);
    }
    let signer = provider().key_provider.load_private_key(key.to_rustls())?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.as_der().clone()], signer)))
}

/// What a target shows on its listeners. New handshakes show what was set last; running connections
/// keep what they have.
#[derive(Debug)]
pub struct ServerIdentity {
    shown: RwLock<Arc<CertifiedKey>>,
}

impl ServerIdentity {
    /// The identity with this key and certificate.
    ///
    /// # Errors
    /// [`TlsError::Mismatch`] when they do not belong together.
    pub fn new(key: &PrivateKey, certificate: &Certificate) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self { shown: RwLock::new(certified(key, certificate)?) }))
    }

    /// Shows another certificate from now on.
    ///
    /// # Errors
    /// [`TlsError::Mismatch`] when key and certificate do not belong together; the old one stays.
    pub fn replace(&self, key: &PrivateKey, certificate: &Certificate) -> Result<(), TlsError> {
        let next = certified(key, certificate)?;
        // Only a whole pointer is ever written, so a panic elsewhere cannot have left half of one.
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner)))
    }
}
