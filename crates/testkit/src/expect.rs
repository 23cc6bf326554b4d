//! Expectations kept in the source beside the test: `expect![["…"]].assert_eq(&printed)`.
//!
//! With `UPDATE_EXPECT=1` a text that differs is written into the source file instead of failing.
//! The text of a literal with several lines is indented with the code; the common indent and the
//! first and last line breaks do not count.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A text expected at one place of the source. Made by [`expect!`](crate::expect!).
#[derive(Clone, Copy, Debug)]
pub struct Expect {
    /// The source file as the compiler names it, relative to the workspace.
    pub file: &'static str,
    /// Line of the macro, from one.
    pub line: u32,
    /// Column of the macro in characters, from one.
    pub column: u32,
    /// The literal as it stands, indent included.
    pub literal: &'static str,
}

/// An expected text: `expect![["one line"]]`, or a raw literal of several lines.
#[macro_export]
macro_rules! expect {
    [[$literal:literal]] => {
        $crate::Expect { file: file!(), line: line!(), column: column!(), literal: $literal }
    };
    [[]] => { $crate::expect![[""]] };
}

impl Expect {
    /// Compares, or rewrites the source when `UPDATE_EXPECT` is set.
    ///
    /// # Panics
    ///
    /// When the texts differ, with both and the first line where they do.
    pub fn assert_eq(&self, actual: &str) {
        let expected = trim_indent(self.literal);
        if expected == actual {
            return;
        }
        if env::var_os("UPDATE_EXPECT").is_some() {
            self.rewrite(actual);
            return;
        }
        let n_same = expected
            .lines()
            .zip(actual.lines())
            .take_while(|(expected, actual)| expected == actual);
        panic!(
            "{}:{}: not what was expected, from line {} on\n--- expected\n{expected}\n--- actual\n\
             {actual}\n---\nif the new text is right, run the test again with UPDATE_EXPECT=1",
            self.file,
            self.line,
            n_same.count() + 1,
        );
    }

    /// Compares the `{:#?}` form of a value.
    ///
    /// # Panics
    ///
    /// As [`Expect::assert_eq`].
    pub fn assert_debug_eq(&self, actual: &impl std::fmt::Debug) {
        self.assert_eq(&format!("{actual:#?}"));
    }

    fn rewrite(&self, actual: &str) {
        // Places refer to the source as it was compiled, so all rewrites of one run start from that
        // text.
        static PATCHED: Mutex<BTreeMap<PathBuf, Patched>> = Mutex::new(BTreeMap::new());
        let path = source_path(self.file);
        let mut files = PATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        let patched = files.entry(path.clone()).or_insert_with(|| Patched {
            original: fs::read_to_string(&path).expect("the source file can be read"),
            literals: BTreeMap::new(),
        });
        let (start, end, indent) = find_literal(&patched.original, self.line, self.column)
            .unwrap_or_else(|| panic!("{}:{}: no literal found", self.file, self.line));
        patched.literals.insert(start, (end, literal(actual, indent)));
        fs::write(&path, patched.text()).expect("the source file can be written");
        eprintln!("{}:{}: rewritten", self.file, self.line);
    }
}

struct Patched {
    original: String,
    literals: BTreeMap<usize, (usize, String)>,
}

impl Patched {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut from = 0;
        for (&start, (end, literal)) in &self.literals {
            text.push_str(&self.original[from..start]);
            text.push_str(literal);
            from = *end;
        }
        text + &self.original[from..]
    }
}

/// Tests run in their crate's folder, while the compiler names sources from the workspace's.
fn source_path(file: &str) -> PathBuf {
    let start = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let found = start.ancestors().map(|folder| folder.join(file)).find(|path| path.is_file());
    found.unwrap_or_else(|| Path::new(file).to_owned())
}

fn trim_indent(literal: &str) -> String {
    let Some(text) = literal.strip_prefix('\n') else { return literal.to_owned() };
    let lines: Vec<&str> = text.split('\n').collect();
    let (last, lines) = lines.split_last().expect("a split has at least one part");
    let indent = lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.len() - line.trim_start().len())
        .min()
        .unwrap_or(0);
    let mut trimmed: Vec<&str> =
        lines.iter().map(|line| line.get(indent..).unwrap_or_default()).collect();
    if !last.trim().is_empty() {
        trimmed.push(last.get(indent..).unwrap_or(last));
    }
    trimmed.join("\n")
}

/// Where the literal of the macro at this place starts and ends, and the indent of its line.
fn find_literal(source: &str, line: u32, column: u32) -> Option<(usize, usize, usize)> {
    let mut line_start = 0;
    for _ in 1..line {
        line_start += source[line_start..].find('\n')? + 1;
    }
    let line_text = source[line_start..].lines().next()?;
    let indent = line_text.len() - line_text.trim_start().len();
    let in_line: usize =
        line_text.chars().take(usize::try_from(column).ok()? - 1).map(char::len_utf8).sum();
    let mut start = line_start + in_line;
    start += source[start..].find("[[")? + 2;
    start += source[start..].len() - source[start..].trim_start().len();
    let rest = &source[start..];
    if rest.starts_with(']') {
        return Some((start, start, indent));
    }
    let n_hashes =
        rest.strip_prefix('r').map(|rest| rest.bytes().take_while(|&b| b == b'#').count());
    let end = match n_hashes {
        Some(n) => {
            let open = rest.find('"')? + 1;
            let close = format!("\"{}", "#".repeat(n));
            open + rest[open..].find(&close)? + close.len()
        }
        None => {
            let mut escaped = false;
            let close = rest.char_indices().skip(1).find(|&(_, c)| {
                let closes = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                closes
            })?;
            close.0 + 1
        }
    };
    Some((start, start + end, indent))
}

fn literal(text: &str, indent: usize) -> String {
    let mut hashes = String::new();
    while text.contains(&format!("\"{hashes}")) {
        hashes.push('#');
    }
    let raw = if hashes.is_empty() && !text.contains('\\') { "" } else { "r" };
    if !text.contains('\n') {
        return format!("{raw}{hashes}\"{text}\"{hashes}");
    }
    let pad = " ".repeat(indent + 4);
    let mut literal = format!("{raw}{hashes}\"\n");
    for line in text.split('\n') {
        if !line.is_empty() {
            literal.push_str(&pad);
            literal.push_str(line);
        }
        literal.push('\n');
    }
    literal + &" ".repeat(indent) + "\"" + &hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_indent_of_the_code_does_not_count() {
        expect![["
            first
              second

            third"]]
        .assert_eq("first\n  second\n\nthird");
        expect![["
            first
        "]]
        .assert_eq("first");
        expect![["one line"]].assert_eq("one line");
        expect![[""]].assert_eq("");
    }

    #[test]
    #[should_panic(expected = "from line 2 on")]
    fn a_difference_fails() {
        Expect { file: "none.rs", line: 1, column: 1, literal: "a\nb" }.assert_eq("a\nc");
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["", "plain", "with \"quotes\"", "two\nlines", "r#\"x\"#\nand \\ more\n\nend"] {
            let written = literal(text, 8);
            let source = format!("fn x() {{\n        expect![[{written}]].assert_eq(y);\n}}\n");
            let (start, end, indent) = find_literal(&source, 2, 9).unwrap();
            assert_eq!((&source[start..end], indent), (&*written, 8));
            let inner = written.trim_start_matches(['r', '#']).trim_end_matches('#');
            assert_eq!(trim_indent(&inner[1..inner.len() - 1]), text);
        }
    }
}
