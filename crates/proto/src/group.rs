//! A group on the wire: header, table and payload of consecutive records that travel as one.
//!
//! ```text
//! header, 16 bytes              table, 48 bytes per record        payload
//! ┌──────────────┬──────────┐   ┌──────────────┬──────────┐
//! │ recordCount  │ u32      │   │ ordinal      │ u64      │      storedLength bytes:
//! │ rawLength    │ u32      │   │ key          │ 32 bytes │      codec 0: the records, one after
//! │ storedLength │ u32      │   │ rawLength    │ u32      │               another in table order;
//! │ codec, flags │ u8, u8   │   │ zero         │ u32      │      codec 1: one zstd frame that
//! │ zero         │ u16      │   └──────────────┴──────────┘               decodes to the same.
//! └──────────────┴──────────┘
//! ```
//!
//! **Absent:** decompression and the check of keys. Whoever stores a group does both, once.

use offsite_model::Key;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::codec::{DecodeError, Reader, require};
use crate::limits::{GROUP_BYTES_MAX, GROUP_RECORDS_MAX, RECORD_BYTES_MAX};

/// How a group's payload is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    None,
    /// One zstd frame (RFC 8878), window log at most 20, nothing after it.
    Zstd,
}

impl Codec {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Zstd => 1,
        }
    }

    /// The codec with this number.
    ///
    /// # Errors
    /// [`DecodeError::Unknown`].
    pub fn from_number(number: u8) -> Result<Self, DecodeError> {
        match number {
            0 => Ok(Self::None),
            1 => Ok(Self::Zstd),
            other => Err(DecodeError::Unknown { what: "codec", value: other.into() }),
        }
    }
}

const FLAG_ENCRYPTED: u8 = 1;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    record_count: U32,
    raw_length: U32,
    stored_length: U32,
    codec: u8,
    flags: u8,
    zero: U16,
}

/// One record of a group's table.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct GroupEntry {
    ordinal: U64,
    key: [u8; 32],
    raw_length: U32,
    zero: U32,
}

impl GroupEntry {
    /// An entry for the record with this ordinal, key and length.
    #[must_use]
    pub const fn new(ordinal: u64, key: Key, raw_bytes: u32) -> Self {
        Self {
            ordinal: U64::new(ordinal),
            key: *key.as_bytes(),
            raw_length: U32::new(raw_bytes),
            zero: U32::new(0),
        }
    }

    /// Index in the image's list.
    #[must_use]
    pub const fn ordinal(&self) -> u64 {
        self.ordinal.get()
    }

    /// Key of the record.
    #[must_use]
    pub const fn key(&self) -> Key {
        Key::from_bytes(self.key)
    }

    /// Bytes of the record, or of its ciphertext.
    #[must_use]
    pub const fn raw_bytes(&self) -> u32 {
        self.raw_length.get()
    }
}

/// A group whose lengths agree with each other and with the limits. Its payload is not yet decoded,
/// so nothing in it is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// How the payload is coded.
    pub codec: Codec,
    /// Whether the records are ciphertext of the source.
    pub is_encrypted: bool,
    /// Bytes that the payload decodes to.
    pub raw_bytes: u32,
    /// The table, ordinals ascending.
    pub table: &'a [GroupEntry],
    /// The payload as it came.
    pub payload: &'a [u8],
}

impl<'a> Group<'a> {
    /// Takes one group off a reader.
    ///
    /// # Errors
    /// Every rule of the layout that is broken, before anything is allocated.
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let header: &Header = reader.part()?;
        let n_records = header.record_count.get();
        let (raw_bytes, stored_bytes) = (header.raw_length.get(), header.stored_length.get());
        require(
            (1..=GROUP_RECORDS_MAX).contains(&n_records),
            "the number of records of a group",
            n_records,
            "1 to 256",
        )?;
        require(
            (1..=GROUP_BYTES_MAX).contains(&raw_bytes),
            "the raw length of a group",
            raw_bytes,
            "1 byte to 1 MiB",
        )?;
        require(
            (1..=raw_bytes).contains(&stored_bytes),
            "the stored length of a group",
            stored_bytes,
            "1 byte to the raw length",
        )?;
        require(header.flags & !FLAG_ENCRYPTED == 0, "flags of a group", header.flags, "bit 0")?;
        require(header.zero.get() == 0, "a reserved field of a group", header.zero.get(), "0")?;
        let codec = Codec::from_number(header.codec)?;
        let is_encrypted = header.flags & FLAG_ENCRYPTED != 0;
        if codec == Codec::None && stored_bytes != raw_bytes {
            return Err(DecodeError::Disagree { left: "the stored length", right: "codec 0" });
        }
        if is_encrypted && codec != Codec::None {
            return Err(DecodeError::Disagree { left: "the encrypted flag", right: "the codec" });
        }
        let table: &[GroupEntry] = reader.parts(n_records)?;
        check_table(table, raw_bytes)?;
        let payload = reader.take(stored_bytes)?;
        Ok(Self { codec, is_encrypted, raw_bytes, table, payload })
    }

    /// Appends the group to a frame's payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        debug_assert!(self.table.len() <= GROUP_RECORDS_MAX as usize);
        debug_assert!(self.payload.len() <= self.raw_bytes as usize);
        let header = Header {
            record_count: U32::new(u32::try_from(self.table.len()).unwrap_or(u32::MAX)),
            raw_length: U32::new(self.raw_bytes),
            stored_length: U32::new(u32::try_from(self.payload.len()).unwrap_or(u32::MAX)),
            codec: self.codec.number(),
            flags: if self.is_encrypted { FLAG_ENCRYPTED } else { 0 },
            zero: U16::new(0),
        };
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(self.table.as_bytes());
        out.extend_from_slice(self.payload);
    }
}

fn check_table(table: &[GroupEntry], raw_bytes: u32) -> Result<(), DecodeError> {
    let mut previous = None;
    let mut sum = 0_u32;
    for entry in table {
        let bytes = entry.raw_bytes();
        require(
            (1..=RECORD_BYTES_MAX).contains(&bytes),
            "the raw length of a record",
            bytes,
            "1 byte to 1 MiB",
        )?;
        require(entry.zero.get() == 0, "a reserved field of a record", entry.zero.get(), "0")?;
        require(
            previous.is_none_or(|previous| previous < entry.ordinal()),
            "the ordinal of a record",
            entry.ordinal(),
            "more than the one before",
        )?;
        previous = Some(entry.ordinal());
        sum = sum.saturating_add(bytes);
    }
    if sum == raw_bytes {
        Ok(())
    } else {
        Err(DecodeError::Disagree { left: "the raw length of a group", right: "its table" })
    }
}
