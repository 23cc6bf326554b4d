//! Names in the store's directory, and the root file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use offsite_model::{File, FileSystem, OpenMode};
use zerocopy::{FromBytes, IntoBytes};

use crate::error::StoreError;
use crate::format::{FORMAT_VERSION, STORE_MAGIC, StoreRoot, are_zero, crc};

const LOCK: &str = "lock";
const ROOT: &str = "store";
const CATALOG: &str = "catalog";
const JOURNAL: &str = "journal";
const SEGMENTS: &str = "segments";
const MANIFESTS: &str = "manifests";
const RUNS: &str = "runs";
const DRAFTS: &str = "drafts";
const RESERVE: &str = "reserve";
const QUARANTINE: &str = "quarantine";
const DOUBT: &str = "doubt";
const NEW_CATALOG: &str = "catalog.new";
const OLD_CATALOG: &str = "catalog.old";
const OLD_JOURNAL: &str = "journal.old";
/// Every name a store may have, so that somebody else's directory is recognised.
const NAMES: [&str; 10] =
    [LOCK, ROOT, CATALOG, JOURNAL, SEGMENTS, MANIFESTS, RUNS, DRAFTS, RESERVE, QUARANTINE];
/// The end of names of files that are not whole yet.
const TEMPORARY: &str = ".tmp";
const ROOT_BYTES: usize = size_of::<StoreRoot>();

/// The journal has entries of version 2: points were purged, or space was collected.
pub(crate) const NEEDS_COLLECTION: u32 = 1;
/// The journal has entries of version 3: locks were set.
pub(crate) const NEEDS_LOCKS: u32 = 2;
const NEEDS_KNOWN: u32 = NEEDS_COLLECTION | NEEDS_LOCKS;

/// What the root file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) store: [u8; 16],
    pub(crate) fence: u64,
    /// Features that a program must know to open this store, one bit each.
    pub(crate) needs: u32,
}

/// A directory of numbered files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folder {
    Segments,
    Manifests,
    Runs,
    Drafts,
    /// Segments that were emptied because of what is damaged in them; made when there is one.
    Quarantine,
    /// What a rebuild found and the journal does not name; made when there is something.
    Doubt,
}

impl Folder {
    const ALL: [Self; 4] = [Self::Segments, Self::Manifests, Self::Runs, Self::Drafts];
    /// All whose files take their names from the one counter.
    pub(crate) const EVERY: [Self; 6] =
        [Self::Segments, Self::Manifests, Self::Runs, Self::Drafts, Self::Quarantine, Self::Doubt];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Segments => SEGMENTS,
            Self::Manifests => MANIFESTS,
            Self::Runs => RUNS,
            Self::Drafts => DRAFTS,
            Self::Quarantine => QUARANTINE,
            Self::Doubt => DOUBT,
        }
    }
}

/// The store's directory and how its files are reached.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) files: Arc<dyn FileSystem>,
    directory: PathBuf,
}

