//! Where a restore writes: a new file, or a file or device that the operator said may be
//! overwritten.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use offsite_model::{File, FileSystem, Kind, OpenMode};

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
    bytes: u64,
    is_device: bool,
}

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
            (Err(error), _) if error.kind() == std::io::ErrorKind::NotFound => {
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
        Ok(Self { path: path.to_owned(), file, bytes, is_device })
    }

    fn sized(path: &Path, file: Arc<dyn File>, bytes: u64) -> Result<Self, VolumeError> {
        let path = path.to_owned();
        match file.set_bytes(bytes) {
            Ok(()) => Ok(Self { path, file, bytes, is_device: false }),
            Err(source) => Err(VolumeError::Io { verb: "extend", path, offset: bytes, source }),
        }
    }

    /// Length of the volume that is written.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes a range of data.
    ///
    /// # Errors
    /// With the place; a range beyond the volume is refused.
    pub fn write(&self, bytes: &[u8], offset: u64) -> Result<(), VolumeError> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(self.io("write", offset, std::io::ErrorKind::InvalidInput.into()));
        }
        self.file.write_all_at(bytes, offset).map_err(|error| self.io("write", offset, error))
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
