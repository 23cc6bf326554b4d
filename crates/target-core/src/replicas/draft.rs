//! The draft of an image on its way: the list as far as it was offered, in a file of its own.
//!
//! The file is a stream of KEYS frames, so a tail that a crash tore is found by its checksum and
//! cut off. Windows are appended in order and read back in order; an index in memory holds one
//! place per window.
//!
//! **Absent:** records, and any judgement of entries: the machine has made it before they get here.

use std::io;
use std::path::Path;
use std::sync::Arc;

use offsite_model::{File, FileSystem, ImageId, OpenMode, SessionId};
use offsite_proto::stream::{Decoder, Encoder, Opcode, StreamKind};
use offsite_proto::window::{KeyWindow, ListEntry};

/// Bytes read at a time when a draft is opened.
const PIECE_BYTES: usize = 1 << 20;
/// Bytes of a frame around its payload.
const FRAME_BYTES: u64 = 12;

/// An open draft.
pub(super) struct Draft {
    file: Arc<dyn File>,
    id: SessionId,
    preamble: Vec<u8>,
    end: u64,
    n_entries: u64,
    windows: Vec<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    first_ordinal: u64,
    offset: u64,
    bytes: u64,
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Draft {
    /// Makes an empty draft, in place of whatever was there.
    pub(super) fn create(files: &dyn FileSystem, path: &Path, image: ImageId) -> io::Result<Self> {
        match files.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = files.open(path, OpenMode::CreateNew)?;
        let mut draft = Self::over(file, image);
        file_start(&mut draft)?;
        if let Some(folder) = path.parent() {
            files.sync_dir(folder)?;
        }
        Ok(draft)
    }

    /// Opens the draft of an image; what a crash tore off its end is forgotten.
    pub(super) fn open(files: &dyn FileSystem, path: &Path, image: ImageId) -> io::Result<Self> {
        let mut draft = Self::over(files.open(path, OpenMode::Write)?, image);
        let mut decoder = Decoder::new(StreamKind::Keys, draft.id);
        let bytes = draft.file.bytes()?;
        let mut read = 0;
        let mut end = draft.preamble.len() as u64;
        'file: while read < bytes {
            let n = usize::try_from(bytes.saturating_sub(read)).unwrap_or(usize::MAX);
            let mut piece = vec![0; n.min(PIECE_BYTES)];
            draft.file.read_exact_at(&mut piece, read)?;
            read = read.saturating_add(piece.len() as u64);
            decoder.push(&piece);
            loop {
                // A torn tail looks like any broken frame; everything before it is whole.
                let Ok(frame) = decoder.next_frame() else { break 'file };
                let Some(frame) = frame else { break };
                let Ok(window) = KeyWindow::read(&frame.payload) else { break 'file };
                if window.first_ordinal != draft.n_entries {
                    break 'file;
                }
                let bytes = FRAME_BYTES.saturating_add(frame.payload.len() as u64);
                draft.windows.push(Place { first_ordinal: draft.n_entries, offset: end, bytes });
                draft.n_entries = draft.n_entries.saturating_add(window.entries.len() as u64);
                end = end.saturating_add(bytes);
            }
        }
        if bytes < draft.preamble.len() as u64 {
            file_start(&mut draft)?;
        } else {
            draft.file.set_bytes(end)?;
            draft.end = end;
        }
        Ok(draft)
    }

    fn over(file: Arc<dyn File>, image: ImageId) -> Self {
        let id = SessionId::from_bytes(image.to_bytes());
        let preamble = Encoder::new(StreamKind::Keys, id).take().to_vec();
        Self { file, id, preamble, end: 0, n_entries: 0, windows: Vec::new() }
    }

    /// Entries in it.
    #[cfg(test)]
    pub(super) const fn n_entries(&self) -> u64 {
        self.n_entries
    }

    /// Appends the entries of a window that are not in it yet.
    pub(super) fn append(&mut self, entries: &[ListEntry]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let first_ordinal = self.n_entries;
        let payload = KeyWindow { window: 0, first_ordinal, entries }.write();
        let mut encoder = Encoder::new(StreamKind::Keys, self.id);
        drop(encoder.take());
        encoder.frame(0, Opcode::Keys, &[&payload]).map_err(io::Error::other)?;
        let frame = encoder.take();
        self.file.write_all_at(&frame, self.end)?;
        let bytes = frame.len() as u64;
        self.windows.push(Place { first_ordinal, offset: self.end, bytes });
        self.end = self.end.saturating_add(bytes);
        self.n_entries = self.n_entries.saturating_add(entries.len() as u64);
        Ok(())
    }

    /// The first of these entries that the draft has otherwise; none where all agree.
    pub(super) fn differing(&self, first: u64, entries: &[ListEntry]) -> io::Result<Option<u64>> {
        let mut ordinal = first;
        let mut rest = entries;
        while !rest.is_empty() {
            let after = self.windows.partition_point(|place| place.first_ordinal <= ordinal);
            let place = after.checked_sub(1).and_then(|index| self.windows.get(index));
            let place = place.ok_or_else(|| broken("an entry that the draft has not"))?;
            let known = self.window(place)?;
            let skip = usize::try_from(ordinal.saturating_sub(place.first_ordinal));
            let known = known.get(skip.unwrap_or(usize::MAX)..).unwrap_or_default();
            if known.is_empty() {
                return Err(broken("an entry that the draft has not"));
            }
            let differs = (ordinal..).zip(known.iter().zip(rest)).find(|(_, (a, b))| a != b);
            if let Some((ordinal, _)) = differs {
                return Ok(Some(ordinal));
            }
            let n = known.len().min(rest.len());
            rest = rest.get(n..).unwrap_or_default();
            ordinal = ordinal.saturating_add(n as u64);
        }
        Ok(None)
    }

    /// Hands on all entries, window by window.
    pub(super) fn each<E: From<io::Error>>(
        &self,
        mut take: impl FnMut(&[ListEntry]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.windows.iter().try_for_each(|place| take(&self.window(place)?))
    }

    /// Makes everything that was appended durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn window(&self, place: &Place) -> io::Result<Vec<ListEntry>> {
        let mut bytes = vec![0; usize::try_from(place.bytes).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, place.offset)?;
        let mut decoder = Decoder::new(StreamKind::Keys, self.id);
        decoder.push(&self.preamble);
        decoder.push(&bytes);
        let frame = decoder.next_frame().map_err(io::Error::other)?;
        let frame = frame.ok_or_else(|| broken("half a window in a draft"))?;
        let window = KeyWindow::read(&frame.payload).map_err(io::Error::other)?;
        Ok(window.entries.to_vec())
    }
}

fn file_start(draft: &mut Draft) -> io::Result<()> {
    draft.file.set_bytes(0)?;
    draft.file.write_all_at(&draft.preamble, 0)?;
    draft.end = draft.preamble.len() as u64;
    draft.file.sync()
}

#[cfg(test)]
mod tests {
    use offsite_model::Key;
    use offsite_testkit::disk::Disk;

    use super::*;

    fn entries(from: u64, n: u64) -> Vec<ListEntry> {
        (from..from + n)
            .map(|at| ListEntry::record(at * 4096, 4096, Key::of(&at.to_le_bytes())))
            .collect()
    }

    #[test]
    fn e_09_a_torn_draft_keeps_its_whole_windows() {
        let disk = Disk::new(1).files();
        let path = Path::new("/a.draft");
        let image = ImageId::from_bytes([7; 16]);
        let mut draft = Draft::create(&*disk, path, image).unwrap();
        draft.append(&entries(0, 10)).unwrap();
        draft.append(&entries(10, 5)).unwrap();
        let file = disk.open(path, OpenMode::Write).unwrap();
        file.set_bytes(file.bytes().unwrap() - 1).unwrap();
        let mut draft = Draft::open(&*disk, path, image).unwrap();
        assert_eq!(draft.n_entries(), 10);
        draft.append(&entries(10, 6)).unwrap();
        // Nothing of the torn window may stand between what is whole.
        let draft = Draft::open(&*disk, path, image).unwrap();
        assert_eq!(draft.n_entries(), 16);
        assert_eq!(draft.differing(8, &entries(8, 8)).unwrap(), None);
        let mut other = entries(8, 8);
        other[5] = ListEntry::zeros(other[5].offset(), 4096);
        assert_eq!(draft.differing(8, &other).unwrap(), Some(13));
        let mut all = Vec::new();
        let mut take = |window: &[ListEntry]| {
            all.extend_from_slice(window);
            Ok::<_, io::Error>(())
        };
        draft.each(&mut take).unwrap();
        assert_eq!(all, entries(0, 16));
    }
}
