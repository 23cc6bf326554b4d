//! Groups: several records compressed together, decoded once and checked before they are stored.
//!
//! [`CheckedGroup::check`] is the only way to make something that a segment accepts: it decodes the
//! exact bytes that will be stored, with the announced length as the limit, and compares the hash
//! of every record with its key (I3). There is no path around it and no codec that "cannot be
//! checked". [`CheckedGroup::encode`] makes a group from records and then checks its own output,
//! since a compressor's output that nobody decoded is a hope, not a backup.

use std::cell::RefCell;

use offsite_model::Key;

use crate::format::{PLACE_BYTES, crc};
use crate::hash;

/// Most records of a group.
pub const GROUP_RECORDS_MAX: usize = 256;
/// Most bytes of a group before compression.
pub const GROUP_BYTES_MAX: usize = 1 << 20;
/// Most bytes of a record.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// Largest window a frame may ask for, as a power of two.
const WINDOW_LOG_MAX: u8 = 20;

/// Zeros that a payload may need behind it, so that the next group begins at a place.
const SLACK_BYTES: usize = PLACE_BYTES as usize - 1;

/// What a record's key is the hash of. Records of different forms never stand for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// The plain bytes.
    Plain,
    /// Bytes that the source encrypted.
    Encrypted,
}

/// How a group's payload was made from its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// The records one after another.
    None,
    /// One zstd frame.
    Zstd,
}

/// A record in a group's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRow {
    /// Its key.
    pub key: Key,
    /// Its length in bytes.
    pub raw_bytes: u32,
}

/// A group that is not what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// Header and table contradict each other or a limit.
    #[error("group is malformed: {0}")]
    Shape(&'static str),
    /// The payload does not decode to the announced length.
    #[error("group does not decode to its announced length")]
    Undecodable,
    /// A record's bytes are not those of its key.
    #[error("record {record_index} of the group does not match its key")]
    HashMismatch {
        /// Its index in the table.
        record_index: usize,
    },
}

/// A group whose every record was compared with its key. Immutable, so that it stays true.
#[derive(Clone, Debug)]
pub struct CheckedGroup {
    form: Form,
    codec: Codec,
    table: Vec<TableRow>,
    raw_bytes: u32,
    stored_bytes: usize,
    payload_crc: u32,
    /// The payload, and zeros behind it: [`SLACK_BYTES`].
    padded: Vec<u8>,
}

impl CheckedGroup {
    /// Decodes a group and checks every record: the one maker of this type.
    ///
    /// # Errors
    /// [`GroupError`]; nothing of the group may then be used.
    pub fn check(
        form: Form,
        codec: Codec,
        table: Vec<TableRow>,
        payload: &[u8],
    ) -> Result<Self, GroupError> {
        let raw_bytes = check_shape(form, codec, &table, payload.len())?;
        match codec {
            Codec::None => check_records(&table, payload)?,
            Codec::Zstd => RAW.with_borrow_mut(|raw| {
                raw.resize(raw_bytes, 0);
                decompress(payload, raw)?;
                check_records(&table, raw)
            })?,
        }
        let mut padded = Vec::with_capacity(payload.len() + SLACK_BYTES);
        padded.extend_from_slice(payload);
        padded.resize(payload.len() + SLACK_BYTES, 0);
        let (stored_bytes, payload_crc) = (payload.len(), crc(&[payload]));
        let raw_bytes = raw_bytes as u32;
        Ok(Self { form, codec, table, raw_bytes, stored_bytes, payload_crc, padded })
    }

    /// Compresses records of known keys into a group, as zstd where that saves at least a
    /// sixteenth, and checks the outcome: where the encoder failed, the records stay raw.
    ///
    /// # Errors
    /// [`GroupError`] when a limit is broken or a key is not that of its record.
    pub fn encode(form: Form, records: &[(Key, &[u8])], level: i32) -> Result<Self, GroupError> {
        let raw_bytes: usize = records.iter().map(|(_, bytes)| bytes.len()).sum();
        if raw_bytes > GROUP_BYTES_MAX {
            return Err(GroupError::Shape("too many bytes"));
        }
        let row = |(key, bytes): &(Key, &[u8])| TableRow {
            key: *key,
            raw_bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        };
        let table = || records.iter().map(row).collect::<Vec<_>>();
        PLAIN.with_borrow_mut(|raw| {
            raw.clear();
            records.iter().for_each(|(_, bytes)| raw.extend_from_slice(bytes));
            PACKED.with_borrow_mut(|packed| {
                let packed = if form == Form::Plain { compress(raw, level, packed) } else { None };
                match packed {
                    // An encoder that fails costs space, and not the group.
                    Some(packed) => Self::check(form, Codec::Zstd, table(), packed)
                        .or_else(|_| Self::check(form, Codec::None, table(), raw)),
                    None => Self::check(form, Codec::None, table(), raw),
                }
            })
        })
    }

