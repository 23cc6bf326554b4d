//! The data directory: one program's home, used by one daemon at a time.
//!
//! ```text
//! DATA/lock                  held while a program uses the directory
//! DATA/version               whose directory this is, and in which format; written last
//! DATA/offsite.toml          settings
//! DATA/run/addresses.json    what a running daemon listens on; gone when it stops
//! ```
//!
//! Everything else in it belongs to the programs. A directory with a lock and without a version is
//! one whose first set-up was interrupted; nobody was promised anything from it yet.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use offsite_model::{File, FileSystem, Kind, OpenMode};
use thiserror::Error;

const LOCK: &str = "lock";
const VERSION: &str = "version";
const RUN: &str = "run";
const ADDRESSES: &str = "addresses.json";

/// The format of the directory that this release reads and writes.
pub const FORMAT: u32 = 1;

/// A longer version file is not ours.
const VERSION_BYTES_MAX: u64 = 256;

/// Bits of a mode that let others change what is in a directory.
const WRITE_BY_OTHERS: u32 = 0o022;

/// Why a directory is not used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// It is not there.
    #[error("{} does not exist: run `{program} init --name NAME --data '{}'` first",
        path.display(), path.display())]
    Absent {
        /// The directory.
        path: PathBuf,
        /// The program that looked for it.
        program: &'static str,
    },
    /// It holds things that are not ours.
    #[error("{} is not empty and no data directory of {program}: name another, or an empty one",
        path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The program that looked at it.
        program: &'static str,
    },
    /// It was set up before.
    #[error("{} was set up before: use it, or name another directory", path.display())]
    SetUp {
        /// The directory.
        path: PathBuf,
    },
    /// A set-up did not come to its end.
    #[error("the set-up of {} was interrupted: remove the directory and run init again",
        path.display())]
    Unfinished {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to another program.
    #[error("{} belongs to {owner}, not to {program}: name another directory", path.display())]
    OtherProgram {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// The program that looked at it.
        program: &'static str,
    },
    /// It has a format that this release does not know.
    #[error("{} has format {found}; this release of {program} knows format {FORMAT} only: use the \
        release that wrote it, or upgrade by its notes", path.display())]
    OtherVersion {
        /// The directory.
        path: PathBuf,
        /// The format it has.
        found: String,
        /// The program that looked at it.
        program: &'static str,
    },
    /// Another process uses it.
    #[error("{} is in use by {holder}: stop that one first", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Which process, in words.
        holder: String,
    },
    /// Other users may change what is in it, so that no mode further down means anything.
    #[error("{} can be changed by others (mode {mode:04o}): run: chmod go-w '{}'",
        path.display(), path.display())]
    Loose {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
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

fn io_error<'a>(act: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DataDirError + 'a {
    move |cause| DataDirError::Io { act, path: path.to_owned(), cause }
}

/// A data directory that this process alone uses, until this value is dropped.
pub struct DataDir {
    files: Arc<dyn FileSystem>,
    path: PathBuf,
    program: &'static str,
    _lock: Arc<dyn File>,
}

impl DataDir {
    /// Begins the set-up of a directory, which is made or must be empty. The set-up counts once
    /// [`DataDir::finish_set_up`] was called.
    ///
    /// # Errors
    ///
    /// The directory is not empty, or the system refused.
    pub fn begin_set_up(
        files: Arc<dyn FileSystem>,
        path: &Path,
        program: &'static str,
    ) -> Result<Self, DataDirError> {
        match files.metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(&*files, path)?,
            result => {
                result.map_err(io_error("look at", path))?;
            }
        }
        check_mode(&*files, path)?;
        let names = files.list(path).map_err(io_error("list", path))?;
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        if has(VERSION) {
            check_version(&*files, path, program)?;
            return Err(DataDirError::SetUp { path: path.to_owned() });
        }
        if has(LOCK) {
            return Err(DataDirError::Unfinished { path: path.to_owned() });
        }
        if !names.is_empty() {
            return Err(DataDirError::Foreign { path: path.to_owned(), program });
        }
        let lock_path = path.join(LOCK);
        let lock =
            files.open(&lock_path, OpenMode::CreateNew).map_err(io_error("make", &lock_path))?;
        take(&*files, &*lock, &lock_path, program)?;
        files.sync_dir(path).map_err(io_error("sync", path))?;
        Ok(Self { files, path: path.to_owned(), program, _lock: lock })
    }

    /// Says that everything a daemon needs is in the directory.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn finish_set_up(&self) -> Result<(), DataDirError> {
        let path = self.path.join(VERSION);
        let text = format!("{} {FORMAT}\n", self.program);
        self.files.write_atomically(&path, text.as_bytes()).map_err(io_error("write", &path))
    }

    /// Opens a directory that was set up.
    ///
    /// # Errors
    ///
    /// It is not one, is in use, or the system refused.
    pub fn open(
        files: Arc<dyn FileSystem>,
        path: &Path,
        program: &'static str,
    ) -> Result<Self, DataDirError> {
        check_mode(&*files, path).map_err(|error| match error {
            DataDirError::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
                DataDirError::Absent { path: path.to_owned(), program }
            }
            error => error,
        })?;
        check_version(&*files, path, program)?;
        let lock_path = path.join(LOCK);
        let lock = files.open(&lock_path, OpenMode::Write).map_err(io_error("open", &lock_path))?;
        take(&*files, &*lock, &lock_path, program)?;
        Ok(Self { files, path: path.to_owned(), program, _lock: lock })
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files it lies on.
    #[must_use]
    pub fn files(&self) -> &Arc<dyn FileSystem> {
        &self.files
    }

    /// The configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.path.join(crate::config::FILE_NAME)
    }

    /// Where sockets and addresses of a running daemon lie; made when it is not there. What an
    /// earlier run that died left in it is removed: the lock says that nobody uses it.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn clean_run_dir(&self) -> Result<PathBuf, DataDirError> {
        let path = self.path.join(RUN);
        match self.files.create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.map_err(io_error("make", &path))?,
        }
        for name in self.files.list(&path).map_err(io_error("list", &path))? {
            let stale = path.join(name);
            self.files.remove(&stale).map_err(io_error("remove", &stale))?;
        }
        Ok(path)
    }

    /// Writes `run/addresses.json` for scripts and for the command line, all at once; it goes when
    /// the answer is dropped. The text is the program's.
    ///
    /// # Errors
    ///
    /// The system refused; [`DataDir::clean_run_dir`] was not called.
    pub fn publish_addresses(&self, json: &str) -> Result<Published, DataDirError> {
        let path = self.path.join(RUN).join(ADDRESSES);
        self.files.write_atomically(&path, json.as_bytes()).map_err(io_error("write", &path))?;
        Ok(Published { files: Arc::clone(&self.files), path })
    }
}

