//! What changed between an image and another one of its volume: the list that crosses to a target.
//!
//! Pages that both roots refer to alike are skipped unread, so the cost is that of the change.

use offsite_model::{Key, PointId, TenantId, VolumeId};

use super::{Image, ListEntry, PAGE_POSITIONS, ZERO_RUN_BYTES, length_at};
use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// The list of an image against another point's image of the same volume: its changed positions
    /// in order of offsets, zeros joined and cut at multiples of 2 GiB (operations.md 4.3). Without
    /// a parent it is the whole image. Its digest is the image's `imageDigest` where the image was
    /// committed on that parent with exactly its changes.
    ///
    /// # Errors
    /// [`StoreError::PointUnknown`]; [`StoreError::BaseMissing`] without such a parent image, or
    /// one of another record size or form; [`StoreError::Damaged`], or the disk's.
    pub fn changes(
        &self,
        tenant: TenantId,
        point: PointId,
        volume: VolumeId,
        parent: Option<PointId>,
    ) -> Result<Changes, StoreError> {
        let image = self.image(tenant, point, volume)?;
        let parent = parent.map(|parent| match self.image(tenant, parent, volume) {
            Err(StoreError::PointUnknown(_)) => Err(StoreError::BaseMissing),
            other => other,
        });
        let parent = parent.transpose()?;
        let is_other = |parent: &Image| {
            parent.record_bytes() != image.record_bytes() || parent.form() != image.form()
        };
        if parent.as_ref().is_some_and(is_other) {
            return Err(StoreError::BaseMissing);
        }
        Ok(Changes { image, parent, position: 0, waiting: None, is_over: false })
    }
}

/// The entries of [`Store::changes`], in order; ends after the first error.
pub struct Changes {
    image: Image,
    parent: Option<Image>,
    position: u64,
    /// A run of zeros that may go on.
    waiting: Option<ListEntry>,
    is_over: bool,
}

impl Changes {
    /// The image whose list it is.
    #[must_use]
    pub const fn image(&self) -> &Image {
        &self.image
    }

    /// The same list from this offset on, at which one of its entries begins.
    #[must_use]
    pub fn starting_at(mut self, offset: u64) -> Self {
        self.position = offset / u64::from(self.image.record_bytes());
        self.waiting = None;
        self
    }

    /// The next changed position at or after the current one, and its key.
    fn next_changed(&mut self) -> Result<Option<(u64, Key)>, StoreError> {
        while self.position < self.image.n_positions() {
            let position = self.position;
            let page = (position / PAGE_POSITIONS) as u32;
            if position.is_multiple_of(PAGE_POSITIONS) && self.is_shared(page) {
                self.position += PAGE_POSITIONS;
                continue;
            }
            self.position += 1;
            let Some(key) = self.image.key_at(position)? else { break };
            if self.inherited(position)? != Some(key) {
                return Ok(Some((position, key)));
            }
        }
        Ok(None)
    }

    /// Whether nothing of a page can have changed: both have all its positions in the same pages.
    fn is_shared(&self, page: u32) -> bool {
        let Some(parent) = &self.parent else { return false };
        let end = (u64::from(page) + 1) * PAGE_POSITIONS;
        let is_same_size = parent.bytes() == self.image.bytes();
        let records = |image: &Image| image.bytes() / u64::from(image.record_bytes());
        let is_whole = records(parent).min(records(&self.image)) >= end;
        (is_same_size || is_whole) && parent.has_same_page(&self.image, page)
    }

    /// What the parent passes on at a position; nothing where the size cut or extended a record.
    fn inherited(&self, position: u64) -> Result<Option<Key>, StoreError> {
        let Some(parent) = &self.parent else { return Ok(None) };
        let (bytes, size) = (self.image.bytes(), self.image.record_bytes());
        let is_passed_on =
            parent.bytes() == bytes || position < parent.bytes().min(bytes) / u64::from(size);
        if is_passed_on { parent.key_at(position) } else { Ok(None) }
    }

    fn next_entry(&mut self) -> Result<Option<ListEntry>, StoreError> {
        loop {
            let Some((position, key)) = self.next_changed()? else {
                return Ok(self.waiting.take());
            };
            let offset = position * u64::from(self.image.record_bytes());
            let length = length_at(position, self.image.bytes(), self.image.record_bytes());
            let entry = ListEntry { offset, length, key };
            if let Some(run) = &mut self.waiting {
                let is_joined = key == Key::ZERO
                    && run.offset + u64::from(run.length) == offset
                    && run.offset / ZERO_RUN_BYTES == offset / ZERO_RUN_BYTES;
                if is_joined {
                    run.length += length;
                    continue;
                }
                // The position is come to again.
                self.position = position;
                return Ok(self.waiting.take());
            }
            if key != Key::ZERO {
                return Ok(Some(entry));
            }
            self.waiting = Some(entry);
        }
    }
}

impl Iterator for Changes {
    type Item = Result<ListEntry, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let entry = self.next_entry();
        self.is_over = !matches!(entry, Ok(Some(_)));
        entry.transpose()
    }
}
