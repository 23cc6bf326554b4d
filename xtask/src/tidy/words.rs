//! Words that have no place in the tree, and names that have one place only.

use super::finding::Finding;
use super::source;
use super::tree::Tree;

/// The width of a line of Rust. The text of an expectation is what was printed, and a table that
/// the formatter leaves alone (`#[rustfmt::skip]`, or the body of a macro of our own) reads best
/// with a row on a line: both may be wider.
pub(super) const COLUMNS_MAX: usize = 100;

struct Ban {
    /// Pieces that make the word up; they are apart so that this file does not hold it.
    word: [&'static str; 2],
    /// The ends of the names of files that may hold it.
    except: &'static [&'static str],
    what: &'static str,
    remedy: &'static str,
}

/// The test that looks for such paths in answers to strangers has to name them.
const LEAKS: &str = "crates/transport/tests/it/strangers.rs";

/// Words that no text of ours may hold, code or prose.
const EVERYWHERE: &[Ban] = &[
    Ban {
        word: ["FIX", "ME"],
        except: &[],
        what: "unfinished work is marked",
        remedy: "finish it, or refuse it with a clear error and open an issue",
    },
    Ban {
        word: ["dbg", "!("],
        except: &[],
        what: "a debugging aid was left behind",
        remedy: "take it out, or log an event",
    },
    Ban {
        word: ["/wo", "rk/"],
        except: &[],
        what: "a path of one machine",
        remedy: "name it from the top of the tree",
    },
    Ban {
        word: ["/ho", "me/"],
        except: &[LEAKS],
        what: "a path of one machine",
        remedy: "name it from the top of the tree",
    },
    Ban {
        word: ["/ro", "ot/"],
        except: &[LEAKS],
        what: "a path of one machine",
        remedy: "name it from the top of the tree",
    },
    Ban {
        word: ["/Us", "ers/"],
        except: &[],
        what: "a path of one machine",
        remedy: "name it from the top of the tree",
    },
    Ban {
        word: ["crates", ".io"],
        except: &["Cargo.lock"],
        what: "a registry's host",
        remedy: "say \"the registry\"",
    },
];

/// Names that shipped code may use in one place only.
const IN_ONE_PLACE: &[Ban] = &[
    Ban {
        word: ["std::", "fs"],
        except: &["crates/daemon/src/files.rs"],
        what: "files are reached through FileSystem",
        remedy: "take a FileSystem as an argument",
    },
    Ban {
        word: ["rustix::", "fs"],
        // The local socket has a mode, and a name that an earlier run may have left.
        except: &["crates/daemon/src/files.rs", "crates/transport/src/local.rs"],
        what: "files are reached through FileSystem",
        remedy: "take a FileSystem as an argument",
    },
    Ban {
        word: ["tokio::", "fs"],
        except: &[],
        what: "files are reached through FileSystem",
        remedy: "take a FileSystem as an argument, off the runtime's threads",
    },
    Ban {
        word: ["Buf", "Writer"],
        except: &[],
        what: "dropping it loses an error and perhaps data",
        remedy: "write whole buffers, and sync",
    },
    Ban {
        word: ["SystemTime::", "now"],
        except: &["crates/daemon/src/clock.rs"],
        what: "time is read in one place",
        remedy: "take a Clock or a Timestamp as an argument",
    },
];

