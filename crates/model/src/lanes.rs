//! A volume cut into lanes: stretches that are read, written and hashed side by side.
//!
//! One stretch of a volume keeps the disk busy (what did not compress is read and written as long
//! as it is), another the processors. Whoever works at several in turns has both busy most of the
//! time, and still reads and writes long pieces.

use std::ops::Range;

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};

use crate::key::Digest;

/// Lanes of a volume at most.
pub const LANES_MAX: u64 = 8;
/// Shorter stretches are not worth a lane.
const LANE_BYTES_MIN: u64 = 64 << 20;

/// How a volume is cut: all lanes but the last are equally long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lanes {
    bytes: u64,
    lane_bytes: u64,
}

impl Lanes {
    /// A volume of so many bytes in one lane, from its first byte to its last.
    #[must_use]
    pub const fn one(bytes: u64) -> Self {
        Self { bytes, lane_bytes: if bytes == 0 { 1 } else { bytes } }
    }

    /// A volume of so many bytes, cut between records of `record_bytes`: at most [`LANES_MAX`]
    /// lanes, whose length is a power of two, as the tree of BLAKE3 wants it. One where records of
    /// that size do not allow it.
    #[must_use]
    pub fn several(bytes: u64, record_bytes: u32) -> Self {
        let lane_bytes = bytes.div_ceil(LANES_MAX).max(LANE_BYTES_MIN).checked_next_power_of_two();
        match lane_bytes.filter(|lane_bytes| lane_bytes.is_multiple_of(record_bytes.into())) {
            Some(lane_bytes) if lane_bytes < bytes => Self { bytes, lane_bytes },
            _ => Self::one(bytes),
        }
    }

    /// Length of the volume.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The lane in which an offset of the volume lies, counted from 0.
    #[must_use]
    pub fn at(&self, offset: u64) -> usize {
        usize::try_from(offset / self.lane_bytes).unwrap_or(usize::MAX)
    }

    /// Where they begin and end, in order of offsets: at least one, which may be empty.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let n = self.bytes.div_ceil(self.lane_bytes).max(1);
        (0..n).map(|lane| {
            let start = lane.saturating_mul(self.lane_bytes);
            start..self.bytes.min(start.saturating_add(self.lane_bytes))
        })
    }
}

/// Builds the [`Digest`] of a volume that comes in lanes: BLAKE3 of the whole, the same as if it
/// had come in order.
#[derive(Clone)]
pub struct LanesDigest {
    lanes: Lanes,
    of: Vec<(Range<u64>, blake3::Hasher)>,
    is_torn: bool,
}

impl LanesDigest {
    /// Of a volume of which nothing has come yet.
    #[must_use]
    pub fn new(lanes: Lanes) -> Self {
        let begin = |range: Range<u64>| {
            let mut hasher = blake3::Hasher::new();
            // A multiple of a power of two of at least 64 MiB, so a boundary between chunks.
            hasher.set_input_offset(range.start);
            (range, hasher)
        };
        Self { lanes, of: lanes.ranges().map(begin).collect(), is_torn: false }
    }

    /// Adds the next bytes of the lane in which `offset` lies.
    pub fn update(&mut self, offset: u64, bytes: &[u8]) {
        let lane = self.of.get_mut(self.lanes.at(offset));
        let lane = lane.filter(|(range, hasher)| {
            let next = range.start.saturating_add(hasher.count());
            offset == next && bytes.len() as u64 <= range.end.saturating_sub(next)
        });
        match lane {
            Some((_, hasher)) => {
                hasher.update(bytes);
            }
            None => self.is_torn |= !bytes.is_empty(),
        }
    }

    /// The digest of the volume. None unless all of it came, every lane from its beginning to its
    /// end and nothing twice.
    #[must_use]
    pub fn finish(&self) -> Option<Digest> {
        let is_whole = |(range, hasher): &(Range<u64>, blake3::Hasher)| {
            hasher.count() == range.end.saturating_sub(range.start)
        };
        if self.is_torn || !self.of.iter().all(is_whole) {
            return None;
        }
        if let [(_, alone)] = &*self.of {
            return Some(Digest::from_bytes(*alone.finalize().as_bytes()));
        }
        let values: Vec<ChainingValue> =
            self.of.iter().map(|(_, hasher)| hasher.finalize_non_root()).collect();
        let (left, right) = values.split_at_checked(left_subtree(values.len()))?;
        let root = merge_subtrees_root(&merged(left)?, &merged(right)?, Mode::Hash);
        Some(Digest::from_bytes(*root.as_bytes()))
    }
}

