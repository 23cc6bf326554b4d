//! What an operator's account may do, as a word.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an operator's account may do at a target.
///
/// The order is the order of the variants on disk; a new role goes to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks, and changes nothing.
    Viewer,
    /// Decides about requests and keeps the store of its tenants.
    Operator,
    /// May everything that one person may.
    Administrator,
    /// Can only co-sign, revoke, close pairing and read the audit log.
    Officer,
}

impl Role {
    /// Every role.
    pub const ALL: &'static [Self] =
        &[Self::Viewer, Self::Operator, Self::Administrator, Self::Officer];

    /// The word of it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Administrator => "administrator",
            Self::Officer => "officer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleError;

impl fmt::Display for RoleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a role: viewer, operator, administrator or officer")
    }
}

impl std::error::Error for RoleError {}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::ALL.iter().copied().find(|role| role.as_str() == text).ok_or(RoleError)
    }
}
