//! What is printed where: results to stdout, diagnostics to stderr.
//!
//! Names and comments come from sources that nobody approved. Whatever goes to a terminal passes
//! [`visible`], which leaves nothing in it that could move a cursor, begin a line or turn the
//! direction of the text.

use std::io::{self, Write};

use comfy_table::Table;
use serde::Serialize;

use crate::exit::{Exit, Failure};

/// Prints for people or for scripts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Whether scripts read it.
    pub(crate) json: bool,
}

impl Output {
    /// Prints a result: its JSON, or the text for people.
    pub(crate) fn result<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<Exit, Failure> {
        let line = if self.json {
            serde_json::to_string(value)
                .map_err(|error| Failure::failed(format!("cannot write the result: {error}")))?
        } else {
            text(value)
        };
        print(&line).map(|()| Exit::Done)
    }

    /// Says something to people who watch; scripts are not told.
    pub(crate) fn note(self, text: &str) {
        if !self.json {
            diagnose(text);
        }
    }

    /// Prints why a command failed, and gives its exit code.
    pub(crate) fn failure(self, failure: &Failure) -> Exit {
        if self.json {
            // Nobody is left to tell when even this cannot be printed.
            drop(print(&failure.document().to_string()));
        } else {
            diagnose(&format!("error: {}", visible(&failure.message)));
            if !failure.hint.is_empty() {
                diagnose(&format!("  {}", visible(&failure.hint)));
            }
        }
        failure.exit
    }
}

/// A table of rows under these headings; every cell is made visible.
pub(crate) fn table<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(headings);
    let mut n_rows = 0;
    for row in rows {
        table.add_row(row.map(|cell| visible(&cell)));
        n_rows += 1;
    }
    if n_rows == 0 {
        return "none".to_owned();
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Lines of `name  value`, aligned; absent values are left out.
pub(crate) fn facts(facts: &[(&str, Option<String>)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = facts.iter().filter_map(|(name, value)| {
        value.as_ref().map(|value| format!("{name:width$}  {}", visible(value)))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Text from elsewhere, made safe for a terminal.
pub(crate) fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_plain(letter) {
            visible.push(letter);
        } else {
            visible.extend(letter.escape_unicode());
        }
    }
    visible
}

/// Neither a control character, nor a line or paragraph end, nor a mark that turns or hides text.
fn is_plain(letter: char) -> bool {
    !letter.is_control()
        && !matches!(
            letter,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// A size for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1_024, UNITS[0]);
    for next in &UNITS[1..] {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1_024;
        unit = next;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// Something that may be absent, for a cell.
pub(crate) fn or_dash<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "–".to_owned(), ToString::to_string)
}

/// Prints a line to stdout. A reader that went away is no failure: it has seen what it wanted.
pub(crate) fn print(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot print the result: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints to stderr; there is nobody to tell when that fails.
pub(crate) fn diagnose(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a hostile source may call itself.
    fn payloads() -> Vec<String> {
        let mut payloads: Vec<String> =
            (0..0x20_u8).map(|byte| format!("a{}b", byte as char)).collect();
        payloads.extend(
            [
                "\u{1b}[2J\u{1b}[H",
                "\u{1b}]0;title\u{7}",
                "\u{1b}]8;;http://example.org\u{1b}\\click\u{1b}]8;;\u{1b}\\",
                "\u{1b}]52;c;ZXZpbA==\u{7}",
                "\u{1b}P$q\u{1b}\\",
                "\u{9b}31mred",
                "\u{9d}0;x\u{9c}",
                "\u{90}q\u{9c}",
                "\u{7f}\u{7f}\u{7f}",
                "\u{85}next line",
                "a\r\nb",
                "a\nFORGED 1 accepted",
                "\u{2028}x\u{2029}y",
                "\u{202e}gnp.exe",
                "\u{2066}\u{2067}\u{2068}\u{2069}",
                "\u{200f}\u{200e}",
                "\u{61c}x",
                "zero\u{200b}width",
                "\u{feff}bom",
                "\u{e0041}tag",
                "soft\u{ad}hyphen",
                "var\u{fe0f}",
                "\u{fff9}a\u{fffa}b\u{fffb}",
                "\u{8}\u{8}\u{8}\u{8}accepted",
                "\t\t\ttabs",
                "\u{b}\u{c}",
                "\u{e}\u{f}",
                "\u{0}nul",
                "\u{2060}joiner",
                "\u{180e}mongolian",
            ]
            .map(str::to_owned),
        );
        payloads
    }

    #[test]
    fn a_11_lists_hold_no_control_characters_and_one_line_per_row() {
        let payloads = payloads();
        assert!(payloads.len() >= 60, "{}", payloads.len());
        for payload in &payloads {
            let shown = table(["NAME", "STATE"], [[payload.clone(), "pending".to_owned()]]);
            assert_eq!(shown.lines().count(), 2, "{payload:?}: {shown:?}");
            let listed = facts(&[("name", Some(payload.clone())), ("state", Some("x".to_owned()))]);
            assert_eq!(listed.lines().count(), 2, "{payload:?}: {listed:?}");
            for text in [shown, listed] {
                for letter in text.chars().filter(|letter| *letter != '\n') {
                    assert!(is_plain(letter), "{payload:?} left {letter:?}");
                    assert!(!letter.is_control(), "{payload:?} left {letter:?}");
                }
                assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
            }
        }
    }

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in ["Büro-Server 3", "田中", "Ελλάδα", "x @ y (z)", "🖥"] {
            assert_eq!(visible(name), name);
        }
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_536, "1.5 KiB"),
            (3 << 40, "3.0 TiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
