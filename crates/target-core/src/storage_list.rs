//! Named storages of this target: where the images of sources go.
//!
//! The first one is made by `init` and is the default; its number is what an acceptance means when
//! it names none.
//!
//! **Absent:** what is stored, and how much: that is the store's.

use offsite_model::{RepositoryId, Timestamp};
use offsite_proto::error::ErrorCode;
use offsite_store::catalog::{Order, Rows, RowsMut, Table, TypedRows, TypedRowsMut, Value};
use serde::{Deserialize, Serialize};

use crate::accounts::check_label;
use crate::audit::Event;
use crate::deed::Deed;
use crate::failure::Failure;
use crate::principal::TenantScope;

/// Storages, by number in big-endian.
pub const STORAGES: Table = Table::new("storages");
/// Storages that there may be.
pub const STORAGES_MAX: usize = 100;
/// The number of the default storage.
pub const DEFAULT_NUMBER: u32 = 1;
/// Bytes of a directory's path.
const PATH_BYTES_MAX: usize = 4_000;

/// A storage as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageRow {
    /// Its short number, from 1.
    pub number: u32,
    /// The id under which sources know it.
    #[serde(with = "crate::rows::id")]
    pub repository: RepositoryId,
    /// Its name.
    pub name: String,
    /// Its directory, absolute.
    pub path: String,
    /// When it was added, in microseconds since 1970.
    pub created_micros: i64,
}

impl Value for StorageRow {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 8 << 10;
}

impl StorageRow {
    /// When it was added.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        Timestamp::from_micros(self.created_micros)
    }
}

/// Bytes of a storage's disk as somebody may be told them: how full it is comes of everybody's
/// data, so whoever is bound to tenants hears whole GiB.
#[must_use]
pub fn told_bytes(scope: &TenantScope, bytes: u64) -> u64 {
    const GIB: u64 = 1 << 30;
    if scope.is_unbounded() { bytes } else { bytes / GIB * GIB }
}

/// Adds a storage. Its directory is made and checked before, by who may touch files.
///
/// # Errors
/// `already_exists` for a name or a directory in use, `bad_request` for what is not allowed.
pub fn add(
    rows: &mut dyn RowsMut,
    deed: &Deed<'_>,
    name: &str,
    path: &str,
) -> Result<StorageRow, Failure> {
    check_label("a storage", name)?;
    if !path.starts_with('/') || path.len() > PATH_BYTES_MAX || path.chars().any(char::is_control) {
        return Err(Failure::refused(
            ErrorCode::BadRequest,
            "the directory of a storage must be an absolute path",
        ));
    }
    let storages = list(rows)?;
    if storages.len() >= STORAGES_MAX {
        return Err(Failure::refused(
            ErrorCode::Forbidden,
            format!("there are {STORAGES_MAX} storages already"),
        ));
    }
    let taken = storages.iter().find(|other| other.name == name || other.path == path);
    if let Some(other) = taken {
        return Err(Failure::refused(
            ErrorCode::AlreadyExists,
            format!("the storage {} has that name or that directory", other.name),
        ));
    }
    let last = storages.last().map_or(0, |storage| storage.number);
    let storage = StorageRow {
        number: last.saturating_add(1),
        repository: RepositoryId::random(deed.luck),
        name: name.to_owned(),
        path: path.to_owned(),
        created_micros: deed.at.as_micros(),
    };
    rows.put_value(STORAGES, &storage.number.to_be_bytes(), &storage)?;
    let facts = [("storage", storage.number.to_string()), ("name", storage.name.clone())];
    deed.record(rows, Event::StorageAdded, None, &facts)?;
    Ok(storage)
}

/// Every storage, by number; the default one first.
///
/// # Errors
/// What the catalog says.
pub fn list<R: Rows + ?Sized>(rows: &R) -> Result<Vec<StorageRow>, Failure> {
    let found = rows.scan_values(STORAGES, b"", None, Order::Ascending, STORAGES_MAX)?;
    Ok(found.into_iter().map(|(_, storage)| storage).collect())
}

/// The storage that an acceptance means: this number, or the default one.
///
/// # Errors
/// `repo_unknown` where there is none.
pub fn find<R: Rows + ?Sized>(rows: &R, number: Option<i64>) -> Result<StorageRow, Failure> {
    let number = number.unwrap_or(i64::from(DEFAULT_NUMBER));
    let key = u32::try_from(number).ok().map(u32::to_be_bytes);
    let found = match key {
        Some(key) => rows.value(STORAGES, &key)?,
        None => None,
    };
    found.ok_or_else(|| {
        Failure::refused(ErrorCode::RepoUnknown, format!("there is no storage {number}"))
    })
}
