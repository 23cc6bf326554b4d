//! The settings of a caller: what it shows and whom it trusts.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::SignatureScheme;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::sign::CertifiedKey;

use super::identity::certified;
use super::pin::Trust;
use super::settings::{TlsError, VERSIONS, alpn, provider};
use super::verify::ServerByKey;
use crate::certificate::Certificate;
use crate::key::PrivateKey;

/// What a caller shows.
#[derive(Clone, Copy)]
pub enum ClientIdentity<'a> {
    /// No certificate.
    None,
    /// This certificate, with its key.
    Certified(&'a PrivateKey, &'a Certificate),
}

/// The settings of a caller, ready to be dialled with as often as wanted.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    trust: Trust,
}

impl ClientTls {
    /// The configuration for rustls.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Whom it trusts.
    #[must_use]
    pub const fn trust(&self) -> Trust {
        self.trust
    }

    /// The same settings, offering this one protocol: NTLM proves a connection and needs
    /// `http/1.1`.
    #[must_use]
    pub fn with_protocol(&self, protocol: &[u8]) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![protocol.to_vec()];
        Self { config: Arc::new(config), trust: self.trust }
    }
}

/// Makes the settings of a caller.
///
/// # Errors
/// [`TlsError::Mismatch`] when key and certificate do not belong together.
pub fn client(identity: ClientIdentity<'_>, trust: Trust) -> Result<ClientTls, TlsError> {
    let shown = match identity {
        ClientIdentity::None => None,
        ClientIdentity::Certified(key, certificate) => Some(certified(key, certificate)?),
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerByKey::new(trust, provider())))
        .with_client_cert_resolver(Arc::new(Shown(shown)));
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.cert_compressors = Vec::new();
    config.cert_decompressors = Vec::new();
    config.alpn_protocols = alpn();
    Ok(ClientTls { config: Arc::new(config), trust })
}

/// Shows the same certificate whatever the server hints: there is one pairing per caller.
#[derive(Debug)]
struct Shown(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shown {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}
