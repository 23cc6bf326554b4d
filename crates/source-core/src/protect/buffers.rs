//! A fixed number of buffers: what bounds the memory of a protect, however slow the disk or the
//! processors are.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Buffers that are not in use.
pub(super) struct Pool {
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    free: Vec<Vec<u8>>,
    is_closed: bool,
}

/// A buffer in use; dropping it returns it.
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    pool: Arc<Pool>,
}

impl Pool {
    /// So many buffers of so many bytes, allocated when they are first used.
    pub(super) fn new(n_buffers: usize) -> Arc<Self> {
        let free = (0..n_buffers).map(|_| Vec::new()).collect();
        Arc::new(Self {
            state: Mutex::new(State { free, is_closed: false }),
            returned: Condvar::new(),
        })
    }

    /// Waits for a buffer of this length; none once the pool is closed.
    pub(super) fn take(self: &Arc<Self>, n: usize) -> Option<Buffer> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(mut bytes) = state.free.pop() {
                bytes.resize(n, 0);
                return Some(Buffer { bytes, pool: Arc::clone(self) });
            }
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets whoever waits go, with nothing.
    pub(super) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.returned.notify_all();
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.state.lock().unwrap_or_else(PoisonError::into_inner).free.push(bytes);
        self.pool.returned.notify_one();
    }
}
