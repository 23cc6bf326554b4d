//! Windows of keys and what the target wants of them: the payloads of KEYS and WANTED frames.

use offsite_model::Key;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::codec::{DecodeError, Reader, require};
use crate::limits::{RECORD_BYTES_MAX, WINDOW_KEYS_MAX};

/// Where a run of zeros is cut: at offsets that are multiples of this.
pub const ZERO_RUN_CUT_BYTES: u64 = 2 << 30;

const FLAG_ZEROS: u32 = 1;

/// One position of an image's list.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct ListEntry {
    offset: U64,
    length: U32,
    flags: U32,
    key: [u8; 32],
}

impl ListEntry {
    /// A record at an offset of the volume.
    #[must_use]
    pub const fn record(offset: u64, bytes: u32, key: Key) -> Self {
        Self {
            offset: U64::new(offset),
            length: U32::new(bytes),
            flags: U32::new(0),
            key: *key.as_bytes(),
        }
    }

    /// A run of zeros: nothing to send.
    #[must_use]
    pub const fn zeros(offset: u64, bytes: u32) -> Self {
        Self {
            offset: U64::new(offset),
            length: U32::new(bytes),
            flags: U32::new(FLAG_ZEROS),
            key: *Key::ZERO.as_bytes(),
        }
    }

    /// First byte in the volume.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset.get()
    }

    /// Length in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u32 {
        self.length.get()
    }

    /// Whether it is a run of zeros.
    #[must_use]
    pub const fn is_zeros(&self) -> bool {
        self.flags.get() == FLAG_ZEROS
    }

    /// The key; [`Key::ZERO`] for zeros.
    #[must_use]
    pub const fn key(&self) -> Key {
        Key::from_bytes(self.key)
    }

    fn check(&self, previous_end: u64) -> Result<u64, DecodeError> {
        let (bytes, flags) = (self.bytes(), self.flags.get());
        require(flags & !FLAG_ZEROS == 0, "flags of a key", flags, "bit 0")?;
        if self.is_zeros() {
            require(
                bytes > 0 && u64::from(bytes) <= ZERO_RUN_CUT_BYTES,
                "the length of a run of zeros",
                bytes,
                "1 byte to 2 GiB",
            )?;
            if self.key() != Key::ZERO {
                return Err(DecodeError::Disagree { left: "the flag of zeros", right: "the key" });
            }
        } else {
            require(
                (1..=RECORD_BYTES_MAX).contains(&bytes),
                "the length of a record",
                bytes,
                "1 byte to 1 MiB",
            )?;
        }
        require(
            self.offset() >= previous_end,
            "the offset of a key",
            self.offset(),
            "at or after the end of the one before",
        )?;
        self.offset().checked_add(bytes.into()).ok_or(DecodeError::OutOfBounds {
            field: "the offset of a key",
            value: self.offset(),
            rule: "so small that its end is a number",
        })
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WindowHeader {
    window: U32,
    count: U32,
    first_ordinal: U64,
}

impl WindowHeader {
    fn check(&self) -> Result<(), DecodeError> {
        let n_keys = self.count.get();
        require(
            (1..=WINDOW_KEYS_MAX).contains(&n_keys),
            "the number of keys of a window",
            n_keys,
            "1 to 8192",
        )?;
        require(
            self.first_ordinal.get().checked_add(n_keys.into()).is_some(),
            "the first ordinal of a window",
            self.first_ordinal.get(),
            "so small that its last is a number",
        )
    }
}

/// A KEYS frame: one window of an image's list, positions ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyWindow<'a> {
    /// Number of the window, from 0.
    pub window: u32,
    /// Ordinal of the first entry.
    pub first_ordinal: u64,
    /// The entries.
    pub entries: &'a [ListEntry],
}

impl<'a> KeyWindow<'a> {
    /// Reads the payload of a KEYS frame.
    ///
    /// # Errors
    /// Every rule of the layout that is broken.
    pub fn read(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("a window of keys", payload);
        let header: &WindowHeader = reader.part()?;
        header.check()?;
        let entries: &[ListEntry] = reader.parts(header.count.get())?;
        reader.finish()?;
        entries.iter().try_fold(0, |end, entry| entry.check(end))?;
        Ok(Self { window: header.window.get(), first_ordinal: header.first_ordinal.get(), entries })
    }

    /// Writes the payload of a KEYS frame.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let header = WindowHeader {
            window: U32::new(self.window),
            count: U32::new(u32::try_from(self.entries.len()).unwrap_or(u32::MAX)),
            first_ordinal: U64::new(self.first_ordinal),
        };
        [header.as_bytes(), self.entries.as_bytes()].concat()
    }
}

/// A WANTED frame: one bit per key of a window, 1 = send it. Bit `i` is bit `i % 8`, counted from
/// the least significant, of byte `i / 8`; unused bits of the last byte are 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Number of the window.
    pub window: u32,
    /// Ordinal of the first key.
    pub first_ordinal: u64,
    n_keys: u32,
    bits: Vec<u8>,
}

impl Wanted {
    /// The answer to a window, one truth per key in its order.
    #[must_use]
    pub fn new(window: u32, first_ordinal: u64, wanted: &[bool]) -> Self {
        let bits = wanted
            .chunks(8)
            .map(|chunk| chunk.iter().rev().fold(0_u8, |byte, bit| (byte << 1) | u8::from(*bit)))
            .collect();
        Self {
            window,
            first_ordinal,
            n_keys: u32::try_from(wanted.len()).unwrap_or(u32::MAX),
            bits,
        }
    }

    /// How many keys the window has.
    #[must_use]
    pub const fn n_keys(&self) -> u32 {
        self.n_keys
    }

    /// Whether each key is wanted, in the window's order.
    pub fn iter(&self) -> impl Iterator<Item = bool> + '_ {
        let bits = self.bits.iter().flat_map(|byte| (0..8).map(move |bit| (byte >> bit) & 1 == 1));
        bits.take(usize::try_from(self.n_keys).unwrap_or(usize::MAX))
    }

    /// Reads the payload of a WANTED frame.
    ///
    /// # Errors
    /// Every rule of the layout that is broken.
    pub fn read(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("an answer to a window", payload);
        let header: &WindowHeader = reader.part()?;
        header.check()?;
        let n_keys = header.count.get();
        let bits = reader.take(n_keys.div_ceil(8))?;
        reader.finish()?;
        let unused = match (n_keys % 8, bits.last()) {
            (n_used @ 1..=7, Some(last)) => last >> n_used,
            _ => 0,
        };
        require(unused == 0, "unused bits of an answer", unused, "0")?;
        Ok(Self {
            window: header.window.get(),
            first_ordinal: header.first_ordinal.get(),
            n_keys,
            bits: bits.to_vec(),
        })
    }

    /// Writes the payload of a WANTED frame.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let header = WindowHeader {
            window: U32::new(self.window),
            count: U32::new(self.n_keys),
            first_ordinal: U64::new(self.first_ordinal),
        };
        [header.as_bytes(), &self.bits].concat()
    }
}