/// Files with lines that no tool breaks (literals, drawings, patterns of macros), and how many. The
/// list may only get shorter: a file that does better must be taken off it or its number lowered.
const WIDE: &[(&str, usize)] = &[
    ("crates/exchange/src/pairing/form.rs", 2),
    ("crates/exchange/src/pairing/source.rs", 6),
    ("crates/exchange/src/pairing/target.rs", 6),
    ("crates/exchange/src/tests/rows.rs", 1),
    ("crates/offsite-source/src/settings.rs", 2),
    ("crates/offsite-target/src/settings.rs", 1),
    ("crates/proto/src/admin/target.rs", 1),
    ("crates/proto/src/endpoint.rs", 2),
    ("crates/proto/src/error.rs", 1),
    ("crates/proto/src/open_enum.rs", 1),
    ("crates/proto/src/rows.rs", 1),
    ("crates/proto/src/tests/bodies.rs", 1),
    ("crates/store/src/lib.rs", 4),
    ("crates/store/src/tests/commit.rs", 2),
    ("crates/target-core/src/accounts/passwords.rs", 1),
    ("crates/target-core/src/accounts/tests.rs", 1),
    ("crates/target-core/src/approvals.rs", 1),
    ("crates/transport/src/server.rs", 1),
    ("crates/transport/src/tests/doubtful.rs", 4),
    ("crates/transport/tests/it/confusion.rs", 1),
    ("crates/transport/tests/it/stalls.rs", 1),
    ("tests/it/matrix.rs", 3),
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        for (number, line) in numbered(text) {
            banned(EVERYWHERE, path, number, line, &mut findings);
            check_todo(path, number, line, &mut findings);
        }
        if path.ends_with(".rs") {
            check_columns(path, text, &mut findings);
            if is_shipped(path) {
                let code = grouped_paths_spelled_out(&source::shipped(text));
                for (number, line) in numbered(&code) {
                    banned(IN_ONE_PLACE, path, number, line, &mut findings);
                }
            }
        }
    }
    findings
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

fn banned(bans: &[Ban], path: &str, number: usize, line: &str, findings: &mut Vec<Finding>) {
    for ban in bans {
        let word = ban.word.concat();
        let is_exempt = ban.except.iter().any(|end| path.ends_with(end));
        if !is_exempt && line.contains(&word) {
            let what = format!("`{word}`: {}", ban.what);
            findings.push(Finding::new(path, number, what, ban.remedy));
        }
    }
}

fn check_todo(path: &str, number: usize, line: &str, findings: &mut Vec<Finding>) {
    let word = ["TO", "DO"].concat();
    let Some((_, rest)) = line.split_once(&word) else { return };
    // Not part of a longer word such as a constant's name.
    let is_word = !rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_');
    let issue = rest.split_once('#').map_or("", |(_, issue)| issue);
    if is_word && !issue.starts_with(|digit: char| digit.is_ascii_digit()) {
        let what = format!("`{word}` without the number of an issue");
        findings.push(Finding::new(path, number, what, "write the number after it, as in (#12)"));
    }
}

fn check_columns(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let mut found = Vec::new();
    wide_lines(path, text, &mut found);
    let n_tolerated =
        WIDE.iter().find(|(file, _)| *file == path).map_or(0, |(_, n_lines)| *n_lines);
    if found.len() < n_tolerated {
        let what = format!("{} wide lines where {n_tolerated} are tolerated", found.len());
        findings.push(Finding::new(path, 0, what, "lower its number in WIDE of tidy/words.rs"));
    } else if found.len() > n_tolerated {
        findings.append(&mut found);
    }
}

fn wide_lines(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let mut in_expectation = false;
    let mut in_table = false;
    for (number, line) in numbered(text) {
        in_expectation |= line.contains("expect![[");
        in_table |= line.trim_start().starts_with("#[rustfmt::skip]")
            || line.strip_suffix("! {").is_some_and(|name| !name.contains(' '));
        let n_columns = line.chars().count();
        if n_columns > COLUMNS_MAX && !in_expectation && !in_table {
            let what = format!("{n_columns} columns");
            findings.push(Finding::new(path, number, what, "break the line"));
        }
        in_expectation &= !line.contains("]]");
        in_table &= !matches!(line, "];" | "}");
    }
}

/// What ends up in a program: not tools, tests, the testkit or clients of others.
fn is_shipped(path: &str) -> bool {
    let is_free = ["xtask/", "tests/", "crates/testkit/", "fuzz/", "examples/"]
        .iter()
        .any(|folder| path.starts_with(folder));
    !is_free && !source::is_test_file(path)
}

