//! How a command ends: exit codes, and the words of an error.

use std::process::ExitCode;

use serde_json::{Value, json};

/// The exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage, or an ambiguous name.
    Usage = 2,
    /// Refused by the peer or by policy.
    Refused = 3,
    /// No such thing.
    Unknown = 4,
    /// The daemon is not running.
    NotRunning = 5,
    /// Damaged data was found.
    Damaged = 6,
    /// Interrupted.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// The stable word.
    pub code: String,
    /// What was being done, and what happened.
    pub message: String,
    /// What to do next; empty where there is nothing to say.
    pub hint: String,
}

impl Failure {
    /// A failure with these words.
    pub fn new(
        exit: Exit,
        code: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { exit, code: code.to_owned(), message: message.into(), hint: hint.into() }
    }

    /// Something in or around this program failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, "failed", message, "")
    }

    /// The command line was wrong.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message, hint)
    }

    /// The same with a word on what to do next.
    #[must_use]
    pub fn hinting(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The document that `--json` prints.
    pub(crate) fn document(&self) -> Value {
        json!({ "error": { "code": self.code, "message": self.message, "hint": self.hint } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_keys_that_scripts_read() {
        let document = Failure::new(Exit::Failed, "failed", "it broke", "mend it").document();
        assert_eq!(
            document.to_string(),
            r#"{"error":{"code":"failed","hint":"mend it","message":"it broke"}}"#
        );
    }
}
