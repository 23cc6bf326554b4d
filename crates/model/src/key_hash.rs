//! Tables by key: a hash that needs to do little, since a key is one already.
//!
//! A key is BLAKE3 of what a source chose, so its bits are spread well, and a source could still
//! choose records whose keys begin alike and would meet in one place of a table. Therefore a secret
//! of the process takes part.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};

/// A table by keys, or by what contains one.
pub type KeyMap<K, V> = HashMap<K, V, KeyState>;
/// A set of keys, or of what contains one.
pub type KeySet<K> = HashSet<K, KeyState>;

/// Makes the hashers of a table; each table has a secret of its own.
#[derive(Clone, Debug)]
pub struct KeyState([u64; 2]);

impl Default for KeyState {
    fn default() -> Self {
        let random = RandomState::new();
        // Odd, so that no factor is zero.
        Self([random.hash_one(0_u8), random.hash_one(1_u8)].map(|secret| secret | 1))
    }
}

impl BuildHasher for KeyState {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        let Self([state, secret]) = *self;
        KeyHasher { state, secret }
    }
}

/// Mixes eight bytes at a time by one wide multiplication with the secret.
#[derive(Debug)]
pub struct KeyHasher {
    state: u64,
    secret: u64,
}

impl KeyHasher {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.state ^ word).wrapping_mul(u128::from(self.secret));
        let (low, high) = (product as u64, (product >> 64) as u64);
        self.state = (low ^ high).rotate_left(23) ^ word;
    }
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.mix((*byte).into()));
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.mix(word as u64);
    }

    fn finish(&self) -> u64 {
        let product = u128::from(self.state).wrapping_mul(u128::from(self.secret));
        product as u64 ^ (product >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Key;

    /// How many of so many keys meet another one in the low or in the high bits of their hash.
    fn meetings(keys: impl Iterator<Item = Key> + Clone, state: &KeyState) -> [usize; 2] {
        let n_met = |bits: fn(u64) -> u64| {
            let all: BTreeSet<u64> = keys.clone().map(|key| bits(state.hash_one(key))).collect();
            keys.clone().count() - all.len()
        };
        [n_met(|hash| hash & 0xfff_ffff), n_met(|hash| hash >> 36)]
    }

    #[test]
    fn keys_that_were_chosen_alike_are_spread_like_any_others() {
        // 10,000 of 2^28 places: 0.19 meetings are expected.
        let spread = |at: usize| {
            (0..10_000_u32).map(move |n| {
                let mut key = [7; 32];
                key[at..at + 4].copy_from_slice(&n.to_le_bytes());
                Key::from_bytes(key)
            })
        };
        for at in [0, 4, 8, 16, 28] {
            let met = meetings(spread(at), &KeyState::default());
            assert!(met.iter().all(|n| *n <= 8), "bytes from {at} on: {met:?}");
        }
    }

    #[test]
    fn each_table_has_a_secret_of_its_own() {
        let key = Key::of(b"record");
        assert_ne!(KeyState::default().hash_one(key), KeyState::default().hash_one(key));
    }
}
