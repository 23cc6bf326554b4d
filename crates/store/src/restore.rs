//! Reading an image back: which groups hold a window of its list, each read and decoded once.
//!
//! A restore takes windows of [`Image::list`], asks [`Store::plan`] which groups hold them, and
//! reads those on as many threads as it likes: a [`Fetch`] holds no lock while it reads, decodes
//! and checks. Memory is what the caller has in flight: one decoded group (at most 1 MiB) per
//! fetch.

use std::sync::Arc;

use offsite_model::{Key, TenantId};

use crate::error::StoreError;
use crate::group::{DecodedGroup, Form};
use crate::holds::Reading;
use crate::manifest::{Image, ListEntry};
use crate::segment::RecordPlace;
use crate::store::Store;

/// A record wanted from a group.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    slot: u8,
    offset: u64,
    length: u32,
    key: Key,
}

/// One group to read, and what is wanted of it.
#[derive(Clone, Debug)]
pub struct Fetch {
    tenant: TenantId,
    form: Form,
    place: RecordPlace,
    wanted: Vec<Wanted>,
    /// Keeps the place readable.
    reading: Arc<Reading>,
}

/// A group that was read: every record compared with its key.
pub struct Fetched {
    group: DecodedGroup,
    wanted: Vec<Wanted>,
}

impl Store {
    /// The groups that hold these entries of an image, in the order in which they lie on disk; each
    /// group once. Runs of zeros are skipped: the caller knows them from the list.
    ///
    /// # Errors
    /// [`StoreError::UnknownRecord`] when a record is missing, or the disk's.
    pub fn plan(
        &self,
        tenant: TenantId,
        image: &Image,
        entries: &[ListEntry],
    ) -> Result<Vec<Fetch>, StoreError> {
        let form = image.form();
        let entries: Vec<_> = entries.iter().filter(|entry| entry.key != Key::ZERO).collect();
        let keys: Vec<Key> = entries.iter().map(|entry| entry.key).collect();
        let reading = Arc::new(self.reading());
        let mut placed = Vec::with_capacity(entries.len());
        for (entry, place) in entries.iter().zip(self.find_many(tenant, form, &keys)?) {
            // What was committed was there; what is not any more was put aside.
            let lost = || match self.has_damage(tenant) {
                true => StoreError::Damaged(format!(
                    "record {} at offset {}, and no good copy of it has come yet",
                    entry.key, entry.offset
                )),
                false => StoreError::UnknownRecord { key: entry.key, offset: entry.offset },
            };
            let place = place.ok_or_else(lost)?;
            let &&ListEntry { offset, length, key } = entry;
            placed.push((place, Wanted { slot: place.slot, offset, length, key }));
        }
        placed.sort_by_key(|(place, wanted)| (place.segment, place.place, wanted.offset));
        let mut fetches: Vec<Fetch> = Vec::new();
        for (place, wanted) in placed {
            match fetches.last_mut() {
                Some(last)
                    if (last.place.segment, last.place.place) == (place.segment, place.place) =>
                {
                    last.wanted.push(wanted);
                }
                _ => {
                    let (reading, wanted) = (Arc::clone(&reading), vec![wanted]);
                    fetches.push(Fetch { tenant, form, place, wanted, reading });
                }
            }
        }
        Ok(fetches)
    }
}

impl Fetch {
    /// Reads and decodes the group, and compares all of its records with their keys.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], or the disk's.
    pub fn read(self, store: &Store) -> Result<Fetched, StoreError> {
        let group = store.group(self.tenant, self.place)?;
        drop(self.reading);
        for wanted in &self.wanted {
            let row = group.table().get(usize::from(wanted.slot));
            let is_it = row.is_some_and(|row| {
                row.key == wanted.key && row.raw_bytes == wanted.length && group.form() == self.form
            });
            if !is_it {
                return Err(StoreError::Damaged(format!(
                    "the index's place of record {}",
                    wanted.key
                )));
            }
        }
        Ok(Fetched { group, wanted: self.wanted })
    }

    /// The volume's offsets that this group serves, ascending.
    pub fn offsets(&self) -> impl Iterator<Item = u64> + '_ {
        self.wanted.iter().map(|wanted| wanted.offset)
    }
}

impl Fetched {
    /// What was wanted: offset in the volume, and the record's bytes.
    pub fn records(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.wanted.iter().filter_map(|wanted| {
            self.group.record(wanted.slot).map(|record| (wanted.offset, record))
        })
    }
}
