//! Randomness as a trait: real for programs, seeded for tests.

/// A source of random bytes, handed down to whoever needs some.
///
/// `daemon::luck` is the system's generator and the only one that makes secrets; `testkit::luck` is
/// seeded and prints its seed when a test fails.
pub trait Luck: Send + Sync {
    /// Fills the buffer with random bytes.
    fn fill(&self, bytes: &mut [u8]);

    /// A random number below `bound`, or 0 where the bound is 0. Good enough for jitter; it is
    /// biased by at most one part in 2^32 for the bounds in use and never makes a secret.
    fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        let wide = u128::from_le_bytes(bytes);
        match bound {
            0 => 0,
            _ => (wide % u128::from(bound)) as u64,
        }
    }
}
