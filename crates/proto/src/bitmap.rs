//! Bitmaps of blocks: rows 3, 8 and 52.
//!
//! ```text
//! header, 40 bytes   magic "OFBM" · version u8 · encoding u8 · zero u16 · blockSize u32
//!                    · epochNumber u32 · capacityBlocks u64 · flushedThrough u64
//!                    · payloadLength u32 · crc32c u32 of the payload
//! payload            encoding 0: plain bits, least significant first
//!                    encoding 1: runs of ones, each start u64 · count u64, ascending and apart
//!                    encoding 2: one zstd frame of the plain bits
//! ```
//!
//! A bitmap of a large volume may be sparse beyond measure, so it is handed out as runs of ones and
//! never unfolded: [`Bitmap::runs`] walks the payload in constant memory.

use std::io::Read;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::codec::{DecodeError, Reader, crc32c, require};
use crate::limits::BITMAP_BYTES_MAX;

const MAGIC: [u8; 4] = *b"OFBM";
/// The version of bitmaps. Frozen; see docs/decisions/0009-format-version-1.md.
const VERSION: u8 = 1;
/// The media type of a bitmap.
pub const BITMAP_MEDIA: &str = "application/vnd.offsite.bitmap; version=1";
const WINDOW_LOG_MAX: u32 = 20;

/// A run of ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first block.
    pub start: u64,
    /// How many blocks, never 0.
    pub count: u64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    version: u8,
    encoding: u8,
    zero: U16,
    block_size: U32,
    epoch_number: U32,
    capacity_blocks: U64,
    flushed_through: U64,
    payload_length: U32,
    checksum: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RunEntry {
    start: U64,
    count: U64,
}

/// A bitmap whose header and checksum hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bitmap<'a> {
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Epoch of the image.
    pub epoch: u32,
    /// Blocks of the volume.
    pub capacity_blocks: u64,
    /// Every block below this one is durable.
    pub flushed_through: u64,
    encoding: Encoding,
    payload: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Plain,
    Runs,
    Zstd,
}