/// Addresses that scripts can read until this is dropped.
pub struct Published {
    files: Arc<dyn FileSystem>,
    path: PathBuf,
}

impl Drop for Published {
    fn drop(&mut self) {
        if let Err(error) = self.files.remove(&self.path) {
            tracing::warn!(cause = %error, "cannot remove the published addresses");
        }
    }
}

/// Makes the directory and those above it that are absent.
fn make(files: &dyn FileSystem, path: &Path) -> Result<(), DataDirError> {
    let mut absent = vec![path];
    for above in path.ancestors().skip(1).take_while(|above| !above.as_os_str().is_empty()) {
        match files.metadata(above) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => absent.push(above),
            _ => break,
        }
    }
    for path in absent.into_iter().rev() {
        files.create_dir(path).map_err(io_error("make", path))?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            files.sync_dir(parent).map_err(io_error("sync", parent))?;
        }
    }
    Ok(())
}

fn check_mode(files: &dyn FileSystem, path: &Path) -> Result<(), DataDirError> {
    let found = files.metadata(path).map_err(io_error("look at", path))?;
    if found.kind == Kind::Symlink {
        // An operator may keep the data elsewhere by a link; what it points to cannot be asked for
        // its mode here, but its private parts are looked at one by one.
        return Ok(());
    }
    if found.mode & WRITE_BY_OTHERS != 0 {
        return Err(DataDirError::Loose { path: path.to_owned(), mode: found.mode });
    }
    Ok(())
}

fn check_version(
    files: &dyn FileSystem,
    path: &Path,
    program: &'static str,
) -> Result<(), DataDirError> {
    let version_path = path.join(VERSION);
    let bytes = match files.read(&version_path, VERSION_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = path.to_owned();
            return Err(match files.metadata(&path.join(LOCK)) {
                Ok(_) => DataDirError::Unfinished { path },
                Err(_) => DataDirError::Foreign { path, program },
            });
        }
        Err(error) => return Err(io_error("read", &version_path)(error)),
    };
    let text = String::from_utf8_lossy(&bytes);
    match text.trim_end().split_once(' ') {
        Some((owner, _)) if owner != program => Err(DataDirError::OtherProgram {
            path: path.to_owned(),
            owner: owner.escape_debug().to_string(),
            program,
        }),
        Some((_, found)) if found == FORMAT.to_string() => Ok(()),
        found => Err(DataDirError::OtherVersion {
            path: path.to_owned(),
            found: found
                .map_or("unknown".to_owned(), |(_, format)| format.escape_debug().to_string()),
            program,
        }),
    }
}

