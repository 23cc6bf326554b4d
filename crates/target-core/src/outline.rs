//! Lists that are read back, walked once: digest, number of entries, and where an ordinal lies.
//!
//! A list is not stored as such; it is made from the pages of an image. What a walk finds out is
//! kept for the calls that follow, since a restore asks for a volume piece by piece.
//!
//! **Absent:** records, and who may ask.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use offsite_model::{Digest, Key, ListDigest, PointId, TenantId, VolumeId};
use offsite_store::{ListEntry, Store, StoreError};

/// Entries from one mark to the next: what a look for an ordinal walks at most.
const MARK_EVERY: u64 = 1 << 16;
/// Outlines that are kept.
const OUTLINES_MAX: usize = 1_024;

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListName {
    pub(crate) tenant: TenantId,
    pub(crate) point: PointId,
    pub(crate) volume: VolumeId,
    /// The point whose image passes on what is not in the list; none for the whole volume.
    pub(crate) parent: Option<PointId>,
}

impl ListName {
    fn entries(
        &self,
        store: &Store,
        offset: u64,
    ) -> Result<impl Iterator<Item = Result<ListEntry, StoreError>> + use<>, StoreError> {
        let changes = store.changes(self.tenant, self.point, self.volume, self.parent)?;
        Ok(changes.starting_at(offset))
    }
}

/// What a walk over a list found.
#[derive(Clone, Debug)]
pub(crate) struct Outline {
    pub(crate) digest: Digest,
    pub(crate) n_entries: u64,
    /// Size of the volume.
    pub(crate) volume_bytes: u64,
    /// Bytes of its records.
    pub(crate) record_bytes: u64,
    /// Offsets of the entries whose ordinals are multiples of [`MARK_EVERY`].
    marks: Vec<u64>,
}

impl Outline {
    /// Walks a list. Blocks.
    pub(crate) fn walk(store: &Store, name: &ListName) -> Result<Self, StoreError> {
        let mut digest = ListDigest::new();
        let (mut n_entries, mut record_bytes, mut marks) = (0_u64, 0_u64, Vec::new());
        for entry in name.entries(store, 0)? {
            let entry = entry?;
            if n_entries.is_multiple_of(MARK_EVERY) {
                marks.push(entry.offset);
            }
            digest.entry(entry.offset, entry.length, &entry.key);
            n_entries = n_entries.saturating_add(1);
            if entry.key != Key::ZERO {
                record_bytes = record_bytes.saturating_add(entry.length.into());
            }
        }
        let volume_bytes = store.image(name.tenant, name.point, name.volume)?.bytes();
        Ok(Self { digest: digest.finish(), n_entries, volume_bytes, record_bytes, marks })
    }

    /// The entries from an ordinal on, in order.
    pub(crate) fn entries_from(
        &self,
        store: &Store,
        name: &ListName,
        ordinal: u64,
    ) -> Result<impl Iterator<Item = Result<ListEntry, StoreError>> + use<>, StoreError> {
        let mark = usize::try_from(ordinal / MARK_EVERY).unwrap_or(usize::MAX);
        let offset = self.marks.get(mark).copied().unwrap_or(u64::MAX);
        let behind = usize::try_from(ordinal % MARK_EVERY).unwrap_or(usize::MAX);
        Ok(name.entries(store, offset)?.skip(behind))
    }
}

/// The outlines that were used last.
#[derive(Default)]
pub(crate) struct Outlines(Mutex<VecDeque<(ListName, Arc<Outline>)>>);

impl Outlines {
    /// The outline of a list, walked where it is not known. Blocks.
    pub(crate) fn of(&self, store: &Store, name: &ListName) -> Result<Arc<Outline>, StoreError> {
        if let Some(known) = self.known(name) {
            return Ok(known);
        }
        // Not under the lock: a walk of a large volume takes seconds.
        let outline = Arc::new(Outline::walk(store, name)?);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back((*name, Arc::clone(&outline)));
        if all.len() > OUTLINES_MAX {
            all.pop_front();
        }
        Ok(outline)
    }

    fn known(&self, name: &ListName) -> Option<Arc<Outline>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|(known, _)| known == name)?;
        let found = all.remove(at)?;
        let outline = Arc::clone(&found.1);
        all.push_back(found);
        Some(outline)
    }
}
