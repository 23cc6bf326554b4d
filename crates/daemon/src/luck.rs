//! Real randomness, and apart from key generation in `pki` the only module that draws it.

use offsite_model::Luck;

/// The random generator of the cryptographic library, seeded by the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemLuck;

impl Luck for SystemLuck {
    #[expect(clippy::expect_used, reason = "see the comment at the call")]
    fn fill(&self, bytes: &mut [u8]) {
        // There is nothing sensible to go on with: a program without randomness would hand out
        // guessable ids and codes. The generator fails only where the kernel gives it no entropy at
        // all.
        aws_lc_rs::rand::fill(bytes).expect("the system's random generator answers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        let mut draws = [[0; 32]; 2];
        draws.iter_mut().for_each(|draw| SystemLuck.fill(draw));
        assert_ne!(draws[0], draws[1]);
        assert_ne!(draws[0], [0; 32]);
    }
}
