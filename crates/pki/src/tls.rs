//! The TLS settings of every listener and every caller: 1.3 only, one provider, nothing resumed.
//!
//! A resumed session takes its caller's identity from memory and asks no verifier, so a revoked
//! source would come back in. Hence no tickets, no store of sessions, no early data, on any side.
//!
//! **Absent:** sockets and timeouts (transport), who may do what (the gate), TLS 1.2: the versions
//! are named and the older cipher suites are taken out of the provider, so that no feature that
//! some other crate switches on can bring it back.

mod client;
mod identity;
mod pin;
mod settings;
mod verify;

use std::sync::Arc;

use rustls::server::{NoClientAuth, NoServerSessionStorage};
use rustls::{CommonState, ServerConfig};

pub use client::{ClientIdentity, ClientTls, client};
pub use identity::ServerIdentity;
pub use pin::{PinMismatch, Trust};
pub use settings::{ALPN, TlsError, provider};

use self::settings::{VERSIONS, alpn};
use crate::presented::{Presented, PresentedError};

/// The configuration of the replication listener: asks for a client certificate, does without one,
/// accepts any in form, and lets the provider check that the caller has its key.
///
/// # Errors
/// [`TlsError::Library`] when rustls refuses.
pub fn replication_server(identity: &Arc<ServerIdentity>) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .with_client_cert_verifier(Arc::new(verify::AnyClient::new(provider())));
    Ok(Arc::new(harden(builder.with_cert_resolver(Arc::clone(identity) as _))))
}

/// The configuration of the operator listener: never asks for a client certificate.
///
/// # Errors
/// [`TlsError::Library`] when rustls refuses.
pub fn operator_server(identity: &Arc<ServerIdentity>) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .with_client_cert_verifier(Arc::new(NoClientAuth));
    Ok(Arc::new(harden(builder.with_cert_resolver(Arc::clone(identity) as _))))
}

/// What the peer of a finished handshake showed; nothing where it showed no certificate.
///
/// # Errors
/// Never for a connection whose configuration was made here: the handshake has read the same chain.
pub fn presented(connection: &CommonState) -> Result<Option<Presented>, PresentedError> {
    match connection.peer_certificates() {
        None | Some([]) => Ok(None),
        Some(chain) => Presented::from_chain(chain).map(Some),
    }
}

fn harden(mut config: ServerConfig) -> ServerConfig {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    // Bytes sent before the caller's proof would be sent to anybody.
    config.send_half_rtt_data = false;
    config.cert_compressors = Vec::new();
    config.cert_decompressors = Vec::new();
    config.alpn_protocols = alpn();
    config
}
