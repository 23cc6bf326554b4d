//! Bars and spinners: on a terminal that somebody watches, and nowhere else.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::visible::visible;

/// How often a spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// Something in progress. It is wiped when it is dropped.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar over so many bytes.
    pub(crate) fn over(is_watched: bool, bytes: u64) -> Self {
        if !is_watched {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(bytes);
        // A template that cannot be read leaves the usual style, which is a bar as well.
        if let Ok(style) =
            ProgressStyle::with_template("{msg}  [{wide_bar}] {bytes} of {total_bytes}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        Self(bar)
    }

    /// A spinner.
    pub(crate) fn spinner(is_watched: bool, text: &str) -> Self {
        if !is_watched {
            return Self(ProgressBar::hidden());
        }
        let spinner = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
        spinner.enable_steady_tick(TURN);
        let spinner = Self(spinner);
        spinner.say(text);
        spinner
    }

    /// Says what is going on.
    pub fn say(&self, text: &str) {
        self.0.set_message(visible(text));
    }

    /// So many bytes are done, of so many.
    pub fn at(&self, bytes: u64, of: u64) {
        self.0.set_length(of);
        self.0.set_position(bytes);
    }

    /// So many bytes more are done.
    pub fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Whether a person sees what is written to stderr.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visible::tests::payloads;
    use offsite_model::is_plain;

    #[test]
    fn what_is_said_is_plain() {
        for progress in [Bar::over(true, 1), Bar::spinner(true, "waiting")] {
            for payload in payloads() {
                progress.say(&payload);
                let said = progress.0.message();
                assert!(said.chars().all(is_plain), "{payload:?}: {said:?}");
            }
        }
    }
}
