//! What went wrong at the source: who is at fault, in words for the log and the operator.
//!
//! Every sentence of this crate that a person reads about a failure is made here or in
//! [`crate::pairing`]'s views; each [`Trouble`] says what to do next.

use std::fmt;
use std::io;

use offsite_proto::codec::DecodeError;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_store::catalog::CatalogError;

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The target, or whatever stands between.
    Peer,
    /// The person who gave the order.
    Operator,
    /// The disk under the data directory.
    Disk,
    /// This program.
    Us,
}

impl Blame {
    /// The word in logs and in `detail.at_fault`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Operator => "operator",
            Self::Disk => "disk",
            Self::Us => "us",
        }
    }
}

/// A failure that a person may have to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Who has to act.
    pub blame: Blame,
    /// The stable word.
    pub code: ErrorCode,
    /// What was being done, to what, and what happened: one clause.
    pub message: String,
    /// What to do next; empty where there is nothing to say.
    pub hint: String,
}

impl Trouble {
    /// The operator asked for something that cannot be.
    #[must_use]
    pub fn operator(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { blame: Blame::Operator, code, message: message.into(), hint: hint.into() }
    }

    /// The target, or what stands between, is at fault.
    #[must_use]
    pub fn peer(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { blame: Blame::Peer, code, message: message.into(), hint: hint.into() }
    }

    /// A file of the data directory could not be read or written.
    #[must_use]
    pub fn disk(doing: &str, error: &io::Error) -> Self {
        Self {
            blame: Blame::Disk,
            code: ErrorCode::Internal,
            message: format!("cannot {doing}: {error}"),
            hint: "look at the disk that holds the data directory, then start the daemon again"
                .to_owned(),
        }
    }

    /// This program made an error.
    #[must_use]
    pub fn us(message: impl Into<String>) -> Self {
        Self {
            blame: Blame::Us,
            code: ErrorCode::Internal,
            message: message.into(),
            hint: "this is an error of the program; please report it with the log".to_owned(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Trouble {}

impl From<CatalogError> for Trouble {
    fn from(error: CatalogError) -> Self {
        Self {
            blame: Blame::Disk,
            code: ErrorCode::Internal,
            message: format!("cannot use the memory of this source: {error}"),
            hint: "look at the disk that holds the data directory, then start the daemon again"
                .to_owned(),
        }
    }
}

impl From<DecodeError> for Trouble {
    /// What we write ourselves is bounded by the same rules as what we read.
    fn from(error: DecodeError) -> Self {
        Self::us(format!("cannot write for the peer: {error}"))
    }
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        let refusal =
            Self::new(trouble.code, trouble.message).with("at_fault", trouble.blame.as_str());
        if trouble.hint.is_empty() { refusal } else { refusal.with("hint", trouble.hint) }
    }
}
