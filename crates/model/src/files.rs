//! Files as a trait: everything that touches a disk goes through [`FileSystem`] and [`File`].
//!
//! One trait serves the record store, the catalog, volumes, keys and configuration, so that one
//! tracing and one faulty implementation (`testkit::disk`) put all of them under the same simulated
//! power cuts. The real one is `daemon::files`, the only module of the product that names
//! `std::fs`.
//!
//! **Durability contract**, the same for every implementation: bytes are durable after
//! [`File::sync`]; a created, renamed or removed name is durable after [`FileSystem::sync_dir`] of
//! its directory; a rename onto an existing name is atomic. Nothing else is promised: until then
//! a power cut may keep, drop, tear (at 512 bytes) or reorder it.
//!
//! All calls block. Errors are [`std::io::Error`]; their kind is what callers decide on.

use std::io;
use std::path::Path;
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; it must not exist (`O_EXCL`). Readable by its owner alone (0600).
    CreateNew,
}

/// What memory, offsets and lengths are multiples of where a file is written past the cache: no
/// logical block of a disk is larger.
pub const BLOCK_BYTES: usize = 4096;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A block device.
    BlockDevice,
    /// A symbolic link, never followed by [`FileSystem::metadata`].
    Symlink,
    /// Anything else: a socket, a pipe, a character device.
    Other,
}

/// What is known of a name without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Length in bytes; 0 for anything but a regular file.
    pub bytes: u64,
    /// Permission bits, such as `0o600`.
    pub mode: u32,
    /// The owner's numeric id.
    pub owner: u32,
}

/// A range of a file that may hold data; what lies between extents reads as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Length in bytes, never 0.
    pub bytes: u64,
}

/// An open file or block device, used at explicit offsets and from several threads at once.
pub trait File: Send + Sync {
    /// Reads at an offset; returns how much, which is 0 only at the end. May be short.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at an offset, extending the file when needed.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes written bytes and the length durable (`fdatasync`). After an error nothing written
    /// since the last success may be believed, and the call must not be repeated in hope: the
    /// kernel may have marked the pages clean.
    fn sync(&self) -> io::Result<()>;

    /// Length in bytes; for a block device its capacity.
    fn bytes(&self) -> io::Result<u64>;

    /// Cuts or extends (with a hole) to this length.
    fn set_bytes(&self, bytes: u64) -> io::Result<()>;

    /// Reserves space for a range without changing what is read back; the length may grow.
    /// `Unsupported` where the file system cannot.
    fn preallocate(&self, offset: u64, bytes: u64) -> io::Result<()>;

    /// The first extent at or after `offset` that may hold data, or none up to the end.
    /// A file system that does not know holes answers the whole rest.
    fn next_data(&self, offset: u64) -> io::Result<Option<Extent>>;

    /// Tells the system that a range will be read soon, or not again; only ever a hint.
    fn advise(&self, offset: u64, bytes: u64, will_need: bool);

    /// The same file, to be written past the system's cache (`O_DIRECT`): memory, offset and length
    /// of each write are multiples of [`BLOCK_BYTES`]. What is written is still not durable before
    /// [`File::sync`] of either. `Unsupported` or `InvalidInput` where the file system cannot.
    fn past_cache(&self) -> io::Result<Arc<dyn File>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes the exclusive advisory lock of this open file without waiting; `false` when another
    /// holder has it. It is let go when the file is dropped or its process dies.
    fn try_lock(&self) -> io::Result<bool>;

    /// As [`File::try_lock`], beside others that share it: it excludes only who locks alone.
    fn try_lock_shared(&self) -> io::Result<bool>;

    /// Reads exactly that many bytes; `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.read_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    bytes = bytes.get_mut(n..).unwrap_or_default();
                    offset = offset.saturating_add(n as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Names and directories. Paths are made by us or given by an operator, never by a peer.
pub trait FileSystem: Send + Sync {
    /// Opens a file. A symbolic link as the last component is followed for [`OpenMode::Read`] and
    /// [`OpenMode::Write`] (an operator may name a device by a link), never for `CreateNew`.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Makes one directory, readable by its owner alone (0700); the parent must exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Renames within one file system, replacing an existing file atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Makes the names of a directory durable (`fsync` of the directory).
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// What a name stands for; `NotFound` where it does not exist.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Bytes that an ordinary user may still write to the file system that holds this path.
    fn bytes_free(&self, path: &Path) -> io::Result<u64>;

    /// Bytes of the whole file system that holds this path.
    fn bytes_total(&self, path: &Path) -> io::Result<u64>;

    /// Who holds the lock of this file, in words for a person; none when nobody does or the system
    /// does not say.
    fn lock_holder(&self, path: &Path) -> Option<String>;

    /// Reads a whole file of at most `bytes_max`; a longer one is `InvalidData`.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let n = file.bytes()?;
        if n > bytes_max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is longer than {bytes_max} bytes", path.display()),
            ));
        }
        let mut bytes = vec![0; usize::try_from(n).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Puts a whole file in place, all or nothing: a temporary file beside it, write, sync, rename,
    /// sync of the directory. After a crash there is the old content or the new, never a mixture.
    fn write_atomically(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut temporary = name.to_owned();
        temporary.push(".tmp");
        let temporary = directory.join(temporary);
        match self.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.open(&temporary, OpenMode::CreateNew)?;
        file.write_all_at(bytes, 0)?;
        file.sync()?;
        drop(file);
        self.rename(&temporary, path)?;
        self.sync_dir(directory)
    }
}
