//! The list of an image as it is read: what differs from the parent, runs of zeros as one entry.

use offsite_model::{Digest, Key, ListDigest, PointId};
use offsite_proto::text::{Big, Text};
use offsite_store::{ImageWriter, ListEntry, StoreError};

use crate::points::ListNote;

/// A run of zeros is cut at multiples of this, so that the list of one image is one and the same
/// for everybody.
const ZERO_RUN_BYTES: u64 = 2 << 30;

/// Takes what was read, in order, and pushes what changed.
pub(super) struct List {
    image: ImageWriter,
    /// The point whose image it is made against.
    parent: Option<PointId>,
    bytes: u64,
    record_bytes: u64,
    /// Changed zeros that are not pushed yet.
    zeros: Option<(u64, u64)>,
    /// What was pushed, as this side knows it; the commit compares it with what was stored (D-16).
    digest: ListDigest,
}

/// An image whose list is whole, the digest that its commit has to come to, and what is noted.
pub(super) struct Listed {
    pub(super) image: ImageWriter,
    pub(super) digest: Digest,
    pub(super) note: ListNote,
}

impl List {
    /// The list of an image of this size, upon that of a point where it has a parent.
    pub(super) fn new(
        image: ImageWriter,
        parent: Option<PointId>,
        bytes: u64,
        record_bytes: u32,
    ) -> Self {
        Self {
            image,
            parent,
            bytes,
            record_bytes: u64::from(record_bytes),
            zeros: None,
            digest: ListDigest::new(),
        }
    }

    /// Size of its records.
    pub(super) const fn record_bytes(&self) -> u64 {
        self.record_bytes
    }

    /// Takes a record at an offset; whether it differs from the parent's and is not zeros, so that
    /// its bytes matter.
    pub(super) fn record(
        &mut self,
        offset: u64,
        length: u32,
        key: Key,
    ) -> Result<bool, StoreError> {
        let position = offset / self.record_bytes;
        if self.image.parent_key(position)? == Some(key) {
            return Ok(false);
        }
        if key == Key::ZERO {
            self.zeros(offset, offset.saturating_add(u64::from(length)))?;
            return Ok(false);
        }
        self.flush()?;
        self.push(ListEntry { offset, length, key })?;
        Ok(true)
    }

    /// Takes a hole; both ends are boundaries of records or the end of the volume.
    pub(super) fn hole(&mut self, start: u64, end: u64) -> Result<(), StoreError> {
        let mut offset = start;
        while offset < end {
            let next = offset.saturating_add(self.record_bytes).min(end);
            if self.image.parent_key(offset / self.record_bytes)? != Some(Key::ZERO) {
                self.zeros(offset, next)?;
            }
            offset = next;
        }
        Ok(())
    }

    /// Ends the list.
    pub(super) fn finish(mut self) -> Result<Listed, StoreError> {
        self.flush()?;
        let entries = Big(self.image.n_entries());
        let note = ListNote { parent: self.parent.map(Text), entries };
        Ok(Listed { image: self.image, digest: self.digest.finish(), note })
    }

    fn push(&mut self, entry: ListEntry) -> Result<(), StoreError> {
        self.digest.entry(entry.offset, entry.length, &entry.key);
        self.image.push(entry)
    }

    fn zeros(&mut self, start: u64, end: u64) -> Result<(), StoreError> {
        match &mut self.zeros {
            Some((_, until)) if *until == start => *until = end,
            _ => {
                self.flush()?;
                self.zeros = Some((start, end));
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let Some((mut start, end)) = self.zeros.take() else { return Ok(()) };
        while start < end {
            let cut = (start / ZERO_RUN_BYTES).saturating_add(1).saturating_mul(ZERO_RUN_BYTES);
            let until = cut.min(end).min(self.bytes);
            let length = u32::try_from(until.saturating_sub(start)).unwrap_or(u32::MAX);
            self.push(ListEntry { offset: start, length, key: Key::ZERO })?;
            start = until;
        }
        Ok(())
    }
}
