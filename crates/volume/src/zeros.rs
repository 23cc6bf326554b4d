//! Recognising zeros, at memory speed.

const LANE_BYTES: usize = 64;

/// Whether every byte is zero.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    // Whole lanes without a branch inside are what the compiler turns into vector instructions.
    let mut lanes = bytes.chunks_exact(LANE_BYTES);
    lanes.by_ref().all(|lane| lane.iter().fold(0, |all, byte| all | byte) == 0)
        && lanes.remainder().iter().all(|byte| *byte == 0)
}
