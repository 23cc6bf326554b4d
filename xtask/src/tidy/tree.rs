//! The files of the workspace, held in memory: loaded once, or written down in a test.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Every file by its path from the top, with `/` between folders; `None` where it is no text.
pub(crate) struct Tree(BTreeMap<String, Option<String>>);

impl Tree {
    /// Reads the files below a folder, except for what git and cargo keep there.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let mut tree = BTreeMap::new();
        load(root, "", &mut tree)?;
        Ok(Self(tree))
    }

    /// A tree of these files, for tests.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let owned = |&(path, text): &(&str, &str)| (path.to_owned(), Some(text.to_owned()));
        Self(files.iter().map(owned).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.0.get(path)?.as_deref()
    }

    /// All files with a text.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// All texts whose name ends so.
    pub(crate) fn texts_of(&self, end: &str) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(move |(path, _)| path.ends_with(end))
    }

    /// Whether there is a file or a folder at this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        path.is_empty()
            || self.0.contains_key(path)
            || self
                .paths()
                .any(|known| known.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn load(folder: &Path, prefix: &str, tree: &mut BTreeMap<String, Option<String>>) -> Result<()> {
    let cannot = || format!("cannot list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        let place = format!("{prefix}{name}");
        if entry.file_type().with_context(cannot)?.is_dir() {
            // Cargo marks its output folders by this file; a module may well be called "target".
            let is_output = path.join("CACHEDIR.TAG").is_file();
            let is_ours = name != ".git" && !is_output && !(prefix.is_empty() && name == "tmp");
            if is_ours {
                load(&path, &format!("{place}/"), tree)?;
            }
        } else if place != ".git" {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {place}"))?;
            tree.insert(place, String::from_utf8(bytes).ok());
        }
    }
    Ok(())
}
