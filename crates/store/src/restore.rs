//! Reading an image back: which groups hold a window of its list, each read and decoded once.
//!
//! A restore takes windows of [`Image::list`], asks [`Store::plan`] which groups hold them, and
//! reads those on as many threads as it likes: a [`Fetch`] holds no lock while it reads, decodes
//! and checks. A group is decoded where its bytes will stay, if the window wants it as it lies;
//! otherwise beside it, and what later windows may want of it is kept ([`GroupCache`]).

use std::sync::Arc;

use offsite_model::{Key, TenantId};

use crate::error::StoreError;
use crate::format::PLACE_BYTES;
use crate::group::{self, Form, TableRow};
use crate::group_cache::{Decoded, GroupCache};
use crate::holds::Reading;
use crate::manifest::{Image, ListEntry};
use crate::segment::RecordPlace;
use crate::store::Store;

/// Groups that lie no farther apart are brought from the disk together with what is in between.
const GAP_BYTES: u64 = 1 << 20;

/// A record wanted from a group.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    slot: u8,
    offset: u64,
    length: u32,
    key: Key,
}

/// Where the bytes of a volume go that is read.
pub trait Room {
    /// The place of so many bytes from an offset of the volume on, if it is here and without a gap.
    fn at(&mut self, offset: u64, bytes: usize) -> Option<&mut [u8]>;
}

/// A whole volume.
impl Room for [u8] {
    fn at(&mut self, offset: u64, bytes: usize) -> Option<&mut [u8]> {
        let start = usize::try_from(offset).ok()?;
        self.get_mut(start..start.checked_add(bytes)?)
    }
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
        for (entry, place) in entries.iter().zip(self.find_needed(tenant, form, &keys)?) {
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

impl Store {
    /// Has the disk bring what these fetches will read, while others are decoded; only a hint.
    pub fn expect(&self, fetches: &[Fetch]) {
        for run in fetches.chunk_by(|one, next| one.is_followed_by(next)) {
            let [first, .., last] = run else { continue };
            let segment = self.core.segment_of(first.tenant, first.place.segment);
            // A segment that cannot be opened is told by whoever reads it.
            let Some(file) = segment.ok().and_then(|it| it.file(&self.core.place).ok()) else {
                continue;
            };
            let bytes = last.offset().saturating_sub(first.offset());
            file.advise(first.offset(), bytes, true);
        }
    }
}

impl Fetch {
    fn offset(&self) -> u64 {
        u64::from(self.place.place) * PLACE_BYTES
    }

    /// Whether the next lies so close behind that one reads what is in between as well.
    fn is_followed_by(&self, next: &Self) -> bool {
        self.place.segment == next.place.segment
            && next.offset().saturating_sub(self.offset()) <= GAP_BYTES
    }

    /// Reads and decodes the group, compares all of its records with their keys, and puts those
    /// that are wanted in their places. How many bytes were filled: a record for which there is no
    /// room is left out. What a reading keeps of one tenant's groups is for that tenant alone.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], or the disk's; the room may then hold anything.
    pub fn read<R: Room + ?Sized>(
        self,
        store: &Store,
        cache: &GroupCache,
        room: &mut R,
    ) -> Result<usize, StoreError> {
        let Self { tenant, form, place, wanted, reading } = self;
        let whereabouts = (place.segment, place.place);
        let no_stranger = |of: Form, table: &[TableRow]| {
            let is_there = |wanted: &&Wanted| {
                table.get(usize::from(wanted.slot)).is_some_and(|row| {
                    row.key == wanted.key && row.raw_bytes == wanted.length && of == form
                })
            };
            match wanted.iter().find(|wanted| !is_there(wanted)) {
                None => Ok(()),
                Some(Wanted { key, .. }) => {
                    Err(StoreError::Damaged(format!("the index's place of record {key}")))
                }
            }
        };
        if let Some(decoded) = cache.get(whereabouts) {
            no_stranger(decoded.form, &decoded.table)?;
            return Ok(put(&decoded, &wanted, room));
        }
        let filled = store.with_group(tenant, place, |group, payload| {
            if let Err(stranger) = no_stranger(group.form, &group.table) {
                return Ok(Err(stranger));
            }
            let raw_bytes =
                group::check_shape(group.form, group.codec, &group.table, payload.len())?;
            let decode = |raw: &mut [u8]| {
                group::decode_into(group.form, group.codec, &group.table, payload, raw)
            };
            // Most groups are wanted as they are: their records in the order in which they were
            // cut.
            if is_one_piece(&wanted, group.table.len())
                && let Some(first) = wanted.first()
                && let Some(in_place) = room.at(first.offset, raw_bytes)
            {
                decode(in_place)?;
                return Ok(Ok(raw_bytes));
            }
            let mut raw = cache.room(raw_bytes);
            decode(&mut raw)?;
            let decoded = Decoded { form: group.form, table: group.table.clone(), raw };
            let n_filled = put(&decoded, &wanted, room);
            if n_filled < raw_bytes {
                cache.keep(whereabouts, decoded);
            } else {
                cache.give_back(decoded.raw);
            }
            Ok(Ok(n_filled))
        });
        drop(reading);
        filled?
    }
}

/// Puts what is wanted of a group in its places; how many bytes.
fn put<R: Room + ?Sized>(decoded: &Decoded, wanted: &[Wanted], room: &mut R) -> usize {
    let starts: Vec<u32> = group::starts(&decoded.table).collect();
    let mut n_filled = 0_usize;
    for Wanted { slot, offset: to, length, .. } in wanted {
        let bytes = *length as usize;
        let start = starts.get(usize::from(*slot)).map_or(usize::MAX, |start| *start as usize);
        let record = decoded.raw.get(start..start.saturating_add(bytes));
        if let Some((place, record)) = room.at(*to, bytes).zip(record) {
            place.copy_from_slice(record);
            n_filled = n_filled.saturating_add(bytes);
        }
    }
    n_filled
}

/// Whether these are all records of a group, in its order and without a gap in the volume.
fn is_one_piece(wanted: &[Wanted], n_records: usize) -> bool {
    let is_next = |pair: &[Wanted]| match pair {
        [one, next] => next.offset == one.offset.saturating_add(one.length.into()),
        _ => false,
    };
    wanted.len() == n_records
        && wanted.iter().zip(0_usize..).all(|(wanted, slot)| usize::from(wanted.slot) == slot)
        && wanted.windows(2).all(is_next)
}
