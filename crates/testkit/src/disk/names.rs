//! Names of files and directories: those seen, those durable, and the changes between the two.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::dice::Dice;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Directory,
    /// Index of the file.
    File(usize),
}

/// A change of names that no sync of a directory has made durable yet; each is atomic.
#[derive(Clone)]
enum Change {
    Add(PathBuf, Named),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, Named),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Named>) {
        match self {
            Self::Add(path, named) => {
                names.insert(path.clone(), *named);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, named) => {
                names.remove(from);
                names.insert(to.clone(), *named);
            }
        }
    }

    fn concerns(&self, directory: &Path) -> bool {
        match self {
            Self::Add(path, _) | Self::Remove(path) => path.parent() == Some(directory),
            Self::Rename(from, to, _) => {
                from.parent() == Some(directory) || to.parent() == Some(directory)
            }
        }
    }
}

#[derive(Clone)]
pub(super) struct Names {
    seen: BTreeMap<PathBuf, Named>,
    durable: BTreeMap<PathBuf, Named>,
    pending: Vec<Change>,
}

impl Default for Names {
    fn default() -> Self {
        let root = BTreeMap::from([(PathBuf::from("/"), Named::Directory)]);
        Self { seen: root.clone(), durable: root, pending: Vec::new() }
    }
}

impl Names {
    pub(super) fn find(&self, path: &Path) -> io::Result<Named> {
        self.seen.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn file(&self, path: &Path) -> Option<usize> {
        match self.seen.get(path) {
            Some(Named::File(index)) => Some(*index),
            _ => None,
        }
    }

    /// The current path of a file, for the record of calls.
    pub(super) fn path_of(&self, index: usize) -> Option<&PathBuf> {
        self.seen.iter().find(|(_, named)| **named == Named::File(index)).map(|(path, _)| path)
    }

    pub(super) fn seen_files(&self) -> impl Iterator<Item = (&PathBuf, usize)> {
        self.seen.iter().filter_map(|(path, named)| match named {
            Named::File(index) => Some((path, *index)),
            Named::Directory => None,
        })
    }

    pub(super) fn n_seen(&self) -> u64 {
        self.seen.len() as u64
    }

    pub(super) fn add(&mut self, path: &Path, named: Named) -> io::Result<()> {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        if self.find(parent)? != Named::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if self.seen.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(Change::Add(path.to_owned(), named));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        match self.find(path)? {
            Named::Directory => Err(io::ErrorKind::IsADirectory.into()),
            Named::File(_) => {
                self.change(Change::Remove(path.to_owned()));
                Ok(())
            }
        }
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        if self.find(path)? != Named::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if !self.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    /// Renames a file; directories of the product are never renamed.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let named = self.find(from)?;
        if named == Named::Directory {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if self.find(to).is_ok_and(|named| named == Named::Directory) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let parent = to.parent().ok_or(io::ErrorKind::InvalidInput)?;
        if self.find(parent)? != Named::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        self.change(Change::Rename(from.to_owned(), to.to_owned(), named));
        Ok(())
    }

    pub(super) fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        if self.find(directory)? != Named::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let under = self.seen.range(directory.to_owned()..).skip(1);
        let under = under.take_while(|(path, _)| path.starts_with(directory));
        let direct = under.filter(|(path, _)| path.parent() == Some(directory));
        let names = direct.filter_map(|(path, _)| path.file_name()?.to_str());
        Ok(names.map(str::to_owned).collect())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    pub(super) fn sync_dir(&mut self, directory: &Path) {
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let is_synced = change.concerns(directory);
            if is_synced {
                change.apply(durable);
            }
            !is_synced
        });
    }

    /// The power fails: each change of a name is kept or not; what stands under a directory that is
    /// gone is gone with it.
    pub(super) fn survive(&mut self, dice: &mut Dice) {
        let chance = [0, 50, 100][dice.below(3) as usize];
        for change in self.pending.drain(..) {
            if dice.percent(chance) {
                change.apply(&mut self.durable);
            }
        }
        let mut kept: BTreeMap<PathBuf, Named> = BTreeMap::new();
        for (path, named) in &self.durable {
            let has_parent = path.parent().is_none_or(|parent| kept.contains_key(parent));
            if has_parent {
                kept.insert(path.clone(), *named);
            }
        }
        self.durable.clone_from(&kept);
        self.seen = kept;
    }
}
