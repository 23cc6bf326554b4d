//! Signatures over requests and certificates, checked over the bytes as they arrived.
//!
//! The algorithm is found by comparing the whole identifier, parameters included, with the
//! encodings we accept: nothing in it is left to interpretation. SHA-1 and everything else unknown
//! has no entry.
//!
//! **Absent:** signatures of a TLS handshake; those are the provider's (see [`crate::tls`]).

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use crate::der::Signed;
use crate::key::{KeyAlgorithm, Spki};

/// `ecdsa-with-SHA256` (RFC 5758).
const ECDSA_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// `ecdsa-with-SHA384` (RFC 5758).
const ECDSA_SHA384: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
/// `id-Ed25519` (RFC 8410).
const ED25519: &[u8] = &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
/// `sha256WithRSAEncryption` (RFC 8017), parameters NULL.
const RSA_SHA256: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0];
/// `sha384WithRSAEncryption` (RFC 8017), parameters NULL.
const RSA_SHA384: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12, 5, 0];
/// `sha512WithRSAEncryption` (RFC 8017), parameters NULL.
const RSA_SHA512: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13, 5, 0];

/// Whether this algorithm identifier is one that we would accept from some key.
pub(crate) fn is_known(algorithm: &[u8]) -> bool {
    [ECDSA_SHA256, ECDSA_SHA384, ED25519, RSA_SHA256, RSA_SHA384, RSA_SHA512].contains(&algorithm)
}

fn verifier(key: KeyAlgorithm, algorithm: &[u8]) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match (key, algorithm) {
        (KeyAlgorithm::P256, ECDSA_SHA256) => &signature::ECDSA_P256_SHA256_ASN1,
        (KeyAlgorithm::P256, ECDSA_SHA384) => &signature::ECDSA_P256_SHA384_ASN1,
        (KeyAlgorithm::P384, ECDSA_SHA256) => &signature::ECDSA_P384_SHA256_ASN1,
        (KeyAlgorithm::P384, ECDSA_SHA384) => &signature::ECDSA_P384_SHA384_ASN1,
        (KeyAlgorithm::Ed25519, ED25519) => &signature::ED25519,
        (KeyAlgorithm::Rsa { .. }, RSA_SHA256) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (KeyAlgorithm::Rsa { .. }, RSA_SHA384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (KeyAlgorithm::Rsa { .. }, RSA_SHA512) => &signature::RSA_PKCS1_2048_8192_SHA512,
        _ => return None,
    })
}

/// Whether `signed` was signed by the private half of `key`.
pub(crate) fn is_by(signed: &Signed<'_>, key: &Spki) -> bool {
    verifier(key.algorithm(), signed.algorithm).is_some_and(|algorithm| {
        UnparsedPublicKey::new(algorithm, key.raw_key())
            .verify(signed.body, signed.signature)
            .is_ok()
    })
}
