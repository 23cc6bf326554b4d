//! The store's draft of an image on its way: under which id it is found again, and its list.
//!
//! The draft of an image has the same id whichever session fills it, so that a session after a
//! crash finds what an earlier one was promised. What the image was announced as lies with it.
//!
//! **Absent:** files (the store keeps them), and any judgement of entries: the machine has made it
//! before they get here.

use offsite_model::{Digest, SessionId, TenantId};
use offsite_proto::endpoint::Body as _;
use offsite_proto::json::{Json, from_slice};
use offsite_proto::limits::WINDOW_KEYS_MAX;
use offsite_proto::session::OpenSession;
use offsite_proto::window::ListEntry;
use offsite_store::{Draft, Store, StoreError};

use super::images::ImageName;

/// The disk failed, in errno(3)'s numbers of Linux; the standard library has no kind for it.
const EIO: i32 = 5;

/// The id of an image's draft.
pub(super) fn id_of(name: &ImageName) -> SessionId {
    let digest = Digest::of(&name.key());
    let mut id = [0; 16];
    id.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
    SessionId::from_bytes(id)
}

/// Begins the draft of an image, in place of whatever there was.
pub(super) fn begin(
    store: &Store,
    name: &ImageName,
    open: &OpenSession,
) -> Result<Draft, StoreError> {
    let (tenant, id) = (name.owner.tenant, id_of(name));
    store.end_draft(tenant, id)?;
    store.draft(tenant, id, Json(open.clone()).encode())
}

/// What the image of a draft was announced as; none where there is no draft.
pub(super) fn announced(
    store: &Store,
    tenant: TenantId,
    id: SessionId,
) -> Result<Option<OpenSession>, StoreError> {
    // One that cannot be read is of no use: the next opening begins anew.
    Ok(store.opening(tenant, id)?.and_then(|opening| from_slice(&opening).ok()))
}

/// Whether a draft that could not be opened will never be of use: it is not there, it is damaged,
/// or its list is none that a session makes. Anything else (a full disk, a store that stopped
/// writing) passes, and what the draft was promised is still there then.
pub(super) fn is_of_no_use(error: &StoreError) -> bool {
    match error {
        StoreError::Damaged(_) | StoreError::BadList(_) | StoreError::DraftUnknown(_) => true,
        // A place on the disk that cannot be read; where the disk takes no writes either, beginning
        // anew is refused.
        StoreError::Io { error, .. } => error.raw_os_error() == Some(EIO),
        _ => false,
    }
}

/// Appends entries to the list.
pub(super) fn append(draft: &mut Draft, first: u64, new: &[ListEntry]) -> Result<(), StoreError> {
    if new.is_empty() {
        return Ok(());
    }
    draft.list(first, &new.iter().map(stored).collect::<Vec<_>>())
}

/// The first of these entries that the draft has otherwise; none where all agree.
pub(super) fn differing(
    draft: &mut Draft,
    first: u64,
    entries: &[ListEntry],
) -> Result<Option<u64>, StoreError> {
    let known = draft.listed(first, entries.len())?;
    let mut known = known.into_iter();
    let is_it =
        |entry: &ListEntry, ordinal: u64, known: Option<(u64, offsite_store::ListEntry)>| {
            known == Some((ordinal, stored(entry)))
        };
    let mut pairs = (first..).zip(entries);
    Ok(pairs.find(|(ordinal, entry)| !is_it(entry, *ordinal, known.next())).map(|(at, _)| at))
}

/// Hands on all entries, window by window.
pub(super) fn each<E: From<StoreError>>(
    draft: &mut Draft,
    mut take: impl FnMut(&mut Draft, &[offsite_store::ListEntry]) -> Result<(), E>,
) -> Result<(), E> {
    let mut next = 0;
    loop {
        let window = draft.listed(next, WINDOW_KEYS_MAX as usize)?;
        let (mut entries, first) = (Vec::with_capacity(window.len()), next);
        for (ordinal, entry) in window {
            if ordinal != next {
                return Err(StoreError::BadList(format!("a draft has no entry {next}")).into());
            }
            entries.push(entry);
            next = next.saturating_add(1);
        }
        if next == first {
            return Ok(());
        }
        take(draft, &entries)?;
    }
}

fn stored(entry: &ListEntry) -> offsite_store::ListEntry {
    let (offset, length, key) = (entry.offset(), entry.bytes(), entry.key());
    offsite_store::ListEntry { offset, length, key }
}

/// An entry as it crosses.
pub(super) fn offered(entry: &offsite_store::ListEntry) -> ListEntry {
    if entry.key == offsite_model::Key::ZERO {
        ListEntry::zeros(entry.offset, entry.length)
    } else {
        ListEntry::record(entry.offset, entry.length, entry.key)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_draft_is_of_no_use_where_its_disk_cannot_be_read_and_not_where_it_is_full() {
        let failed = |number| StoreError::Io {
            doing: "read draft 00000001".to_owned(),
            error: io::Error::from_raw_os_error(number),
        };
        let (unreadable, full, too_many_files) = (5, 28, 24);
        assert!(is_of_no_use(&failed(unreadable)));
        assert!(is_of_no_use(&StoreError::Damaged("draft 00000001".to_owned())));
        for error in [failed(full), failed(too_many_files), StoreError::NoSpace] {
            assert!(!is_of_no_use(&error), "{error}");
        }
    }
}
