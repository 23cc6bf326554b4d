//! What can go wrong in the store, in words that name who is at fault.

use std::io;

use offsite_model::{Key, PointId, Timestamp};

use crate::catalog::CatalogError;
use crate::format::OtherVersion;
use crate::group::GroupError;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk failed.
    #[error("cannot {doing}: {error}")]
    Io {
        /// What was being done, and to what.
        doing: String,
        /// What the disk said.
        #[source]
        error: io::Error,
    },
    /// The disk is full, or nearly: ingest leaves a reserve for commits and deletions.
    #[error("the disk of the store is full; free space and try again")]
    NoSpace,
    /// The catalog failed.
    #[error(transparent)]
    Catalog(CatalogError),
    /// Another process has the store open.
    #[error("the store is in use by {}; stop that first", holder.as_deref()
        .unwrap_or("another process"))]
    InUse {
        /// Which, where the system says so.
        holder: Option<String>,
    },
    /// This opening only reads.
    #[error("the store was opened for reading only")]
    ReadOnly,
    /// A later opening took the store over; this one must not write.
    #[error("the store was taken over by a later opening; this one has stopped writing")]
    Fenced,
    /// There is no store in this directory.
    #[error("there is no store in {0}")]
    NotAStore(String),
    /// The directory holds something else; nothing was touched.
    #[error("{directory} is not empty (it holds {name:?}); a store is made in an empty directory")]
    NotEmpty {
        /// The directory.
        directory: String,
        /// A name in it that is not ours.
        name: String,
    },
    /// There is a store here already.
    #[error("there is a store in {0} already")]
    StoreExists(String),
    /// Another version of this program wrote this; nothing was touched.
    #[error(
        "{what} has format version {found}, this program knows {known}; use the program that \
        wrote it, or a newer one"
    )]
    VersionUnknown {
        /// The file.
        what: String,
        /// The version found.
        found: u32,
        /// The version this program writes.
        known: u32,
    },
    /// The store was given a feature that this program does not have; nothing was touched.
    #[error(
        "the store needs features that this program does not have (bits {bits:#x}); use a \
        newer program"
    )]
    NeedsUnknown {
        /// Their bits.
        bits: u32,
    },
    /// Bytes on disk are not those that were written.
    #[error("damage found: {0}")]
    Damaged(String),
    /// An earlier error of the disk ended writing; open the store again.
    #[error("the store stopped writing after an error of the disk; open it again")]
    Poisoned,
    /// An earlier error ended this session; nothing of it can be committed.
    #[error("this session was ended by an earlier error; begin a new one")]
    SessionEnded,
    /// Another holder took the session over; what it stored is the other's now.
    #[error("another holder took the session over")]
    LeaseLost,
    /// There is no such draft, or it is another tenant's.
    #[error("session {0} is unknown")]
    DraftUnknown(offsite_model::SessionId),
    /// A group that is not what it says.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// Two contents under one key; refused, never merged.
    #[error("record {0} is stored with other content already")]
    KeyCollision(Key),
    /// A list refers to a record this tenant never stored.
    #[error("record {key} at offset {offset} is not stored")]
    UnknownRecord {
        /// The record's key.
        key: Key,
        /// Where the list refers to it.
        offset: u64,
    },
    /// A list that breaks a rule.
    #[error("the image's list is refused: {0}")]
    BadList(String),
    /// The list that was built has another digest than the one announced.
    #[error("the image's list has another digest than was announced")]
    ListMismatch,
    /// The parent image is not there, or its list is another one.
    #[error("the parent image is not there or is another one")]
    BaseMissing,
    /// The same point or image exists with other content.
    #[error("point {0} exists already with other content")]
    AlreadyExists(PointId),
    /// Whoever asked for it wished to stop.
    #[error("interrupted before it was done")]
    Interrupted,
    /// No such point of this tenant.
    #[error("there is no recovery point {0}")]
    PointUnknown(PointId),
    /// The point was purged; what comes under its id is another point, and is refused.
    #[error("recovery point {0} was removed for good; its id is never used again")]
    Purged(PointId),
    /// Only what is marked as deleted can be purged.
    #[error("recovery point {0} is not marked as deleted; delete it first")]
    NotDeleted(PointId),
    /// A lock keeps the point from deletion and purge.
    #[error("recovery point {point} is locked")]
    Locked {
        /// The point.
        point: PointId,
        /// The first moment at which it may go.
        until: Timestamp,
    },
    /// A compliance lock never gets shorter.
    #[error("the lock is {days} days and cannot be shortened")]
    LockKept {
        /// What it is, in days.
        days: u32,
    },
    /// One collection at a time.
    #[error("space is being collected already")]
    CollectionRuns,
    /// Something could not be read or is not what was written, so nothing may be called garbage.
    #[error("nothing was collected, since what is alive is in doubt: {0}")]
    Doubt(String),
    /// A value is outside its bounds.
    #[error("refused: {0}")]
    OutOfBounds(String),
}

impl StoreError {
    /// An error of the disk while doing this.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            // Our files are as long as we say; one that is not has been damaged.
            io::ErrorKind::UnexpectedEof => Self::Damaged(format!("cannot {doing}: cut")),
            _ => match error.downcast::<OtherVersion>() {
                Ok(OtherVersion { what, found, known }) => Self::VersionUnknown {
                    what: what.to_owned(),
                    found: found.into(),
                    known: known.into(),
                },
                Err(error) => Self::Io { doing, error },
            },
        }
    }
}

impl From<CatalogError> for StoreError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Io(error) => Self::io("use the catalog")(error),
            CatalogError::Poisoned => Self::Poisoned,
            other => Self::Catalog(other),
        }
    }
}
