//! The end of a heal session: good copies stay, and no point is made or changed.

use std::io;

use offsite_model::Key;
use offsite_proto::window::ListEntry;
use offsite_store::{Image, Session as StoreSession, Store, StoreError};

use super::draft::Draft;
use super::images::Owner;

/// Why nothing was kept.
pub(super) enum Fault {
    Store(StoreError),
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Keeps what a session brought, after every entry was compared with the image that is healed; how
/// many records.
pub(super) fn keep(
    store: &Store,
    owner: &Owner,
    image: &Image,
    draft: &Draft,
    writer: &mut StoreSession,
) -> Result<u64, Fault> {
    let mut n_records = 0_u64;
    draft.each(|window| {
        for entry in window.iter().filter(|entry| !entry.is_zeros()) {
            check(store, owner, image, entry)?;
            n_records = n_records.saturating_add(1);
        }
        Ok::<_, Fault>(())
    })?;
    writer.keep()?;
    Ok(n_records)
}

/// Whether an entry is one of the image's, and stored.
fn check(store: &Store, owner: &Owner, image: &Image, entry: &ListEntry) -> Result<(), StoreError> {
    let (key, offset): (Key, u64) = (entry.key(), entry.offset());
    let record_bytes = u64::from(image.record_bytes());
    if !offset.is_multiple_of(record_bytes) || image.key_at(offset / record_bytes)? != Some(key) {
        return Err(StoreError::BadList(format!("the entry at {offset} is not the image's")));
    }
    let found = store.find(owner.tenant, image.form(), &key)?;
    found.map(|_| ()).ok_or(StoreError::UnknownRecord { key, offset })
}
