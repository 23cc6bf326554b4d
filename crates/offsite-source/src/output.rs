//! What is printed where: results to stdout, diagnostics to stderr, spinners to a terminal only.

use std::io::{self, IsTerminal, Write};

use comfy_table::Table;
use indicatif::{ProgressBar, ProgressStyle};
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
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let line = if self.json {
            serde_json::to_string(value)
                .map_err(|error| Failure::failed(format!("cannot write the result: {error}"), ""))?
        } else {
            text()
        };
        print_line(&line)
    }

    /// Prints why a command failed, and gives its exit code.
    pub(crate) fn failure(self, failure: &Failure) -> Exit {
        if self.json {
            // Nobody is left to tell when even this cannot be printed.
            drop(print_line(&failure.document().to_string()));
        } else if failure.hint.is_empty() {
            diagnose(&format!("error: {}", failure.message));
        } else {
            diagnose(&format!("error: {}\n  {}", failure.message, failure.hint));
        }
        failure.exit
    }

    /// A bar over so many bytes; it shows nothing unless a person watches.
    pub(crate) fn bar(self, bytes: u64) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(bytes);
        // A template that cannot be read leaves the usual style, which is a bar as well.
        if let Ok(style) =
            ProgressStyle::with_template("{msg}  [{wide_bar}] {bytes} of {total_bytes}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        bar
    }

    /// A spinner with this text; it shows nothing unless a person watches.
    pub(crate) fn spinner(self, text: &str) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let spinner = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
        spinner.set_message(text.to_owned());
        spinner.enable_steady_tick(std::time::Duration::from_millis(120));
        spinner
    }
}

/// A table with these headings.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(headings);
    table
}

/// Lines of `name  value`, aligned; absent values are left out.
pub(crate) fn facts(facts: &[(&str, Option<String>)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = facts.iter().filter_map(|(name, value)| {
        value.as_ref().map(|value| format!("{name:width$}  {}", visible(value)))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Text from elsewhere, made safe for a terminal: nothing in it can move the cursor.
pub(crate) fn visible(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let plain = (!character.is_control()).then_some(character);
            let escaped = plain.is_none().then(|| character.escape_default());
            plain.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

/// A time for people.
pub(crate) fn seconds(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// A size for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let (mut whole, mut unit) = (bytes as f64 / 1_024.0, UNITS[0]);
    for next in &UNITS[1..] {
        if whole < 1_024.0 {
            break;
        }
        whole /= 1_024.0;
        unit = next;
    }
    format!("{whole:.1} {unit}")
}

/// Prints a line to stdout. A reader that went away is no failure: it has seen what it wanted.
fn print_line(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot print the result: {error}"), ""))
        }
        _ => Ok(()),
    }
}

/// Prints to stderr; there is nobody to tell when that fails.
fn diagnose(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_wrote_cannot_move_the_cursor() {
        assert_eq!(visible("no\u{1b}[2J\nyes"), "no\\u{1b}[2J\\nyes");
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_536, "1.5 KiB"),
            (3 << 40, "3.0 TiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