    /// What its keys are the hash of.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }

    /// How its payload was made.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// Its records.
    #[must_use]
    pub fn table(&self) -> &[TableRow] {
        &self.table
    }

    /// The bytes as they are stored and sent.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.padded.get(..self.stored_bytes).unwrap_or_default()
    }

    /// The payload with so many zeros behind it.
    pub(crate) fn payload_padded(&self, zeros: usize) -> &[u8] {
        debug_assert!(zeros <= SLACK_BYTES);
        self.padded.get(..self.stored_bytes + zeros).unwrap_or_default()
    }

    /// The checksum of the payload.
    pub(crate) const fn payload_crc(&self) -> u32 {
        self.payload_crc
    }

    /// Length of its records together.
    #[must_use]
    pub const fn raw_bytes(&self) -> u32 {
        self.raw_bytes
    }

    /// Its records, decoded again.
    ///
    /// # Errors
    /// None that could happen to a checked group; [`GroupError`] all the same.
    pub fn decoded(&self) -> Result<DecodedGroup, GroupError> {
        decode(self.form, self.codec, &self.table, self.payload())
    }
}

/// A group as it lies on disk, its checksums good, its records not compared with their keys.
#[derive(Debug)]
pub struct StoredGroup {
    /// What its keys are the hash of.
    pub form: Form,
    /// How its payload was made.
    pub codec: Codec,
    /// Its records.
    pub table: Vec<TableRow>,
    /// The bytes as they are stored and sent.
    pub payload: Vec<u8>,
}

/// The records of a group, each compared with its key.
#[derive(Debug)]
pub struct DecodedGroup {
    form: Form,
    table: Vec<TableRow>,
    starts: Vec<u32>,
    raw: Vec<u8>,
}

impl DecodedGroup {
    /// What its keys are the hash of.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }

    /// Its records' keys and lengths, in the order of their slots.
    #[must_use]
    pub fn table(&self) -> &[TableRow] {
        &self.table
    }

    /// The bytes of the record in a slot, if there is such a slot.
    #[must_use]
    pub fn record(&self, slot: u8) -> Option<&[u8]> {
        let start = *self.starts.get(usize::from(slot))? as usize;
        let bytes = self.table.get(usize::from(slot))?.raw_bytes as usize;
        self.raw.get(start..start + bytes)
    }
}

/// Decodes and checks.
pub(crate) fn decode(
    form: Form,
    codec: Codec,
    table: &[TableRow],
    payload: &[u8],
) -> Result<DecodedGroup, GroupError> {
    let mut raw = vec![0; check_shape(form, codec, table, payload.len())?];
    decode_into(form, codec, table, payload, &mut raw)?;
    let starts = starts(table).collect();
    Ok(DecodedGroup { form, table: table.to_vec(), starts, raw })
}

/// Where each record begins among the decoded bytes.
pub(crate) fn starts(table: &[TableRow]) -> impl Iterator<Item = u32> {
    table.iter().scan(0_u32, |end, row| {
        let start = *end;
        *end = end.saturating_add(row.raw_bytes);
        Some(start)
    })
}

/// Decodes to bytes that are as many as the records together, and checks them; everything that
/// reads a group goes through here. After an error what `raw` holds is nothing.
pub(crate) fn decode_into(
    form: Form,
    codec: Codec,
    table: &[TableRow],
    payload: &[u8],
    raw: &mut [u8],
) -> Result<(), GroupError> {
    if check_shape(form, codec, table, payload.len())? != raw.len() {
        return Err(GroupError::Undecodable);
    }
    match codec {
        Codec::None => raw.copy_from_slice(payload),
        Codec::Zstd => decompress(payload, raw)?,
    }
    check_records(table, raw)
}

