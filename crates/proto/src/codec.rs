//! Reading fixed little-endian layouts from a peer's bytes.
//!
//! The only place where numbers of a peer are computed with. Every reader takes what it needs or
//! fails, never panics, and [`Reader::finish`] refuses what is left over, so that each layout has
//! exactly one length.

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Why bytes are not what they claim to be. It is always the peer's fault or the line's, never
/// ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the layout does.
    #[error("{what} is cut short")]
    Truncated {
        /// The layout.
        what: &'static str,
    },
    /// Bytes follow the layout.
    #[error("{what} has {n_bytes} bytes too many")]
    Trailing {
        /// The layout.
        what: &'static str,
        /// How many.
        n_bytes: usize,
    },
    /// A number is outside its bounds.
    #[error("{field} is {value}, allowed is {rule}")]
    OutOfBounds {
        /// The field.
        field: &'static str,
        /// What stood there.
        value: u64,
        /// What may stand there.
        rule: &'static str,
    },
    /// A part is announced that is above its limit.
    #[error("the length of {what} is {n_bytes}, allowed is {rule}")]
    TooLarge {
        /// The part.
        what: &'static str,
        /// What was announced.
        n_bytes: u64,
        /// The limit.
        rule: &'static str,
    },
    /// Two parts that must agree do not.
    #[error("{left} and {right} disagree")]
    Disagree {
        /// The one.
        left: &'static str,
        /// The other.
        right: &'static str,
    },
    /// A checksum does not match its bytes.
    #[error("the checksum of {what} does not match")]
    Checksum {
        /// The layout.
        what: &'static str,
    },
    /// Another version of the protocol wrote it.
    #[error("{what} has version {found}, this program knows {known}")]
    Version {
        /// The kind of thing.
        what: &'static str,
        /// The version found.
        found: u8,
        /// The version known here.
        known: u8,
    },
    /// A part that must be understood is not.
    #[error("{what} {value} is unknown")]
    Unknown {
        /// The kind of part.
        what: &'static str,
        /// What stood there.
        value: u64,
    },
}

/// Takes fixed parts off the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// A reader of these bytes; `what` names the layout in errors.
    #[must_use]
    pub const fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, what }
    }

    /// The next fixed part, in place.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn part<T: FromBytes + Immutable + KnownLayout + Unaligned>(
        &mut self,
    ) -> Result<&'a T, DecodeError> {
        let (part, rest) = T::ref_from_prefix(self.rest).map_err(|_| self.truncated())?;
        self.rest = rest;
        Ok(part)
    }

    /// The next `n_parts` fixed parts, in place.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn parts<T: FromBytes + Immutable + Unaligned>(
        &mut self,
        n_parts: u32,
    ) -> Result<&'a [T], DecodeError> {
        let n_parts = usize::try_from(n_parts).map_err(|_| self.truncated())?;
        let (parts, rest) =
            <[T]>::ref_from_prefix_with_elems(self.rest, n_parts).map_err(|_| self.truncated())?;
        self.rest = rest;
        Ok(parts)
    }

    /// The next `n_bytes` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn take(&mut self, n_bytes: u32) -> Result<&'a [u8], DecodeError> {
        let n_bytes = usize::try_from(n_bytes).map_err(|_| self.truncated())?;
        let (taken, rest) = self.rest.split_at_checked(n_bytes).ok_or(self.truncated())?;
        self.rest = rest;
        Ok(taken)
    }

    /// Whether everything has been taken.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn n_left(&self) -> usize {
        self.rest.len()
    }

    /// Ends the layout.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] where bytes are left.
    pub const fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            n_bytes => Err(DecodeError::Trailing { what: self.what, n_bytes }),
        }
    }

    const fn truncated(&self) -> DecodeError {
        DecodeError::Truncated { what: self.what }
    }
}

/// Refuses a value outside its bounds.
pub(crate) fn require(
    holds: bool,
    field: &'static str,
    value: impl Into<u64>,
    rule: &'static str,
) -> Result<(), DecodeError> {
    if holds { Ok(()) } else { Err(DecodeError::OutOfBounds { field, value: value.into(), rule }) }
}

/// CRC-32C (Castagnoli, as in RFC 3720) over several slices.
#[must_use]
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    parts.iter().for_each(|part| digest.update(part));
    // The algorithm is of 32 bits; the library widens its result.
    u32::try_from(digest.finalize()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        // Check value of CRC-32C for "123456789", from the catalogue of parametrised CRC
        // algorithms.
        assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283);
    }

    #[test]
    fn a_reader_takes_no_more_than_there_is() {
        let mut reader = Reader::new("sample", &[1, 2, 3]);
        assert_eq!(reader.take(4), Err(DecodeError::Truncated { what: "sample" }));
        assert_eq!(reader.take(u32::MAX), Err(DecodeError::Truncated { what: "sample" }));
        assert_eq!(reader.take(2).unwrap(), [1, 2]);
        assert_eq!(
            reader.clone().finish(),
            Err(DecodeError::Trailing { what: "sample", n_bytes: 1 })
        );
        assert_eq!(reader.part::<[u8; 2]>(), Err(DecodeError::Truncated { what: "sample" }));
        assert_eq!(reader.part::<[u8; 1]>().unwrap(), &[3]);
        reader.finish().unwrap();
    }
}
