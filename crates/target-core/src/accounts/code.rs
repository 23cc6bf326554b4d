//! Secrets as people copy them: letters that no font confuses, with a checksum against typing
//! errors.
//!
//! Thirty-two letters, five bits each, lower case; `i`, `l`, `o` and `u` do not occur.

use aws_lc_rs::digest;

const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// SHA-256 of these bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// The bytes as letters, most significant bit first; the last letter is filled up with zero bits.
pub(crate) fn letters(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(8).div_ceil(5));
    let (mut bits, mut n_bits) = (0_u32, 0_u32);
    let mut push = |bits: u32| {
        if let Some(letter) = LETTERS.get((bits & 31) as usize) {
            text.push(char::from(*letter));
        }
    };
    for byte in bytes {
        bits = (bits << 8 | u32::from(*byte)) & 0xfff;
        n_bits += 8;
        while n_bits >= 5 {
            n_bits -= 5;
            push(bits >> n_bits);
        }
    }
    if n_bits > 0 {
        push(bits << (5 - n_bits));
    }
    text
}

/// The bytes of a text of letters, `N` of them; none where it is not exactly what [`letters`]
/// writes.
pub(crate) fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N.checked_mul(8)?.div_ceil(5) {
        return None;
    }
    let mut bytes = [0; N];
    let mut place = bytes.iter_mut();
    let (mut bits, mut n_bits) = (0_u32, 0_u32);
    for letter in text.bytes() {
        let value = LETTERS.iter().position(|candidate| *candidate == letter)?;
        bits = (bits << 5 | u32::try_from(value).ok()?) & 0xfff;
        n_bits += 5;
        if n_bits >= 8 {
            n_bits -= 8;
            *place.next()? = u8::try_from(bits >> n_bits & 0xff).ok()?;
        }
    }
    // Two texts for one secret would let a checker and a list disagree.
    (bits & ((1 << n_bits) - 1) == 0).then_some(bytes)
}

/// Six letters that depend on everything before them.
pub(crate) fn checksum(text: &str) -> String {
    let mut check = letters(&sha256(text.as_bytes())[..4]);
    check.truncate(6);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_read_back_and_only_one_form_is() {
        let secret: [u8; 32] = std::array::from_fn(|index| (index * 37) as u8);
        let text = letters(&secret);
        assert_eq!(text.len(), 52);
        assert_eq!(bytes::<32>(&text), Some(secret));
        assert_eq!(bytes::<32>(&text.to_uppercase()), None);
        assert_eq!(bytes::<32>(&text[1..]), None);
        // The last letter carries one bit of the secret and four of filling.
        let other = format!("{}{}", &text[..51], if text.ends_with('0') { '1' } else { '9' });
        assert_eq!(bytes::<32>(&other), None);
        assert_eq!(letters(&[0xff; 5]), "zzzzzzzz");
        assert_eq!(bytes::<16>(&letters(&[7; 16])), Some([7; 16]));
    }
}
