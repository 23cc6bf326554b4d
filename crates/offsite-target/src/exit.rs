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
    /// Damaged data found.
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
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, "failed", message, "")
    }

    /// The command line was wrong.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message, hint)
    }

    /// What this build does not do.
    pub(crate) fn not_built(what: &str) -> Self {
        Self::new(
            Exit::Failed,
            ErrorCode::NotImplemented.as_str(),
            format!("`{what}` is not built yet in this release"),
            "",
        )
    }

    /// The document that `--json` prints.
    pub(crate) fn document(&self) -> Value {
        json!({ "error": { "code": self.code, "message": self.message, "hint": self.hint } })
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let exit = match refusal.code {
            ErrorCode::BadRequest | ErrorCode::MessageRequired => Exit::Usage,
            code if code.status() == 404 => Exit::Unknown,
            code if code.status() >= 500 && code != ErrorCode::NoSpace => Exit::Failed,
            _ => Exit::Refused,
        };
        Self {
            exit,
            code: refusal.code.to_string(),
            message: refusal.message,
            hint: hint(refusal.code).to_owned(),
        }
    }
}

/// What an operator can do about it.
const fn hint(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::RequestChanged => "look at it again with `show`, then decide again",
        ErrorCode::CheckCodeMismatch => {
            "let the source's operator read the code out again; after too many wrong ones the \
                source must submit again"
        }
        ErrorCode::RequestUnknown => "list what there is with: offsite-target requests list",
        ErrorCode::TenantUnknown => "make it first with: offsite-target tenants add NAME",
        ErrorCode::RepoUnknown => "list what there is with: offsite-target storage list",
        ErrorCode::AccountUnknown => "list what there is with: offsite-target users list",
        ErrorCode::SystemUnknown => "list what there is with: offsite-target sources list",
        ErrorCode::AgentUnknown => "list what there is with: offsite-target agents list",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_ends_with_the_code_of_the_table() {
        let exit = |code| Failure::from(Refusal::new(code, "x")).exit;
        for (code, expected) in [
            (ErrorCode::BadRequest, Exit::Usage),
            (ErrorCode::MessageRequired, Exit::Usage),
            (ErrorCode::CheckCodeMismatch, Exit::Refused),
            (ErrorCode::RequestChanged, Exit::Refused),
            (ErrorCode::AlreadyResolved, Exit::Refused),
            (ErrorCode::RetentionLocked, Exit::Refused),
            (ErrorCode::Forbidden, Exit::Refused),
            (ErrorCode::RequestUnknown, Exit::Unknown),
            (ErrorCode::TenantUnknown, Exit::Unknown),
            (ErrorCode::Internal, Exit::Failed),
            (ErrorCode::NotImplemented, Exit::Failed),
            (ErrorCode::NoSpace, Exit::Refused),
        ] {
            assert_eq!(exit(code), expected, "{code}");
        }
    }

    #[test]
    fn an_error_has_the_keys_that_scripts_read() {
        let document = Failure::new(Exit::Failed, "failed", "it broke", "mend it").document();
        assert_eq!(
            document.to_string(),
            r#"{"error":{"code":"failed","hint":"mend it","message":"it broke"}}"#
        );
    }
}