/// Compares every record with its key, and the whole with the sum of the lengths.
fn check_records(table: &[TableRow], raw: &[u8]) -> Result<(), GroupError> {
    let mut rest = raw;
    for (record_index, row) in table.iter().enumerate() {
        let Some((record, after)) = rest.split_at_checked(row.raw_bytes as usize) else {
            return Err(GroupError::Undecodable);
        };
        if hash::key_of(record) != row.key {
            return Err(GroupError::HashMismatch { record_index });
        }
        rest = after;
    }
    if rest.is_empty() { Ok(()) } else { Err(GroupError::Undecodable) }
}

/// Checks lengths against limits and each other before anything is decoded; the sum of the records.
pub(crate) fn check_shape(
    form: Form,
    codec: Codec,
    table: &[TableRow],
    stored_bytes: usize,
) -> Result<usize, GroupError> {
    if table.is_empty() || table.len() > GROUP_RECORDS_MAX {
        return Err(GroupError::Shape("number of records"));
    }
    let mut raw_bytes = 0_usize;
    for row in table {
        let bytes = row.raw_bytes as usize;
        if bytes == 0 || bytes > RECORD_BYTES_MAX {
            return Err(GroupError::Shape("length of a record"));
        }
        raw_bytes = raw_bytes.saturating_add(bytes);
    }
    if raw_bytes > GROUP_BYTES_MAX {
        return Err(GroupError::Shape("too many bytes"));
    }
    let is_stored_length_right = match codec {
        Codec::None => stored_bytes == raw_bytes,
        Codec::Zstd => stored_bytes > 0 && stored_bytes <= raw_bytes,
    };
    if !is_stored_length_right {
        return Err(GroupError::Shape("stored length"));
    }
    if form == Form::Encrypted && codec != Codec::None {
        return Err(GroupError::Shape("compressed after encryption"));
    }
    Ok(raw_bytes)
}

thread_local! {
    // A context costs more to make than a group to decode.
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
        const { RefCell::new(None) };
    static COMPRESSOR: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> =
        const { RefCell::new(None) };
    // Buffers that are used again: at most a group's bytes per thread, each.
    static RAW: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static PLAIN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static PACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Decodes exactly one frame to exactly so many bytes.
fn decompress(payload: &[u8], raw: &mut [u8]) -> Result<(), GroupError> {
    // The helpers decode frame after frame without a word; only one is allowed.
    let frame_bytes = zstd::zstd_safe::find_frame_compressed_size(payload);
    if frame_bytes != Ok(payload.len()) || !has_small_window(payload) {
        return Err(GroupError::Undecodable);
    }
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => {
                slot.insert(zstd::bulk::Decompressor::new().map_err(|_| GroupError::Undecodable)?)
            }
        };
        // The length is the limit: a frame that goes on beyond it is an error.
        match decompressor.decompress_to_buffer(payload, raw) {
            Ok(n) if n == raw.len() => Ok(()),
            _ => Err(GroupError::Undecodable),
        }
    })
}

/// Whether a frame's header (RFC 8878, section 3.1.1.1) asks for no more memory than a group has
/// bytes, and for no dictionary.
fn has_small_window(frame: &[u8]) -> bool {
    const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
    let [a, b, c, d, descriptor, window, ..] = *frame else { return false };
    let is_single_segment = descriptor & 0x20 != 0;
    let has_dictionary = descriptor & 0x03 != 0;
    let window_log = 10 + (window >> 3);
    let has_fraction = window & 0x07 != 0;
    let is_small = window_log < WINDOW_LOG_MAX || (window_log == WINDOW_LOG_MAX && !has_fraction);
    [a, b, c, d] == MAGIC && !has_dictionary && (is_single_segment || is_small)
}

/// Compresses where that saves a sixteenth; none otherwise, and when the compressor cannot, which
/// costs space and nothing else.
fn compress<'a>(raw: &[u8], level: i32, packed: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(has_level, _)| *has_level != level) {
            let mut compressor = zstd::bulk::Compressor::new(level).ok()?;
            let window = zstd::zstd_safe::CParameter::WindowLog(u32::from(WINDOW_LOG_MAX));
            compressor.set_parameter(window).ok()?;
            *slot = Some((level, compressor));
        }
        let (_, compressor) = slot.as_mut()?;
        // No more than what would be kept, so that it ends early on what does not shrink.
        packed.resize(raw.len() - raw.len() / 16, 0);
        let n = compressor.compress_to_buffer(raw, &mut packed[..]).ok()?;
        #[cfg(test)]
        tests::strike(packed.get_mut(..n)?);
        packed.get(..n)
    })
}

#[cfg(test)]
mod tests;
