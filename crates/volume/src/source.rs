//! A volume that is protected: a raw image file or a block device, opened for reading.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use offsite_model::{File, FileSystem, Kind, OpenMode};

use crate::error::VolumeError;

/// An open volume. Its length is that of the moment it was opened.
#[derive(Clone)]
pub struct Volume {
    path: PathBuf,
    file: Arc<dyn File>,
    bytes: u64,
}

impl Volume {
    /// Opens a regular file or a block device, also by way of a symbolic link.
    ///
    /// # Errors
    /// Where it is missing, denied, or neither of the two.
    pub fn open(files: &dyn FileSystem, path: &Path) -> Result<Self, VolumeError> {
        let on_open = |error| VolumeError::on_open(path.to_owned(), error);
        let kind = files.metadata(path).map_err(on_open)?.kind;
        if !matches!(kind, Kind::File | Kind::BlockDevice | Kind::Symlink) {
            return Err(VolumeError::NotAVolume { path: path.to_owned() });
        }
        let file = files.open(path, OpenMode::Read).map_err(on_open)?;
        let bytes = file.bytes().map_err(on_open)?;
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    /// Length in bytes when it was opened.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads exactly this range.
    ///
    /// # Errors
    /// [`VolumeError::Resized`] where the volume ends before, [`VolumeError::Io`] with the place
    /// otherwise.
    pub fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), VolumeError> {
        match self.file.read_exact_at(bytes, offset) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                self.check_size()?;
                Err(self.io("read", offset, error))
            }
            Err(error) => Err(self.io("read", offset, error)),
        }
    }

    /// Tells the system that a range will be read soon (`true`) or not again (`false`).
    pub fn advise(&self, offset: u64, bytes: u64, will_need: bool) {
        self.file.advise(offset, bytes, will_need);
    }

    /// Compares the length now with that of the opening; to be called after the last read.
    ///
    /// # Errors
    /// [`VolumeError::Resized`].
    pub fn check_size(&self) -> Result<(), VolumeError> {
        let bytes_now = self.file.bytes().map_err(|error| self.io("measure", 0, error))?;
        if bytes_now == self.bytes {
            return Ok(());
        }
        Err(VolumeError::Resized { path: self.path.clone(), bytes_before: self.bytes, bytes_now })
    }

    pub(crate) fn file(&self) -> &dyn File {
        &*self.file
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