/// `use std::{fs, io}` names the same as `use std::fs`; the braces are opened so that it is seen.
fn grouped_paths_spelled_out(code: &str) -> String {
    let mut spelled = String::new();
    for line in code.lines() {
        let mut line = line.to_owned();
        for krate in ["std", "rustix", "tokio"] {
            let group = format!("{krate}::{{");
            if let Some((before, after)) = line.clone().split_once(&group) {
                let members = after.replace(", ", &format!(", {krate}::"));
                line = format!("{before}{krate}::{members}");
            }
        }
        spelled.push_str(&line);
        spelled.push('\n');
    }
    spelled
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = "crates/x/src/lib.rs";

    fn said(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn every_banned_word_is_found_and_its_exception_is_not() {
        for ban in EVERYWHERE.iter().chain(IN_ONE_PLACE) {
            let text = format!("let x = {}y;\n", ban.word.concat());
            assert_eq!(said(SHIPPED, &text).len(), 1, "{text}");
            for path in ban.except {
                assert_eq!(said(path, &text), Vec::<String>::new(), "{path}");
            }
        }
    }

    #[test]
    fn d_19_files_are_named_in_one_module() {
        let named = ["std::", "fs"].concat();
        for text in [
            format!("use {named};\n"),
            format!("use {named}::File;\n"),
            "use std::{fs, io};\n".to_owned(),
            "use std::{io, fs};\n".to_owned(),
            format!("fn f() {{ {named}::read(p) }}\n"),
        ] {
            assert_eq!(said(SHIPPED, &text).len(), 1, "{text}");
            assert_eq!(said("crates/store/src/deep/file.rs", &text).len(), 1, "{text}");
            assert_eq!(said("xtask/src/main.rs", &text), Vec::<String>::new());
            assert_eq!(said("crates/x/src/tests/a.rs", &text), Vec::<String>::new());
            let test = format!("#[cfg(test)]\nmod tests {{\n{text}}}\n// {text}");
            assert_eq!(said(SHIPPED, &test), Vec::<String>::new(), "{test}");
        }
    }

    #[test]
    fn marks_need_an_issue() {
        let mark = ["TO", "DO"].concat();
        assert_eq!(said(SHIPPED, &format!("// {mark}: later\n")).len(), 1);
        assert_eq!(said("docs/x.md", &format!("{mark} (#x)\n")).len(), 1);
        assert_eq!(said(SHIPPED, &format!("// {mark}(#12): later\n")), Vec::<String>::new());
        assert_eq!(said(SHIPPED, &format!("const {mark}_MAX: u8 = 1;\n")), Vec::<String>::new());
    }

    #[test]
    fn wide_lines_are_found_except_in_expectations() {
        let wide = "x".repeat(COLUMNS_MAX + 1);
        assert!(said(SHIPPED, &format!("// {wide}\n"))[0].contains("lib.rs:1: 104 columns"));
        assert_eq!(said("docs/x.md", &wide), Vec::<String>::new());
        let expectation = format!("expect![[\"\n{wide}\n\"]]\n");
        assert_eq!(said(SHIPPED, &expectation), Vec::<String>::new());
        assert_eq!(said(SHIPPED, &format!("{expectation}// {wide}\n")).len(), 1);
        let table = format!("#[rustfmt::skip]\nconst T: &[u8] = &[\n    {wide}\n];\n");
        assert_eq!(said(SHIPPED, &table), Vec::<String>::new());
        assert_eq!(said(SHIPPED, &format!("{table}// {wide}\n")).len(), 1);
        let rows = format!("rows! {{\n    {wide}\n}}\n");
        assert_eq!(said(SHIPPED, &rows), Vec::<String>::new());
        assert_eq!(said(SHIPPED, &format!("{rows}// {wide}\n")).len(), 1);
        assert_eq!(said(SHIPPED, &format!("macro_rules! {rows}")).len(), 1);
    }
}
