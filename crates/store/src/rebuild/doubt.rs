//! Manifests that are whole and that no entry of the journal names: an image that was about to be
//! committed, or one whose entry is lost. Nobody may see them, and nobody may lose them.
//!
//! They are moved into a folder of their own, where no opening looks, together with the segments of
//! the same tenants that nothing names. What a crash left of no image is left to the next opening,
//! which removes it.

use std::collections::BTreeSet;

use offsite_model::{Digest, ImageId, OpenMode, PointId, TenantId, VolumeId};

use crate::catalog::{RedbCatalog, Transactions, TypedRows};
use crate::error::StoreError;
use crate::format::{
    ManifestTail, ROOT_MAGIC, RootHead, TRAILER_MAGIC, are_zero, check_version, crc, split,
};
use crate::layout::{Folder, Place};
use crate::manifest::ROOT_BYTES_MAX;
use crate::recover::rows_in;
use crate::rows::{
    MANIFESTS, ManifestRow, POINTS, PURGED, PointRow, PurgedRow, SEGMENTS, SegmentRow, point_key,
};
use crate::segment::has_head;

/// An image whose manifest is whole and that the journal does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InDoubt {
    /// Whose it would be.
    pub tenant: TenantId,
    /// The point it would belong to.
    pub point: PointId,
    /// The image.
    pub image: ImageId,
    /// The volume it shows.
    pub volume: VolumeId,
    /// Size of the volume in bytes.
    pub bytes: u64,
    /// Number of the manifest, its name in the folder.
    pub manifest: u32,
}

/// Moves what is in doubt away, by a catalog that was replayed and the numbers that collections
/// took; all that lies there then.
pub(super) fn put_aside(
    place: &Place,
    store: [u8; 16],
    catalog: &RedbCatalog,
    collected: &BTreeSet<u32>,
) -> Result<Vec<InDoubt>, StoreError> {
    let (segments, manifests) = catalog.read::<_, StoreError>(|rows| {
        Ok((rows_in::<SegmentRow>(rows, SEGMENTS)?, rows_in::<ManifestRow>(rows, MANIFESTS)?))
    })?;
    let known: BTreeSet<u32> = manifests.iter().map(|(number, _)| *number).collect();
    let is_new = |number: &u32| !collected.contains(number);
    let mut moved = Vec::new();
    for number in place.numbers(Folder::Manifests)?.into_iter().filter(is_new) {
        if known.contains(&number) {
            continue;
        }
        let image = read_whole(place, Folder::Manifests, number, store)?;
        if let Some(image) = image.filter(|image| image.manifest == number)
            && is_wanted(catalog, &image)?
        {
            moved.push((Folder::Manifests, number));
        }
    }
    let mut found = Vec::new();
    for number in place.numbers_if_there(Folder::Doubt)? {
        found.extend(read_whole(place, Folder::Doubt, number, store)?);
    }
    for (folder, number) in &moved {
        found.extend(read_whole(place, *folder, *number, store)?);
    }
    let tenants: BTreeSet<TenantId> = found.iter().map(|image| image.tenant).collect();
    let known: BTreeSet<u32> = segments.iter().map(|(number, _)| *number).collect();
    for number in place.numbers(Folder::Segments)?.into_iter().filter(is_new) {
        if known.contains(&number) {
            continue;
        }
        let path = place.file(Folder::Segments, number);
        let doing = || StoreError::io(format!("read segment {number:08x}"));
        let file = place.files.open(&path, OpenMode::Read).map_err(doing())?;
        for tenant in &tenants {
            if has_head(&*file, number, store, *tenant).map_err(doing())? {
                moved.push((Folder::Segments, number));
            }
        }
    }
    if !moved.is_empty() {
        place.make_folder(Folder::Doubt)?;
    }
    // Segments first: without a manifest there nobody would look for them a second time.
    moved.reverse();
    for (folder, number) in &moved {
        let (from, to) = (place.file(*folder, *number), place.file(Folder::Doubt, *number));
        let doing = || StoreError::io(format!("put {} aside", from.display()));
        place.files.rename(&from, &to).map_err(doing())?;
    }
    if !moved.is_empty() {
        place.sync(Folder::Doubt)?;
        place.sync(Folder::Manifests)?;
        place.sync(Folder::Segments)?;
    }
    Ok(found)
}

/// Whether an image may be of a point: not of one that was purged, and not one that is committed.
fn is_wanted(catalog: &RedbCatalog, image: &InDoubt) -> Result<bool, StoreError> {
    let key = point_key(image.tenant, image.point);
    catalog.read::<_, StoreError>(|rows| {
        let is_purged = rows.value::<PurgedRow>(PURGED, &key)?.is_some();
        let row = rows.value::<PointRow>(POINTS, &key)?;
        let images = row.map(|row| row.images).unwrap_or_default();
        let is_there = images.iter().any(|known| known.image() == image.image);
        Ok(!is_purged && !is_there)
    })
}

/// What the end of a manifest says, where its root is as it was written; none for anything else,
/// such as a segment in the same folder.
fn read_whole(
    place: &Place,
    folder: Folder,
    number: u32,
    store: [u8; 16],
) -> Result<Option<InDoubt>, StoreError> {
    const TAIL_BYTES: u64 = size_of::<ManifestTail>() as u64;
    let path = place.file(folder, number);
    let doing = || StoreError::io(format!("read {}", path.display()));
    let file = place.files.open(&path, OpenMode::Read).map_err(doing())?;
    let Some(end) = file.bytes().map_err(doing())?.checked_sub(TAIL_BYTES) else {
        return Ok(None);
    };
    let mut bytes = [0; TAIL_BYTES as usize];
    file.read_exact_at(&mut bytes, end).map_err(doing())?;
    let (checked, stated) = bytes.split_at(bytes.len() - 4);
    let Some((tail, _)) = split::<ManifestTail>(&bytes) else { return Ok(None) };
    if tail.magic != TRAILER_MAGIC || crc(&[checked]).to_le_bytes() != stated {
        return Ok(None);
    }
    check_version("the end of a manifest", tail.version).map_err(doing())?;
    let (offset, n) = (tail.root_offset.get(), tail.root_bytes.get());
    let is_ours = tail.number.get() == number
        && tail.store == store
        && are_zero(&[&tail.zero, &tail.zeros])
        && n <= ROOT_BYTES_MAX
        && offset.checked_add(u64::from(n)) == Some(end);
    if !is_ours {
        return Ok(None);
    }
    let mut root = vec![0; n as usize];
    file.read_exact_at(&mut root, offset).map_err(doing())?;
    let is_good = Digest::of(&root).as_bytes() == &tail.root_digest;
    let Some((head, _)) = split::<RootHead>(&root).filter(|_| is_good) else { return Ok(None) };
    if head.magic != ROOT_MAGIC {
        return Ok(None);
    }
    Ok(Some(InDoubt {
        tenant: TenantId::from_bytes(tail.tenant),
        point: PointId::from_bytes(tail.point),
        image: ImageId::from_bytes(head.image),
        volume: VolumeId::from_bytes(head.volume),
        bytes: head.bytes.get(),
        manifest: number,
    }))
}
