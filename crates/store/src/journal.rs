//! The journal: a hash chain of what happened, in a file of its own.
//!
//! It follows the catalog: an entry is first a row of the catalog's transaction, then bytes here.
//! So a torn tail is completed from the catalog, and a catalog that lost its newest transaction is
//! completed from here.

use std::io;
use std::sync::Arc;

use offsite_model::{Digest, File, OpenMode};
use zerocopy::{FromBytes, IntoBytes};

use crate::catalog::{CatalogError, VALUE_BYTES_MAX};
use crate::error::StoreError;
use crate::format::{
    EntryHead, FILE_VERSION, JOURNAL_MAGIC, JournalHead, OtherVersion, are_zero, check_version,
    crc, split,
};
use crate::layout::Place;
use crate::rows::{Entry, decode_entry};

const HEAD_BYTES: usize = size_of::<JournalHead>();
/// The most that the writes of one pass may leave behind: 64 entries of the longest.
const TAIL_BYTES_MAX: u64 = 64 << 20;
const ENTRY_HEAD_BYTES: u64 = size_of::<EntryHead>() as u64;

/// A position in the chain: an entry, its digest, and the journal's length after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) entry: u64,
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

/// What stands behind a known link: the entries, and whether the link itself is there.
pub(crate) struct Found {
    pub(crate) entries: Vec<(Entry, Link)>,
    pub(crate) is_known: bool,
}

/// The journal, open for appending.
pub(crate) struct Journal {
    file: Arc<dyn File>,
    /// The last entry that is durable here.
    pub(crate) last: Link,
}

/// The place before the first entry.
pub(crate) const START: Link = Link { entry: 0, digest: Digest::ZERO, bytes: HEAD_BYTES as u64 };

impl Journal {
    /// Makes an empty journal; its name is durable after a sync of the directory.
    pub(crate) fn create(place: &Place, store: [u8; 16]) -> io::Result<()> {
        let file = place.files.open(&place.journal(), OpenMode::CreateNew)?;
        let mut head = JournalHead {
            magic: JOURNAL_MAGIC,
            version: FILE_VERSION,
            zero: [0; 3],
            store,
            entries_before: START.entry.into(),
            digest_before: *START.digest.as_bytes(),
            zeros: [0; 12],
            crc: 0.into(),
        };
        let (checked, _) = head.as_bytes().split_at(HEAD_BYTES - 4);
        head.crc = crc(&[checked]).into();
        file.write_all_at(head.as_bytes(), 0)?;
        file.sync()
    }

    /// Opens the journal behind a known link; the good entries after it, and whether everything up
    /// to the link is as the catalog says. The file is not changed.
    pub(crate) fn open(
        place: &Place,
        store: [u8; 16],
        known: Link,
    ) -> Result<(Self, Found), StoreError> {
        let doing = || StoreError::io("read the journal");
        let file = place.files.open(&place.journal(), OpenMode::Write).map_err(doing())?;
        let is_known = beginning(&*file, store).map_err(doing())?.is_some()
            && file.bytes().map_err(doing())? >= known.bytes;
        let mut journal = Self { file, last: known };
        let mut entries = Vec::new();
        if is_known {
            while let Some((entry, link)) = journal.next(journal.last).map_err(doing())? {
                journal.last = link;
                entries.push((entry, link));
            }
        }
        Ok((journal, Found { entries, is_known }))
    }

