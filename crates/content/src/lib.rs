//! A volume of a recovery point, read back: its groups decoded on several threads, every record
//! compared with its key.
//!
//! The volume is cut into windows. One thread finds the groups of a window, workers fetch them and
//! fill it, and the thread that asked hands the windows on in order of offsets, or several lanes of
//! the volume in turns.
//! Windows in flight bound the memory: a few per thread, whose memory is used again. Zeros are told
//! and not sent.
//!
//! **Absent:** files and streams: whoever asked has them. Which volume of which point: the cores
//! know.

mod lanes;
mod piece;
mod window;

use std::ops::Range;

use offsite_model::{Key, Lanes, TenantId};
use offsite_store::{Fetch, GroupCache, Image, ListEntry, Store, StoreError};

pub use lanes::Part;
pub use piece::Piece;

use crate::window::{Buffer, Window, Windows};

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
    cache: GroupCache,
    n_threads: usize,
}

impl Content {
    /// An image of a store, to be read by so many threads; at least one.
    #[must_use]
    pub fn new(store: Store, tenant: TenantId, image: Image, n_threads: usize) -> Self {
        Self { store, tenant, image, cache: GroupCache::default(), n_threads: n_threads.max(1) }
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

    /// How its volume is cut for those who can take several lanes of it at once.
    #[must_use]
    pub fn lanes(&self) -> Lanes {
        Lanes::several(self.bytes(), self.image.record_bytes())
    }

    /// The windows of a range that begins and ends between records.
    fn windows(
        &self,
        range: Range<u64>,
    ) -> Windows<impl Iterator<Item = Result<ListEntry, StoreError>>> {
        let is_behind = move |entry: &Result<ListEntry, StoreError>| {
            entry.as_ref().is_ok_and(|entry| entry.offset >= range.end)
        };
        Windows::new(self.image.list(range.start).take_while(move |entry| !is_behind(entry)))
    }

    /// Finds the groups of a window, and has the disk bring them.
    fn plan(&self, window: &Window) -> Result<Vec<Fetch>, StoreError> {
        let fetches = self.store.plan(self.tenant, &self.image, &window.entries)?;
        self.store.expect(&fetches);
        Ok(fetches)
    }

    /// Fetches the groups of a window and puts their records in place.
    fn fill(
        &self,
        window: &Window,
        fetches: Vec<Fetch>,
        buffer: &mut [u8],
    ) -> Result<(), ReadError> {
        let mut n_filled = window.fill_zeros(buffer);
        let mut room = Buffer { runs: &window.runs, bytes: buffer };
        for fetch in fetches {
            n_filled = n_filled.saturating_add(fetch.read(&self.store, &self.cache, &mut room)?);
        }
        // What was not filled to the last byte would restore something else in silence.
        if n_filled == window.bytes {
            return Ok(());
        }
        Err(ReadError::NotFilled { offset: window.offset(), bytes: window.bytes })
    }
}

#[cfg(test)]
mod tests;
