//! What every configuration shares: the provider, the version, the protocols, the error.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

/// The protocols offered and accepted, in order of preference.
pub const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

pub(super) const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// A TLS configuration that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The key is not that of the certificate.
    #[error("the private key is not that of the certificate")]
    Mismatch,
    /// The library refused the configuration.
    #[error("cannot configure tls: {0}")]
    Library(#[from] rustls::Error),
}

/// The one provider of cryptography.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| matches!(suite, SupportedCipherSuite::Tls13(_)));
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

/// [`ALPN`] as rustls wants it.
pub(super) fn alpn() -> Vec<Vec<u8>> {
    ALPN.iter().map(|name| name.to_vec()).collect()
}
