//! What can go wrong with a volume, sorted by what its operator can do about it.

use std::io;
use std::path::PathBuf;

/// A volume cannot be read, or a destination not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// There is nothing under this name.
    #[error("{} does not exist; check the path of the volume", path.display())]
    Missing {
        /// The name.
        path: PathBuf,
    },
    /// It is there, but not for us.
    #[error("{} may not be opened by this user; give the daemon's user read \
        access", path.display())]
    Denied {
        /// The name.
        path: PathBuf,
    },
    /// It is neither a regular file nor a block device.
    #[error("{} is neither a regular file nor a block device", path.display())]
    NotAVolume {
        /// The name.
        path: PathBuf,
    },
    /// Its length changed while it was read, so what was read is of no one moment.
    #[error(
        "{} had {bytes_before} bytes when it was opened and has {bytes_now} now; \
         protect a snapshot, or stop whoever resizes it", path.display()
    )]
    Resized {
        /// The name.
        path: PathBuf,
        /// Bytes when it was opened.
        bytes_before: u64,
        /// Bytes now.
        bytes_now: u64,
    },
    /// The destination exists and overwriting was not asked for.
    #[error("{} exists; name another file, or say that it may be overwritten", path.display())]
    Exists {
        /// The name.
        path: PathBuf,
    },
    /// The destination is a device that cannot hold the volume.
    #[error("{} holds {bytes_there} bytes and the volume has {bytes_needed}", path.display())]
    TooSmall {
        /// The name.
        path: PathBuf,
        /// Bytes of the device.
        bytes_there: u64,
        /// Bytes of the volume.
        bytes_needed: u64,
    },
    /// Reading or writing failed at a place.
    #[error("cannot {verb} {} at byte {offset}: {source}", path.display())]
    Io {
        /// What was being done.
        verb: &'static str,
        /// The name.
        path: PathBuf,
        /// The place.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
}

impl VolumeError {
    pub(crate) fn on_open(path: PathBuf, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::PermissionDenied => Self::Denied { path },
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            _ => Self::Io { verb: "open", path, offset: 0, source },
        }
    }
}
