//! The check code that two people compare: 80 bits bound to both public keys and the request.
//!
//! Eighty bits, because a shorter code could be matched off-line by someone in the middle who
//! chooses his own key and request id. The target draws the id after the request arrived, so only
//! one side of the equation can be ground.

use std::fmt;
use std::str::FromStr;

use offsite_model::RequestId;
use sha2::{Digest as _, Sha256};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const N_CHARACTERS: usize = 16;
const N_BITS_EACH: usize = 5;
const LABEL: &[u8] = b"pair1";

/// A check code: sixteen characters of Crockford's base 32, shown as four groups of four.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CheckCode([u8; N_CHARACTERS]);

/// A text that is no check code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckCodeError;

impl fmt::Display for CheckCodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a check code of the form XXXX-XXXX-XXXX-XXXX")
    }
}

impl std::error::Error for CheckCodeError {}

impl CheckCode {
    /// The code of a request between two keys, each given as DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn of(target_spki: &[u8], source_spki: &[u8], request: RequestId) -> Self {
        let mut hash = Sha256::new();
        for part in [LABEL, target_spki, source_spki, &request.to_bytes()] {
            // A key longer than the prefix can say is no key of ours; it is cut, so the codes
            // differ and people stop.
            let n_bytes = u16::try_from(part.len()).unwrap_or(u16::MAX);
            hash.update(n_bytes.to_be_bytes());
            hash.update(part.get(..usize::from(n_bytes)).unwrap_or(part));
        }
        let hash = hash.finalize();
        let mut bits = hash.iter().flat_map(|byte| (0..8).rev().map(move |bit| (byte >> bit) & 1));
        let characters = std::array::from_fn(|_| {
            let index = bits.by_ref().take(N_BITS_EACH).fold(0_u8, |index, bit| (index << 1) | bit);
            ALPHABET.get(usize::from(index)).copied().unwrap_or(b'?')
        });
        Self(characters)
    }
}

impl fmt::Display for CheckCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, group) in self.0.chunks(4).enumerate() {
            if index > 0 {
                f.write_str("-")?;
            }
            group.iter().try_for_each(|byte| write!(f, "{}", char::from(*byte)))?;
        }
        Ok(())
    }
}

impl fmt::Debug for CheckCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for CheckCode {
    type Err = CheckCodeError;

    /// Reads what a person typed: case, spaces and hyphens do not count, `I` and `L` are 1, `O` is
    /// 0.
    fn from_str(text: &str) -> Result<Self, CheckCodeError> {
        let mut characters = [0; N_CHARACTERS];
        let mut places = characters.iter_mut();
        for character in text.chars().filter(|character| !matches!(character, ' ' | '-')) {
            let character = match character.to_ascii_uppercase() {
                'I' | 'L' => b'1',
                'O' => b'0',
                other => u8::try_from(other).map_err(|_| CheckCodeError)?,
            };
            if !ALPHABET.contains(&character) {
                return Err(CheckCodeError);
            }
            *places.next().ok_or(CheckCodeError)? = character;
        }
        match places.next() {
            None => Ok(Self(characters)),
            Some(_) => Err(CheckCodeError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published test vector: the public keys of the private keys 1 and 2 on P-256.
    #[test]
    fn a_04_the_published_vector() {
        let bytes = |text: &str| -> Vec<u8> {
            (0..text.len() / 2)
                .map(|index| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap())
                .collect()
        };
        let vector = include_str!("../../fixtures/check_code.txt");
        let field = |name: &str| {
            vector.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
        };
        let code = CheckCode::of(
            &bytes(&field("target SPKI")),
            &bytes(&field("source SPKI")),
            field("request id").parse().unwrap(),
        );
        assert_eq!(code.to_string(), field("check code"));
        assert_eq!("xpac bkfv-rO2p 3494".parse(), Ok(code));
        let ones: CheckCode = "1110-0000-0000-0000".parse().unwrap();
        assert_eq!("iIlO-0000-0000-0000".parse(), Ok(ones));
        assert_eq!("xpac bkfv-r02p 34".parse::<CheckCode>(), Err(CheckCodeError));
        assert_eq!("XPAC-BKFV-R02P-34944".parse::<CheckCode>(), Err(CheckCodeError));
        assert_eq!("XPAC-BKFV-R02P-349U".parse::<CheckCode>(), Err(CheckCodeError));
    }
}
