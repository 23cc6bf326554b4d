//! Why an act did not happen: refused, or the catalog failed.
//!
//! Everything that changes rows returns this, so that one transaction can hold an act, its audit
//! entry and the reason why neither took place.

use offsite_proto::error::{ErrorCode, Refusal};
use offsite_store::catalog::CatalogError;

/// Why an act did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The caller is answered this.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The catalog failed; the caller learns no more than that.
    #[error("{0}")]
    Catalog(#[from] CatalogError),
}

impl Failure {
    /// A refusal with this code and sentence.
    #[must_use]
    pub fn refused(code: ErrorCode, sentence: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(code, sentence))
    }
}

impl From<Failure> for Refusal {
    /// What the caller is told. The catalog's own words go to the log, once, here.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => refusal,
            Failure::Catalog(cause) => {
                tracing::error!(%cause, "the catalog failed");
                Self::new(ErrorCode::Internal, "the target cannot read or write its catalog")
            }
        }
    }
}
