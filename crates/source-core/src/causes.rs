//! What went wrong below this crate, as its operator has to hear it.

use offsite_content::ReadError;
use offsite_proto::error::ErrorCode;
use offsite_store::StoreError;
use offsite_volume::VolumeError;

use crate::error::{Blame, Trouble};

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        let disk = |code, hint: &str| Self {
            blame: Blame::Disk,
            code,
            message: error.to_string(),
            hint: hint.to_owned(),
        };
        match &error {
            StoreError::NoSpace => disk(
                ErrorCode::NoSpace,
                "free space on the disk that holds the data directory, or delete recovery points",
            ),
            StoreError::Damaged(_) | StoreError::UnknownRecord { .. } => {
                disk(ErrorCode::HashMismatch, "see how far it goes with: offsite-source verify")
            }
            StoreError::PointUnknown(_) => {
                Self::operator(ErrorCode::PointUnknown, error.to_string(), LIST_POINTS)
            }
            StoreError::OutOfBounds(_) => {
                Self::operator(ErrorCode::TooLarge, error.to_string(), "")
            }
            StoreError::VersionUnknown { .. } | StoreError::NeedsUnknown { .. } => Self::operator(
                ErrorCode::VersionUnsupported,
                error.to_string(),
                "update this program",
            ),
            StoreError::Poisoned | StoreError::Fenced | StoreError::SessionEnded => disk(
                ErrorCode::RepositoryUnavailable,
                "look at the disk that holds the data directory, then start the daemon again",
            ),
            StoreError::Io { .. } | StoreError::Catalog(_) => disk(
                ErrorCode::RepositoryUnavailable,
                "look at the disk that holds the data directory",
            ),
            StoreError::InUse { .. }
            | StoreError::ReadOnly
            | StoreError::NotAStore(_)
            | StoreError::NotEmpty { .. }
            | StoreError::StoreExists(_) => disk(ErrorCode::RepositoryUnavailable, ""),
            _ => Self::us(error.to_string()),
        }
    }
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => error.into(),
            error => Self::us(error.to_string()),
        }
    }
}

/// Where to find the points.
pub(crate) const LIST_POINTS: &str = "see them with: offsite-source points list NAME";

/// A volume of an agent that could not be read to its end.
pub(crate) fn unreadable(agent: &str, label: &str, error: &VolumeError) -> Trouble {
    let (code, hint) = match error {
        VolumeError::Missing { .. } => (
            ErrorCode::BadRequest,
            "bring it back, or remove the agent and add it anew with the volume's new path",
        ),
        VolumeError::Denied { .. } | VolumeError::NotAVolume { .. } => (ErrorCode::BadRequest, ""),
        VolumeError::Resized { .. } => (ErrorCode::WrongState, ""),
        _ => (
            ErrorCode::WrongState,
            "look at the disk that holds the volume; nothing of this attempt was kept",
        ),
    };
    let message = format!("cannot protect volume {label} of agent {agent}: {error}");
    Trouble::operator(code, message, hint)
}
