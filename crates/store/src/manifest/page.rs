//! The bytes of a page: full, or a patch over a full one.

use std::io;

use offsite_model::Key;
use zerocopy::IntoBytes;

use crate::format::{FILE_VERSION, PAGE_MAGIC, PageHead, PatchRow, check_version, split};

const FULL: u8 = 1;
const PATCH: u8 = 2;
const KEY_BYTES: usize = 32;

/// A page as it was read.
pub(crate) enum Page {
    /// The keys of its positions from the first on.
    Full(Vec<Key>),
    /// Positions within the page, ascending, and their keys.
    Patch(Vec<(u16, Key)>),
}

pub(crate) fn encode_full(index: u32, keys: &[Key]) -> Vec<u8> {
    let mut bytes = head(index, FULL, keys.len());
    bytes.reserve(keys.len() * KEY_BYTES);
    for key in keys {
        bytes.extend_from_slice(key.as_bytes());
    }
    bytes
}

pub(crate) fn encode_patch(index: u32, changes: &[(u16, Key)]) -> Vec<u8> {
    let mut bytes = head(index, PATCH, changes.len());
    for (position, key) in changes {
        let row = PatchRow { position: (*position).into(), key: *key.as_bytes() };
        bytes.extend_from_slice(row.as_bytes());
    }
    bytes
}

fn head(index: u32, kind: u8, n_entries: usize) -> Vec<u8> {
    let head = PageHead {
        magic: PAGE_MAGIC,
        version: FILE_VERSION,
        kind,
        zero: 0.into(),
        index: index.into(),
        n_entries: (n_entries as u32).into(),
    };
    head.as_bytes().to_vec()
}

/// Reads the bytes of the page of this index, which have their digest; none when they are not such
/// a page.
pub(crate) fn decode(index: u32, bytes: &[u8]) -> io::Result<Option<Page>> {
    let Some((head, rest)) = split::<PageHead>(bytes) else { return Ok(None) };
    if head.magic != PAGE_MAGIC {
        return Ok(None);
    }
    check_version("a page of an image", head.version)?;
    if head.zero.get() != 0 || head.index.get() != index {
        return Ok(None);
    }
    Ok(entries(head, rest))
}

fn entries(head: &PageHead, rest: &[u8]) -> Option<Page> {
    let n_entries = head.n_entries.get() as usize;
    match head.kind {
        FULL => {
            let (keys, left) = rest.as_chunks::<KEY_BYTES>();
            let is_whole = keys.len() == n_entries && left.is_empty();
            is_whole.then(|| Page::Full(keys.iter().map(|key| Key::from_bytes(*key)).collect()))
        }
        PATCH => {
            let (rows, left) = rest.as_chunks::<{ size_of::<PatchRow>() }>();
            let rows = rows.iter().filter_map(|row| split::<PatchRow>(row));
            let rows = rows.map(|(row, _)| (row.position.get(), Key::from_bytes(row.key)));
            let rows: Vec<_> = rows.collect();
            (rows.len() == n_entries && left.is_empty()).then_some(Page::Patch(rows))
        }
        _ => None,
    }
}
