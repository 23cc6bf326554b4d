//! The text form of everything here: sections of base64 between `BEGIN` and `END` lines (RFC 7468).
//!
//! Reading is the library's (`rustls-pki-types`); writing is here because the library only reads,
//! and because a private key must go from its bytes into a text that is wiped.
//!
//! **Absent:** encrypted keys and section headers; both are refused by the reader.

use rustls_pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

/// A text that is not the sections that were expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// The text is longer than the bound in bytes.
    #[error("the text is longer than {bytes_max} bytes")]
    TooLong {
        /// The bound.
        bytes_max: usize,
    },
    /// A section does not end, or what is in it is no base64.
    #[error("a section is cut short or is no base64")]
    Damaged,
    /// There are more, fewer or other sections than expected.
    #[error("expected {expected}")]
    Sections {
        /// What was expected, in words.
        expected: &'static str,
    },
}

/// One section; its bytes are wiped, since they may be a private key.
pub(crate) type Section = (SectionKind, Zeroizing<Vec<u8>>);

/// Every known section of the text, in order; at most `sections_max` of them.
pub(crate) fn sections(
    text: &str,
    bytes_max: usize,
    sections_max: usize,
    expected: &'static str,
) -> Result<Vec<Section>, PemError> {
    if text.len() > bytes_max {
        return Err(PemError::TooLong { bytes_max });
    }
    let mut sections = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        let (kind, bytes) = section.map_err(|_| PemError::Damaged)?;
        if sections.len() >= sections_max {
            return Err(PemError::Sections { expected });
        }
        sections.push((kind, Zeroizing::new(bytes)));
    }
    Ok(sections)
}

/// The one section of the text, which must be of this kind.
pub(crate) fn only(
    text: &str,
    kind: SectionKind,
    bytes_max: usize,
    expected: &'static str,
) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let mut sections = sections(text, bytes_max, 1, expected)?;
    match sections.pop() {
        Some((found, bytes)) if found == kind => Ok(bytes),
        _ => Err(PemError::Sections { expected }),
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const LINE_BYTES: usize = 48;

fn digit(bits: u32) -> char {
    ALPHABET.get((bits & 0x3f) as usize).map_or('A', |&byte| char::from(byte))
}

/// Appends one section. The text is sized first, so that a secret is never left behind by growth.
pub(crate) fn append(text: &mut String, label: &str, bytes: &[u8]) {
    text.reserve(64 + 2 * label.len() + bytes.len().div_ceil(LINE_BYTES) * 65);
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for line in bytes.chunks(LINE_BYTES) {
        for three in line.chunks(3) {
            let mut bits = 0_u32;
            for place in 0..3 {
                bits = (bits << 8) | three.get(place).map_or(0, |&byte| u32::from(byte));
            }
            text.push(digit(bits >> 18));
            text.push(digit(bits >> 12));
            text.push(if three.len() > 1 { digit(bits >> 6) } else { '=' });
            text.push(if three.len() > 2 { digit(bits) } else { '=' });
        }
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for n_bytes in [1, 2, 3, 47, 48, 49, 95, 96, 97, 300] {
            let bytes: Vec<u8> = (0..n_bytes).map(|byte| (byte % 251) as u8).collect();
            let mut text = String::new();
            append(&mut text, "CERTIFICATE", &bytes);
            let read = only(&text, SectionKind::Certificate, 4_096, "one certificate").unwrap();
            assert_eq!(*read, bytes);
        }
    }

    #[test]
    fn the_published_vectors_are_met() {
        // RFC 4648, section 10.
        for (plain, coded) in
            [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            let mut text = String::new();
            append(&mut text, "X", plain.as_bytes());
            assert_eq!(text, format!("-----BEGIN X-----\n{coded}\n-----END X-----\n"));
        }
    }

    #[test]
    fn other_sections_too_many_and_cut_ones_are_refused() {
        let mut text = String::new();
        append(&mut text, "CERTIFICATE", &[1; 100]);
        let expected = "one request";
        let read = |text: &str| only(text, SectionKind::Csr, 1_000, expected);
        assert_eq!(read(&text), Err(PemError::Sections { expected }));
        assert_eq!(read(&text.repeat(2)), Err(PemError::Sections { expected }));
        assert_eq!(read(&text[..100]), Err(PemError::Damaged));
        assert_eq!(read(&"x".repeat(1_001)), Err(PemError::TooLong { bytes_max: 1_000 }));
    }
}
