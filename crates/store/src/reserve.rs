//! Room set aside, so that a full disk keeps nobody from freeing space (D-05).
//!
//! A limit alone does not do: it binds us, and not who else writes to the file system. So a file
//! holds blocks that nobody else can take. It is cut, by no more than is missing, when a change of
//! the catalog finds the disk all but full: others may take what was let go. It is filled again
//! before the next record is taken in: until then there is room for commits, deletions and what
//! makes space, and for nothing else. What the file system cannot set aside is left free by the
//! limit.
//!
//! Nothing in the file means anything, so no crash can harm it, and it is never synced.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offsite_model::{File, OpenMode};

use crate::error::StoreError;
use crate::layout::Place;

/// The share of the reserve that a change must find free, or so much is let go.
const ROOM_SHARE: u64 = 8;

/// The reserve of an open store.
#[derive(Default)]
pub(crate) struct Reserve {
    /// Bytes of the file when it is whole; 0 for a store without one.
    bytes: u64,
    /// Percent of the file system that ingest leaves free, the file included.
    percent: u64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    file: Option<Arc<dyn File>>,
    /// Its length.
    bytes: u64,
}

impl Reserve {
    /// Looks at what there is, before anything is written, and lets it go where a full disk would
    /// keep the store from being opened. A reserve that cannot be had is no reason not to open.
    pub(crate) fn open(place: &Place, bytes: u64, percent: u8) -> Self {
        let reserve = Self { bytes, percent: percent.into(), held: Mutex::default() };
        if reserve.bytes > 0 {
            let file = match place.files.open(&place.reserve(), OpenMode::Write) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    place.files.open(&place.reserve(), OpenMode::CreateNew)
                }
                other => other,
            };
            let bytes = file.as_ref().map_or(0, |file| file.bytes().unwrap_or(0));
            if let (Ok(file), 1..) = (&file, bytes) {
                // A copy may have kept the length and lost the blocks.
                drop(file.preallocate(0, bytes));
            }
            *reserve.held() = Held { file: file.ok(), bytes };
            reserve.make_room(place);
        }
        reserve
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that a change of the catalog and the journal finds free at least.
    const fn room(&self) -> u64 {
        self.bytes / ROOM_SHARE
    }

    /// To be called before anything is written that must succeed on a full disk.
    pub(crate) fn make_room(&self, place: &Place) {
        let mut held = self.held();
        if held.bytes == 0 {
            return;
        }
        let free = place.files.bytes_free(place.directory()).unwrap_or(0);
        let missing = self.room().saturating_sub(free);
        let left = held.bytes.saturating_sub(missing);
        // What cannot be let go is found out by the write that needs it.
        if missing > 0 && held.file.as_ref().is_some_and(|file| file.set_bytes(left).is_ok()) {
            held.bytes = left;
        }
    }

    /// Whether records may be taken in: the reserve is whole, or made so, and the limit is kept.
    pub(crate) fn admits(&self, place: &Place) -> Result<(), StoreError> {
        let doing = || StoreError::io("ask for the free space of the store");
        let free = || place.files.bytes_free(place.directory()).map_err(doing());
        let total = place.files.bytes_total(place.directory()).map_err(doing())?;
        let set_aside = self.fill(free()?)?;
        let floor = self.bytes.max(total / 100 * self.percent);
        let free_min = floor.saturating_sub(set_aside).max(self.room());
        if free()? < free_min { Err(StoreError::NoSpace) } else { Ok(()) }
    }

    /// Makes the reserve whole where there is room for it; the bytes that the file holds.
    fn fill(&self, free: u64) -> Result<u64, StoreError> {
        let mut held = self.held();
        let Some(file) = held.file.clone().filter(|_| self.bytes > 0) else { return Ok(0) };
        let missing = self.bytes.saturating_sub(held.bytes);
        if missing == 0 {
            return Ok(self.bytes);
        }
        if free < missing.saturating_add(self.room()) {
            return Err(StoreError::NoSpace);
        }
        let filled = file.preallocate(0, self.bytes).and_then(|()| file.set_bytes(self.bytes));
        match filled {
            Ok(()) => held.bytes = self.bytes,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                // The limit is what is left.
                held.file = None;
                return Ok(0);
            }
            Err(error) => return Err(StoreError::io("set the reserve aside")(error)),
        }
        Ok(self.bytes)
    }

    /// Makes the reserve whole at once, where that is possible; ingest tries again.
    pub(crate) fn fill_if_possible(&self, place: &Place) {
        if let Ok(free) = place.files.bytes_free(place.directory()) {
            drop(self.fill(free));
        }
    }
}
