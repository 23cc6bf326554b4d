//! A blocked Bloom filter: one cache line per question, built while streaming.
//!
//! Our own forty lines instead of a crate's fuse filters, because its bytes are part of our format,
//! it needs no memory beyond itself while it is built, and 12 bits a key fit the budget
//! (100 million keys: 150 MB).

use offsite_model::Key;

pub(crate) const BLOCK_BYTES: usize = 64;
pub(crate) const BITS_PER_KEY: u64 = 12;
const PROBES: u32 = 7;
const BLOCK_BITS: u64 = BLOCK_BYTES as u64 * 8;

/// Says which keys are certainly missing.
pub(crate) struct Filter(Vec<u8>);

impl Filter {
    /// An empty filter for so many keys.
    pub(crate) fn for_keys(n_keys: u64) -> Self {
        let n_blocks = (n_keys * BITS_PER_KEY).div_ceil(BLOCK_BITS).max(1);
        Self(vec![0; n_blocks as usize * BLOCK_BYTES])
    }

    /// The filter with these bytes: whole blocks, at least one.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let is_whole = !bytes.is_empty() && bytes.len().is_multiple_of(BLOCK_BYTES);
        is_whole.then_some(Self(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) const fn n_blocks(&self) -> u32 {
        (self.0.len() / BLOCK_BYTES) as u32
    }

    pub(crate) fn add(&mut self, key: &Key) {
        let start = self.block(key);
        for bit in bits(key) {
            if let Some(byte) = self.0.get_mut(start + (bit / 8) as usize) {
                *byte |= 1 << (bit % 8);
            }
        }
    }

    /// False only when the key was never added.
    pub(crate) fn may_have(&self, key: &Key) -> bool {
        let start = self.block(key);
        bits(key).all(|bit| {
            // A byte that is not there says nothing, so it must not say "missing".
            let byte = self.0.get(start + (bit / 8) as usize).copied().unwrap_or(u8::MAX);
            byte & (1 << (bit % 8)) != 0
        })
    }

    /// First byte of the key's block. Keys are hashes, so their own bytes are the hash.
    fn block(&self, key: &Key) -> usize {
        let part = word(key, 8);
        let n_blocks = (self.0.len() / BLOCK_BYTES) as u128;
        ((u128::from(part) * n_blocks) >> 64) as usize * BLOCK_BYTES
    }
}

fn word(key: &Key, at: usize) -> u64 {
    let bytes = key.as_bytes().get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

/// Places within a block, nine bits each.
fn bits(key: &Key) -> impl Iterator<Item = u64> {
    let part = word(key, 16);
    (0..PROBES).map(move |probe| (part >> (9 * probe)) % BLOCK_BITS)
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
