//! Configuration: `DATA/offsite.toml` into typed settings, with the place of every mistake.
//!
//! The programs own the settings and the commented default text; this module reads, complains and
//! writes. Every settings type carries `#[serde(deny_unknown_fields)]`, so that a misspelt key is
//! an error and not a default.
//!
//! **Absent:** merging of several files, and values from the environment: one file says it all.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use offsite_model::FileSystem;
use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::de::{DeTable, DeValue};

/// The name of the file in the data directory.
pub const FILE_NAME: &str = "offsite.toml";

/// A longer file is not a configuration.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Why there are no settings.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The file says something that is not understood.
    #[error("{}:{complaint}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What, and where in it.
        complaint: Complaint,
    },
}

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Line, from one.
    pub line: usize,
    /// Column in characters, from one.
    pub column: usize,
    /// The key with the tables around it, such as `log.level`; absent where the syntax is broken.
    pub key: Option<String>,
    /// What is wrong and which values are accepted.
    pub message: String,
    /// The known key that was probably meant.
    pub nearest: Option<String>,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}

/// Reads the settings in a file.
///
/// # Errors
///
/// The file cannot be read, or the first mistake in it.
pub fn read<T: DeserializeOwned>(files: &dyn FileSystem, path: &Path) -> Result<T, ConfigError> {
    let unreadable = |cause| ConfigError::Unreadable { path: path.to_owned(), cause };
    let bytes = files.read(path, CONFIG_BYTES_MAX).map_err(unreadable)?;
    let wrong = |complaint| ConfigError::Wrong { path: path.to_owned(), complaint };
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) => {
            let sound = String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or(&[]));
            let (line, column) = position(&sound, sound.len());
            let message = "not UTF-8 from here on".to_owned();
            return Err(wrong(Complaint { line, column, key: None, message, nearest: None }));
        }
    };
    parse(text).map_err(wrong)
}

/// Reads settings from a text.
///
/// # Errors
///
/// The first mistake in it.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Complaint> {
    toml::from_str(text).map_err(|error| complain(text, &error))
}

/// Writes the commented default text where no configuration exists yet; `false` when one does,
/// which is left as it is.
///
/// # Errors
///
/// The system refused.
pub fn write_default(files: &dyn FileSystem, path: &Path, text: &str) -> io::Result<bool> {
    match files.metadata(path) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            files.write_atomically(path, text.as_bytes()).map(|()| true)
        }
        Err(error) => Err(error),
    }
}

/// A default text with its defaults switched on: `#key = value` is a default, `# words` a remark. A
/// program's test parses this and compares with the settings of an empty file, so that the text
/// cannot lie.
#[must_use]
pub fn with_defaults_on(text: &str) -> String {
    let mut on = String::new();
    for line in text.lines() {
        let setting = line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphanumeric));
        on.push_str(setting.unwrap_or(line));
        on.push('\n');
    }
    on
}

fn complain(text: &str, error: &toml::de::Error) -> Complaint {
    let span = error.span().unwrap_or(0..0);
    let (line, column) = position(text, span.start);
    let message = error.message().replace('\n', ", ");
    let nearest = unknown_key(&message).and_then(|(wrong, known)| nearest(wrong, &known));
    let key = DeTable::parse(text).ok().and_then(|table| {
        let mut best = None;
        find_key(table.get_ref(), &span, &mut Vec::new(), &mut best);
        best.map(|(_, key)| key)
    });
    // A document with a key twice is no table that could be searched; the place itself is the key.
    let key = key.or_else(|| {
        let place = (message == "duplicate key").then_some(span)?;
        text.get(place).map(str::to_owned)
    });
    Complaint { line, column, key, message, nearest }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before.get(line_start..).unwrap_or_default().chars().count() + 1)
}

/// The innermost key whose name or value holds the span. Tables opened by a header do not enclose
/// their keys, so all are looked at and the shortest wins.
fn find_key<'a>(
    table: &'a DeTable<'_>,
    span: &Range<usize>,
    path: &mut Vec<&'a str>,
    best: &mut Option<(usize, String)>,
) {
    for (name, value) in table {
        path.push(name.get_ref());
        for place in [name.span(), value.span()] {
            let holds = place.start <= span.start && span.end <= place.end;
            let shorter = best.as_ref().is_none_or(|(length, _)| place.len() <= *length);
            if holds && shorter {
                *best = Some((place.len(), path.join(".")));
            }
        }
        match value.get_ref() {
            DeValue::Table(inner) => find_key(inner, span, path, best),
            DeValue::Array(items) => {
                for item in items {
                    if let DeValue::Table(inner) = item.get_ref() {
                        find_key(inner, span, path, best);
                    }
                }
            }
            _ => {}
        }
        path.pop();
    }
}

