//! Writing an image's list: the pages that differ from the parent's, then the root.

use std::sync::Arc;

use offsite_model::{Digest, File, Key, ListDigest, OpenMode, TenantId};
use zerocopy::IntoBytes;

use super::page::{self, Page};
use super::read::{Ids, NO_REFS, PageRefs, read_page};
use super::{
    Image, ImageSpec, ListEntry, PAGE_POSITIONS, RECORD_BYTES_RANGE, ZERO_RUN_BYTES, length_at,
    n_positions,
};
use crate::error::StoreError;
use crate::format::{
    FILE_VERSION, ManifestTail, PageRef, ROOT_MAGIC, RootHead, TRAILER_MAGIC, crc,
};
use crate::group::Form;
use crate::holds::HeldImage;
use crate::layout::{Folder, Place};
use crate::rows::ImageRow;

/// The page that entries are being put into.
struct Current {
    index: u32,
    keys: Vec<Key>,
    /// The parent's full page, and everything the parent says of this page.
    base: Vec<Key>,
    before: Vec<Key>,
    refs: PageRefs,
    /// Whether the parent has fewer positions here: its pages may hold keys beyond its own end.
    is_larger: bool,
}

/// Takes an image's list in order of offsets and writes its manifest.
///
/// With a parent the list holds the changed positions and all others are inherited; without one it
/// holds the whole volume. Memory does not grow with the list: one page and the root are held.
pub struct ImageWriter {
    pub(crate) tenant: TenantId,
    spec: ImageSpec,
    parent: Option<Image>,
    place: Place,
    number: u32,
    file: Arc<dyn File>,
    end: u64,
    refs: Vec<PageRefs>,
    current: Option<Current>,
    /// The first position that no entry has reached.
    next: u64,
    /// Positions below this may be inherited.
    inherited: u64,
    list: ListDigest,
    n_entries: u64,
    /// Whether the temporary file belongs to a [`Prepared`] now.
    is_finished: bool,
}

/// An image whose manifest is written, but neither durable nor named.
pub(crate) struct Prepared {
    pub(crate) row: ImageRow,
    pub(crate) number: u32,
    pub(crate) bytes: u64,
    pub(crate) file: Arc<dyn File>,
    refs: Vec<PageRefs>,
    place: Place,
    /// Whether it has its final name; until then its file goes with it.
    pub(crate) is_named: bool,
}

impl ImageWriter {
    pub(crate) fn create(
        place: &Place,
        number: u32,
        tenant: TenantId,
        spec: ImageSpec,
        parent: Option<Image>,
    ) -> Result<Self, StoreError> {
        if !RECORD_BYTES_RANGE.contains(&spec.record_bytes) || !spec.record_bytes.is_power_of_two()
        {
            return Err(StoreError::OutOfBounds(format!("record size {}", spec.record_bytes)));
        }
        let n_pages = n_positions(spec.bytes, spec.record_bytes).div_ceil(PAGE_POSITIONS);
        if n_pages > 1 << 20 {
            return Err(StoreError::OutOfBounds(format!("volume of {} bytes", spec.bytes)));
        }
        let mut inherited = 0;
        if let Some(parent) = &parent {
            if parent.record_bytes() != spec.record_bytes || parent.form() != spec.form {
                return Err(StoreError::BaseMissing);
            }
            // Where the size changed, a record that is cut or extended has to be listed.
            inherited = if parent.bytes() == spec.bytes {
                n_positions(spec.bytes, spec.record_bytes)
            } else {
                parent.bytes().min(spec.bytes) / u64::from(spec.record_bytes)
            };
        }
        let path = place.temporary(Folder::Manifests, number);
        let file = place
            .files
            .open(&path, OpenMode::CreateNew)
            .map_err(StoreError::io(format!("create {}", path.display())))?;
        Ok(Self {
            tenant,
            spec,
            parent,
            place: place.clone(),
            number,
            file,
            end: 0,
            refs: Vec::with_capacity(n_pages as usize),
            current: None,
            next: 0,
            inherited,
            list: ListDigest::new(),
            n_entries: 0,
            is_finished: false,
        })
    }

    /// The hold on the parent's pages, which the new image may share.
    pub(crate) fn parent_hold(&self) -> Option<HeldImage> {
        self.parent.as_ref().and_then(Image::hold)
    }

    /// The key that the parent has at a position: none without a parent or beyond what it passes
    /// on.
    ///
    /// # Errors
    /// When the parent's page cannot be read or is damaged.
    pub fn parent_key(&self, position: u64) -> Result<Option<Key>, StoreError> {
        match &self.parent {
            Some(parent) if position < self.inherited => parent.key_at(position),
            _ => Ok(None),
        }
    }

