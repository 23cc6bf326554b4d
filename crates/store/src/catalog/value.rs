//! Typed values: one version byte, then postcard.
//!
//! postcard is not self-describing, so the version byte decides what the rest is read as; a version
//! nobody here knows is refused, never guessed (D-18). The length is bounded before decoding.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CatalogError, Table};

/// A type that is kept in catalog rows.
pub trait Value: Serialize + DeserializeOwned {
    /// The version this program writes. Raised whenever the layout changes in any way.
    const VERSION: u8;
    /// Longest encoding, in bytes, the version byte included.
    const BYTES_MAX: usize;

    /// Reads an older version's payload (the bytes after the version byte); `None` for a version
    /// that never was, or bytes that do not parse.
    fn from_older(_version: u8, _payload: &[u8]) -> Option<Self> {
        None
    }
}

/// The bytes of a value.
///
/// # Errors
/// [`CatalogError::TooLong`] above the bound of its type.
pub fn encode_value<T: Value>(table: Table, value: &T) -> Result<Vec<u8>, CatalogError> {
    let bytes = postcard::to_extend(value, vec![T::VERSION])
        .map_err(|error| CatalogError::Damaged(format!("table {}: {error}", table.name())))?;
    if bytes.len() > T::BYTES_MAX {
        return Err(too_long::<T>(table, bytes.len()));
    }
    Ok(bytes)
}

/// Reads a value from its bytes, all of them.
///
/// # Errors
/// [`CatalogError::VersionUnknown`] for a version nobody here knows,
/// newer or older, [`CatalogError::TooLong`]
/// above the bound, [`CatalogError::Damaged`] when the bytes do not parse or go on after the value.
pub fn decode_value<T: Value>(table: Table, bytes: &[u8]) -> Result<T, CatalogError> {
    let damaged = |why: &str| CatalogError::Damaged(format!("table {}: {why}", table.name()));
    if bytes.len() > T::BYTES_MAX {
        return Err(too_long::<T>(table, bytes.len()));
    }
    let Some((&version, payload)) = bytes.split_first() else {
        return Err(damaged("a value is empty"));
    };
    if version != T::VERSION {
        let older = (version < T::VERSION).then(|| T::from_older(version, payload)).flatten();
        let (table, found, newest) = (table.name(), version, T::VERSION);
        return older.ok_or(CatalogError::VersionUnknown { table, found, newest });
    }
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(damaged("a value goes on after its end")),
        Err(_) => Err(damaged("a value does not parse")),
    }
}

fn too_long<T: Value>(table: Table, bytes: usize) -> CatalogError {
    CatalogError::TooLong { table: table.name(), what: "value", bytes, bytes_max: T::BYTES_MAX }
}