/// The key that serde did not know and the keys it would have taken, read from its message.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest =
        message.strip_prefix("unknown field `").or(message.strip_prefix("unknown variant `"))?;
    let (wrong, rest) = rest.split_once('`')?;
    Some((wrong, rest.split('`').skip(1).step_by(2).collect()))
}

fn nearest(wrong: &str, known: &[&str]) -> Option<String> {
    let close = known.iter().map(|known| (distance(wrong, known), *known)).min()?;
    (close.0 <= wrong.len() / 3 + 1).then(|| close.1.to_owned())
}

/// How many letters to change, add or leave out to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (index, from) in a.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let changed = diagonal + usize::from(from != to);
            diagonal = *cell;
            left = changed.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use offsite_testkit::expect;
    use serde::Deserialize;

    use super::*;
    use crate::SystemFiles;
    use crate::quantity::{Length, Size};

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        name: Option<String>,
        log: Log,
        store: Vec<Store>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default, rename_all = "snake_case")]
    struct Log {
        format: Option<Format>,
        rotate_after: Option<Length>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Format {
        Human,
        Json,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Store {
        #[expect(dead_code, reason = "only its type matters here")]
        quota: Size,
    }

    fn complaint(text: &str) -> String {
        parse::<Settings>(text).unwrap_err().to_string()
    }

    #[test]
    fn every_complaint_names_place_key_and_accepted_values() {
        let complaints = [
            "nmae = \"x\"\n",
            "\n[log]\nformat = \"jsn\"\n",
            "[log]\nformt = \"json\"\n",
            "[log]\n  rotate_after = \"soon\"\n",
            "[[store]]\nquota = \"1 GiB\"\n[[store]]\nquota = -5\n",
            "[[store]]\nquota = [1]\n",
            "[[store]]\n",
            "name = 3\n",
            "name = \"x\n",
            "name = \"x\"\nname = \"y\"\n",
            "zzzzzz = 1\n",
        ]
        .map(complaint);
        expect![[r#"
            1:1: nmae: unknown field `nmae`, expected one of `name`, `log`, `store`; did you mean `name`?
            3:10: log.format: unknown variant `jsn`, expected `human` or `json`; did you mean `json`?
            2:1: log.formt: unknown field `formt`, expected `format` or `rotate_after`; did you mean `format`?
            2:18: log.rotate_after: "soon" is not a length of time such as "90s", "5 min", "1h 30m", "14 days" or "PT24H"
            4:9: store.quota: -5 is not a size such as 1048576, "64 KiB", "1 GiB" or "500 GB" (B, KB, MB, GB, TB, KiB … TiB)
            2:9: store.quota: invalid type: sequence, expected a size such as 1048576, "64 KiB", "1 GiB" or "500 GB" (B, KB, MB, GB, TB, KiB … TiB)
            1:1: store: missing field `quota`
            1:8: name: invalid type: integer `3`, expected a string
            1:10: invalid basic string, expected `"`
            2:1: name: duplicate key
            1:1: zzzzzz: unknown field `zzzzzz`, expected one of `name`, `log`, `store`
        "#]]
        .assert_eq(&complaints.join("\n"));
    }

    #[test]
    fn a_sound_file_is_read_and_a_file_that_is_not_text_is_placed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(FILE_NAME);
        let text = "name = \"here\"\n[log]\nformat = \"human\"\nrotate_after = \"1h\"\n";
        assert!(write_default(&SystemFiles, &path, text).unwrap());
        assert!(!write_default(&SystemFiles, &path, "other = 1").unwrap());
        let settings: Settings = read(&SystemFiles, &path).unwrap();
        assert_eq!(settings.name.as_deref(), Some("here"));
        assert!(matches!(settings.log.format, Some(Format::Human)));
        assert!(settings.store.is_empty() && settings.log.rotate_after.is_some());
        SystemFiles.write_atomically(&path, b"name = \"a\"\n# \xff\n").unwrap();
        let error = read::<Settings>(&SystemFiles, &path).unwrap_err().to_string();
        assert_eq!(error, format!("{}:2:3: not UTF-8 from here on", path.display()));
        let absent = read::<Settings>(&SystemFiles, &place.path().join("none")).unwrap_err();
        assert!(matches!(absent, ConfigError::Unreadable { .. }));
    }

    #[test]
    fn defaults_in_a_commented_text_can_be_switched_on() {
        let text = "# The name of this core.\n#name = \"offsite\"\n\n[log]\n#format = \"human\"\n";
        let settings: Settings = parse(&with_defaults_on(text)).unwrap();
        assert_eq!(settings.name.as_deref(), Some("offsite"));
        assert!(settings.log.format.is_some());
        assert!(parse::<Settings>(text).unwrap().name.is_none());
    }

    #[test]
    fn distances_count_letters() {
        assert_eq!(distance("name", "name"), 0);
        assert_eq!(distance("nmae", "name"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("formt", "format"), 1);
    }
}
