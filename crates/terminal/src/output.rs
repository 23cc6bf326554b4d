//! What is printed where: results to stdout, diagnostics to stderr, progress to a terminal only.

use std::io::{self, BufRead, IsTerminal, Write};

use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::progress::{Bar, is_watched};
use crate::visible::{visible, visible_json, visible_lines};

/// Prints for people or for scripts.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Whether scripts read it.
    pub json: bool,
}

impl Output {
    /// Prints a result: its JSON, or the text for people.
    ///
    /// # Errors
    /// What writing it met; a reader that went away is no failure.
    pub fn result<T: Serialize + ?Sized>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<Exit, Failure> {
        let shown = if self.json {
            let document = serde_json::to_string(value)
                .map_err(|error| Failure::failed(format!("cannot write the result: {error}")))?;
            visible_json(&document)
        } else {
            visible_lines(&text(value))
        };
        print(&shown).map(|()| Exit::Done)
    }

    /// Prints where something stands that goes on: a line for scripts; people have a bar.
    ///
    /// # Errors
    /// As [`Output::result`].
    pub fn step<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failure> {
        if self.json { self.result(value, |_| String::new()).map(drop) } else { Ok(()) }
    }

    /// Says something to people who watch; scripts are not told.
    pub fn note(self, text: &str) {
        if !self.json {
            diagnose(text);
        }
    }

    /// Whether a person sits at both ends: reads what is said and can answer.
    #[must_use]
    pub fn is_conversation(self) -> bool {
        !self.json && io::stdin().is_terminal() && is_watched()
    }

    /// Asks that person for a line.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn ask(self, question: &str) -> io::Result<String> {
        let mut err = io::stderr().lock();
        err.write_all(visible_lines(question).as_bytes())?;
        err.flush()?;
        let mut typed = String::new();
        io::stdin().lock().read_line(&mut typed)?;
        Ok(typed)
    }

    /// Prints why a command failed, and gives its exit code.
    #[must_use]
    pub fn failure(self, failure: &Failure) -> Exit {
        if self.json {
            // Nobody is left to tell when even this cannot be printed.
            drop(print(&visible_json(&failure.document().to_string())));
        } else {
            diagnose(&diagnosis(failure));
        }
        failure.exit
    }

    /// A bar over so many bytes; it shows nothing unless a person watches.
    #[must_use]
    pub fn bar(self, bytes: u64) -> Bar {
        Bar::over(!self.json && is_watched(), bytes)
    }

    /// A spinner with this text; it shows nothing unless a person watches.
    #[must_use]
    pub fn spinner(self, text: &str) -> Bar {
        Bar::spinner(!self.json && is_watched(), text)
    }
}

/// An error for people: what happened, and below it what to do.
fn diagnosis(failure: &Failure) -> String {
    let mut text = format!("error: {}", visible(&failure.message));
    if !failure.hint.is_empty() {
        text = format!("{text}\n  {}", visible(&failure.hint));
    }
    text
}

/// Prints to stdout. A reader that went away is no failure: it has seen what it wanted.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot print the result: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints to stderr; there is nobody to tell when that fails.
fn diagnose(text: &str) {
    drop(writeln!(io::stderr().lock(), "{}", visible_lines(text)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visible::tests::payloads;
    use offsite_model::is_plain;

    #[test]
    fn a_11_errors_hold_no_control_characters_and_no_lines_of_others() {
        for payload in payloads() {
            let failure = Failure::new(Exit::Failed, "failed", &*payload, &*payload);
            let text = diagnosis(&failure);
            assert_eq!(text.lines().count(), 2, "{payload:?}: {text:?}");
            let is_ours = |letter: char| letter == '\n' || is_plain(letter);
            assert!(text.chars().all(is_ours), "{payload:?}: {text:?}");
        }
    }
}