impl Place {
    pub(crate) fn new(files: Arc<dyn FileSystem>, directory: &Path) -> Self {
        Self { files, directory: directory.to_owned() }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn catalog(&self) -> PathBuf {
        self.directory.join(CATALOG)
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.directory.join(JOURNAL)
    }

    /// The catalog that a rebuild is making.
    pub(crate) fn new_catalog(&self) -> PathBuf {
        self.directory.join(NEW_CATALOG)
    }

    /// The unreadable catalog that a rebuild replaced.
    pub(crate) fn old_catalog(&self) -> PathBuf {
        self.directory.join(OLD_CATALOG)
    }

    /// The damaged journal that a rebuild believed in part.
    pub(crate) fn old_journal(&self) -> PathBuf {
        self.directory.join(OLD_JOURNAL)
    }

    pub(crate) fn reserve(&self) -> PathBuf {
        self.directory.join(RESERVE)
    }

    pub(crate) fn folder(&self, folder: Folder) -> PathBuf {
        self.directory.join(folder.name())
    }

    pub(crate) fn file(&self, folder: Folder, number: u32) -> PathBuf {
        self.folder(folder).join(format!("{number:08x}"))
    }

    pub(crate) fn temporary(&self, folder: Folder, number: u32) -> PathBuf {
        self.folder(folder).join(format!("{number:08x}{TEMPORARY}"))
    }

    pub(crate) fn sync(&self, folder: Folder) -> Result<(), StoreError> {
        let path = self.folder(folder);
        self.files.sync_dir(&path).map_err(StoreError::io(format!("sync {}", path.display())))
    }

    /// Makes a folder that stores of earlier programs do not have.
    pub(crate) fn make_folder(&self, folder: Folder) -> Result<(), StoreError> {
        let path = self.folder(folder);
        match self.files.create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other
                .and_then(|()| self.files.sync_dir(&self.directory))
                .map_err(StoreError::io(format!("make the folder {}", path.display()))),
        }
    }

