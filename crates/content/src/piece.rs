//! Bytes of a volume on their way, in memory that is used again.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use offsite_model::Aligned;

use crate::window::WINDOW_BYTES;

/// Bytes of a volume, in memory that begins at a block
/// ([`BLOCK_BYTES`](offsite_model::BLOCK_BYTES)) where records are whole blocks, so that they can
/// be written past the system's cache. When all pieces of a window are dropped, the reading that
/// made them uses its memory again.
#[derive(Clone, Debug)]
pub struct Piece {
    window: Arc<Memory>,
    at: usize,
    bytes: usize,
}

/// The buffer of a window, which goes back to where it came from.
#[derive(Debug)]
pub(crate) struct Memory {
    memory: Aligned,
    home: Arc<Pool>,
}

/// Memory of windows that nobody needs at the moment.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Vec<Aligned>>);

impl Pool {
    /// Room for a window, which holds anything.
    pub(crate) fn memory(pool: &Arc<Self>) -> Memory {
        let used = pool.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = used.unwrap_or_else(|| Aligned::zeroed(WINDOW_BYTES));
        Memory { memory, home: Arc::clone(pool) }
    }
}

impl Memory {
    /// The bytes, to be filled.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.bytes_mut()
    }

    /// Part of it.
    pub(crate) fn piece(self: &Arc<Self>, at: usize, bytes: usize) -> Piece {
        Piece { window: Arc::clone(self), at, bytes }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.home.0.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let memory = self.window.memory.bytes();
        memory.get(self.at..self.at.saturating_add(self.bytes)).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Piece {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Piece {}
