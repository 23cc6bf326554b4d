//! The table of calls as a router needs it: which row a path and a method mean, and the proof, made
//! at every start over all pairs of rows, that no path can mean two.
//!
//! The matcher is a plain walk over the rows. It cannot be confused by a literal beside a
//! parameter, because the proof has shown that a value which fits the one never equals the other.

use offsite_model::AgentId;
use offsite_proto::endpoint::{Access, Listener, Method, Row, Segment, Values};

/// What a parameter takes, by its published name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A GUID in the 8-4-4-4-12 form.
    Id,
    /// A plain decimal number up to this maximum.
    Number(u64),
    /// Any text.
    Text,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name {
            "epochNumber" | "skipCount" | "maxCount" => Self::Number(u64::from(u32::MAX)),
            "dataSize" => Self::Number(u64::MAX),
            name if name.ends_with("Id") => Self::Id,
            _ => Self::Text,
        }
    }

    fn takes(self, text: &str) -> bool {
        match self {
            Self::Id => text.parse::<AgentId>().is_ok(),
            Self::Number(max) => {
                !text.is_empty()
                    && text.bytes().all(|byte| byte.is_ascii_digit())
                    && text.parse::<u64>().is_ok_and(|number| number <= max)
            }
            Self::Text => true,
        }
    }
}

/// One segment of a row, with the kind of its parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Literal(&'static str),
    Parameter(&'static str, Kind),
}

impl Part {
    fn of(segment: Segment) -> Self {
        match segment {
            Segment::Literal(text) => Self::Literal(text),
            Segment::Parameter(name) => Self::Parameter(name, Kind::of(name)),
        }
    }

    fn takes(self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == text,
            Self::Parameter(_, kind) => kind.takes(text),
        }
    }

    /// Whether some text fits both.
    fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::Literal(one), Self::Literal(two)) => one == two,
            (Self::Literal(text), Self::Parameter(_, kind))
            | (Self::Parameter(_, kind), Self::Literal(text)) => kind.takes(text),
            // A GUID has hyphens, a number has none.
            (Self::Parameter(_, one), Self::Parameter(_, two)) => {
                !matches!((one, two), (Kind::Id, Kind::Number(_)) | (Kind::Number(_), Kind::Id))
            }
        }
    }

    /// Whether both take the same texts, whatever a parameter is called.
    fn same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Parameter(_, one), Self::Parameter(_, two)) => one == two,
            (one, two) => one == two,
        }
    }
}

/// Why a table cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Two rows can match one path and are not the same path.
    #[error("rows {0} and {1} can match the same path")]
    Ambiguous(&'static str, &'static str),
    /// Two rows have the same method and path and differ in something else.
    #[error("rows {0} and {1} have the same method and path and differ in query, access or limit")]
    Conflicting(&'static str, &'static str),
    /// A row that nobody may call: its author forgot to say who may.
    #[error("row {0} names no class of callers")]
    NoClass(&'static str),
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) row: &'static Row,
    parts: Vec<Part>,
}

/// What a method and a path mean.
#[derive(Debug)]
pub(crate) enum Found {
    /// The entry with this index, and the values of its path.
    Row(usize, Values),
    /// The path is known, under these methods only.
    OtherMethods(Vec<Method>),
    /// The path has the shape of a known one, but this part is no id or no number.
    Malformed(&'static str),
    /// No such path.
    Unknown,
}

/// The rows of one listener.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
}

impl Table {
    /// The rows that this listener serves. Rows of the same method and path become one entry, under
    /// the first one's name.
    ///
    /// # Errors
    /// See [`TableError`].
    pub(crate) fn new(tables: &[&'static [Row]], listener: Listener) -> Result<Self, TableError> {
        let mut entries: Vec<Entry> = Vec::new();
        for row in tables.iter().copied().flatten().filter(|row| serves(listener, row)) {
            if matches!(row.access, Access::AnyOf([])) {
                return Err(TableError::NoClass(row.id));
            }
            let parts: Vec<_> = row.segments().map(Part::of).collect();
            if let Some(twin) = twin(&entries, row, &parts)? {
                tracing::trace!(row = row.id, twin, "row is another name of one that is served");
                continue;
            }
            entries.push(Entry { row, parts });
        }
        Ok(Self { entries })
    }

    /// The entry of this row, whatever name it goes by.
    pub(crate) fn index(&self, row: &Row) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| entry.row.method == row.method && entry.row.path == row.path)
    }

    /// Finds what a path means.
    pub(crate) fn find(&self, method: &http::Method, path: &[String]) -> Found {
        let mut methods = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            if !entry.takes(path) {
                continue;
            }
            if entry.answers(method) {
                return Found::Row(index, entry.values(path));
            }
            methods.push(entry.row.method);
        }
        if !methods.is_empty() {
            methods.sort_unstable();
            methods.dedup();
            return Found::OtherMethods(methods);
        }
        self.entries
            .iter()
            .find_map(|entry| entry.wrong_part(path))
            .map_or(Found::Unknown, Found::Malformed)
    }
}

fn serves(listener: Listener, row: &Row) -> bool {
    row.listener == listener
        || listener == Listener::Both
        || (row.listener == Listener::Both && listener != Listener::Source)
}

/// The name of the entry that this row merely repeats.
fn twin(
    entries: &[Entry],
    row: &'static Row,
    parts: &[Part],
) -> Result<Option<&'static str>, TableError> {
    for other in entries {
        let met = other.parts.len() == parts.len()
            && other.parts.iter().zip(parts).all(|(one, two)| one.meets(*two));
        if !met {
            continue;
        }
        if !other.parts.iter().zip(parts).all(|(one, two)| one.same(*two)) {
            return Err(TableError::Ambiguous(other.row.id, row.id));
        }
        if other.row.method != row.method {
            continue;
        }
        let same = other.row.path == row.path
            && other.row.query == row.query
            && other.row.access == row.access
            && other.row.action == row.action
            && other.row.listener == row.listener
            && other.row.request_bytes_max == row.request_bytes_max;
        return if same {
            Ok(Some(other.row.id))
        } else {
            Err(TableError::Conflicting(other.row.id, row.id))
        };
    }
    Ok(None)
}

impl Entry {
    fn takes(&self, path: &[String]) -> bool {
        self.parts.len() == path.len()
            && self.parts.iter().zip(path).all(|(part, text)| part.takes(text))
    }

    fn answers(&self, method: &http::Method) -> bool {
        let own = self.row.method;
        method.as_str() == own.as_str() || (method == http::Method::HEAD && own == Method::Get)
    }

    fn values(&self, path: &[String]) -> Values {
        let mut values = Values::new();
        for (part, text) in self.parts.iter().zip(path) {
            if let Part::Parameter(name, _) = part {
                values.insert(name, text.clone());
            }
        }
        values
    }

    /// The first parameter that does not take its part, where all literals fit.
    fn wrong_part(&self, path: &[String]) -> Option<&'static str> {
        if self.parts.len() != path.len() {
            return None;
        }
        let mut wrong = None;
        for (part, text) in self.parts.iter().zip(path) {
            match part {
                Part::Literal(literal) if literal != text => return None,
                Part::Parameter(name, kind) if !kind.takes(text) => wrong = wrong.or(Some(*name)),
                _ => {}
            }
        }
        wrong
    }
}

#[cfg(test)]
#[path = "tests/table.rs"]
mod tests;
