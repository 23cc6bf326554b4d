//! What a refusal of the core means for a command: its exit code, and what to do about it.

use offsite_proto::error::{ErrorCode, Refusal};
use offsite_terminal::{Exit, Failure};

/// A refusal as the end of a command.
pub(crate) fn refused(refusal: Refusal) -> Failure {
    let exit = match refusal.code {
        ErrorCode::BadRequest | ErrorCode::MessageRequired => Exit::Usage,
        ErrorCode::HashMismatch => Exit::Damaged,
        code if code.status() == 404 => Exit::Unknown,
        code if code.status() >= 500 && code != ErrorCode::NoSpace => Exit::Failed,
        _ => Exit::Refused,
    };
    Failure::new(exit, refusal.code.as_str(), refusal.message, hint(refusal.code))
}

/// What this build does not do.
pub(crate) fn not_built(what: &str) -> Failure {
    Failure::new(
        Exit::Failed,
        ErrorCode::NotImplemented.as_str(),
        format!("`{what}` is not built yet in this release"),
        "",
    )
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
        ErrorCode::BaseMissing => {
            "it becomes whole by itself when what it waits for arrives: offsite-target points show"
        }
        ErrorCode::AgentUnknown => "list what there is with: offsite-target agents list",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_ends_with_the_code_of_the_table() {
        let exit = |code| refused(Refusal::new(code, "x")).exit;
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
}
