//! Keys of records and digests of lists: BLAKE3-256, all 32 bytes, never shortened.
//!
//! A [`Key`] names the bytes of one record, a [`Digest`] any other value that must be recognised
//! again. Both are public facts, not secrets, so they are compared in ordinary time.

use std::fmt;
use std::str::FromStr;

/// A text that is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestError;

impl fmt::Display for DigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a digest of 64 hexadecimal digits")
    }
}

impl std::error::Error for DigestError {}

macro_rules! hashes {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// All zero: stands for a run of zeros in lists, and for "no predecessor" in chains.
            pub const ZERO: Self = Self([0; 32]);

            /// BLAKE3-256 of these bytes.
            #[must_use]
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }

            /// The hash with these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The bytes of the hash.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first eight hexadecimal digits, for people and logs; never an identity.
            #[must_use]
            pub fn short(&self) -> String {
                self.0[..4].iter().map(|byte| format!("{byte:02x}")).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                let text = text.as_bytes();
                if text.len() != 64 {
                    return Err(DigestError);
                }
                let mut bytes = [0; 32];
                for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
                    for &digit in pair {
                        let value = char::from(digit).to_digit(16).ok_or(DigestError)?;
                        *byte = (*byte << 4) | u8::try_from(value).map_err(|_| DigestError)?;
                    }
                }
                Ok(Self(bytes))
            }
        }
    )*};
}

hashes! {
    /// The key of a record: BLAKE3-256 of its bytes, or of its ciphertext where the source
    /// encrypted it.
    Key
    /// A BLAKE3-256 digest of anything else: a list, a page, a root, a commit.
    Digest
}

/// Bytes of a list that are hashed together: one by one, entries would be hashed without the
/// processor's wide registers.
const LIST_BYTES: usize = 16 << 10;

/// Builds the digest of an image's list: per entry `offset u64, length u32, key`, little-endian.
#[derive(Clone, Default)]
pub struct ListDigest {
    hasher: blake3::Hasher,
    /// What was added and is not hashed yet.
    waiting: Vec<u8>,
}

impl ListDigest {
    /// The digest of the empty list, to be extended.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next entry; a run of zeros has [`Key::ZERO`].
    pub fn entry(&mut self, offset: u64, length: u32, key: &Key) {
        self.waiting.extend_from_slice(&offset.to_le_bytes());
        self.waiting.extend_from_slice(&length.to_le_bytes());
        self.waiting.extend_from_slice(key.as_bytes());
        if self.waiting.len() >= LIST_BYTES {
            self.hasher.update(&self.waiting);
            self.waiting.clear();
        }
    }

    /// The digest of the entries added so far.
    #[must_use]
    pub fn finish(&self) -> Digest {
        Digest(*self.hasher.clone().update(&self.waiting).finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_and_read_again() {
        let digest = Digest::of(b"record");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(digest.short(), digest.to_string()[..8]);
        assert_eq!("00".parse::<Digest>(), Err(DigestError));
        assert_eq!("zz".repeat(32).parse::<Digest>(), Err(DigestError));
    }

    #[test]
    fn the_empty_input_has_the_published_hash() {
        // The test vector of the BLAKE3 paper for the empty input.
        assert!(Key::of(b"").to_string().starts_with("af1349b9f5f9a1a6a0404dea36dcc949"));
    }

    #[test]
    fn a_list_is_told_from_its_reordering() {
        let (a, b) = (Key::of(b"a"), Key::of(b"b"));
        let digest = |entries: &[(u64, Key)]| {
            let mut list = ListDigest::new();
            entries.iter().for_each(|(offset, key)| list.entry(*offset, 1, key));
            list.finish()
        };
        assert_ne!(digest(&[(0, a), (1, b)]), digest(&[(0, b), (1, a)]));
    }

    #[test]
    fn a_long_list_has_the_hash_of_its_bytes() {
        let (mut list, mut bytes) = (ListDigest::new(), Vec::new());
        for n in 0..2_000_u64 {
            let key = Key::of(&n.to_le_bytes());
            list.entry(n, n as u32, &key);
            bytes.extend_from_slice(&n.to_le_bytes());
            bytes.extend_from_slice(&(n as u32).to_le_bytes());
            bytes.extend_from_slice(key.as_bytes());
            if n % 97 == 0 {
                assert_eq!(list.finish(), Digest::of(&bytes), "{n} entries");
            }
        }
    }
}
