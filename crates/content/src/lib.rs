//! A volume of a recovery point, read back: its groups decoded on several threads, every record
//! compared with its key.
//!
//! The volume is cut into windows. Workers fetch the groups of a window and fill it; the thread
//! that asked hands the windows on in order of offsets. Windows in flight bound the memory: a few
//! per thread. Zeros are told and not sent.
//!
//! **Absent:** files and streams: whoever asked has them. Which volume of which point: the cores
//! know.

mod in_order;
mod window;

use offsite_model::{Key, TenantId};
use offsite_store::{Image, Store, StoreError};

pub use in_order::Part;

use crate::window::{Steps, Window};

/// What kept a volume from being read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store's own words.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gives no thread.
    #[error("cannot start threads to read with: {0}")]
    NoThread(std::io::Error),
    /// A fault of ours: what a thread held is missing.
    #[error("a thread that reads ended unexpectedly")]
    Lost,
    /// A fault of ours: the groups of a window did not fill it.
    #[error("the {bytes} bytes of the volume at {offset} were not filled by their records")]
    NotFilled {
        /// Where the window begins.
        offset: u64,
        /// Its length.
        bytes: usize,
    },
}

/// A volume of a point, open for reading.
pub struct Content {
    store: Store,
    tenant: TenantId,
    image: Image,
    n_threads: usize,
}

impl Content {
    /// An image of a store, to be read by so many threads; at least one.
    #[must_use]
    pub fn new(store: Store, tenant: TenantId, image: Image, n_threads: usize) -> Self {
        Self { store, tenant, image, n_threads: n_threads.max(1) }
    }

    /// Size of the volume.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.image.bytes()
    }

    /// Bytes of the volume that are not zeros. Reads the whole list.
    ///
    /// # Errors
    /// A damaged list; the disk's.
    pub fn data_bytes(&self) -> Result<u64, StoreError> {
        let mut sum = 0_u64;
        for entry in self.image.list(0) {
            let entry = entry?;
            if entry.key != Key::ZERO {
                sum = sum.saturating_add(u64::from(entry.length));
            }
        }
        Ok(sum)
    }

    fn steps(&self) -> Steps<impl Iterator<Item = Result<offsite_store::ListEntry, StoreError>>> {
        Steps::new(self.image.list(0))
    }

    /// Fetches the groups of a window and puts their records in place.
    fn fill(&self, window: &Window) -> Result<Vec<u8>, ReadError> {
        let not_filled = || ReadError::NotFilled { offset: window.offset, bytes: window.bytes };
        let mut bytes = vec![0; window.bytes];
        let mut n_filled = 0_usize;
        for fetch in self.store.plan(self.tenant, &self.image, &window.entries)? {
            let fetched = fetch.read(&self.store)?;
            for (offset, record) in fetched.records() {
                let start =
                    usize::try_from(offset.saturating_sub(window.offset)).unwrap_or(usize::MAX);
                let place = bytes.get_mut(start..start.saturating_add(record.len()));
                place.ok_or_else(not_filled)?.copy_from_slice(record);
                n_filled = n_filled.saturating_add(record.len());
            }
        }
        // A window that was not filled to the last byte would restore zeros in silence.
        if n_filled == window.bytes { Ok(bytes) } else { Err(not_filled()) }
    }
}

#[cfg(test)]
mod tests;