impl<'a> Bitmap<'a> {
    /// Reads a bitmap.
    ///
    /// # Errors
    /// Every rule of the layout that is broken; the payload's own rules are checked by
    /// [`Bitmap::runs`].
    pub fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("a bitmap", bytes);
        let header: &Header = reader.part()?;
        if header.magic != MAGIC {
            let value = u32::from_le_bytes(header.magic).into();
            return Err(DecodeError::Unknown { what: "magic of a bitmap", value });
        }
        if header.version != VERSION {
            let (found, known) = (header.version, VERSION);
            return Err(DecodeError::Version { what: "a bitmap", found, known });
        }
        require(header.zero.get() == 0, "a reserved field of a bitmap", header.zero.get(), "0")?;
        let block_bytes = header.block_size.get();
        require(
            block_bytes.is_power_of_two() && block_bytes >= 512,
            "the block size of a bitmap",
            block_bytes,
            "a power of two from 512",
        )?;
        let length = header.payload_length.get();
        require(
            u64::from(length) <= BITMAP_BYTES_MAX,
            "the length of a bitmap",
            length,
            "at most 128 MiB",
        )?;
        let encoding = match header.encoding {
            0 => Encoding::Plain,
            1 => Encoding::Runs,
            2 => Encoding::Zstd,
            other => {
                return Err(DecodeError::Unknown {
                    what: "encoding of a bitmap",
                    value: other.into(),
                });
            }
        };
        let payload = reader.take(length)?;
        reader.finish()?;
        if crc32c(&[payload]) != header.checksum.get() {
            return Err(DecodeError::Checksum { what: "a bitmap" });
        }
        Ok(Self {
            block_bytes,
            epoch: header.epoch_number.get(),
            capacity_blocks: header.capacity_blocks.get(),
            flushed_through: header.flushed_through.get(),
            encoding,
            payload,
        })
    }

    /// Hands every run of ones to `each`, ascending. Runs may touch where the encoding cuts them.
    ///
    /// # Errors
    /// Where the payload does not fit its encoding or the capacity; runs already handed out must be
    /// forgotten.
    pub fn runs(&self, mut each: impl FnMut(Run)) -> Result<(), DecodeError> {
        match self.encoding {
            Encoding::Runs => self.explicit_runs(&mut each),
            Encoding::Plain => self.bit_runs(self.payload, &mut each),
            Encoding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(self.payload)
                    .and_then(|mut decoder| {
                        decoder.window_log_max(WINDOW_LOG_MAX).map(|()| decoder)
                    })
                    .map_err(|_| DecodeError::Checksum { what: "a compressed bitmap" })?
                    .single_frame();
                self.bit_runs(&mut decoder, &mut each)?;
                match decoder.finish() {
                    [] => Ok(()),
                    rest => Err(DecodeError::Trailing { what: "a bitmap", n_bytes: rest.len() }),
                }
            }
        }
    }

    fn explicit_runs(&self, each: &mut impl FnMut(Run)) -> Result<(), DecodeError> {
        let mut reader = Reader::new("the runs of a bitmap", self.payload);
        let mut previous_end = None;
        while !reader.is_empty() {
            let entry: &RunEntry = reader.part()?;
            let (start, count) = (entry.start.get(), entry.count.get());
            require(count > 0, "the length of a run", count, "1 or more")?;
            require(
                previous_end.is_none_or(|end| start > end),
                "the start of a run",
                start,
                "apart from the one before",
            )?;
            let end = start.checked_add(count).filter(|end| *end <= self.capacity_blocks).ok_or(
                DecodeError::OutOfBounds {
                    field: "the start of a run",
                    value: start,
                    rule: "such that the run ends within the capacity",
                },
            )?;
            previous_end = Some(end);
            each(Run { start, count });
        }
        Ok(())
    }

    fn bit_runs(&self, mut bits: impl Read, each: &mut impl FnMut(Run)) -> Result<(), DecodeError> {
        const UNREADABLE: DecodeError = DecodeError::Checksum { what: "a compressed bitmap" };
        let mut piece = [0_u8; 4096];
        let mut n_bytes_left = self.capacity_blocks.div_ceil(8);
        let mut runs = RunBuilder { next_block: 0, open: None };
        let mut last_end = 0;
        let mut each = |run: Run| {
            last_end = run.start.saturating_add(run.count);
            each(run);
        };
        while n_bytes_left > 0 {
            let n = usize::try_from(n_bytes_left).unwrap_or(usize::MAX).min(piece.len());
            let piece = piece.get_mut(..n).unwrap_or_default();
            bits.read_exact(piece).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => DecodeError::Truncated { what: "a bitmap" },
                _ => UNREADABLE,
            })?;
            piece.iter().for_each(|byte| runs.byte(*byte, &mut each));
            n_bytes_left = n_bytes_left.saturating_sub(n as u64);
        }
        runs.open.into_iter().for_each(&mut each);
        require(
            last_end <= self.capacity_blocks,
            "the last one of a bitmap",
            last_end,
            "within the capacity",
        )?;
        match bits.read(&mut piece) {
            Ok(0) => Ok(()),
            Ok(n_bytes) => Err(DecodeError::Trailing { what: "a bitmap", n_bytes }),
            Err(_) => Err(UNREADABLE),
        }
    }
}

/// Joins bits to runs.
struct RunBuilder {
    next_block: u64,
    open: Option<Run>,
}

impl RunBuilder {
    fn byte(&mut self, byte: u8, each: &mut impl FnMut(Run)) {
        // Most of a bitmap is all zeros or all ones.
        match (byte, &mut self.open) {
            (0, None) => {}
            (0xff, Some(run)) => run.count = run.count.saturating_add(8),
            _ => (0..8).for_each(|bit| {
                let block = self.next_block.saturating_add(bit);
                match (byte >> bit & 1, &mut self.open) {
                    (1, Some(run)) => run.count = run.count.saturating_add(1),
                    (1, open) => *open = Some(Run { start: block, count: 1 }),
                    (_, open) => open.take().into_iter().for_each(&mut *each),
                }
            }),
        }
        self.next_block = self.next_block.saturating_add(8);
    }
}

