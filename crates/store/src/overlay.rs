//! Files that are only read: every change stays in memory and is gone with this value.
//!
//! With it a store is opened where nothing may be written (a read-only mount, a disk that is to be
//! saved from) by the same code that recovers one: what a crash left is brought in order in memory.
//! So there is no second recovery that could differ from the first.
//!
//! Nothing below is ever asked to write: files are opened for reading, locks are shared. Memory
//! grows with what is changed, in pieces of 4 KiB.
//!
//! **Absent:** a file that is open for reading does not see what is changed in it afterwards; the
//! store opens for writing first whatever it changes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offsite_model::{Extent, File, FileSystem, Kind, Metadata, OpenMode};

const PIECE_BYTES: usize = 4096;

/// A file system over another one that is only read.
pub struct Overlay {
    below: Arc<dyn FileSystem>,
    changed: Mutex<BTreeMap<PathBuf, Changed>>,
}

/// What has become of a name.
#[derive(Clone)]
enum Changed {
    Gone,
    Directory,
    File(Arc<Layer>),
}

impl Overlay {
    /// Over these files.
    #[must_use]
    pub fn new(below: Arc<dyn FileSystem>) -> Self {
        Self { below, changed: Mutex::new(BTreeMap::new()) }
    }

    fn changed(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Changed>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file with its changes; one that has none yet is opened below.
    fn layer(&self, path: &Path) -> io::Result<Arc<Layer>> {
        let mut changed = self.changed();
        match changed.get(path) {
            Some(Changed::File(layer)) => return Ok(Arc::clone(layer)),
            Some(Changed::Gone) => return Err(io::ErrorKind::NotFound.into()),
            Some(Changed::Directory) => return Err(io::ErrorKind::IsADirectory.into()),
            None => {}
        }
        let below = self.below.open(path, OpenMode::Read)?;
        let bytes = below.bytes()?;
        let content = Content { below_bytes: bytes, bytes, pieces: BTreeMap::new() };
        let layer = Arc::new(Layer { below: Some(below), content: Mutex::new(content) });
        changed.insert(path.to_owned(), Changed::File(Arc::clone(&layer)));
        Ok(layer)
    }

    fn add(&self, path: &Path, new: Changed) -> io::Result<()> {
        match self.metadata(path) {
            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        if let Some(parent) = path.parent() {
            self.metadata(parent)?;
        }
        self.changed().insert(path.to_owned(), new);
        Ok(())
    }
}

impl FileSystem for Overlay {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if mode == OpenMode::CreateNew {
            let layer = Arc::new(Layer { below: None, content: Mutex::default() });
            self.add(path, Changed::File(Arc::clone(&layer)))?;
            return Ok(layer);
        }
        let is_unchanged = !self.changed().contains_key(path);
        if mode == OpenMode::Read && is_unchanged {
            return Ok(Arc::new(Unchanged(self.below.open(path, OpenMode::Read)?)));
        }
        Ok(self.layer(path)?)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.add(path, Changed::Directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let layer = self.layer(from)?;
        let mut changed = self.changed();
        changed.insert(to.to_owned(), Changed::File(layer));
        changed.insert(from.to_owned(), Changed::Gone);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.metadata(path)?;
        self.changed().insert(path.to_owned(), Changed::Gone);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.changed().insert(path.to_owned(), Changed::Gone);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let is_below = match self.changed().get(path) {
            Some(Changed::Gone) => return Err(io::ErrorKind::NotFound.into()),
            Some(Changed::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            Some(Changed::Directory) => false,
            None => true,
        };
        let names = if is_below { self.below.list(path)? } else { Vec::new() };
        let mut names: std::collections::BTreeSet<String> = names.into_iter().collect();
        for (changed, what) in self.changed().iter().filter(|(at, _)| at.parent() == Some(path)) {
            let Some(name) = changed.file_name().and_then(|name| name.to_str()) else { continue };
            match what {
                Changed::Gone => names.remove(name),
                Changed::Directory | Changed::File(_) => names.insert(name.to_owned()),
            };
        }
        Ok(names.into_iter().collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.metadata(path).map(|_| ())
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let new = |kind, bytes, mode| Ok(Metadata { kind, bytes, mode, owner: 0 });
        match self.changed().get(path) {
            Some(Changed::Gone) => Err(io::ErrorKind::NotFound.into()),
            Some(Changed::Directory) => new(Kind::Directory, 0, 0o700),
            Some(Changed::File(layer)) => new(Kind::File, layer.content().bytes, 0o600),
            None => self.below.metadata(path),
        }
    }

    fn bytes_free(&self, path: &Path) -> io::Result<u64> {
        self.below.bytes_free(path)
    }

    fn bytes_total(&self, path: &Path) -> io::Result<u64> {
        self.below.bytes_total(path)
    }

    fn lock_holder(&self, path: &Path) -> Option<String> {
        self.below.lock_holder(path)
    }
}

/// A file that nobody has changed.
struct Unchanged(Arc<dyn File>);

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl File for Unchanged {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        read_only()
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }

    fn set_bytes(&self, _: u64) -> io::Result<()> {
        read_only()
    }

    fn preallocate(&self, _: u64, _: u64) -> io::Result<()> {
        read_only()
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Extent>> {
        self.0.next_data(offset)
    }

    fn advise(&self, offset: u64, bytes: u64, will_need: bool) {
        self.0.advise(offset, bytes, will_need);
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.0.try_lock_shared()
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        self.0.try_lock_shared()
    }
}

/// A file with its changes over what lies below.
struct Layer {
    below: Option<Arc<dyn File>>,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    /// Bytes of the file below that still count.
    below_bytes: u64,
    bytes: u64,
    /// Changed pieces by their index.
    pieces: BTreeMap<u64, Box<[u8; PIECE_BYTES]>>,
}

impl Layer {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills in what lies below: zeros where nothing does.
    fn read_below(&self, content: &Content, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let there = content.below_bytes.saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(bytes.len());
        let (there, beyond) = bytes.split_at_mut(there);
        beyond.fill(0);
        match &self.below {
            Some(below) if !there.is_empty() => below.read_exact_at(there, offset),
            _ => Ok(()),
        }
    }
}

/// A place in a file: index of its piece, offset within, and how many of `n` bytes are in it.
fn piece_of(place: u64, n: usize) -> (u64, usize, usize) {
    let within = (place % PIECE_BYTES as u64) as usize;
    (place / PIECE_BYTES as u64, within, n.min(PIECE_BYTES - within))
}

impl File for Layer {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content();
        let room = usize::try_from(content.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = room.min(bytes.len());
        let mut rest = bytes.get_mut(..n).unwrap_or_default();
        let mut place = offset;
        while !rest.is_empty() {
            let (index, within, n) = piece_of(place, rest.len());
            let (now, after) = rest.split_at_mut(n);
            match content.pieces.get(&index).and_then(|piece| piece.get(within..within + n)) {
                Some(piece) => now.copy_from_slice(piece),
                None => self.read_below(&content, now, place)?,
            }
            (rest, place) = (after, place + n as u64);
        }
        Ok(n)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = self.content();
        let (mut rest, mut place) = (bytes, offset);
        while !rest.is_empty() {
            let (index, within, n) = piece_of(place, rest.len());
            let (now, after) = rest.split_at(n);
            let mut piece = match content.pieces.remove(&index) {
                Some(piece) => piece,
                None => {
                    let mut piece = Box::new([0; PIECE_BYTES]);
                    self.read_below(&content, &mut piece[..], index * PIECE_BYTES as u64)?;
                    piece
                }
            };
            if let Some(changed) = piece.get_mut(within..within + n) {
                changed.copy_from_slice(now);
            }
            content.pieces.insert(index, piece);
            (rest, place) = (after, place + n as u64);
        }
        content.bytes = content.bytes.max(place);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.content().bytes)
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        let mut content = self.content();
        if bytes < content.bytes {
            // What is cut off must not come back when the file grows again.
            content.below_bytes = content.below_bytes.min(bytes);
            let (index, within, _) = piece_of(bytes, 0);
            content.pieces.split_off(&bytes.div_ceil(PIECE_BYTES as u64));
            if let Some(piece) = content.pieces.get_mut(&index) {
                piece.iter_mut().skip(within).for_each(|byte| *byte = 0);
            }
        }
        content.bytes = bytes;
        Ok(())
    }

    fn preallocate(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Extent>> {
        let bytes = self.content().bytes.saturating_sub(offset);
        Ok((bytes > 0).then_some(Extent { offset, bytes }))
    }

    fn advise(&self, offset: u64, bytes: u64, will_need: bool) {
        if let Some(below) = &self.below {
            below.advise(offset, bytes, will_need);
        }
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.try_lock_shared()
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        self.below.as_ref().map_or(Ok(true), |below| below.try_lock_shared())
    }
}
