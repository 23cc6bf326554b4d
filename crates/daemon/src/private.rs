//! Files that hold secrets: a directory for its owner alone, and files for their owner alone.
//!
//! The modes are looked at on every start and every read. A wider mode or a foreign owner is a
//! refusal, not a repair: somebody may have read the key already, and only a person can judge that.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use offsite_model::{FileSystem, Kind, OpenMode};
use thiserror::Error;
use zeroize::Zeroizing;

/// Bits of a mode that let anybody but the owner in.
const OTHERS: u32 = 0o077;

/// Why a private file is not used.
#[derive(Debug, Error)]
pub enum PrivateError {
    /// The mode lets others in.
    #[error(
        "{} may be used by others (mode {mode:04o}): find out who read it, replace the keys if in \
         doubt, then run: chmod {wanted:o} '{}'", path.display(), path.display()
    )]
    Loose {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        wanted: u32,
    },
    /// It belongs to another user.
    #[error(
        "{} belongs to user {owner} and not to user {wanted}, as whom this program runs: run it as \
         that user, or find out why, then run: chown {wanted} '{}'", path.display(), path.display()
    )]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The owner it should have.
        wanted: u32,
    },
    /// It is a link, a pipe, or a directory in place of a file.
    #[error("{} is no {wanted}: remove it, or put back what was there", path.display())]
    Misplaced {
        /// The file or directory.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// The system refused.
    #[error("cannot {act} {}: {cause}", path.display())]
    Io {
        /// What was being done.
        act: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

impl PrivateError {
    /// Whether this says that a file is not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound)
    }
}

fn io_error<'a>(act: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> PrivateError + 'a {
    move |cause| PrivateError::Io { act, path: path.to_owned(), cause }
}

/// A directory of private files, found to be private when it was opened.
pub struct PrivateDirectory {
    files: Arc<dyn FileSystem>,
    path: PathBuf,
    owner: u32,
}

impl PrivateDirectory {
    /// Makes the directory, which must not exist, and makes its name durable.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn create(
        files: Arc<dyn FileSystem>,
        path: &Path,
        owner: u32,
    ) -> Result<Self, PrivateError> {
        files.create_dir(path).map_err(io_error("make", path))?;
        if let Some(parent) = path.parent() {
            files.sync_dir(parent).map_err(io_error("sync", parent))?;
        }
        Self::open(files, path, owner)
    }

    /// Opens the directory and looks at the mode and the owner of everything in it. `owner` is
    /// [`crate::process::owner`] except in tests.
    ///
    /// # Errors
    ///
    /// Something in it, or it itself, is not private; the daemon must not start.
    pub fn open(files: Arc<dyn FileSystem>, path: &Path, owner: u32) -> Result<Self, PrivateError> {
        let directory = Self { files, path: path.to_owned(), owner };
        directory.check(path, Kind::Directory)?;
        let names = directory.files.list(path).map_err(io_error("list", path))?;
        for name in names {
            directory.check(&path.join(name), Kind::File)?;
        }
        Ok(directory)
    }

    /// Where a file of this name lies.
    #[must_use]
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a new file; it is durable when this returns.
    ///
    /// # Errors
    ///
    /// A file of this name exists, or the system refused.
    pub fn create_file(&self, name: &str, bytes: &[u8]) -> Result<(), PrivateError> {
        let path = self.path_of(name);
        let file = self.files.open(&path, OpenMode::CreateNew).map_err(io_error("make", &path))?;
        // The mode was given at creation, so there is no moment at which others could have opened
        // it.
        self.check(&path, Kind::File)?;
        file.write_all_at(bytes, 0).map_err(io_error("write", &path))?;
        file.sync().map_err(io_error("sync", &path))?;
        self.files.sync_dir(&self.path).map_err(io_error("sync", &self.path))
    }

    /// Puts a file in place of the one of this name, or makes it: after a crash there is the one or
    /// the other, whole.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn replace_file(&self, name: &str, bytes: &[u8]) -> Result<(), PrivateError> {
        let path = self.path_of(name);
        self.files.write_atomically(&path, bytes).map_err(io_error("replace", &path))?;
        self.check(&path, Kind::File)
    }

    /// Reads a file of at most `bytes_max`, after another look at its mode and owner.
    ///
    /// # Errors
    ///
    /// It is absent ([`PrivateError::is_absent`]), not private, too long, or cannot be read.
    pub fn read_file(
        &self,
        name: &str,
        bytes_max: u64,
    ) -> Result<Zeroizing<Vec<u8>>, PrivateError> {
        let path = self.path_of(name);
        self.check(&path, Kind::File)?;
        self.files.read(&path, bytes_max).map(Zeroizing::new).map_err(io_error("read", &path))
    }

    /// Removes a file for good.
    ///
    /// # Errors
    ///
    /// It is absent, or the system refused.
    pub fn remove_file(&self, name: &str) -> Result<(), PrivateError> {
        let path = self.path_of(name);
        self.files.remove(&path).map_err(io_error("remove", &path))?;
        self.files.sync_dir(&self.path).map_err(io_error("sync", &self.path))
    }

    fn check(&self, path: &Path, wanted: Kind) -> Result<(), PrivateError> {
        let found = self.files.metadata(path).map_err(io_error("look at", path))?;
        let path = path.to_owned();
        let (word, mode) = match wanted {
            Kind::Directory => ("directory", 0o700),
            _ => ("file", 0o600),
        };
        if found.kind != wanted {
            return Err(PrivateError::Misplaced { path, wanted: word });
        }
        if found.owner != self.owner {
            return Err(PrivateError::Foreign { path, owner: found.owner, wanted: self.owner });
        }
        if found.mode & OTHERS != 0 {
            return Err(PrivateError::Loose { path, mode: found.mode, wanted: mode });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::{SystemFiles, process};

    /// The user "nobody" of Linux systems.
    const NOBODY: u32 = 65_534;

    fn open(path: &Path) -> Result<PrivateDirectory, PrivateError> {
        PrivateDirectory::open(Arc::new(SystemFiles), path, process::owner())
    }

    #[expect(clippy::disallowed_methods, reason = "the test spoils what the product made")]
    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// A place that everybody may enter, so that only what is tested keeps others out.
    fn open_place() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        set_mode(place.path(), 0o755);
        place
    }

    fn nobody_can_read(path: &Path) -> bool {
        let mut cat = Command::new("cat");
        cat.arg(path).uid(NOBODY).gid(NOBODY).stdout(Stdio::null()).stderr(Stdio::null());
        cat.status().unwrap().success()
    }

    #[test]
    fn a_18_looser_modes_and_foreign_owners_refuse_to_start() {
        let place = open_place();
        let path = place.path().join("keys");
        let keys =
            PrivateDirectory::create(Arc::new(SystemFiles), &path, process::owner()).unwrap();
        keys.create_file("key", b"secret").unwrap();
        assert!(open(&path).is_ok());
        let key = path.join("key");
        for mode in [0o640, 0o604, 0o660, 0o610, 0o644, 0o601, 0o777] {
            set_mode(&key, mode);
            assert!(matches!(open(&path), Err(PrivateError::Loose { .. })), "{mode:o}");
            assert!(keys.read_file("key", 100).is_err(), "read with mode {mode:o}");
            set_mode(&key, 0o600);
            set_mode(&path, mode | 0o100);
            assert!(matches!(open(&path), Err(PrivateError::Loose { .. })), "{mode:o}");
            set_mode(&path, 0o700);
        }
        assert_eq!(*keys.read_file("key", 100).unwrap(), b"secret");
        symlink(&key, path.join("link")).unwrap();
        assert!(matches!(open(&path), Err(PrivateError::Misplaced { .. })));
        keys.remove_file("link").unwrap();
        if process::owner() == 0 {
            chown(&key, Some(NOBODY), None).unwrap();
            let error = open(&path).err().unwrap().to_string();
            assert!(error.contains("belongs to user 65534"), "{error}");
            chown(&key, Some(0), None).unwrap();
            chown(&path, Some(NOBODY), None).unwrap();
            assert!(matches!(open(&path), Err(PrivateError::Foreign { .. })));
        }
    }

    #[test]
    fn a_18_the_refusal_says_what_to_do() {
        let place = open_place();
        let path = place.path().join("keys");
        PrivateDirectory::create(Arc::new(SystemFiles), &path, process::owner()).unwrap();
        set_mode(&path, 0o750);
        let error = open(&path).err().unwrap().to_string();
        assert!(error.contains("mode 0750"), "{error}");
        assert!(error.contains(&format!("chmod 700 '{}'", path.display())), "{error}");
    }

    #[test]
    fn a_18_a_key_is_never_open_to_others_while_it_is_made() {
        let place = open_place();
        // With this mask a file made without a mode of its own would be open to all.
        rustix::process::umask(rustix::fs::Mode::empty());
        let path = place.path().join("keys");
        let keys =
            PrivateDirectory::create(Arc::new(SystemFiles), &path, process::owner()).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut widest = 0;
                while !done.load(Ordering::Acquire) {
                    for name in SystemFiles.list(&path).unwrap() {
                        // A temporary file may be gone by now.
                        if let Ok(found) = SystemFiles.metadata(&path.join(name)) {
                            widest |= found.mode;
                        }
                    }
                }
                widest
            });
            // No panic before the watcher was told to stop: the scope would wait for it for ever.
            let made = (0..20).try_for_each(|index| {
                let name = format!("key-{index}");
                keys.create_file(&name, b"secret")?;
                keys.replace_file(&name, b"newer")
            });
            done.store(true, Ordering::Release);
            assert_eq!(watcher.join().unwrap() & 0o177, 0, "a wider mode was seen");
            made.unwrap();
        });
        for index in 0..20 {
            let found = SystemFiles.metadata(&keys.path_of(&format!("key-{index}"))).unwrap();
            assert_eq!(found.mode, 0o600);
        }
        let again = keys.create_file("key-0", b"other").unwrap_err();
        assert!(again.to_string().starts_with("cannot make"), "{again}");
        assert_eq!(*keys.read_file("key-0", 100).unwrap(), b"newer");
        assert!(keys.read_file("absent", 100).unwrap_err().is_absent());
    }

    #[test]
    fn a_18_another_user_reads_nothing() {
        if process::owner() != 0 {
            // Only root can become somebody else; CI runs as root.
            return;
        }
        let place = open_place();
        let path = place.path().join("keys");
        let keys = PrivateDirectory::create(Arc::new(SystemFiles), &path, 0).unwrap();
        keys.create_file("key", b"secret").unwrap();
        let key = path.join("key");
        assert!(!nobody_can_read(&key), "through the directory");
        set_mode(&path, 0o755);
        assert!(!nobody_can_read(&key), "through the mode of the file");
        set_mode(&key, 0o644);
        assert!(nobody_can_read(&key), "the other user can read at all");
    }
}
