//! Where a restore writes: a new file, or a file or device that the operator said may be
//! overwritten.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use offsite_model::{BLOCK_BYTES, File, FileSystem, Kind, OpenMode};

use crate::error::VolumeError;

/// Whether something that exists may be overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// No: an existing name is refused.
    Never,
    /// Yes, the operator said so in so many words.
    Allowed,
}

/// An open destination of `bytes` bytes. Ranges that are never written read as zeros.
pub struct Destination {
    path: PathBuf,
    file: Arc<dyn File>,
    /// The same past the system's cache, until the file system says that it cannot.
    direct: OnceLock<Option<Arc<dyn File>>>,
    bytes: u64,
    is_device: bool,
}

/// Fewer bytes are left to the cache, which joins them to larger writes.
const DIRECT_BYTES: usize = 256 << 10;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl Destination {
    /// Makes a new file of this length, all hole, or opens what may be overwritten: a file is
    /// emptied first, a device must be large enough.
    ///
    /// # Errors
    /// Where it exists and [`Overwrite::Never`] holds, is no volume, or is too small.
    pub fn open(
        files: &dyn FileSystem,
        path: &Path,
        bytes: u64,
        overwrite: Overwrite,
    ) -> Result<Self, VolumeError> {
        let on_open = |error| VolumeError::on_open(path.to_owned(), error);
        let is_device = match (files.metadata(path), overwrite) {
            (Err(error), _) if error.kind() == ErrorKind::NotFound => {
                let file = files.open(path, OpenMode::CreateNew).map_err(on_open)?;
                return Self::sized(path, file, bytes);
            }
            (Err(error), _) => return Err(on_open(error)),
            (Ok(_), Overwrite::Never) => {
                return Err(VolumeError::Exists { path: path.to_owned() });
            }
            (Ok(metadata), Overwrite::Allowed) => match metadata.kind {
                Kind::File => false,
                Kind::BlockDevice => true,
                _ => return Err(VolumeError::NotAVolume { path: path.to_owned() }),
            },
        };
        let file = files.open(path, OpenMode::Write).map_err(on_open)?;
        if !is_device {
            file.set_bytes(0).map_err(on_open)?;
            return Self::sized(path, file, bytes);
        }
        let bytes_there = file.bytes().map_err(on_open)?;
        if bytes_there < bytes {
            let path = path.to_owned();
            return Err(VolumeError::TooSmall { path, bytes_there, bytes_needed: bytes });
        }
        Ok(Self { path: path.to_owned(), file, direct: OnceLock::new(), bytes, is_device })
    }

    fn sized(path: &Path, file: Arc<dyn File>, bytes: u64) -> Result<Self, VolumeError> {
        let path = path.to_owned();
        match file.set_bytes(bytes) {
            Ok(()) => Ok(Self { path, file, direct: OnceLock::new(), bytes, is_device: false }),
            Err(source) => Err(VolumeError::Io { verb: "extend", path, offset: bytes, source }),
        }
    }

    /// Length of the volume that is written.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes a range of data; how many bytes of it wait in the system's cache. What is long and
    /// lies in whole blocks ([`BLOCK_BYTES`]) goes past it, where the file system can: a volume is
    /// larger than the cache, and nobody reads it soon.
    ///
    /// # Errors
    /// With the place; a range beyond the volume is refused.
    pub fn write(&self, bytes: &[u8], offset: u64) -> Result<u64, VolumeError> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(self.io("write", offset, ErrorKind::InvalidInput.into()));
        }
        let n_past = self.write_past_cache(bytes, offset)?;
        let (rest, offset) = (bytes.get(n_past..).unwrap_or_default(), offset + n_past as u64);
        if !rest.is_empty() {
            let written = self.file.write_all_at(rest, offset);
            written.map_err(|error| self.io("write", offset, error))?;
        }
        Ok(rest.len() as u64)
    }

    /// Whether a disk can take these bytes as they lie in memory.
    pub(crate) fn is_liked(bytes: &[u8], offset: u64) -> bool {
        bytes.len() >= DIRECT_BYTES
            && offset.is_multiple_of(BLOCK_BYTES as u64)
            && bytes.as_ptr().align_offset(BLOCK_BYTES) == 0
    }

    /// Writes the blocks at the beginning of these bytes past the cache, or none.
    fn write_past_cache(&self, bytes: &[u8], offset: u64) -> Result<usize, VolumeError> {
        if !Self::is_liked(bytes, offset) {
            return Ok(0);
        }
        let n = bytes.len() - bytes.len() % BLOCK_BYTES;
        let direct = self.direct.get_or_init(|| self.file.past_cache().ok());
        let blocks = bytes.get(..n).unwrap_or_default();
        match direct.as_ref().map(|file| file.write_all_at(blocks, offset)) {
            Some(Ok(())) => Ok(n),
            // Some file systems open a file so and then want larger blocks.
            None => Ok(0),
            Some(Err(error)) if error.kind() == ErrorKind::InvalidInput => Ok(0),
            Some(Err(error)) => Err(self.io("write", offset, error)),
        }
    }

    /// Leaves a range zero: a file has a hole there already, a device may hold anything and is
    /// overwritten.
    ///
    /// # Errors
    /// As [`Destination::write`].
    pub fn write_zeros(&self, offset: u64, bytes: u64) -> Result<(), VolumeError> {
        if !self.is_device {
            return Ok(());
        }
        let end = offset.saturating_add(bytes);
        let mut position = offset;
        while position < end {
            let n = usize::try_from(end - position).unwrap_or(usize::MAX).min(ZEROS.len());
            self.write(ZEROS.get(..n).unwrap_or(&ZEROS), position)?;
            position += n as u64;
        }
        Ok(())
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    /// Then nothing written may be believed.
    pub fn sync(&self) -> Result<(), VolumeError> {
        self.file.sync().map_err(|error| self.io("sync", 0, error))
    }

    pub(crate) fn io(
        &self,
        verb: &'static str,
        offset: u64,
        source: std::io::Error,
    ) -> VolumeError {
        VolumeError::Io { verb, path: self.path.clone(), offset, source }
    }
}