/// Writes a bitmap from its runs, ascending and apart, in the runs' encoding.
#[must_use]
pub fn write_runs(
    block_bytes: u32,
    epoch: u32,
    capacity_blocks: u64,
    flushed_through: u64,
    runs: &[Run],
) -> Vec<u8> {
    let payload: Vec<u8> = runs
        .iter()
        .flat_map(|run| {
            let entry = RunEntry { start: U64::new(run.start), count: U64::new(run.count) };
            entry.as_bytes().to_vec()
        })
        .collect();
    write_payload(1, block_bytes, epoch, capacity_blocks, flushed_through, &payload)
}

fn write_payload(
    encoding: u8,
    block_bytes: u32,
    epoch: u32,
    capacity_blocks: u64,
    flushed_through: u64,
    payload: &[u8],
) -> Vec<u8> {
    let header = Header {
        magic: MAGIC,
        version: VERSION,
        encoding,
        zero: U16::new(0),
        block_size: U32::new(block_bytes),
        epoch_number: U32::new(epoch),
        capacity_blocks: U64::new(capacity_blocks),
        flushed_through: U64::new(flushed_through),
        payload_length: U32::new(u32::try_from(payload.len()).unwrap_or(u32::MAX)),
        checksum: U32::new(crc32c(&[payload])),
    };
    [header.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: [Run; 3] =
        [Run { start: 0, count: 3 }, Run { start: 7, count: 18 }, Run { start: 99, count: 1 }];

    fn runs_of(bytes: &[u8]) -> Result<Vec<Run>, DecodeError> {
        let mut runs = Vec::new();
        Bitmap::read(bytes)?.runs(|run| runs.push(run))?;
        Ok(runs)
    }

    fn plain_bits(capacity: usize) -> Vec<u8> {
        let mut bits = vec![0_u8; capacity.div_ceil(8)];
        for run in RUNS {
            (run.start..run.start + run.count).for_each(|b| bits[b as usize / 8] |= 1 << (b % 8));
        }
        bits
    }

    #[test]
    fn the_three_encodings_say_the_same() {
        let plain = plain_bits(100);
        let packed = zstd::bulk::compress(&plain, 3).unwrap();
        assert_eq!(runs_of(&write_runs(4096, 1, 100, 0, &RUNS)).unwrap(), RUNS);
        assert_eq!(runs_of(&write_payload(0, 4096, 1, 100, 0, &plain)).unwrap(), RUNS);
        assert_eq!(runs_of(&write_payload(2, 4096, 1, 100, 0, &packed)).unwrap(), RUNS);
    }

    #[test]
    fn what_does_not_fit_the_capacity_is_refused() {
        let refused = |encoding, capacity, payload: &[u8]| {
            runs_of(&write_payload(encoding, 4096, 1, capacity, 0, payload)).is_err()
        };
        let plain = plain_bits(100);
        let packed = zstd::bulk::compress(&plain, 3).unwrap();
        assert!(refused(0, 99, &plain), "a one beyond the capacity");
        assert!(refused(0, 200, &plain), "too few bits");
        assert!(refused(0, 90, &plain), "too many bits");
        assert!(refused(2, 90, &packed) && refused(2, 200, &packed));
        assert!(refused(2, 100, &[packed.clone(), packed.clone()].concat()), "a second frame");
        assert!(refused(2, 100, &packed[..packed.len() - 1]));
        let entry = |start: u64, count: u64| [start.to_le_bytes(), count.to_le_bytes()].concat();
        assert!(refused(1, 100, &entry(99, 2)) && refused(1, 100, &entry(5, 0)));
        assert!(refused(1, u64::MAX, &entry(u64::MAX, u64::MAX)), "an end that wraps");
        assert!(refused(1, 100, &[entry(5, 2), entry(7, 1)].concat()), "runs that touch");
        assert!(refused(1, 100, &entry(5, 2)[..15]));
    }

    #[test]
    fn a_bomb_costs_no_memory() {
        // 64 MiB of zeros in one frame; the capacity says that 100 bytes are expected.
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(WINDOW_LOG_MAX).unwrap();
        std::io::Write::write_all(&mut encoder, &vec![0; 64 << 20]).unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(
            runs_of(&write_payload(2, 4096, 1, 800, 0, &packed)),
            Err(DecodeError::Trailing { what: "a bitmap", n_bytes: 4096 })
        );
    }
}
