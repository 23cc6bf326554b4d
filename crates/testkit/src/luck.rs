//! Randomness from a seed, so that a world that went wrong once goes wrong again.
//!
//! The generator is a counter put through a mixing function (SplitMix64): its state is one number,
//! it needs no lock, and two streams of different seeds share nothing. It is fast and even, and
//! worth nothing as a secret.

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use offsite_model::{Digest, Luck};

/// The variable that replaces the seed of every [`SeededLuck::from_env_or`].
pub const SEED_VARIABLE: &str = "OFFSITE_SEED";

/// The step of the counter: 2^64 divided by the golden ratio, which is odd, so every state is
/// visited.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Seeded randomness. When the test that owns it panics, its seed goes to stderr.
#[derive(Debug)]
pub struct SeededLuck {
    seed: u64,
    state: AtomicU64,
    /// Splits are silent: their parent's seed reproduces them.
    is_root: bool,
}

impl SeededLuck {
    /// Luck with exactly this seed, whatever the environment says.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, state: AtomicU64::new(seed), is_root: true }
    }

    /// Luck with the seed of the environment variable `OFFSITE_SEED`, or else this one.
    ///
    /// # Panics
    ///
    /// When the variable is set to something that is no unsigned 64-bit number.
    #[must_use]
    pub fn from_env_or(seed: u64) -> Self {
        match env::var(SEED_VARIABLE) {
            Ok(text) => match text.parse() {
                Ok(seed) => Self::new(seed),
                Err(_) => panic!("{SEED_VARIABLE}={text} is no seed: give a number below 2^64"),
            },
            Err(_) => Self::new(seed),
        }
    }

    /// The seed this luck began with.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A stream of its own for one part of a world, decided by the seed and the label alone:
    /// drawing more in one part then changes nothing in another.
    #[must_use]
    pub fn split(&self, label: &str) -> Self {
        let mut input = self.seed.to_le_bytes().to_vec();
        input.extend_from_slice(label.as_bytes());
        let mut seed = [0; 8];
        seed.copy_from_slice(&Digest::of(&input).as_bytes()[..8]);
        let seed = u64::from_le_bytes(seed);
        Self { seed, state: AtomicU64::new(seed), is_root: false }
    }

    /// The next number of the stream.
    pub fn next(&self) -> u64 {
        let state = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number at or above `low` and below `high`; `low` where the range is empty.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low))
    }

    /// True `n` times out of `of`, on the average.
    pub fn chance(&self, n: u64, of: u64) -> bool {
        self.below(of) < n
    }

    /// One of these.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        let index = usize::try_from(self.below(of.len() as u64)).expect("an index fits");
        of.get(index).expect("there is something to pick from")
    }

    /// Puts these in a random order.
    pub fn shuffle<T>(&self, of: &mut [T]) {
        for last in (1..of.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).expect("an index fits");
            of.swap(last, other);
        }
    }

    /// So many random bytes.
    pub fn bytes(&self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.fill(&mut bytes);
        bytes
    }
}

impl Luck for SeededLuck {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.next().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }
}

impl Drop for SeededLuck {
    fn drop(&mut self) {
        if self.is_root && thread::panicking() {
            eprintln!("this world had the seed {0}: repeat it with {SEED_VARIABLE}={0}", self.seed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        let (a, b) = (SeededLuck::new(7), SeededLuck::new(7));
        assert_eq!(a.bytes(100), b.bytes(100));
        assert_ne!(a.bytes(100), SeededLuck::new(8).bytes(100));
    }

    #[test]
    fn a_split_does_not_depend_on_what_was_drawn_before() {
        let (a, b) = (SeededLuck::new(7), SeededLuck::new(7));
        a.next();
        assert_eq!(a.split("network").next(), b.split("network").next());
        assert_ne!(b.split("network").next(), b.split("disk").next());
    }

    #[test]
    fn numbers_stay_in_their_range_and_reach_both_ends() {
        let luck = SeededLuck::new(1);
        let mut seen = [0_u32; 5];
        for _ in 0..1_000 {
            seen[usize::try_from(luck.between(10, 15) - 10).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&n| n > 100), "{seen:?}");
        assert_eq!(luck.between(4, 4), 4);
        assert_eq!(luck.below(0), 0);
    }

    #[test]
    fn a_shuffle_keeps_what_it_moves() {
        let mut cards: Vec<u32> = (0..52).collect();
        SeededLuck::new(3).shuffle(&mut cards);
        assert_ne!(cards, (0..52).collect::<Vec<_>>());
        cards.sort_unstable();
        assert_eq!(cards, (0..52).collect::<Vec<_>>());
    }
}
