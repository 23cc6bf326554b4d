//! Files as the machine has them: `FileSystem` and `File` over the standard library and `rustix`.
//!
//! **Absent:** every other module of the product from `std::fs` (`clippy.toml`, `words`); mapped
//! memory, which turns a file that shrinks under a reader into a dead process.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use offsite_model::{Extent, File, FileSystem, Kind, Metadata, OpenMode};
use rustix::fs::{Advice, FallocateFlags, FlockOperation, OFlags, SeekFrom};
use rustix::io::Errno;

/// The files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

impl SystemFiles {
    /// The path without links, `.` and `..`; it must exist.
    ///
    /// # Errors
    /// The system's.
    pub fn resolved(&self, path: &Path) -> io::Result<PathBuf> {
        path.canonicalize()
    }

    /// Whether two names stand for one file or one device; a name that does not exist stands for
    /// nothing.
    ///
    /// # Errors
    /// The system's, other than that a name does not exist.
    pub fn is_same(&self, a: &Path, b: &Path) -> io::Result<bool> {
        let Some((a, b)) = identity(a)?.zip(identity(b)?) else { return Ok(false) };
        Ok(a == b)
    }
}

/// What a name stands for in the end: a device by its number, anything else by file system and
/// inode.
fn identity(path: &Path) -> io::Result<Option<(bool, u64, u64)>> {
    let found = match rustix::fs::stat(path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        found => found?,
    };
    let is_device =
        rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::BlockDevice;
    Ok(Some(if is_device { (true, found.st_rdev, 0) } else { (false, found.st_dev, found.st_ino) }))
}

impl FileSystem for SystemFiles {
    #[expect(clippy::disallowed_methods, reason = "this is the module that opens files")]
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read).create_new(mode == OpenMode::CreateNew);
        // An operator may name anything: without this flag a pipe would hold the caller for ever.
        options.mode(0o600).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let file = options.open(path)?;
        let found = file.metadata()?;
        let device = found.file_type().is_block_device();
        if !found.is_file() && !device {
            let error = format!("{} is neither a file nor a block device", path.display());
            return Err(io::Error::new(ErrorKind::InvalidInput, error));
        }
        Ok(Arc::new(SystemFile { file, device, sync_failed: AtomicBool::new(false) }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the module that renames files")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the module that removes files")]
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the module that lists directories")]
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name().into_string().map_err(|name| foreign_name(path, &name))?);
        }
        names.sort_unstable();
        Ok(names)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the module that syncs directories")]
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let found = fs::symlink_metadata(path)?;
        let file_type = found.file_type();
        let kind = match () {
            () if file_type.is_file() => Kind::File,
            () if file_type.is_dir() => Kind::Directory,
            () if file_type.is_block_device() => Kind::BlockDevice,
            () if file_type.is_symlink() => Kind::Symlink,
            () => Kind::Other,
        };
        let bytes = if kind == Kind::File { found.len() } else { 0 };
        Ok(Metadata { kind, bytes, mode: found.mode() & 0o7777, owner: found.uid() })
    }

    fn bytes_free(&self, path: &Path) -> io::Result<u64> {
        let space = rustix::fs::statvfs(path)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn bytes_total(&self, path: &Path) -> io::Result<u64> {
        let space = rustix::fs::statvfs(path)?;
        Ok(space.f_blocks.saturating_mul(space.f_frsize))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the module that reads files")]
    fn lock_holder(&self, path: &Path) -> Option<String> {
        let found = rustix::fs::stat(path).ok()?;
        let (major, minor) = (rustix::fs::major(found.st_dev), rustix::fs::minor(found.st_dev));
        let file = format!("{major:02x}:{minor:02x}:{}", found.st_ino);
        // One lock a line: number, kind, ADVISORY, mode, process, file, range; a process that waits
        // has an arrow in the second place. A process of another namespace shows as 0 or less.
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let mut holders = locks.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, "FLOCK", _, _, process, of, ..] = words[..] else { return None };
            process.parse::<u32>().ok().filter(|process| of == file && *process > 0)
        });
        let process = holders.next()?;
        // A name is the process's own choice.
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        Some(format!("process {process} ({})", name.trim_end().escape_debug()))
    }
}

