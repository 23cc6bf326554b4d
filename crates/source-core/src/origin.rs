//! What this source has to send: images of an agent's recovery points, as lists of what each
//! changed.
//!
//! The list of an image is found by comparing it with its parent's, page by page. What an image was
//! first announced as (parent, digest, number of entries) is remembered, so that it stays the same
//! whatever is deleted around it.
//!
//! **Absent:** calls, and when to send what (the machine).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use offsite_exchange::replication::plan::Ours;
use offsite_exchange::replication::source::{Listed, Parcel, Place};
use offsite_model::{AgentId, Digest, ImageId, Key, ListDigest, PointId, TenantId, VolumeId};
use offsite_proto::group::{self, Group, GroupEntry};
use offsite_proto::session::{CommitToken, ImageType, OpenSession};
use offsite_proto::text::{Big, Text, Time};
use offsite_proto::window::{ListEntry, ZERO_RUN_CUT_BYTES};
use offsite_store::catalog::{CatalogError, Table, Transactions, TypedRows, TypedRowsMut, Value};
use offsite_store::group::{
    CheckedGroup, Codec, Form, GROUP_BYTES_MAX, GROUP_RECORDS_MAX, TableRow,
};
use offsite_store::{Image, Reading, RecordPlace, Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::error::Trouble;
use crate::memory::Memory;
use crate::points;

/// What images were announced as, by id.
const ANNOUNCED: Table = Table::new("source_announced");
/// Positions of a page of keys.
const PAGE_POSITIONS: u64 = 4096;
/// Sizes of groups that are remembered: 16 bytes each.
const SIZES_MAX: usize = 1 << 16;
/// The zstd level of groups that are made anew.
const LEVEL: i32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AnnouncedRow {
    epoch: u32,
    parent: Option<ParentRow>,
    digest: [u8; 32],
    n_entries: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ParentRow {
    point: [u8; 16],
    image: [u8; 16],
    epoch: u32,
    digest: [u8; 32],
}

impl Value for AnnouncedRow {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 256;
}

/// An image that can be sent.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// As the plan wants it.
    pub ours: Ours,
    /// Its point.
    pub point: PointId,
    /// As row 56 announces it, but for the job.
    pub open: OpenSession,
    parent_point: Option<PointId>,
}

impl Outbound {
    /// The point whose image its list is made against.
    pub(crate) const fn parent_point(&self) -> Option<PointId> {
        self.parent_point
    }
}

/// All images of an agent's whole recovery points, oldest first. Blocks.
///
/// # Errors
/// Damage; the disk's.
pub fn images(
    store: &Store,
    tenant: TenantId,
    memory: &Memory,
    agent: AgentId,
) -> Result<Vec<Outbound>, Trouble> {
    let mut outbound = Vec::new();
    // The newest image of each volume so far: its point, and what it was announced as.
    let mut newest: BTreeMap<VolumeId, (PointId, ImageId, AnnouncedRow)> = BTreeMap::new();
    let kept = points::all(store, tenant, agent)?;
    for kept in
        kept.iter().filter(|kept| kept.point.is_complete() && kept.point.deleted_at.is_none())
    {
        let point = &kept.point;
        for (index, summary) in point.images.iter().enumerate() {
            let before = newest.get(&summary.volume);
            let row = match announced(memory, summary.image)? {
                Some(row) => row,
                None => {
                    let parent = before.map(|(point, image, row)| ParentRow {
                        point: point.to_bytes(),
                        image: image.to_bytes(),
                        epoch: row.epoch,
                        digest: row.digest,
                    });
                    announce(store, tenant, memory, kept, summary.volume, parent)?
                }
            };
            newest.insert(summary.volume, (point.point, summary.image, row.clone()));
            let digest = Digest::from_bytes(row.digest);
            let parent = row.parent.as_ref();
            let parent_digest = parent.map(|parent| Digest::from_bytes(parent.digest));
            let open = OpenSession {
                agent_id: Text(agent),
                job_id: Text(offsite_model::JobId::from_bytes([0; 16])),
                recovery_point_id: Text(point.point),
                image_id: Text(summary.image),
                volume_driver_id: Text(summary.volume),
                epoch_number: row.epoch,
                previous_epoch_number: parent.map(|parent| parent.epoch),
                parent_image_id: parent.map(|parent| Text(ImageId::from_bytes(parent.image))),
                parent_image_digest: parent_digest.map(Text),
                image_type: if parent.is_some() { ImageType::Incremental } else { ImageType::Base },
                size_bytes: Big(summary.bytes),
                record_size: summary.record_bytes,
                record_count: Big(row.n_entries),
                image_digest: Text(digest),
                encryption_key_id: None,
                rollup_granularity_cell: Default::default(),
                utc_created_timestamp: Time(point.taken_at),
                volume_image_count: point.n_images,
                commit_token: Text(token(summary.image, &digest)),
                header_hash: None,
                volume_image_hash: None,
                allow_orphan: false,
                display_name: kept.note.labels.get(index).cloned(),
            };
            outbound.push(Outbound {
                ours: Ours {
                    name: (summary.volume, row.epoch),
                    digest,
                    parent: parent
                        .zip(parent_digest)
                        .map(|(parent, digest)| (parent.epoch, digest)),
                    taken_at: point.taken_at,
                    is_seeded: false,
                },
                point: point.point,
                open,
                parent_point: parent.map(|parent| PointId::from_bytes(parent.point)),
            });
        }
    }
    Ok(outbound)
}

/// Announces images anew whose parents are neither here nor at the target, so that they can be sent
/// all the same: each against the newest image before it that is here, or as a base image. The
/// target has none of them under its epoch, so nothing there contradicts. Blocks.
///
/// # Errors
/// Damage; the disk's.
pub fn announce_anew(
    store: &Store,
    tenant: TenantId,
    memory: &Memory,
    agent: AgentId,
    stranded: &[ImageId],
) -> Result<(), Trouble> {
    let mut newest: BTreeMap<VolumeId, (PointId, ImageId, AnnouncedRow)> = BTreeMap::new();
    let kept = points::all(store, tenant, agent)?;
    for kept in
        kept.iter().filter(|kept| kept.point.is_complete() && kept.point.deleted_at.is_none())
    {
        for summary in &kept.point.images {
            let row = match announced(memory, summary.image)? {
                Some(row) if !stranded.contains(&summary.image) => row,
                _ => {
                    let before = newest.get(&summary.volume);
                    let parent = before.map(|(point, image, row)| ParentRow {
                        point: point.to_bytes(),
                        image: image.to_bytes(),
                        epoch: row.epoch,
                        digest: row.digest,
                    });
                    announce(store, tenant, memory, kept, summary.volume, parent)?
                }
            };
            newest.insert(summary.volume, (kept.point.point, summary.image, row));
        }
    }
    Ok(())
}

/// Forgets what images of points that are gone for good were announced as. Blocks.
///
/// # Errors
/// The disk's.
pub(crate) fn forget(memory: &Memory, gone: &[points::Kept]) -> Result<(), Trouble> {
    Ok(memory.catalog().write(|rows| {
        for image in gone.iter().flat_map(|kept| &kept.point.images) {
            rows.remove(ANNOUNCED, &image.image.to_bytes())?;
        }
        Ok::<_, CatalogError>(())
    })?)
}

/// The same for the same image for ever, so that asking to commit again is a repeat.
fn token(image: ImageId, digest: &Digest) -> CommitToken {
    let bytes = [&b"offsite commit"[..], &image.to_bytes(), digest.as_bytes()].concat();
    let mut token = [0; 16];
    token.iter_mut().zip(Digest::of(&bytes).as_bytes()).for_each(|(to, from)| *to = *from);
    CommitToken::from_bytes(token)
}

fn announced(memory: &Memory, image: ImageId) -> Result<Option<AnnouncedRow>, Trouble> {
    Ok(memory.catalog().read(|rows| rows.value(ANNOUNCED, &image.to_bytes()))?)
}

fn announce(
    store: &Store,
    tenant: TenantId,
    memory: &Memory,
    kept: &points::Kept,
    volume: VolumeId,
    parent: Option<ParentRow>,
) -> Result<AnnouncedRow, Trouble> {
    let image = store.image(tenant, kept.point.point, volume)?;
    let id = image.image();
    let before = match &parent {
        Some(parent) => Some(store.image(tenant, PointId::from_bytes(parent.point), volume)?),
        None => None,
    };
    // A chain keeps one size of records; where that changed, a new chain begins.
    let is_chain = before.as_ref().is_some_and(|before| is_parent(before, &image));
    let (parent, before) = if is_chain { (parent, before) } else { (None, None) };
    let (digest, n_entries) = match noted(kept, id, parent.as_ref()) {
        Some(n_entries) => (image.list_digest(), n_entries),
        None => {
            let mut changes = Changes::new(image, before);
            let (mut digest, mut n_entries) = (ListDigest::new(), 0_u64);
            while let Some(entry) = changes.next_entry()? {
                digest.entry(entry.offset(), entry.bytes(), &entry.key());
                n_entries = n_entries.saturating_add(1);
            }
            (digest.finish(), n_entries)
        }
    };
    let digest = *digest.as_bytes();
    let row = AnnouncedRow { epoch: kept.note.sequence, parent, digest, n_entries };
    memory.catalog().write(|rows| rows.put_value(ANNOUNCED, &id.to_bytes(), &row))?;
    Ok(row)
}

/// Entries of the list that an image was made by, where that was made against this parent: then it
/// is the list that is sent.
fn noted(kept: &points::Kept, image: ImageId, parent: Option<&ParentRow>) -> Option<u64> {
    let index = kept.point.images.iter().position(|summary| summary.image == image)?;
    let list = kept.note.lists.get(index)?;
    let is_same = list.parent.map(|point| point.0.to_bytes()) == parent.map(|row| row.point);
    is_same.then_some(list.entries.0)
}

fn is_parent(parent: &Image, image: &Image) -> bool {
    parent.record_bytes() == image.record_bytes() && parent.form() == image.form()
}

/// A page's number, its keys, and its parent's.
type KeysOfPage = (u32, Arc<Vec<Key>>, Option<Arc<Vec<Key>>>);

/// The list of what an image changed, in order.
struct Changes {
    image: Image,
    parent: Option<Image>,
    /// Positions below this may be the parent's.
    inherited: u64,
    position: u64,
    page: Option<KeysOfPage>,
}

impl Changes {
    fn new(image: Image, parent: Option<Image>) -> Self {
        let inherited = parent.as_ref().map_or(0, |parent| match parent.bytes() == image.bytes() {
            true => image.n_positions(),
            // Where the size changed, a record that is cut or extended has to be listed.
            false => parent.bytes().min(image.bytes()) / u64::from(image.record_bytes()),
        });
        Self { image, parent, inherited, position: 0, page: None }
    }

    fn next_entry(&mut self) -> Result<Option<ListEntry>, StoreError> {
        let n_positions = self.image.n_positions();
        let record_bytes = u64::from(self.image.record_bytes());
        while self.position < n_positions {
            if self.skip_equal_page()? {
                continue;
            }
            let position = self.position;
            let Some(key) = self.changed(position)? else {
                self.position = position.saturating_add(1);
                continue;
            };
            let offset = position.saturating_mul(record_bytes);
            let mut next = position.saturating_add(1);
            if key == Key::ZERO {
                let cut = (offset / ZERO_RUN_CUT_BYTES)
                    .saturating_add(1)
                    .saturating_mul(ZERO_RUN_CUT_BYTES);
                while next < n_positions
                    && next.saturating_mul(record_bytes) < cut
                    && self.changed(next)? == Some(Key::ZERO)
                {
                    next = next.saturating_add(1);
                }
            }
            self.position = next;
            let end = next.saturating_mul(record_bytes).min(self.image.bytes());
            let bytes = u32::try_from(end.saturating_sub(offset)).unwrap_or(u32::MAX);
            return Ok(Some(match key == Key::ZERO {
                true => ListEntry::zeros(offset, bytes),
                false => ListEntry::record(offset, bytes, key),
            }));
        }
        Ok(None)
    }

    /// The key at a position, where it is not the parent's.
    fn changed(&mut self, position: u64) -> Result<Option<Key>, StoreError> {
        self.turn_to(position)?;
        let Some((_, keys, before)) = &self.page else { return Ok(None) };
        let index = usize::try_from(position % PAGE_POSITIONS).unwrap_or(usize::MAX);
        let key = keys.get(index).copied();
        let inherited = before.as_ref().and_then(|keys| keys.get(index)).copied();
        Ok(key.filter(|key| position >= self.inherited || inherited != Some(*key)))
    }

    fn skip_equal_page(&mut self) -> Result<bool, StoreError> {
        let end = self.position.saturating_add(PAGE_POSITIONS);
        if !self.position.is_multiple_of(PAGE_POSITIONS) || end > self.inherited {
            return Ok(false);
        }
        self.turn_to(self.position)?;
        let is_equal =
            self.page.as_ref().is_some_and(|(_, keys, before)| Some(keys) == before.as_ref());
        if is_equal {
            self.position = end;
        }
        Ok(is_equal)
    }

    fn turn_to(&mut self, position: u64) -> Result<(), StoreError> {
        let page = u32::try_from(position / PAGE_POSITIONS).unwrap_or(u32::MAX);
        if self.page.as_ref().is_some_and(|(at, ..)| *at == page) {
            return Ok(());
        }
        let keys = self.image.page_keys(page)?;
        let first = u64::from(page).saturating_mul(PAGE_POSITIONS);
        let before = match &self.parent {
            Some(parent) if first < self.inherited => Some(parent.page_keys(page)?),
            _ => None,
        };
        self.page = Some((page, keys, before));
        Ok(())
    }
}

/// An image's list and its records, for one transfer. All of it blocks.
pub(crate) struct Origin {
    store: Store,
    tenant: TenantId,
    point: PointId,
    volume: VolumeId,
    parent_point: Option<PointId>,
    changes: Option<(u64, Changes)>,
    /// What was read last, from an ordinal on: a window may take less than was read for it.
    last: (u64, Vec<Listed>),
    /// Records and stored bytes of the groups that were met last.
    sizes: HashMap<u64, (u16, u32)>,
    /// Keeps the places that were listed readable until all is sent, whatever is collected.
    _reading: Reading,
}

impl Origin {
    pub(crate) fn new(store: Store, tenant: TenantId, image: &Outbound) -> Self {
        let volume = image.open.volume_driver_id.0;
        let (point, parent_point) = (image.point, image.parent_point);
        let (last, sizes) = ((0, Vec::new()), HashMap::new());
        let _reading = store.reading();
        Self { store, tenant, point, volume, parent_point, changes: None, last, sizes, _reading }
    }

    /// Entries of the list from an ordinal on, with the places of their records.
    pub(crate) fn read(&mut self, first: u64, n_entries: u64) -> Result<Vec<Listed>, Trouble> {
        let n_entries = usize::try_from(n_entries).unwrap_or(usize::MAX);
        let mut listed = self.read_again(first, n_entries);
        let at = first.saturating_add(listed.len() as u64);
        let entries = self.entries(at, n_entries.saturating_sub(listed.len()))?;
        listed.extend(self.placed(entries)?);
        self.last = (first, listed.clone());
        Ok(listed)
    }

    /// The part of it that the last reading had already.
    fn read_again(&self, first: u64, n_entries: usize) -> Vec<Listed> {
        let (begin, last) = &self.last;
        let n_before = first.checked_sub(*begin).and_then(|n| usize::try_from(n).ok());
        let rest = n_before.and_then(|n| last.get(n..)).unwrap_or_default();
        rest.iter().take(n_entries).copied().collect()
    }

    /// Entries from an ordinal on, in order: whoever goes back begins anew.
    fn entries(&mut self, first: u64, n_entries: usize) -> Result<Vec<ListEntry>, Trouble> {
        let mut entries = Vec::new();
        if n_entries == 0 {
            return Ok(entries);
        }
        let (at, changes) = match &mut self.changes {
            Some(changes) if changes.0 <= first => changes,
            changes => {
                let image = self.store.image(self.tenant, self.point, self.volume)?;
                let parent = match self.parent_point {
                    Some(point) => Some(self.store.image(self.tenant, point, self.volume)?),
                    None => None,
                };
                changes.insert((0, Changes::new(image, parent)))
            }
        };
        while entries.len() < n_entries {
            let Some(entry) = changes.next_entry()? else { break };
            if *at >= first {
                entries.push(entry);
            }
            *at = at.saturating_add(1);
        }
        Ok(entries)
    }

    /// Has the disk bring the sizes of the groups that were not met yet.
    fn expect_sizes(&self, found: &[Option<RecordPlace>]) {
        let mut last = None;
        let new = found.iter().flatten().copied().filter(|place| {
            let group = group_of(place);
            last.replace(group) != Some(group) && !self.sizes.contains_key(&group)
        });
        self.store.expect_sizes(self.tenant, new);
    }

    /// The entries with the places of their records.
    fn placed(&mut self, entries: Vec<ListEntry>) -> Result<Vec<Listed>, Trouble> {
        let records = entries.iter().filter(|entry| !entry.is_zeros());
        let keys: Vec<Key> = records.map(ListEntry::key).collect();
        let found = self.store.find_needed(self.tenant, Form::Plain, &keys)?;
        if self.sizes.len() > SIZES_MAX {
            self.sizes.clear();
        }
        self.expect_sizes(&found);
        let mut found = found.into_iter();
        let mut listed = Vec::with_capacity(entries.len());
        for entry in entries {
            if entry.is_zeros() {
                listed.push(Listed { entry, place: None });
                continue;
            }
            let unknown = || StoreError::UnknownRecord { key: entry.key(), offset: entry.offset() };
            let found = found.next().flatten().ok_or_else(unknown)?;
            let group = group_of(&found);
            let (n_records, stored_bytes) = match self.sizes.get(&group) {
                Some(size) => *size,
                None => {
                    let size = self.store.group_size(self.tenant, found)?;
                    *self.sizes.entry(group).or_insert(size)
                }
            };
            let place = Place { group, slot: found.slot, n_records, stored_bytes };
            listed.push(Listed { entry, place: Some(place) });
        }
        Ok(listed)
    }
}

/// The one number of a group.
fn group_of(place: &RecordPlace) -> u64 {
    u64::from(place.segment) << 32 | u64::from(place.place)
}

/// Has the disk bring what a parcel is made of, while those before it are sent.
pub(crate) fn expect(store: &Store, tenant: TenantId, parcel: &Parcel) {
    if let Parcel::Whole { group, bytes, .. } = parcel {
        store.expect_group(tenant, place_of(*group), u32::try_from(*bytes).unwrap_or(u32::MAX));
    }
}

/// Where a group lies.
fn place_of(group: u64) -> RecordPlace {
    let segment = u32::try_from(group >> 32).unwrap_or(u32::MAX);
    let place = u32::try_from(group & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    RecordPlace { segment, place, slot: 0, raw_bytes: 0 }
}

/// Writes the group that a parcel becomes. Blocks.
///
/// # Errors
/// Damage; the disk's.
pub(crate) fn write_group(
    store: &Store,
    tenant: TenantId,
    parcel: &Parcel,
    entries: &[ListEntry],
    out: &mut Vec<u8>,
) -> Result<(), Trouble> {
    match parcel {
        Parcel::Whole { group, ordinals, .. } => {
            let is_it =
                store.with_group_as_stored(tenant, place_of(*group), |codec, table, it| {
                    let keys = table.iter().map(|row| row.key);
                    let is_it = entries.len() == ordinals.len()
                        && keys.eq(entries.iter().map(ListEntry::key));
                    if is_it {
                        write(codec, table, it, ordinals, out);
                    }
                    is_it
                })?;
            if !is_it {
                return Err(Trouble::us("a stored group changed while it was sent"));
            }
        }
        Parcel::Part { ordinals, is_raw, .. } => {
            let records = records(store, tenant, entries)?;
            if *is_raw {
                let rows = entries
                    .iter()
                    .map(|entry| TableRow { key: entry.key(), raw_bytes: entry.bytes() });
                let rows: Vec<TableRow> = rows.collect();
                write(Codec::None, &rows, &records.concat(), ordinals, out);
            } else {
                let checked = checked(entries, &records)?;
                write(checked.codec(), checked.table(), checked.payload(), ordinals, out);
            }
        }
    }
    Ok(())
}

/// A group made anew of these records.
fn checked(entries: &[ListEntry], records: &[Vec<u8>]) -> Result<CheckedGroup, Trouble> {
    let pairs = entries.iter().zip(records);
    let pairs: Vec<(Key, &[u8])> =
        pairs.map(|(entry, record)| (entry.key(), record.as_slice())).collect();
    CheckedGroup::encode(Form::Plain, &pairs, LEVEL)
        .map_err(|error| Trouble::us(format!("cannot make a group: {error}")))
}

fn write(codec: Codec, rows: &[TableRow], payload: &[u8], ordinals: &[u64], out: &mut Vec<u8>) {
    let table: Vec<GroupEntry> = ordinals
        .iter()
        .zip(rows)
        .map(|(ordinal, row)| GroupEntry::new(*ordinal, row.key, row.raw_bytes))
        .collect();
    let group = Group {
        codec: match codec {
            Codec::None => group::Codec::None,
            Codec::Zstd => group::Codec::Zstd,
        },
        is_encrypted: false,
        raw_bytes: rows.iter().fold(0, |sum, row| row.raw_bytes.saturating_add(sum)),
        table: &table,
        payload,
    };
    group.write(out);
}

/// The payloads of RECORDS frames with these records. Blocks.
///
/// # Errors
/// Damage; the disk's.
pub(crate) fn groups(
    store: &Store,
    tenant: TenantId,
    wanted: &[(u64, ListEntry)],
) -> Result<Vec<Vec<u8>>, Trouble> {
    let mut groups = Vec::new();
    let mut rest = wanted;
    while !rest.is_empty() {
        let mut bytes = 0_usize;
        let fits = rest.iter().take(GROUP_RECORDS_MAX).take_while(|(_, entry)| {
            bytes = bytes.saturating_add(entry.bytes() as usize);
            bytes <= GROUP_BYTES_MAX
        });
        let (part, after) = rest.split_at(fits.count().max(1).min(rest.len()));
        rest = after;
        let entries: Vec<ListEntry> = part.iter().map(|(_, entry)| *entry).collect();
        let ordinals: Vec<u64> = part.iter().map(|(ordinal, _)| *ordinal).collect();
        let records = records(store, tenant, &entries)?;
        let checked = checked(&entries, &records)?;
        let mut group = Vec::new();
        write(checked.codec(), checked.table(), checked.payload(), &ordinals, &mut group);
        groups.push(group);
    }
    Ok(groups)
}

/// The records of these entries; neighbours in one group are decoded once.
pub(crate) fn records(
    store: &Store,
    tenant: TenantId,
    entries: &[ListEntry],
) -> Result<Vec<Vec<u8>>, Trouble> {
    let _reading = store.reading();
    let mut last = None;
    let mut records = Vec::with_capacity(entries.len());
    for entry in entries {
        let key = entry.key();
        let unknown = || StoreError::UnknownRecord { key, offset: entry.offset() };
        let found = store.find_needed(tenant, Form::Plain, &[key])?;
        let found = found.into_iter().flatten().next().ok_or_else(unknown)?;
        let group = match &last {
            Some((at, group)) if *at == (found.segment, found.place) => group,
            _ => {
                let group = store.group(tenant, found)?;
                &last.insert(((found.segment, found.place), group)).1
            }
        };
        let is_it = group.table().get(usize::from(found.slot)).is_some_and(|row| row.key == key);
        let record = group.record(found.slot).filter(|_| is_it);
        let damaged = || StoreError::Damaged(format!("the index's place of record {key}"));
        records.push(record.ok_or_else(damaged)?.to_vec());
    }
    Ok(records)
}
