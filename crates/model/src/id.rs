//! Identifiers: 128 bits, one text form and one byte form each.
//!
//! Two ids of different meaning are two types, so that a session can never be looked up under a
//! request's id. The text form is the 8-4-4-4-12 form of RFC 9562, read in any case and written in
//! lower case; the byte form is the order in which it is written, first byte first.

use std::fmt;
use std::str::FromStr;

use crate::Luck;

/// A text that is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdError;

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id of the form 00112233-4455-6677-8899-aabbccddeeff")
    }
}

impl std::error::Error for IdError {}

const TEXT_BYTES: usize = 36;

fn is_hyphen_place(index: usize) -> bool {
    matches!(index, 8 | 13 | 18 | 23)
}

fn nibble(byte: u8) -> Result<u8, IdError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(IdError),
    }
}

fn parse(text: &str) -> Result<[u8; 16], IdError> {
    let text = text.as_bytes();
    if text.len() != TEXT_BYTES {
        return Err(IdError);
    }
    let mut bytes = [0_u8; 16];
    let mut n_nibbles = 0;
    for (index, &byte) in text.iter().enumerate() {
        if is_hyphen_place(index) {
            if byte != b'-' {
                return Err(IdError);
            }
            continue;
        }
        let half = nibble(byte)?;
        let place = &mut bytes[n_nibbles / 2];
        *place = (*place << 4) | half;
        n_nibbles += 1;
    }
    Ok(bytes)
}

fn write(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id with these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The bytes, in the order in which the text form is written.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0
            }

            /// A new id: 128 random bits, without version bits.
            #[must_use]
            pub fn random(luck: &dyn Luck) -> Self {
                let mut bytes = [0; 16];
                luck.fill(&mut bytes);
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(text).map(Self)
            }
        }
    )*};
}

ids! {
    /// A source core or a target core.
    CoreId
    /// A protected machine, as known to both cores.
    AgentId
    /// A volume of an agent, the same through all its recovery points.
    VolumeId
    /// A recovery point: the state of an agent at a moment, one image per volume.
    PointId
    /// One volume in one recovery point.
    ImageId
    /// The transfer of one volume image.
    SessionId
    /// One run of work on an agent, such as a replication.
    JobId
    /// A request to pair or to add agents, drawn by the target after the request arrived.
    RequestId
    /// A place where a target keeps records.
    RepositoryId
    /// A customer of the target: the bound of deduplication, quota and sight.
    TenantId
    /// An operator's account at a target.
    UserId
    /// An operator's access token, the part that is no secret.
    TokenId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_in_any_case_and_written_in_lower_case() {
        let id: RequestId = "00112233-4455-6677-8899-AABBCCDDEEFF".parse().unwrap();
        assert_eq!(id.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(id.to_bytes()[..3], [0x00, 0x11, 0x22]);
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "",
            "{00112233-4455-6677-8899-aabbccddeeff}",
            "00112233445566778899aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddeef",
            "00112233-4455-6677-8899-aabbccddeeff0",
            "00112233-4455-6677-8899-aabbccddeefg",
            "0011223-34455-6677-8899-aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddee\u{e9}",
        ] {
            assert_eq!(text.parse::<AgentId>(), Err(IdError), "{text:?}");
        }
    }
}