    /// Entries taken so far.
    #[must_use]
    pub const fn n_entries(&self) -> u64 {
        self.n_entries
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// [`StoreError::BadList`] when it breaks a rule: out of order, overlapping, off the grid of
    /// records, of a wrong length, or after a gap that nobody passes on.
    pub fn push(&mut self, entry: ListEntry) -> Result<(), StoreError> {
        let record_bytes = u64::from(self.spec.record_bytes);
        let bad = |why: &str| StoreError::BadList(format!("entry at {}: {why}", entry.offset));
        let end = entry
            .offset
            .checked_add(u64::from(entry.length))
            .filter(|end| *end <= self.spec.bytes)
            .ok_or_else(|| bad("beyond the end of the volume"))?;
        if !entry.offset.is_multiple_of(record_bytes) || entry.length == 0 {
            return Err(bad("not on a record's boundary"));
        }
        let first = entry.offset / record_bytes;
        let last = end.div_ceil(record_bytes);
        if first < self.next {
            return Err(bad("out of order"));
        }
        if entry.key == Key::ZERO {
            if !end.is_multiple_of(record_bytes) && end != self.spec.bytes {
                return Err(bad("zeros that end within a record"));
            }
            if entry.offset / ZERO_RUN_BYTES != (end - 1) / ZERO_RUN_BYTES {
                return Err(bad("zeros across a multiple of 2 GiB"));
            }
        } else if entry.length != length_at(first, self.spec.bytes, self.spec.record_bytes) {
            return Err(bad("a record of another length than the image's"));
        }
        if first > self.next && first > self.inherited {
            return Err(bad("a gap before it that no parent fills"));
        }
        self.list.entry(entry.offset, entry.length, &entry.key);
        self.n_entries += 1;
        self.next = last;
        self.put(first, last, entry.key)
    }

    /// Puts a key at positions, page by page.
    fn put(&mut self, first: u64, last: u64, key: Key) -> Result<(), StoreError> {
        let mut position = first;
        while position < last {
            let index = (position / PAGE_POSITIONS) as u32;
            let page_end = (u64::from(index) + 1) * PAGE_POSITIONS;
            let end = page_end.min(last);
            self.turn_to(index)?;
            if let Some(current) = &mut self.current {
                let start = (position % PAGE_POSITIONS) as usize;
                let n = (end - position) as usize;
                current.keys.iter_mut().skip(start).take(n).for_each(|place| *place = key);
            }
            position = end;
        }
        Ok(())
    }

    /// Makes a page the current one; pages between are the parent's.
    fn turn_to(&mut self, index: u32) -> Result<(), StoreError> {
        if self.current.as_ref().is_some_and(|current| current.index == index) {
            return Ok(());
        }
        self.end_page()?;
        self.inherit_until(index);
        let before = u64::from(index) * PAGE_POSITIONS;
        let n_positions = n_positions(self.spec.bytes, self.spec.record_bytes);
        let n_keys = n_positions.saturating_sub(before).min(PAGE_POSITIONS) as usize;
        let (mut keys, mut base, mut refs) = (Vec::new(), Vec::new(), NO_REFS);
        let mut is_larger = false;
        if let Some(parent) = &self.parent
            && index < parent.n_pages()
        {
            (keys, base) = parent.load(index)?;
            refs = parent.refs(index);
            is_larger = keys.len() < n_keys;
        }
        keys.resize(n_keys, Key::ZERO);
        base.resize(n_keys, Key::ZERO);
        let before = keys.clone();
        self.current = Some(Current { index, before, keys, base, refs, is_larger });
        Ok(())
    }

    fn inherit_until(&mut self, index: u32) {
        while self.refs.len() < index as usize {
            let page = self.refs.len() as u32;
            self.refs.push(self.parent.as_ref().map_or(NO_REFS, |parent| parent.refs(page)));
        }
    }

    /// Decides how the current page is kept: as the parent's, as a patch, or in full.
    fn end_page(&mut self) -> Result<(), StoreError> {
        let Some(current) = self.current.take() else { return Ok(()) };
        let Current { index, keys, base, before, refs, is_larger } = current;
        let kept = if keys.iter().all(|key| *key == Key::ZERO) {
            NO_REFS
        } else if keys == before && !is_larger {
            refs
        } else {
            // Also what is again as the full page has it and was not in the parent: nobody has held
            // that record meanwhile, so the commit has to look whether it is there.
            let changed = (0_u16..).zip(keys.iter().zip(base.iter().zip(&before)));
            let changes: Vec<(u16, Key)> = changed
                .filter(|(_, (key, (base, before)))| key != base || key != before)
                .map(|(position, (key, _))| (position, *key))
                .collect();
            let [full, _] = refs;
            if changes.is_empty() {
                [full, NO_REFS[1]]
            } else if changes.len() * 2 <= keys.len() {
                [full, self.write_page(&page::encode_patch(index, &changes))?]
            } else {
                [self.write_page(&page::encode_full(index, &keys))?, NO_REFS[1]]
            }
        };
        self.refs.push(kept);
        Ok(())
    }

    fn write_page(&mut self, bytes: &[u8]) -> Result<PageRef, StoreError> {
        let page_ref = PageRef {
            manifest: self.number.into(),
            bytes: (bytes.len() as u32).into(),
            offset: self.end.into(),
            digest: *Digest::of(bytes).as_bytes(),
        };
        self.write(bytes)?;
        Ok(page_ref)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let doing = StoreError::io(format!("write manifest {:08x}", self.number));
        self.file.write_all_at(bytes, self.end).map_err(doing)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Ends the list, compares its digest with the announced one, and writes root and trailer,
    /// which says whose image it is: store, tenant, point.
    pub(crate) fn finish(
        mut self,
        announced: Option<Digest>,
        [store, tenant, point]: Ids,
    ) -> Result<Prepared, StoreError> {
        let n_positions = n_positions(self.spec.bytes, self.spec.record_bytes);
        if self.next < n_positions && self.inherited < n_positions {
            return Err(StoreError::BadList("it ends before the volume does".to_owned()));
        }
        let list = self.list.finish();
        if announced.is_some_and(|announced| announced != list) {
            return Err(StoreError::ListMismatch);
        }
        self.end_page()?;
        let n_pages = n_positions.div_ceil(PAGE_POSITIONS) as u32;
        self.inherit_until(n_pages);
        let spec = self.spec;
        let head = RootHead {
            magic: ROOT_MAGIC,
            version: FILE_VERSION,
            form: u8::from(spec.form == Form::Encrypted),
            levels: 1,
            zero: 0,
            image: spec.image.to_bytes(),
            volume: spec.volume.to_bytes(),
            bytes: spec.bytes.into(),
            record_bytes: spec.record_bytes.into(),
            n_pages: n_pages.into(),
            list: *list.as_bytes(),
            parent: self.parent.as_ref().map_or([0; 32], |parent| parent.row.root_digest),
        };
        let root = [head.as_bytes(), self.refs.as_bytes()].concat();
        let root_offset = self.end;
        let root_bytes = u32::try_from(root.len()).unwrap_or(u32::MAX);
        let mut tail = ManifestTail {
            magic: TRAILER_MAGIC,
            version: FILE_VERSION,
            zero: [0; 3],
            number: self.number.into(),
            root_bytes: root_bytes.into(),
            root_offset: root_offset.into(),
            root_digest: *Digest::of(&root).as_bytes(),
            store,
            tenant,
            point,
            zeros: [0; 20],
            crc: 0.into(),
        };
        let (checked, _) = tail.as_bytes().split_at(size_of::<ManifestTail>() - 4);
        tail.crc = crc(&[checked]).into();
        self.write(&root)?;
        self.write(tail.as_bytes())?;
        let row = ImageRow {
            image: spec.image.to_bytes(),
            volume: spec.volume.to_bytes(),
            bytes: spec.bytes,
            record_bytes: spec.record_bytes,
            is_encrypted: spec.form == Form::Encrypted,
            manifest: self.number,
            root_offset,
            root_bytes,
            root_digest: tail.root_digest,
            list_digest: *list.as_bytes(),
        };
        self.is_finished = true;
        Ok(Prepared {
            row,
            number: self.number,
            bytes: self.end,
            file: Arc::clone(&self.file),
            refs: std::mem::take(&mut self.refs),
            place: self.place.clone(),
            is_named: false,
        })
    }
}

/// Removes an unfinished file. What this cannot remove, the next opening will.
fn discard(place: &Place, number: u32) {
    drop(place.remove(&place.temporary(Folder::Manifests, number)));
}

impl Drop for ImageWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            discard(&self.place, self.number);
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if !self.is_named {
            discard(&self.place, self.number);
        }
    }
}

impl Prepared {
    /// Visits every record that the new pages refer to: its offset, length and key. The pages are
    /// read back from the file, so what is checked is what will be committed.
    pub(crate) fn references(
        &self,
        mut visit: impl FnMut(ListEntry) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (bytes, record_bytes) = (self.row.bytes, self.row.record_bytes);
        for (index, refs) in (0_u32..).zip(&self.refs) {
            for page_ref in refs.iter().filter(|page_ref| page_ref.manifest.get() == self.number) {
                let found = read_page(&*self.file, index, page_ref)
                    .map_err(StoreError::io("read a new manifest back"))?;
                let keys: Vec<(u16, Key)> = match found {
                    Some(Page::Full(keys)) => (0_u16..).zip(keys).collect(),
                    Some(Page::Patch(changes)) => changes,
                    None => return Err(StoreError::Damaged("a new manifest".to_owned())),
                };
                for (within, key) in keys.into_iter().filter(|(_, key)| *key != Key::ZERO) {
                    let position = u64::from(index) * PAGE_POSITIONS + u64::from(within);
                    let offset = position * u64::from(record_bytes);
                    let length = length_at(position, bytes, record_bytes);
                    visit(ListEntry { offset, length, key })?;
                }
            }
        }
        Ok(())
    }
}
