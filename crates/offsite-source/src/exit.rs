//! How a command ends: exit codes, and the words of an error.

use std::process::ExitCode;

use offsite_proto::error::{ErrorCode, Refusal};
use serde_json::{Value, json};

/// The exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
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
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// The stable word.
    pub(crate) code: String,
    /// What was being done, and what happened.
    pub(crate) message: String,
    /// What to do next; empty where there is nothing to say.
    pub(crate) hint: String,
}

impl Failure {
    /// A failure with these words.
    pub(crate) fn new(
        exit: Exit,
        code: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { exit, code: code.to_owned(), message: message.into(), hint: hint.into() }
    }

    /// Something in or around this program failed.
    pub(crate) fn failed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Failed, "failed", message, hint)
    }

    /// The command line was wrong.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message, hint)
    }

    /// The document that `--json` prints.
    pub(crate) fn document(&self) -> Value {
        json!({ "error": { "code": self.code, "message": self.message, "hint": self.hint } })
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let fact = |name: &str| {
            refusal
                .detail
                .as_ref()
                .and_then(|facts| facts.get(name))
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let exit = match (refusal.code, fact("at_fault")) {
            (ErrorCode::TargetUnreachable | ErrorCode::NotATarget, _) => Exit::Failed,
            (ErrorCode::TargetChanged | ErrorCode::Forbidden, _) | (_, "peer") => Exit::Refused,
            (code, _) => exit_of(code),
        };
        let hint = fact("hint").to_owned();
        Self { exit, code: refusal.code.to_string(), hint, message: refusal.message }
    }
}

/// The exit code of what our own daemon refuses.
fn exit_of(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::BadRequest | ErrorCode::MessageRequired => Exit::Usage,
        ErrorCode::HashMismatch => Exit::Damaged,
        code if code.status() == 404 => Exit::Unknown,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_ends_with_the_code_of_the_table() {
        let exit = |code, at_fault: &str| {
            Failure::from(Refusal::new(code, "x").with("at_fault", at_fault)).exit
        };
        assert_eq!(exit(ErrorCode::BadRequest, "operator"), Exit::Usage);
        assert_eq!(exit(ErrorCode::AgentUnknown, "operator"), Exit::Unknown);
        assert_eq!(exit(ErrorCode::WrongState, "operator"), Exit::Failed);
        assert_eq!(exit(ErrorCode::Internal, "disk"), Exit::Failed);
        assert_eq!(exit(ErrorCode::TargetUnreachable, "peer"), Exit::Failed);
        assert_eq!(exit(ErrorCode::NotATarget, "peer"), Exit::Failed);
        assert_eq!(exit(ErrorCode::TargetChanged, "peer"), Exit::Refused);
        assert_eq!(exit(ErrorCode::Busy, "peer"), Exit::Refused);
        assert_eq!(exit(ErrorCode::RouteUnknown, "peer"), Exit::Refused);
    }
}
