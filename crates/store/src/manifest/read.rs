//! Reading an image's list.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use offsite_model::{Digest, File, ImageId, Key, LANES_MAX, OpenMode, VolumeId};
use zerocopy::{FromBytes, IntoBytes};

use super::page::{self, Page};
use super::{ListEntry, PAGE_POSITIONS, ZERO_RUN_BYTES, length_at, n_positions};
use crate::error::StoreError;
use crate::format::{
    ManifestTail, PageRef, ROOT_MAGIC, RootHead, TRAILER_MAGIC, are_zero, check_version, crc, split,
};
use crate::group::Form;
use crate::holds::HeldImage;
use crate::layout::{Folder, Place};
use crate::rows::ImageRow;

/// Manifest files an image keeps open while it is read.
const OPEN_FILES_MAX: usize = 32;
/// Pages an image keeps in memory, of 128 KiB.
const PAGES_KEPT: usize = LANES_MAX as usize;
/// Most bytes of a root that are believed: a volume of 16 TiB in records of 4 KiB has 96 MiB.
pub(crate) const ROOT_BYTES_MAX: u32 = 128 << 20;

/// The two references of a page: the full one, and the patch over it. All zeros for none.
pub(crate) type PageRefs = [PageRef; 2];
pub(crate) const NO_REF: PageRef = PageRef {
    manifest: zerocopy::little_endian::U32::ZERO,
    bytes: zerocopy::little_endian::U32::ZERO,
    offset: zerocopy::little_endian::U64::ZERO,
    digest: [0; 32],
};
pub(crate) const NO_REFS: PageRefs = [NO_REF, NO_REF];

pub(crate) fn is_none(page_ref: &PageRef) -> bool {
    page_ref.bytes.get() == 0
}

/// The ids of a store, a tenant and a point.
pub(crate) type Ids = [[u8; 16]; 3];

/// An image of a recovery point, open for reading: which record stands where.
///
/// Cheap to keep: it holds its root (96 bytes per 4096 records) and the pages that were asked for
/// last, one for each lane of a volume.
pub struct Image {
    place: Place,
    pub(crate) row: ImageRow,
    refs: Vec<PageRefs>,
    open: Mutex<BTreeMap<u32, Arc<dyn File>>>,
    last: Mutex<VecDeque<(u32, Arc<Vec<Key>>)>>,
    /// Keeps collection from its pages as long as this is open.
    held: Option<HeldImage>,
}

impl Image {
    /// Opens the image of a catalog row; the root must have the digest that the row states.
    pub(crate) fn open(place: &Place, row: ImageRow) -> Result<Self, StoreError> {
        let damaged = || StoreError::Damaged(format!("root of image {}", row.image()));
        if row.root_bytes > ROOT_BYTES_MAX {
            return Err(damaged());
        }
        let path = place.file(Folder::Manifests, row.manifest);
        let doing = || StoreError::io(format!("read {}", path.display()));
        let file = place.files.open(&path, OpenMode::Read).map_err(doing())?;
        let mut bytes = vec![0; row.root_bytes as usize];
        read_exact(&*file, &mut bytes, row.root_offset).map_err(doing())?.ok_or_else(damaged)?;
        if Digest::of(&bytes).as_bytes() != &row.root_digest {
            return Err(damaged());
        }
        let (head, refs) = split::<RootHead>(&bytes).ok_or_else(damaged)?;
        let refs = <[PageRefs]>::ref_from_bytes(refs).map_err(|_| damaged())?;
        let n_pages = n_positions(row.bytes, row.record_bytes).div_ceil(PAGE_POSITIONS);
        if head.magic != ROOT_MAGIC {
            return Err(damaged());
        }
        check_version("the root of an image", head.version).map_err(doing())?;
        if head.levels != 1
            || head.zero != 0
            || head.form != u8::from(row.is_encrypted)
            || head.image != row.image
            || head.volume != row.volume
            || head.list != row.list_digest
            || head.bytes.get() != row.bytes
            || head.record_bytes.get() != row.record_bytes
            || refs.len() as u64 != n_pages
        {
            return Err(damaged());
        }
        let refs = refs.to_vec();
        Ok(Self {
            place: place.clone(),
            row,
            refs,
            open: Mutex::new(BTreeMap::new()),
            last: Mutex::new(VecDeque::new()),
            held: None,
        })
    }

    /// With a hold on its pages.
    pub(crate) fn held(self, held: HeldImage) -> Self {
        Self { held: Some(held), ..self }
    }

    pub(crate) fn hold(&self) -> Option<HeldImage> {
        self.held.clone()
    }

    /// Its id.
    #[must_use]
    pub const fn image(&self) -> ImageId {
        self.row.image()
    }

    /// The volume it shows.
    #[must_use]
    pub const fn volume(&self) -> VolumeId {
        self.row.volume()
    }

