//! Private keys, public keys and the thumbprint by which a peer is known.
//!
//! A peer *is* its public key: the thumbprint is SHA-256 over the key as it stands in certificates,
//! so a key must have one encoding only. Anything else, and every algorithm outside the list of
//! [`KeyAlgorithm`], is refused at the edge.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm};
use rustls_pki_types::pem::SectionKind;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::{Zeroize, Zeroizing};

use crate::der::{self, BIT_STRING, INTEGER, NotDer, Reader, SEQUENCE};
use crate::pem::{self, PemError};

/// The longest text of a private key that is read: an RSA key of 4096 bits is below 4 KiB.
const KEY_TEXT_BYTES_MAX: usize = 8 * 1024;
/// The longest public key that is read: an RSA key of 4096 bits is below 600 bytes.
const SPKI_BYTES_MAX: usize = 1_024;
const RSA_BITS_MIN: usize = 3_072;
const RSA_BITS_MAX: usize = 4_096;

/// The algorithms a key may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// ECDSA on NIST P-256: what we make ourselves.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// Ed25519.
    Ed25519,
    /// RSA with a modulus of 3072 to 4096 bits.
    Rsa {
        /// The length of the modulus in bits.
        bits: usize,
    },
}

/// A key that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The bytes are no public key in its one encoding.
    #[error("not a public key in DER form")]
    Malformed,
    /// The algorithm, the curve or the length is not on the list.
    #[error("the key is none of P-256, P-384, Ed25519 and RSA with 3072 to 4096 bits")]
    Algorithm,
    /// The text around a private key cannot be read.
    #[error("cannot read the private key: {0}")]
    Text(#[from] PemError),
    /// The private key cannot be read, or is of an algorithm we do not use.
    #[error("not a private key in PKCS#8 form")]
    Private,
    /// The cryptographic library could not make a key.
    #[error("the cryptographic library could not make a key")]
    Generate,
}

impl From<NotDer> for KeyError {
    fn from(_: NotDer) -> Self {
        Self::Malformed
    }
}

/// A public key as it stands in certificates: DER SubjectPublicKeyInfo, of a listed algorithm.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Spki {
    /// The whole encoding. Invariant: the only DER form of this key, as `from_der` checked.
    der: Box<[u8]>,
    /// Where the key itself begins within `der`; it runs to the end.
    key_start: usize,
    algorithm: KeyAlgorithm,
}

/// The algorithm identifiers of public keys, each with its parameters.
const ID_P256: &[u8] =
    &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const ID_P384: &[u8] = &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x22];
const ID_ED25519: &[u8] = &[6, 3, 0x2b, 0x65, 0x70];
const ID_RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];

impl Spki {
    /// Reads a public key.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] when the bytes are not the one DER form of a key,
    /// [`KeyError::Algorithm`] when the key is not of a listed algorithm and length.
    pub fn from_der(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() > SPKI_BYTES_MAX {
            return Err(KeyError::Algorithm);
        }
        let mut parts = Reader::new(der::only(bytes, SEQUENCE)?);
        let id = parts.expect(SEQUENCE)?.content;
        let key = der::whole_bytes(parts.expect(BIT_STRING)?)?;
        parts.end()?;
        let algorithm = match (id, key) {
            // Uncompressed points only: the compressed form would be a second encoding of one key.
            (ID_P256, [4, point @ ..]) if point.len() == 64 => KeyAlgorithm::P256,
            (ID_P384, [4, point @ ..]) if point.len() == 96 => KeyAlgorithm::P384,
            (ID_ED25519, key) if key.len() == 32 => KeyAlgorithm::Ed25519,
            (ID_RSA, key) => KeyAlgorithm::Rsa { bits: rsa_bits(key)? },
            _ => return Err(KeyError::Algorithm),
        };
        let key_start = bytes.len().saturating_sub(key.len());
        Ok(Self { der: bytes.into(), key_start, algorithm })
    }

    /// The DER bytes, as they stand in certificates.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// What the key is.
    #[must_use]
    pub const fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// SHA-256 of the DER bytes: the name by which the key is pinned.
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        Thumbprint(sha256(&self.der))
    }

    /// The key without the frame around it, as the library wants it for checking signatures.
    pub(crate) fn raw_key(&self) -> &[u8] {
        self.der.get(self.key_start..).unwrap_or_default()
    }
}

