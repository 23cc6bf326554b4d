//! Keys, certificate requests, certificates, pins and the TLS settings of every listener and
//! caller.
//!
//! Pure: bytes in, bytes out; whoever calls decides where they are kept. One library makes and
//! checks every signature (AWS-LC), one object ([`tls::provider`]) says so to rustls, and TLS 1.3
//! is the only version any configuration made here will speak.
//!
//! Who a peer *is* is never decided here: a chain proves nothing, the pinned key and its row do.
//! This crate only says what a certificate states ([`Presented`]) and whether that agrees with a
//! row ([`Presented::judge`]).
//!
//! **Absent:** disk, sockets, clocks (the moment is handed in), revocation lists (the row is the
//! list).

mod der;
mod pem;
mod signature;

pub mod bundle;
pub mod renewal;
pub mod request;
pub mod tls;

mod certificate;
mod issue;
mod key;
mod presented;

pub use certificate::{Certificate, CertificateError, Serial};
pub use issue::{Authority, IssueError, SERVER_DAYS, Validity, ValidityError, self_signed};
pub use key::{KeyAlgorithm, KeyError, PrivateKey, Spki, Thumbprint, ThumbprintError};
pub use pem::PemError;
pub use presented::{
    CHAIN_BYTES_MAX, CHAIN_CERTIFICATES_MAX, Pinned, Presented, PresentedError, SKEW, Standing,
};

#[cfg(test)]
mod tests;