    /// Size of the volume in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.row.bytes
    }

    /// Size of its records in bytes; the last may be shorter.
    #[must_use]
    pub const fn record_bytes(&self) -> u32 {
        self.row.record_bytes
    }

    /// What its keys are the hash of.
    #[must_use]
    pub const fn form(&self) -> Form {
        if self.row.is_encrypted { Form::Encrypted } else { Form::Plain }
    }

    /// Digest of the list it was committed with (`imageDigest`).
    #[must_use]
    pub const fn list_digest(&self) -> Digest {
        Digest::from_bytes(self.row.list_digest)
    }

    /// Number of positions: records of `record_bytes`, the last perhaps shorter.
    #[must_use]
    pub const fn n_positions(&self) -> u64 {
        n_positions(self.row.bytes, self.row.record_bytes)
    }

    /// The key at a position: [`Key::ZERO`] for zeros; none beyond the end.
    ///
    /// # Errors
    /// When the page cannot be read or is damaged.
    pub fn key_at(&self, position: u64) -> Result<Option<Key>, StoreError> {
        if position >= self.n_positions() {
            return Ok(None);
        }
        let keys = self.page_keys((position / PAGE_POSITIONS) as u32)?;
        Ok(keys.get((position % PAGE_POSITIONS) as usize).copied())
    }

    /// The keys of a run of positions that is read as one page: `4096` from `page * 4096` on.
    ///
    /// # Errors
    /// When the page cannot be read or is damaged.
    pub fn page_keys(&self, page: u32) -> Result<Arc<Vec<Key>>, StoreError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, keys)) = last.iter().find(|(index, _)| *index == page) {
            return Ok(Arc::clone(keys));
        }
        let (keys, _) = self.load(page)?;
        let keys = Arc::new(keys);
        // Whoever reads on does not come back to the one that was read first.
        last.truncate(PAGES_KEPT - 1);
        last.push_front((page, Arc::clone(&keys)));
        Ok(keys)
    }

    /// The list of the whole image from an offset on, in order; runs of zeros are joined and cut at
    /// multiples of 2 GiB. Ends after the first error.
    pub fn list(&self, offset: u64) -> impl Iterator<Item = Result<ListEntry, StoreError>> + '_ {
        let mut position = offset / u64::from(self.record_bytes());
        std::iter::from_fn(move || {
            let entry = self.entry_at(position);
            position = match &entry {
                Ok(Some(entry)) => {
                    let end = entry.offset + u64::from(entry.length);
                    end.div_ceil(u64::from(self.record_bytes()))
                }
                _ => u64::MAX,
            };
            entry.transpose()
        })
    }

    fn entry_at(&self, position: u64) -> Result<Option<ListEntry>, StoreError> {
        let Some(key) = self.key_at(position)? else { return Ok(None) };
        let record_bytes = u64::from(self.record_bytes());
        let offset = position * record_bytes;
        let length = length_at(position, self.bytes(), self.record_bytes());
        if key != Key::ZERO {
            return Ok(Some(ListEntry { offset, length, key }));
        }
        let end_max = self.bytes().min((offset / ZERO_RUN_BYTES + 1) * ZERO_RUN_BYTES);
        let mut next = position + 1;
        while next * record_bytes < end_max && self.key_at(next)? == Some(Key::ZERO) {
            next += 1;
        }
        let end = (next * record_bytes).min(end_max);
        let length = u32::try_from(end - offset).unwrap_or(u32::MAX);
        Ok(Some(ListEntry { offset, length, key }))
    }

    /// Whether the end of the manifest file says where the root lies and whose it is (store,
    /// tenant, point), as it was written.
    pub(crate) fn has_good_tail(&self, of: Ids) -> Result<bool, StoreError> {
        let file = self.manifest(self.row.manifest)?;
        let mut bytes = [0; size_of::<ManifestTail>()];
        let offset = self.row.root_offset + u64::from(self.row.root_bytes);
        let doing = || StoreError::io(format!("read manifest {:08x}", self.row.manifest));
        if file.bytes().map_err(doing())? != offset + bytes.len() as u64 {
            return Ok(false);
        }
        file.read_exact_at(&mut bytes, offset).map_err(doing())?;
        let (checked, stated) = bytes.split_at(size_of::<ManifestTail>() - 4);
        let Some((tail, _)) = split::<ManifestTail>(&bytes) else { return Ok(false) };
        if tail.magic != TRAILER_MAGIC || crc(&[checked]).to_le_bytes() != stated {
            return Ok(false);
        }
        check_version("the end of a manifest", tail.version).map_err(doing())?;
        Ok(tail.number.get() == self.row.manifest
            && tail.root_offset.get() == self.row.root_offset
            && tail.root_bytes.get() == self.row.root_bytes
            && tail.root_digest == self.row.root_digest
            && [tail.store, tail.tenant, tail.point] == of
            && are_zero(&[&tail.zero, &tail.zeros]))
    }

    pub(crate) fn refs(&self, page: u32) -> PageRefs {
        self.refs.get(page as usize).copied().unwrap_or(NO_REFS)
    }

    /// Whether both say the same of a page because they refer to the same bytes.
    pub(crate) fn has_same_page(&self, other: &Self, page: u32) -> bool {
        self.refs(page).as_bytes() == other.refs(page).as_bytes()
    }

    pub(crate) fn n_pages(&self) -> u32 {
        self.refs.len() as u32
    }

    /// Positions of a page that exist.
    pub(crate) fn n_keys(&self, page: u32) -> usize {
        let before = u64::from(page) * PAGE_POSITIONS;
        self.n_positions().saturating_sub(before).min(PAGE_POSITIONS) as usize
    }

    /// The keys of a page, and those of its full page alone: what a further patch is made against.
    /// The latter may be more than the volume has positions, since a volume that was made smaller
    /// shares its parent's full page; whoever makes it larger again has to patch them away.
    pub(crate) fn load(&self, page: u32) -> Result<(Vec<Key>, Vec<Key>), StoreError> {
        let [full, patch] = self.refs(page);
        let mut base = Vec::new();
        if !is_none(&full) {
            let Page::Full(keys) = self.read_page(page, &full)? else {
                return Err(self.page_damaged(page));
            };
            base = keys;
        }
        let mut keys = base.clone();
        keys.resize(self.n_keys(page), Key::ZERO);
        if !is_none(&patch) {
            let Page::Patch(changes) = self.read_page(page, &patch)? else {
                return Err(self.page_damaged(page));
            };
            for (position, key) in changes {
                if let Some(place) = keys.get_mut(usize::from(position)) {
                    *place = key;
                }
            }
        }
        Ok((keys, base))
    }

    fn page_damaged(&self, page: u32) -> StoreError {
        StoreError::Damaged(format!("page {page} of image {}", self.image()))
    }

    fn read_page(&self, index: u32, page_ref: &PageRef) -> Result<Page, StoreError> {
        let file = self.manifest(page_ref.manifest.get())?;
        let found = read_page(&*file, index, page_ref)
            .map_err(StoreError::io(format!("read a page of image {}", self.image())))?;
        found.ok_or_else(|| self.page_damaged(index))
    }

    fn manifest(&self, number: u32) -> Result<Arc<dyn File>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&number) {
            return Ok(Arc::clone(file));
        }
        let path = self.place.file(Folder::Manifests, number);
        let file = self
            .place
            .files
            .open(&path, OpenMode::Read)
            .map_err(StoreError::io(format!("open {}", path.display())))?;
        if open.len() >= OPEN_FILES_MAX {
            open.pop_first();
        }
        open.insert(number, Arc::clone(&file));
        Ok(file)
    }
}