impl fmt::Debug for Spki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spki({})", self.thumbprint())
    }
}

impl PublicKeyData for Spki {
    fn subject_public_key_info(&self) -> Vec<u8> {
        self.der.to_vec()
    }

    fn der_bytes(&self) -> &[u8] {
        self.raw_key()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.algorithm {
            KeyAlgorithm::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyAlgorithm::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyAlgorithm::Ed25519 => &rcgen::PKCS_ED25519,
            KeyAlgorithm::Rsa { .. } => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

/// The length of an RSA modulus; refuses even or small exponents and anything oddly encoded.
fn rsa_bits(key: &[u8]) -> Result<usize, KeyError> {
    let mut parts = Reader::new(der::only(key, SEQUENCE)?);
    let modulus = der::positive(parts.expect(INTEGER)?.content)?;
    let exponent = der::positive(parts.expect(INTEGER)?.content)?;
    parts.end()?;
    let bits = match modulus.split_first() {
        Some((&first, rest)) => rest.len() * 8 + (8 - first.leading_zeros() as usize),
        None => 0,
    };
    let is_length = (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits);
    // A long exponent makes every check expensive; 65537 is what everybody uses.
    if is_length && exponent == [1, 0, 1] { Ok(bits) } else { Err(KeyError::Algorithm) }
}

/// SHA-256 of a public key: the identity of a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thumbprint([u8; 32]);

/// A text that is no thumbprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a thumbprint of 64 hexadecimal digits")]
pub struct ThumbprintError;

impl Thumbprint {
    /// The thumbprint with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Thumbprint {
    type Err = ThumbprintError;

    fn from_str(text: &str) -> Result<Self, ThumbprintError> {
        if text.len() != 64 {
            return Err(ThumbprintError);
        }
        let mut bytes = [0_u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            for &digit in pair {
                let value = char::from(digit).to_digit(16).ok_or(ThumbprintError)?;
                *byte = (*byte << 4) | u8::try_from(value).map_err(|_| ThumbprintError)?;
            }
        }
        Ok(Self(bytes))
    }
}

/// SHA-256 of these bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut result = [0; 32];
    // The library's SHA-256 has 32 bytes, always; zip leaves no place for a panic.
    let digest = digest::digest(&digest::SHA256, bytes);
    result.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    result
}

/// A private key. It cannot be printed or serialised, and its bytes are wiped when it is dropped.
pub struct PrivateKey {
    pair: KeyPair,
    spki: Spki,
}

impl PrivateKey {
    /// Makes a new P-256 key from the system's randomness.
    ///
    /// # Errors
    /// [`KeyError::Generate`] when the library has no randomness to give.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate().map_err(|_| KeyError::Generate)?;
        Self::from_pair(pair)
    }

    /// Reads a key from its text: exactly one `PRIVATE KEY` section (PKCS#8).
    ///
    /// # Errors
    /// What is wrong with the text or the key; never the text itself.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let expected = "one PRIVATE KEY section";
        let der = pem::only(text, SectionKind::PrivateKey, KEY_TEXT_BYTES_MAX, expected)?;
        Self::from_pkcs8(&der)
    }

    /// The text of the key, to be kept in a file of mode 0600 and nowhere else.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        self.append_pem(&mut text);
        text
    }

    /// The public half.
    #[must_use]
    pub const fn spki(&self) -> &Spki {
        &self.spki
    }

    pub(crate) fn append_pem(&self, text: &mut String) {
        pem::append(text, "PRIVATE KEY", self.pair.serialized_der());
    }

    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der));
        let pair = KeyPair::try_from(&der).map_err(|_| KeyError::Private)?;
        Self::from_pair(pair)
    }

    /// Another copy of the key, to be kept beside its certificate.
    pub(crate) fn duplicate(&self) -> Result<Self, KeyError> {
        Self::from_pkcs8(self.pair.serialized_der())
    }

    /// The key as rustls wants it.
    pub(crate) fn to_rustls(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pair.serialize_der()))
    }

    pub(crate) const fn pair(&self) -> &KeyPair {
        &self.pair
    }

    fn from_pair(pair: KeyPair) -> Result<Self, KeyError> {
        let spki = Spki::from_der(&pair.subject_public_key_info())?;
        Ok(Self { pair, spki })
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.pair.zeroize();
    }
}