/// How many of so many neighbours of equal length hang on the left of their node: the largest power
/// of two that leaves something for the right (section 2.1 of the BLAKE3 paper).
fn left_subtree(n: usize) -> usize {
    n.div_ceil(2).next_power_of_two()
}

/// The chaining value of the node above these neighbours.
fn merged(values: &[ChainingValue]) -> Option<ChainingValue> {
    if let [alone] = values {
        return Some(*alone);
    }
    let (left, right) = values.split_at_checked(left_subtree(values.len()))?;
    Some(merge_subtrees_non_root(&merged(left)?, &merged(right)?, Mode::Hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lanes of any length, to have several in little memory.
    fn cut(bytes: u64, lane_bytes: u64) -> Lanes {
        Lanes { bytes, lane_bytes }
    }

    #[test]
    fn lanes_cover_a_volume_once() {
        for bytes in [0, 1, 64 << 20, (64 << 20) + 1, 700_000_010, 4 << 30, 5 << 30, u64::MAX] {
            for lanes in [Lanes::one(bytes), Lanes::several(bytes, 16 << 10)] {
                let mut end = 0;
                for (index, range) in lanes.ranges().enumerate() {
                    assert_eq!((range.start, lanes.at(range.start)), (end, index));
                    end = range.end;
                }
                assert_eq!(end, bytes);
                assert!(lanes.ranges().count() as u64 <= LANES_MAX);
            }
        }
        assert_eq!(Lanes::several(4 << 30, 16 << 10).ranges().count(), 8);
        assert_eq!(Lanes::several(5 << 30, 16 << 10).ranges().count(), 5);
        // Records that straddle every boundary.
        assert_eq!(Lanes::several(4 << 30, 12_288).ranges().count(), 1);
    }

    #[test]
    fn a_volume_in_lanes_has_the_hash_of_the_whole() {
        for n_lanes in 1..=9_u64 {
            for last in [1, 1_000, 4_095, 4_096] {
                let n = (n_lanes - 1) * 4_096 + last;
                let volume: Vec<u8> = (0..n).map(|at| ((at * at) >> 7) as u8).collect();
                let lanes = cut(n, 4_096);
                let mut digest = LanesDigest::new(lanes);
                // Pieces of all lanes in turns, the last lane first.
                for step in 0..7 {
                    let ranges: Vec<_> = lanes.ranges().collect();
                    for range in ranges.into_iter().rev() {
                        let start = range.end.min(range.start + step * 600);
                        let end = range.end.min(range.start + (step + 1) * 600);
                        digest.update(start, &volume[start as usize..end as usize]);
                    }
                }
                assert_eq!(digest.finish(), Some(Digest::of(&volume)), "{n} bytes");
            }
        }
        assert_eq!(LanesDigest::new(Lanes::one(0)).finish(), Some(Digest::of(b"")));
    }

    #[test]
    fn what_is_missing_twice_or_out_of_its_order_has_no_hash() {
        let volume = [5; 8_192];
        let whole: [(u64, usize); 3] = [(0, 4_096), (4_096, 1_000), (5_096, 3_096)];
        let digest = |parts: &[(u64, usize)]| {
            let mut digest = LanesDigest::new(cut(8_192, 4_096));
            parts.iter().for_each(|(offset, n)| digest.update(*offset, &volume[..*n]));
            digest.finish()
        };
        assert_eq!(digest(&whole), Some(Digest::of(&volume)));
        let [first, second, third] = whole;
        for torn in [
            &[first, second][..],
            &[first, third, second],
            &[first, second, third, third],
            &[(0, 4_097), (4_097, 1_000), third],
            &[first, second, third, (8_192, 1)],
        ] {
            assert_eq!(digest(torn), None, "{torn:?}");
        }
    }
}
