//! What refusals and troubles mean for a command: its exit code, and what to do about it.

use offsite_daemon::config::ConfigError;
use offsite_daemon::data_dir::DataDirError;
use offsite_daemon::private::PrivateError;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_source_core::error::Trouble;
use offsite_store::catalog::CatalogError;
use offsite_terminal::{Exit, Failure};
use serde_json::Value;

/// A refusal as the end of a command.
pub(crate) fn refused(refusal: Refusal) -> Failure {
    let fact = |name: &str| {
        let facts = refusal.detail.as_ref();
        facts.and_then(|facts| facts.get(name)).and_then(Value::as_str).unwrap_or_default()
    };
    let exit = match (refusal.code, fact("at_fault")) {
        (ErrorCode::TargetUnreachable | ErrorCode::NotATarget, _) => Exit::Failed,
        (ErrorCode::TargetChanged | ErrorCode::Forbidden, _) | (_, "peer") => Exit::Refused,
        (code, _) => exit_of(code),
    };
    let hint = fact("hint").to_owned();
    Failure::new(exit, refusal.code.as_str(), refusal.message, hint)
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

/// A data directory that cannot be used.
pub(crate) fn no_directory(error: DataDirError) -> Failure {
    let (exit, code) = match &error {
        DataDirError::Absent { .. } => (Exit::Unknown, "not_set_up"),
        DataDirError::InUse { .. } => (Exit::Failed, "in_use"),
        DataDirError::SetUp { .. } => (Exit::Failed, "already_exists"),
        DataDirError::Foreign { .. } | DataDirError::OtherProgram { .. } => {
            (Exit::Failed, "foreign_directory")
        }
        DataDirError::OtherVersion { .. } => (Exit::Failed, "version_unsupported"),
        DataDirError::Unfinished { .. } => (Exit::Failed, "unfinished"),
        DataDirError::Loose { .. } => (Exit::Failed, "loose_mode"),
        DataDirError::Io { .. } => (Exit::Failed, "failed"),
    };
    Failure::new(exit, code, error.to_string(), "")
}

/// A configuration that cannot be used.
pub(crate) fn no_settings(error: ConfigError) -> Failure {
    let hint = "correct the configuration file, then try again";
    Failure::new(Exit::Failed, "configuration_wrong", error.to_string(), hint)
}

/// Keys that cannot be used.
pub(crate) fn no_keys(error: PrivateError) -> Failure {
    Failure::new(Exit::Failed, "keys_not_private", error.to_string(), "")
}

/// A memory that cannot be read or written.
pub(crate) fn no_memory(error: CatalogError) -> Failure {
    troubled(Trouble::from(error))
}

/// What the core says of its own troubles.
pub(crate) fn troubled(trouble: Trouble) -> Failure {
    refused(Refusal::from(trouble))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_ends_with_the_code_of_the_table() {
        let exit =
            |code, at_fault: &str| refused(Refusal::new(code, "x").with("at_fault", at_fault)).exit;
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