/// We give every name ourselves and give none that is not UTF-8, so such a name is somebody else's.
fn foreign_name(path: &Path, name: &OsString) -> io::Error {
    let error = format!("{} holds a foreign name: {name:?}", path.display());
    io::Error::new(ErrorKind::InvalidData, error)
}

struct SystemFile {
    file: fs::File,
    device: bool,
    /// Set by the first failed sync. The kernel reports a failed write-back once and may then call
    /// the pages clean, so a later success of `fdatasync` would be a lie.
    sync_failed: AtomicBool,
}

impl File for SystemFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        if self.sync_failed.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier sync of this file failed"));
        }
        self.file.sync_data().inspect_err(|_| self.sync_failed.store(true, Ordering::Release))
    }

    fn bytes(&self) -> io::Result<u64> {
        if self.device {
            // The length that a block device reports as a file is 0; its end is its capacity.
            return Ok(rustix::fs::seek(&self.file, SeekFrom::End(0))?);
        }
        Ok(self.file.metadata()?.len())
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn preallocate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, offset, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV) => {
                Err(ErrorKind::Unsupported.into())
            }
            result => Ok(result?),
        }
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Extent>> {
        let end = self.bytes()?;
        if offset >= end {
            return Ok(None);
        }
        let whole_rest = Some(Extent { offset, bytes: end - offset });
        // Both searches move the position that this open file has and nobody here uses: every read
        // and write names its own offset.
        let start = match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(whole_rest),
            result => result?,
        };
        let hole = match rustix::fs::seek(&self.file, SeekFrom::Hole(start)) {
            // Cut by somebody in between: say "perhaps data", reading finds the end.
            Err(Errno::NXIO) => end,
            result => result?,
        };
        let bytes = hole.min(end).saturating_sub(start);
        Ok((bytes > 0).then_some(Extent { offset: start, bytes }))
    }

    fn advise(&self, offset: u64, bytes: u64, will_need: bool) {
        let advice = if will_need { Advice::WillNeed } else { Advice::DontNeed };
        if let Some(bytes) = std::num::NonZeroU64::new(bytes) {
            // A hint that was not taken is no error.
            rustix::fs::fadvise(&self.file, offset, Some(bytes), advice).ok();
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the module that opens files")]
    fn past_cache(&self) -> io::Result<Arc<dyn File>> {
        if !rustix::fs::fcntl_getfl(&self.file)?.contains(OFlags::RDWR) {
            return Err(ErrorKind::PermissionDenied.into());
        }
        // By its number and not by its name, which may stand for another file by now.
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let flags = OFlags::DIRECT | OFlags::NONBLOCK;
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(flags.bits().cast_signed());
        let (file, device) = (options.open(path)?, self.device);
        Ok(Arc::new(Self { file, device, sync_failed: AtomicBool::new(false) }))
    }

    fn try_lock(&self) -> io::Result<bool> {
        flock(&self.file, FlockOperation::NonBlockingLockExclusive)
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        flock(&self.file, FlockOperation::NonBlockingLockShared)
    }
}

/// Takes a lock that belongs to the open file and not to the process: closing another descriptor of
/// the same file by accident does not let it go, as it would with `fcntl` locks.
fn flock(file: &fs::File, operation: FlockOperation) -> io::Result<bool> {
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use offsite_model::BLOCK_BYTES;
    use offsite_testkit::files_suite;

    use super::*;

    #[test]
    fn the_suite_of_all_file_systems_passes() {
        let place = tempfile::tempdir().unwrap();
        files_suite::check(&SystemFiles, place.path());
    }

    #[test]
    fn a_link_is_followed_for_what_exists_and_never_created_through() {
        let place = tempfile::tempdir().unwrap();
        let (file, link) = (place.path().join("file"), place.path().join("link"));
        symlink(&file, &link).unwrap();
        let error = SystemFiles.open(&link, OpenMode::CreateNew).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(SystemFiles.metadata(&file).is_err(), "the file was made through the link");
        SystemFiles.write_atomically(&file, b"bytes").unwrap();
        assert_eq!(SystemFiles.read(&link, 10).unwrap(), b"bytes");
        assert_eq!(SystemFiles.metadata(&link).unwrap().kind, Kind::Symlink);
    }

    #[test]
    fn one_file_is_recognised_under_all_its_names() {
        let place = tempfile::tempdir().unwrap();
        let (file, link, hard) =
            (place.path().join("file"), place.path().join("link"), place.path().join("hard"));
        SystemFiles.write_atomically(&file, b"bytes").unwrap();
        symlink(&file, &link).unwrap();
        fs::hard_link(&file, &hard).unwrap();
        for other in [&file, &link, &hard] {
            assert!(SystemFiles.is_same(&file, other).unwrap(), "{}", other.display());
        }
        let other = place.path().join("other");
        assert!(!SystemFiles.is_same(&file, &other).unwrap(), "nothing there");
        SystemFiles.write_atomically(&other, b"bytes").unwrap();
        assert!(!SystemFiles.is_same(&file, &other).unwrap(), "the same bytes are another file");
        assert_eq!(SystemFiles.resolved(&link).unwrap(), SystemFiles.resolved(&file).unwrap());
    }

    #[test]
    fn a_pipe_is_refused_at_once() {
        let place = tempfile::tempdir().unwrap();
        let pipe = place.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        for mode in [OpenMode::Read, OpenMode::Write] {
            assert!(SystemFiles.open(&pipe, mode).is_err());
        }
        assert_eq!(SystemFiles.metadata(&pipe).unwrap().kind, Kind::Other);
    }

    #[test]
    fn a_file_is_written_past_the_cache_under_whatever_name() {
        // Beside the programs, since a temporary directory may lie in memory.
        let place = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap());
        let (place, mut bytes) = (place.unwrap(), offsite_model::Aligned::zeroed(3 * BLOCK_BYTES));
        bytes.bytes_mut().fill(7);
        let path = place.path().join("file");
        let file = SystemFiles.open(&path, OpenMode::CreateNew).unwrap();
        file.write_all_at(b"around", BLOCK_BYTES as u64 - 3).unwrap();
        SystemFiles.rename(&path, &place.path().join("other")).unwrap();
        let direct = file.past_cache().expect("the name does not matter, the disk does");
        direct.write_all_at(bytes.bytes(), BLOCK_BYTES as u64).unwrap();
        let mut back = vec![0; 4 * BLOCK_BYTES];
        file.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(&back[BLOCK_BYTES - 3..BLOCK_BYTES], b"aro");
        assert!(back[BLOCK_BYTES..] == *bytes.bytes());
    }

    #[test]
    fn a_lock_is_shared_or_held_alone_and_its_holder_is_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lock");
        SystemFiles.write_atomically(&path, b"").unwrap();
        let open = || SystemFiles.open(&path, OpenMode::Read).unwrap();
        assert_eq!(SystemFiles.lock_holder(&path), None);
        let (first, second) = (open(), open());
        assert!(first.try_lock_shared().unwrap() && second.try_lock_shared().unwrap());
        assert!(!open().try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
        assert!(!open().try_lock_shared().unwrap());
        let holder = SystemFiles.lock_holder(&path).unwrap();
        assert!(holder.starts_with(&format!("process {} (", std::process::id())), "{holder}");
    }

    #[test]
    fn d_19_a_file_cut_under_its_reader_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        SystemFiles.write_atomically(&path, &[7; 64 << 10]).unwrap();
        let reader = SystemFiles.open(&path, OpenMode::Read).unwrap();
        let mut bytes = vec![0; 64 << 10];
        for round in 0..20_u64 {
            let writer = SystemFiles.open(&path, OpenMode::Write).unwrap();
            writer.set_bytes(round * 1_000).unwrap();
            let error = reader.read_exact_at(&mut bytes, 0).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            writer.set_bytes(64 << 10).unwrap();
            reader.read_exact_at(&mut bytes, 0).unwrap();
        }
    }
}