    /// Moves a segment out of the way, durably, where it lies until somebody removes it there. One
    /// that is gone already is fine.
    pub(crate) fn put_in_quarantine(&self, number: u32) -> Result<(), StoreError> {
        let from = self.file(Folder::Segments, number);
        let doing = || StoreError::io(format!("put segment {number:08x} in quarantine"));
        self.make_folder(Folder::Quarantine)?;
        match self.files.rename(&from, &self.file(Folder::Quarantine, number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(doing())?,
        }
        self.sync(Folder::Quarantine)?;
        self.sync(Folder::Segments)
    }

    /// The numbers of a directory's whole files; anything unfinished is removed, anything foreign
    /// is left alone and not looked at.
    pub(crate) fn numbers(&self, folder: Folder) -> Result<Vec<u32>, StoreError> {
        let path = self.folder(folder);
        let names =
            self.files.list(&path).map_err(StoreError::io(format!("list {}", path.display())))?;
        let mut numbers = Vec::new();
        for name in names {
            if name.ends_with(TEMPORARY) {
                self.remove(&path.join(name))?;
            } else if let Some(number) = number_of(&name) {
                numbers.push(number);
            }
        }
        Ok(numbers)
    }

    /// As [`Place::numbers`]; none where there is no such directory.
    pub(crate) fn numbers_if_there(&self, folder: Folder) -> Result<Vec<u32>, StoreError> {
        match self.files.metadata(&self.folder(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            _ => self.numbers(folder),
        }
    }

    /// Removes a file; one that is gone already is fine.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), StoreError> {
        match self.files.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io(format!("remove {}", path.display()))(error))
            }
            _ => Ok(()),
        }
    }

    /// Takes the lock, or says who has it; the file is made if it is not there.
    pub(crate) fn lock(&self) -> Result<Arc<dyn File>, StoreError> {
        let path = self.directory.join(LOCK);
        let doing = || StoreError::io(format!("lock {}", path.display()));
        let file = match self.files.open(&path, OpenMode::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match self.files.open(&path, OpenMode::CreateNew) {
                    // Somebody else was faster; the lock itself decides.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        self.files.open(&path, OpenMode::Write).map_err(doing())?
                    }
                    other => other.map_err(doing())?,
                }
            }
            other => other.map_err(doing())?,
        };
        match file.try_lock().map_err(doing())? {
            true => Ok(file),
            false => Err(StoreError::InUse { holder: self.files.lock_holder(&path) }),
        }
    }

    /// Whether there is a store; `NotAStore` also where there is no such directory.
    pub(crate) fn check_is_store(&self) -> Result<(), StoreError> {
        match self.files.metadata(&self.directory.join(ROOT)) {
            Ok(_) => Ok(()),
            Err(error) if is_absent(&error) => {
                Err(StoreError::NotAStore(self.directory.display().to_string()))
            }
            Err(error) => Err(StoreError::io("look for the store's root file")(error)),
        }
    }

    /// Prepares a directory for a new store: empty, or what an interrupted preparation left.
    pub(crate) fn prepare(&self) -> Result<(), StoreError> {
        let shown = self.directory.display().to_string();
        let doing = || StoreError::io(format!("make a store in {shown}"));
        let names = match self.files.list(&self.directory) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.files.create_dir(&self.directory).map_err(doing())?;
                let parent = self.directory.parent().unwrap_or(&self.directory);
                self.files.sync_dir(parent).map_err(doing())?;
                Vec::new()
            }
            Err(error) => return Err(doing()(error)),
        };
        if names.iter().any(|name| name == ROOT) {
            return Err(StoreError::StoreExists(shown));
        }
        let is_ours = |name: &str| NAMES.contains(&name.trim_end_matches(TEMPORARY));
        if let Some(name) = names.iter().find(|name| !is_ours(name)) {
            return Err(StoreError::NotEmpty { directory: shown, name: name.clone() });
        }
        for folder in Folder::ALL {
            match self.files.create_dir(&self.folder(folder)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let found = self.files.list(&self.folder(folder)).map_err(doing())?;
                    if let Some(name) = found.into_iter().next() {
                        return Err(StoreError::NotEmpty { directory: shown, name });
                    }
                }
                other => other.map_err(doing())?,
            }
        }
        // What an interrupted preparation may have begun; nothing refers to it.
        for path in [self.catalog(), self.journal()] {
            self.remove(&path)?;
        }
        self.files.sync_dir(&self.directory).map_err(doing())
    }

    /// Reads the root file.
    pub(crate) fn read_root(&self) -> Result<Root, StoreError> {
        let path = self.directory.join(ROOT);
        let bytes = self
            .files
            .read(&path, ROOT_BYTES as u64 * 2)
            .map_err(StoreError::io("read the store's root file"))?;
        let damaged = || StoreError::Damaged("the store's root file".to_owned());
        let (root, _) = StoreRoot::ref_from_prefix(&bytes).map_err(|_| damaged())?;
        if root.magic != STORE_MAGIC {
            return Err(damaged());
        }
        if root.version.get() != FORMAT_VERSION {
            return Err(StoreError::VersionUnknown {
                what: "the store".to_owned(),
                found: root.version.get(),
                known: FORMAT_VERSION,
            });
        }
        let checked = bytes.get(..ROOT_BYTES - 4).unwrap_or_default();
        let is_whole = bytes.len() == ROOT_BYTES && root.crc.get() == crc(&[checked]);
        if !is_whole || !are_zero(&[&root.zeros]) {
            return Err(damaged());
        }
        let needs = root.needs.get();
        if needs & !NEEDS_KNOWN != 0 {
            return Err(StoreError::NeedsUnknown { bits: needs & !NEEDS_KNOWN });
        }
        Ok(Root { store: root.store, fence: root.fence.get(), needs })
    }

    /// Replaces the root file, durably.
    pub(crate) fn write_root(&self, root: Root) -> Result<(), StoreError> {
        let Root { store, fence, needs } = root;
        let mut root = StoreRoot {
            magic: STORE_MAGIC,
            version: FORMAT_VERSION.into(),
            needs: needs.into(),
            store,
            fence: fence.into(),
            zeros: [0; 20],
            crc: 0.into(),
        };
        let (checked, _) = root.as_bytes().split_at(ROOT_BYTES - 4);
        root.crc = crc(&[checked]).into();
        self.files
            .write_atomically(&self.directory.join(ROOT), root.as_bytes())
            .map_err(StoreError::io("write the store's root file"))
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The number that a name stands for, in the one form in which we write it.
fn number_of(name: &str) -> Option<u32> {
    let is_ours = name.len() == 8 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_ours { u32::from_str_radix(name, 16).ok() } else { None }
}