    /// Opens the journal before its first entry, for one who has nothing but it. The file is not
    /// changed.
    pub(crate) fn open_alone(place: &Place, store: [u8; 16]) -> Result<Self, StoreError> {
        let doing = || StoreError::io("read the journal");
        let file = match place.files.open(&place.journal(), OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Damaged("the journal is missing".to_owned()));
            }
            other => other.map_err(doing())?,
        };
        match beginning(&*file, store).map_err(doing())? {
            Some(last) if last == START => Ok(Self { file, last }),
            Some(later) => Err(StoreError::Damaged(format!(
                "the journal begins behind entry {} and does not say what was before",
                later.entry
            ))),
            None => Err(StoreError::Damaged("the beginning of the journal".to_owned())),
        }
    }

    /// The next entry, which is then the last that was read; none where no good one follows.
    pub(crate) fn following(&mut self) -> Result<Option<Entry>, StoreError> {
        let next = self.next(self.last).map_err(StoreError::io("read the journal"))?;
        Ok(next.map(|(entry, link)| {
            self.last = link;
            entry
        }))
    }

    /// Bytes behind the last entry that was read.
    pub(crate) fn bytes_behind(&self) -> Result<u64, StoreError> {
        let bytes = self.file.bytes().map_err(StoreError::io("read the journal"))?;
        Ok(bytes.saturating_sub(self.last.bytes))
    }

    /// Whether a whole entry stands anywhere behind the last good one: then that one is not where a
    /// crash ended the file. Of very much that follows nothing is known but that it is no tail.
    pub(crate) fn has_entries_behind(&self) -> Result<bool, StoreError> {
        let n = self.bytes_behind()?;
        if n > TAIL_BYTES_MAX {
            return Ok(true);
        }
        let mut bytes = vec![0; n as usize];
        let read = self.file.read_exact_at(&mut bytes, self.last.bytes);
        read.map_err(StoreError::io("read the journal"))?;
        let is_entry = |at: usize| {
            let (head, rest) = split::<EntryHead>(bytes.get(at..)?)?;
            let payload = rest.get(..head.bytes.get() as usize)?;
            // The version first: a checksum over each plausible length would take for ever.
            let is_known = matches!(payload.first(), Some(1..=3));
            let is_good = is_known && crc(&[payload]) == head.crc.get();
            (is_good && decode_entry(payload).is_ok()).then_some(())
        };
        Ok((0..bytes.len()).any(|at| is_entry(at).is_some()))
    }

    /// The entry after a link; none at the end or where the bytes are no successor.
    fn next(&self, link: Link) -> io::Result<Option<(Entry, Link)>> {
        let room = self.file.bytes()?.saturating_sub(link.bytes);
        if room < ENTRY_HEAD_BYTES {
            return Ok(None);
        }
        let mut head = [0; ENTRY_HEAD_BYTES as usize];
        self.file.read_exact_at(&mut head, link.bytes)?;
        let Some((head, _)) = split::<EntryHead>(&head) else { return Ok(None) };
        let n = u64::from(head.bytes.get());
        if n > VALUE_BYTES_MAX as u64 || n > room - ENTRY_HEAD_BYTES {
            return Ok(None);
        }
        let mut payload = vec![0; n as usize];
        self.file.read_exact_at(&mut payload, link.bytes + ENTRY_HEAD_BYTES)?;
        if crc(&[&payload]) != head.crc.get() {
            return Ok(None);
        }
        let entry = match decode_entry(&payload) {
            Ok(entry) => entry,
            // Whole, and not torn: it must not be cut.
            Err(CatalogError::VersionUnknown { found, newest: known, .. }) => {
                let other = OtherVersion { what: "an entry of the journal", found, known };
                return Err(io::Error::new(io::ErrorKind::InvalidData, other));
            }
            Err(_) => return Ok(None),
        };
        if entry.number != link.entry + 1 || entry.previous != *link.digest.as_bytes() {
            return Ok(None);
        }
        let next = Link {
            entry: entry.number,
            digest: Digest::of(&payload),
            bytes: link.bytes + ENTRY_HEAD_BYTES + n,
        };
        Ok(Some((entry, next)))
    }

    /// Makes durable what was read and may not be.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// Cuts what stands behind the last good entry.
    pub(crate) fn cut_tail(&self) -> io::Result<()> {
        if self.file.bytes()? > self.last.bytes {
            self.file.set_bytes(self.last.bytes)?;
            self.file.sync()?;
        }
        Ok(())
    }

    /// Appends entries that follow one another, with one sync.
    pub(crate) fn append(&mut self, payloads: &[(u64, Vec<u8>, Digest)]) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut last = self.last;
        for (entry, payload, digest) in payloads {
            let head =
                EntryHead { bytes: (payload.len() as u32).into(), crc: crc(&[payload]).into() };
            bytes.extend_from_slice(head.as_bytes());
            bytes.extend_from_slice(payload);
            last = Link {
                entry: *entry,
                digest: *digest,
                bytes: self.last.bytes + bytes.len() as u64,
            };
        }
        self.file.write_all_at(&bytes, self.last.bytes)?;
        self.file.sync()?;
        self.last = last;
        Ok(())
    }

    /// Reads the chain from the beginning: its last good link.
    pub(crate) fn walk(&self, store: [u8; 16]) -> io::Result<Link> {
        let Some(mut link) = beginning(&*self.file, store)? else { return Ok(START) };
        while let Some((_, next)) = self.next(link)? {
            link = next;
        }
        Ok(link)
    }
}

/// The place before the first entry that this journal holds; none when it is not this store's. One
/// that was begun anew names the entry that its first one follows.
fn beginning(file: &dyn File, store: [u8; 16]) -> io::Result<Option<Link>> {
    let mut bytes = [0; HEAD_BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let Ok(head) = JournalHead::ref_from_bytes(&bytes) else { return Ok(None) };
    let (checked, _) = bytes.split_at(HEAD_BYTES - 4);
    if head.magic != JOURNAL_MAGIC || head.crc.get() != crc(&[checked]) {
        return Ok(None);
    }
    check_version("the journal", head.version)?;
    let is_ours = head.store == store && are_zero(&[&head.zero, &head.zeros]);
    Ok(is_ours.then(|| Link {
        entry: head.entries_before.get(),
        digest: Digest::from_bytes(head.digest_before),
        bytes: START.bytes,
    }))
}