fn take(
    files: &dyn FileSystem,
    lock: &dyn File,
    lock_path: &Path,
    program: &'static str,
) -> Result<(), DataDirError> {
    match lock.try_lock() {
        Ok(true) => Ok(()),
        Ok(false) => {
            let path = lock_path.parent().unwrap_or(lock_path).to_owned();
            let holder = files.lock_holder(lock_path);
            let holder = holder.unwrap_or_else(|| format!("another {program}"));
            Err(DataDirError::InUse { path, holder })
        }
        Err(error) => Err(io_error("lock", lock_path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemFiles;

    const TARGET: &str = "offsite-target";

    fn open(path: &Path) -> Result<DataDir, DataDirError> {
        DataDir::open(Arc::new(SystemFiles), path, TARGET)
    }

    fn begin(path: &Path) -> Result<DataDir, DataDirError> {
        DataDir::begin_set_up(Arc::new(SystemFiles), path, TARGET)
    }

    fn said<T>(result: Result<T, DataDirError>) -> String {
        result.err().unwrap().to_string()
    }

    #[test]
    fn a_directory_is_set_up_once_and_used_by_one() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("var").join("offsite");
        assert!(said(open(&path)).contains("run `offsite-target init"));
        let first = begin(&path).unwrap();
        assert_eq!(SystemFiles.metadata(&path).unwrap().mode, 0o700);
        assert!(said(open(&path)).contains("was interrupted"));
        first.finish_set_up().unwrap();
        let us = format!("in use by process {} (", std::process::id());
        assert!(said(open(&path)).contains(&us));
        drop(first);
        assert!(said(begin(&path)).contains("was set up before"));
        let daemon = open(&path).unwrap();
        assert!(said(open(&path)).contains("stop that one first"));
        drop(daemon);
        open(&path).unwrap();
    }

    #[test]
    fn a_foreign_directory_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        SystemFiles.write_atomically(&place.path().join("holiday.jpg"), b"x").unwrap();
        assert!(said(begin(place.path())).contains("is not empty"));
        assert!(said(open(place.path())).contains("no data directory of offsite-target"));
        assert_eq!(SystemFiles.list(place.path()).unwrap(), ["holiday.jpg"]);
    }

    #[test]
    fn an_interrupted_set_up_is_begun_anew_by_hand() {
        let place = tempfile::tempdir().unwrap();
        drop(begin(place.path()).unwrap());
        assert!(said(begin(place.path())).contains("remove the directory and run init again"));
    }

    #[test]
    fn d_18_another_program_or_format_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path();
        begin(path).unwrap().finish_set_up().unwrap();
        for (version, expected) in [
            ("offsite-source 1\n", "belongs to offsite-source"),
            ("offsite-target 2\n", "has format 2"),
            ("offsite-target 01\n", "has format 01"),
            ("offsite-target \n", "has format unknown"),
            ("offsite-target", "has format unknown"),
            ("", "has format unknown"),
        ] {
            SystemFiles.write_atomically(&path.join(VERSION), version.as_bytes()).unwrap();
            let error = said(open(path));
            assert!(error.contains(expected), "{version:?}: {error}");
        }
        SystemFiles.write_atomically(&path.join(VERSION), &[b'x'; 300]).unwrap();
        assert!(said(open(path)).starts_with("cannot read"));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test spoils what the product made")]
    fn a_directory_that_others_can_change_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        begin(place.path()).unwrap().finish_set_up().unwrap();
        for (mode, is_refused) in [(0o755, false), (0o775, true), (0o757, true), (0o700, false)] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(place.path(), permissions).unwrap();
            assert_eq!(open(place.path()).is_err(), is_refused, "{mode:o}");
        }
    }

    #[test]
    fn addresses_are_there_while_the_daemon_runs() {
        let place = tempfile::tempdir().unwrap();
        let data = begin(place.path()).unwrap();
        let run = data.clean_run_dir().unwrap();
        SystemFiles.write_atomically(&run.join("rest-of-a-crash"), b"").unwrap();
        assert_eq!(data.clean_run_dir().unwrap(), run);
        let published = data.publish_addresses("{\"pid\":1}\n").unwrap();
        assert_eq!(SystemFiles.list(&run).unwrap(), [ADDRESSES]);
        assert_eq!(SystemFiles.read(&run.join(ADDRESSES), 100).unwrap(), b"{\"pid\":1}\n");
        drop(published);
        assert_eq!(SystemFiles.list(&run).unwrap(), Vec::<String>::new());
    }
}