/// Manifest files that are open for reading pages of many images, a few at a time.
pub(crate) struct ManifestFiles<'a> {
    place: &'a Place,
    open: BTreeMap<u32, Arc<dyn File>>,
}

impl<'a> ManifestFiles<'a> {
    pub(crate) const fn new(place: &'a Place) -> Self {
        Self { place, open: BTreeMap::new() }
    }

    /// The page of this index that a reference names.
    pub(crate) fn read(&mut self, index: u32, page_ref: &PageRef) -> Result<Page, StoreError> {
        let number = page_ref.manifest.get();
        let doing = || StoreError::io(format!("read manifest {number:08x}"));
        if !self.open.contains_key(&number) && self.open.len() >= OPEN_FILES_MAX {
            self.open.pop_first();
        }
        let file = match self.open.entry(number) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(none) => {
                let path = self.place.file(Folder::Manifests, number);
                none.insert(self.place.files.open(&path, OpenMode::Read).map_err(doing())?)
            }
        };
        let found = read_page(&**file, index, page_ref).map_err(doing())?;
        found.ok_or_else(|| StoreError::Damaged(format!("page {index} in manifest {number:08x}")))
    }
}

/// Reads the page that a reference names; none when its bytes have another digest.
pub(crate) fn read_page(
    file: &dyn File,
    index: u32,
    page_ref: &PageRef,
) -> std::io::Result<Option<Page>> {
    // A page of 4096 positions has at most 136 KiB; the digest decides on the rest.
    let n = page_ref.bytes.get() as usize;
    if n > 256 << 10 {
        return Ok(None);
    }
    let mut bytes = vec![0; n];
    if read_exact(file, &mut bytes, page_ref.offset.get())?.is_none()
        || Digest::of(&bytes).as_bytes() != &page_ref.digest
    {
        return Ok(None);
    }
    page::decode(index, &bytes)
}

/// Reads exactly; none when the file ends before, which is damage and no error of the disk.
fn read_exact(file: &dyn File, bytes: &mut [u8], offset: u64) -> std::io::Result<Option<()>> {
    match file.read_exact_at(bytes, offset) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        other => other.map(Some),
    }
}
