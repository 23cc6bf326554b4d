//! A strict reader for the few DER shapes that must not be read leniently: the envelope around
//! every signature, and public keys.
//!
//! A lenient reader accepts two encodings of one thing, and what one parser skips another may
//! believe. Here a length has exactly one form, nothing may follow, and the envelope is compared
//! with its only possible encoding.
//!
//! **Absent:** names, times, extensions (a full parser reads those), indefinite lengths, high tags.

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;

/// These bytes are not the one encoding that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotDer;

/// One element: its tag, what is in it, and all of its bytes.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) raw: &'a [u8],
}

/// Reads elements one after the other.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next element, whatever it is.
    pub(crate) fn element(&mut self) -> Result<Element<'a>, NotDer> {
        let bytes = self.0;
        let (&tag, rest) = bytes.split_first().ok_or(NotDer)?;
        if tag & 0x1f == 0x1f {
            return Err(NotDer);
        }
        let (&first, rest) = rest.split_first().ok_or(NotDer)?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Three bytes of length are 16 MiB, far beyond any bound a caller set before.
            0x81..=0x83 => {
                let n_bytes = usize::from(first & 0x7f);
                let (length, rest) = rest.split_at_checked(n_bytes).ok_or(NotDer)?;
                let value =
                    length.iter().fold(0_usize, |value, &byte| (value << 8) | usize::from(byte));
                let is_shortest = match n_bytes {
                    1 => value >= 0x80,
                    _ => length.first().is_some_and(|&byte| byte != 0),
                };
                if !is_shortest {
                    return Err(NotDer);
                }
                (value, rest)
            }
            _ => return Err(NotDer),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(NotDer)?;
        let raw_bytes = bytes.len().checked_sub(rest.len()).ok_or(NotDer)?;
        let raw = bytes.get(..raw_bytes).ok_or(NotDer)?;
        self.0 = rest;
        Ok(Element { tag, content, raw })
    }

    /// The next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<Element<'a>, NotDer> {
        let element = self.element()?;
        if element.tag == tag { Ok(element) } else { Err(NotDer) }
    }

    /// Nothing may follow.
    pub(crate) const fn end(self) -> Result<(), NotDer> {
        if self.0.is_empty() { Ok(()) } else { Err(NotDer) }
    }
}

/// The only element in `bytes`, which must have this tag; what is in it.
pub(crate) fn only(bytes: &[u8], tag: u8) -> Result<&[u8], NotDer> {
    let mut reader = Reader::new(bytes);
    let element = reader.expect(tag)?;
    reader.end()?;
    Ok(element.content)
}

/// The bytes of a bit string that has no unused bits.
pub(crate) fn whole_bytes(bit_string: Element<'_>) -> Result<&[u8], NotDer> {
    match bit_string.content.split_first() {
        Some((0, bytes)) => Ok(bytes),
        _ => Err(NotDer),
    }
}

/// The magnitude of a positive integer, whose content must be in its shortest form.
pub(crate) fn positive(content: &[u8]) -> Result<&[u8], NotDer> {
    let (&first, rest) = content.split_first().ok_or(NotDer)?;
    match (first, rest.first()) {
        (0, Some(0x80..)) => Ok(rest),
        (1..=0x7f, _) => Ok(content),
        _ => Err(NotDer),
    }
}

/// What a signature stands under: the shape that requests and certificates share.
pub(crate) struct Signed<'a> {
    /// The signed bytes, tag and length included.
    pub(crate) body: &'a [u8],
    /// The algorithm identifier, tag and length included.
    pub(crate) algorithm: &'a [u8],
    /// The signature.
    pub(crate) signature: &'a [u8],
}

impl<'a> Signed<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, NotDer> {
        let mut parts = Reader::new(only(bytes, SEQUENCE)?);
        let body = parts.expect(SEQUENCE)?.raw;
        let algorithm = parts.expect(SEQUENCE)?.raw;
        let signature = whole_bytes(parts.expect(BIT_STRING)?)?;
        parts.end()?;
        Ok(Self { body, algorithm, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_one_form() {
        assert_eq!(only(&[0x30, 0x01, 0xaa], SEQUENCE), Ok(&[0xaa][..]));
        for bytes in [
            &[0x30, 0x81, 0x01, 0xaa][..],
            &[0x30, 0x82, 0x00, 0x01, 0xaa],
            &[0x30, 0x80, 0xaa, 0x00, 0x00],
            &[0x30, 0x02, 0xaa],
            &[0x30, 0x01, 0xaa, 0xbb],
            &[0x3f, 0x01, 0xaa],
            &[0x30, 0x84, 0x00, 0x00, 0x00, 0x01, 0xaa],
            &[0x30, 0xff],
            &[0x30],
            &[],
        ] {
            assert_eq!(only(bytes, SEQUENCE), Err(NotDer), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_bit_string_has_no_unused_bits() {
        assert!(whole_bytes(Reader::new(&[3, 2, 0, 7]).element().unwrap()).is_ok());
        assert!(whole_bytes(Reader::new(&[3, 2, 1, 6]).element().unwrap()).is_err());
        assert!(whole_bytes(Reader::new(&[3, 0]).element().unwrap()).is_err());
    }
}
