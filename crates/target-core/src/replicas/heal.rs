//! The end of a heal session: good copies stay, and no point is made or changed.

use offsite_model::Key;
use offsite_proto::limits::WINDOW_KEYS_MAX;
use offsite_store::{Draft, Image, ListEntry, Store, StoreError};

use super::images::Owner;

/// Keeps what a session brought, after every entry was compared with the image that is healed; how
/// many records.
pub(super) fn keep(
    store: &Store,
    owner: &Owner,
    image: &Image,
    draft: &mut Draft,
) -> Result<u64, StoreError> {
    let (mut n_records, mut next) = (0_u64, 0);
    loop {
        // Only what is damaged is listed, so ordinals have gaps.
        let window = draft.listed(next, WINDOW_KEYS_MAX as usize)?;
        let Some((last, _)) = window.last() else { break };
        next = last.saturating_add(1);
        for (_, entry) in window.iter().filter(|(_, entry)| entry.key != Key::ZERO) {
            check(store, owner, image, entry)?;
            n_records = n_records.saturating_add(1);
        }
    }
    draft.keep_healed()?;
    Ok(n_records)
}

/// Whether an entry is one of the image's, and stored.
fn check(store: &Store, owner: &Owner, image: &Image, entry: &ListEntry) -> Result<(), StoreError> {
    let (key, offset): (Key, u64) = (entry.key, entry.offset);
    let record_bytes = u64::from(image.record_bytes());
    if !offset.is_multiple_of(record_bytes) || image.key_at(offset / record_bytes)? != Some(key) {
        return Err(StoreError::BadList(format!("the entry at {offset} is not the image's")));
    }
    let found = store.find_needed(owner.tenant, image.form(), &[key])?;
    found.into_iter().flatten().next().map(|_| ()).ok_or(StoreError::UnknownRecord { key, offset })
}
