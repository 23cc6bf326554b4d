//! Memory that a disk takes as it lies.

use crate::files::BLOCK_BYTES;

/// Bytes whose first lies at a multiple of [`BLOCK_BYTES`], so that they can be written past the
/// system's cache without another copy ([`crate::File::past_cache`]).
#[derive(Debug, Default)]
pub struct Aligned {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Aligned {
    /// So many zeros.
    #[must_use]
    pub fn zeroed(bytes: usize) -> Self {
        let memory = vec![0; bytes.saturating_add(BLOCK_BYTES)];
        // Always below a block in practice; anything else would cost a copy, and no more.
        let start = Some(memory.as_ptr().align_offset(BLOCK_BYTES));
        Self { start: start.filter(|start| *start < BLOCK_BYTES).unwrap_or(0), memory, bytes }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..self.start + self.bytes).unwrap_or_default()
    }

    /// The bytes, to be written.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + self.bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_begins_at_a_block_wherever_it_moves() {
        for bytes in [0, 1, BLOCK_BYTES, 1 << 20, (4 << 20) + 7] {
            let mut memory = Box::new(Aligned::zeroed(bytes));
            memory.bytes_mut().fill(7);
            let memory = *memory;
            assert_eq!(memory.bytes().as_ptr().align_offset(BLOCK_BYTES), 0);
            assert!(memory.bytes().len() == bytes && memory.bytes().iter().all(|byte| *byte == 7));
        }
    }
}
