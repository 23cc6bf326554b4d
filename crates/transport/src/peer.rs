//! Who is at the other end of a connection, as far as the connection itself can say.
//!
//! **Absent:** what the peer may do. A key proves who holds it and nothing more; the gate asks the
//! catalog on every request.

use std::fmt;
use std::net::IpAddr;

use offsite_pki::{Presented, Spki, Thumbprint};
use std::sync::Arc;

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Over the network, from this address.
    Network(IpAddr),
    /// Over the local socket, from a process of this user.
    Local {
        /// The user's number, as the kernel gave it when the connection was made.
        uid: u32,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => write!(f, "{address}"),
            Self::Local { uid } => write!(f, "local user {uid}"),
        }
    }
}

/// The key that the peer proved to hold in the TLS handshake, and the certificate it showed with
/// it.
#[derive(Clone, Debug)]
pub struct PeerKey {
    /// The public key as it stands in the certificate.
    pub spki: Spki,
    /// Its SHA-256, under which pairings are found.
    pub thumbprint: Thumbprint,
    /// The certificate, to be held against the row ([`Presented::judge`]).
    pub presented: Arc<Presented>,
}

impl From<Presented> for PeerKey {
    fn from(presented: Presented) -> Self {
        Self {
            spki: presented.spki().clone(),
            thumbprint: presented.thumbprint(),
            presented: Arc::new(presented),
        }
    }
}

/// Where a request came from and under which number it is found in the log.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The address or the local user.
    pub address: Place,
    /// The proven key, if the peer showed a certificate.
    pub peer: Option<PeerKey>,
    /// The number of the request: random, in every log line and in every error.
    pub request: String,
    /// The number of the connection within this process: NTLM authenticates a connection.
    pub connection: u64,
    /// Whether the request came over HTTP/2.
    pub http2: bool,
}
