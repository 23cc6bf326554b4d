//! A blocked Bloom filter: one cache line per question, built while streaming.
//!
//! Our own forty lines instead of a crate's fuse filters, because its bytes are part of our format,
//! it needs no memory beyond itself while it is built, and 12 bits a key fit the budget
//! (100 million keys: 150 MB).

use std::hint::black_box;

use offsite_model::Key;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(crate) const BLOCK_BYTES: usize = 64;
pub(crate) const BITS_PER_KEY: u64 = 12;
const PROBES: u32 = 7;
const BLOCK_BITS: u64 = BLOCK_BYTES as u64 * 8;

/// Says which keys are certainly missing.
pub(crate) struct Filter(Vec<Block>);

/// What one question looks at. Aligned, so that it is one line and not halves of two.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
struct Block([u8; BLOCK_BYTES]);

impl Filter {
    /// An empty filter for so many keys.
    pub(crate) fn for_keys(n_keys: u64) -> Self {
        let n_blocks = (n_keys * BITS_PER_KEY).div_ceil(BLOCK_BITS).max(1);
        Self::of_blocks(n_blocks as usize)
    }

    /// The filter of so many blocks whose bytes are read into it; none of no block.
    pub(crate) fn read<E>(
        n_blocks: u32,
        read: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Option<Self>, E> {
        let mut filter = Self::of_blocks(n_blocks as usize);
        read(filter.0.as_mut_bytes())?;
        Ok((n_blocks > 0).then_some(filter))
    }

    fn of_blocks(n_blocks: usize) -> Self {
        Self((0..n_blocks).map(|_| Block([0; BLOCK_BYTES])).collect())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub(crate) const fn n_blocks(&self) -> u32 {
        self.0.len() as u32
    }

    pub(crate) fn add(&mut self, key: &Key) {
        let at = self.block(key);
        if let Some(Block(block)) = self.0.get_mut(at) {
            bits(key).for_each(|(byte, mask)| block[byte] |= mask);
        }
    }

    /// False only when the key was never added.
    pub(crate) fn may_have(&self, key: &Key) -> bool {
        // A block that is not there says nothing, so it must not say "missing".
        self.0.get(self.block(key)).is_none_or(|Block(block)| {
            bits(key).fold(u8::MAX, |have, (byte, mask)| have & (block[byte] | !mask)) == u8::MAX
        })
    }

    /// Fetches what is asked of these keys next, all of it at once: a filter is far larger than a
    /// processor's caches, and question after question would wait for memory each by itself.
    pub(crate) fn fetch(&self, keys: &[Key]) {
        let first = |key| self.0.get(self.block(key)).map_or(0, |Block(block)| block[0]);
        black_box(keys.iter().fold(0, |sum, key| sum ^ first(key)));
    }

    /// The key's block. Keys are hashes, so their own bytes are the hash.
    fn block(&self, key: &Key) -> usize {
        ((u128::from(word(key, 8)) * self.0.len() as u128) >> 64) as usize
    }
}

fn word(key: &Key, at: usize) -> u64 {
    let bytes = key.as_bytes().get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

/// Places within a block, nine bits each: a byte of the block and a bit of the byte.
fn bits(key: &Key) -> impl Iterator<Item = (usize, u8)> {
    let part = word(key, 16);
    (0..PROBES).map(move |probe| {
        let bit = (part >> (9 * probe)) % BLOCK_BITS;
        ((bit / 8) as usize, 1 << (bit % 8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b_14_no_key_that_was_added_is_called_missing_and_few_others_are_not() {
        let key = |n: u32| Key::of(&n.to_le_bytes());
        let mut filter = Filter::for_keys(10_000);
        (0..10_000).for_each(|n| filter.add(&key(n)));
        assert!((0..10_000).all(|n| filter.may_have(&key(n))));
        let n_wrong = (10_000..110_000).filter(|n| filter.may_have(&key(*n))).count();
        assert!(n_wrong < 1_000, "{n_wrong} of 100,000 is above 1 %");
    }
}
