//! Who is at the other end of a connection, as far as the connection itself can say.
//!
//! **Absent:** what the peer may do. A key proves who holds it and nothing more; the gate asks the
//! catalog on every request.

use std::fmt;
use std::net::IpAddr;

use offsite_model::Timestamp;
pub use stub::{Spki, Thumbprint};

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

/// The key that the peer proved to hold in the TLS handshake, and the dates of its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerKey {
    /// The public key as it stands in the certificate.
    pub spki: Spki,
    /// Its SHA-256, under which pairings are found.
    pub thumbprint: Thumbprint,
    /// The certificate is not valid before.
    pub not_before: Timestamp,
    /// The certificate is not valid after.
    pub not_after: Timestamp,
}

/// Where a request came from and under which number it is found in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
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
mod stub {
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Spki(Vec<u8>);
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Thumbprint([u8; 32]);
    impl std::fmt::Display for Thumbprint {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{:?}", self.0)
        }
    }
}
