//! The catalog: named tables of small rows under transactions, behind one trait.
//!
//! Two implementations stand behind [`Catalog`]: [`RedbCatalog`] for real work and
//! [`MemoryCatalog`] for models and tests; one suite (`tests`) is run over both, so the choice of
//! redb stays reversible. The store, the target's pairing register and the source's memory each
//! bring their own [`Table`]s and [`Value`]s.
//!
//! Rules of a transaction: [`Transactions::read`] sees one state from beginning to end;
//! [`Transactions::write`] is alone, sees its own changes, and is durable when it returns `Ok`.
//! A closure that returns an error leaves no trace. After an error of the disk under it a catalog
//! refuses every further write ([`CatalogError::Poisoned`]) until it is opened again.
//!
//! Calls block; callers above layer 2 keep them off the runtime's threads.
//!
//! **Absent:** what the rows mean, payload bytes, record keys (those live in key runs).

mod memory;
mod redb_catalog;
#[cfg(test)]
mod tests;
mod value;

use std::io;
use std::ops::Bound;

pub use memory::MemoryCatalog;
pub use redb_catalog::RedbCatalog;
pub use value::{Value, decode_value, encode_value};

/// Longest key of a row, in bytes.
pub const KEY_BYTES_MAX: usize = 512;
/// Longest value of a row, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// A named table. Names are made by us, are short and never change once a catalog exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(&'static str);

impl Table {
    /// The table of this name; declare it as a `const`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// Which end of a range comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// A row: its key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// A range of keys, in byte order.
pub type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// What went wrong in the catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The disk failed, or is full.
    #[error("catalog: {0}")]
    Io(#[from] io::Error),
    /// What is on disk is not what was written.
    #[error("catalog is damaged: {0}")]
    Damaged(String),
    /// A value was written by a newer program.
    #[error(
        "catalog table {table} holds a value of version {found}, this program knows up to {newest}"
    )]
    VersionUnknown {
        /// The table.
        table: &'static str,
        /// The version found.
        found: u8,
        /// The newest one known here.
        newest: u8,
    },
    /// A key or a value is longer than its bound; nothing was written.
    #[error("catalog table {table}: {what} of {bytes} bytes is longer than {bytes_max}")]
    TooLong {
        /// The table.
        table: &'static str,
        /// `key` or `value`.
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The bound in bytes.
        bytes_max: usize,
    },
    /// An earlier error of the disk ended writing; open the catalog again.
    #[error("catalog is closed after an earlier error of the disk; open it again")]
    Poisoned,
}

/// Rows as one transaction sees them.
pub trait Rows {
    /// The value under a key, if there is one.
    ///
    /// # Errors
    /// [`CatalogError`] when the catalog cannot be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogError>;

    /// At most `n_max` rows of a range, in that order. Pages on by a bound that excludes the last
    /// key.
    ///
    /// # Errors
    /// [`CatalogError`] when the catalog cannot be read.
    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        order: Order,
        n_max: usize,
    ) -> Result<Vec<Row>, CatalogError>;
}

/// Rows that may be changed; all changes of one transaction become durable together.
pub trait RowsMut: Rows {
    /// Sets the value under a key, replacing an earlier one.
    ///
    /// # Errors
    /// [`CatalogError::TooLong`], or what the disk says.
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), CatalogError>;

    /// Removes a row; says whether there was one.
    ///
    /// # Errors
    /// [`CatalogError`] when the catalog cannot be changed.
    fn remove(&mut self, table: Table, key: &[u8]) -> Result<bool, CatalogError>;
}

/// What a closure of [`Catalog::write_with`] decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Make the changes durable.
    Keep,
    /// Forget them.
    Discard,
}

/// What an implementation provides. Callers use [`Transactions`], which carries results and errors
/// of their own through the closure.
pub trait Catalog: Send + Sync {
    /// Runs `look` over one unchanging state.
    ///
    /// # Errors
    /// [`CatalogError`] when no transaction can be begun.
    fn read_with(&self, look: &mut dyn FnMut(&dyn Rows)) -> Result<(), CatalogError>;

    /// Runs `change` alone, then keeps or forgets everything it did.
    ///
    /// # Errors
    /// [`CatalogError`] when the transaction cannot be begun or made durable. After an error of the
    /// commit itself it is unknown whether the changes survive; opening again says which.
    fn write_with(
        &self,
        change: &mut dyn FnMut(&mut dyn RowsMut) -> Verdict,
    ) -> Result<(), CatalogError>;
}

/// Transactions with results: `catalog.read(|rows| …)`, `catalog.write(|rows| …)`.
pub trait Transactions: Catalog {
    /// Looks at one state of the catalog.
    ///
    /// # Errors
    /// What the closure returns, or a [`CatalogError`].
    fn read<T, E: From<CatalogError>>(
        &self,
        look: impl FnOnce(&dyn Rows) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut look = Some(look);
        let mut outcome = None;
        self.read_with(&mut |rows| {
            if let Some(look) = look.take() {
                outcome = Some(look(rows));
            }
        })?;
        outcome.unwrap_or_else(|| Err(not_run().into()))
    }

    /// Changes the catalog in one transaction: durable when this returns `Ok`, without a trace when
    /// the closure returns an error.
    ///
    /// # Errors
    /// What the closure returns, or a [`CatalogError`].
    fn write<T, E: From<CatalogError>>(
        &self,
        change: impl FnOnce(&mut dyn RowsMut) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut change = Some(change);
        let mut outcome = None;
        let ended = self.write_with(&mut |rows| {
            let Some(change) = change.take() else { return Verdict::Discard };
            let result = change(rows);
            let verdict = if result.is_ok() { Verdict::Keep } else { Verdict::Discard };
            outcome = Some(result);
            verdict
        });
        match outcome {
            // The closure's own error says more than a failure to roll back what never was durable.
            Some(Err(error)) => Err(error),
            Some(Ok(value)) => ended.map(|()| value).map_err(E::from),
            None => Err(ended.err().unwrap_or_else(not_run).into()),
        }
    }
}

impl<C: Catalog + ?Sized> Transactions for C {}

/// An implementation that did not run the closure it was given.
fn not_run() -> CatalogError {
    CatalogError::Damaged("the transaction was not run".to_owned())
}

/// Conveniences over any [`Rows`].
pub trait TypedRows: Rows {
    /// The typed value under a key.
    ///
    /// # Errors
    /// As [`Rows::get`], and [`CatalogError::VersionUnknown`] or [`CatalogError::Damaged`] when it
    /// cannot be decoded.
    fn value<T: Value>(&self, table: Table, key: &[u8]) -> Result<Option<T>, CatalogError> {
        self.get(table, key)?.map(|bytes| decode_value(table, &bytes)).transpose()
    }

    /// At most `n_max` rows whose key begins with `prefix`, after the key `after` when there is
    /// one.
    ///
    /// # Errors
    /// As [`Rows::scan`].
    fn scan_prefix(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        order: Order,
        n_max: usize,
    ) -> Result<Vec<Row>, CatalogError> {
        let end = after_prefix(prefix);
        let mut lower = Bound::Included(prefix);
        let mut upper = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        match (after, order) {
            (None, _) => {}
            (Some(after), Order::Ascending) if after >= prefix => lower = Bound::Excluded(after),
            (Some(_), Order::Ascending) => {}
            (Some(after), Order::Descending) => {
                if end.as_deref().is_none_or(|end| after < end) {
                    upper = Bound::Excluded(after);
                }
            }
        }
        if is_empty_range(lower, upper) {
            return Ok(Vec::new());
        }
        self.scan(table, (lower, upper), order, n_max)
    }

    /// As [`TypedRows::scan_prefix`], with the values decoded.
    ///
    /// # Errors
    /// As [`TypedRows::scan_prefix`] and [`TypedRows::value`].
    fn scan_values<T: Value>(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        order: Order,
        n_max: usize,
    ) -> Result<Vec<(Vec<u8>, T)>, CatalogError> {
        self.scan_prefix(table, prefix, after, order, n_max)?
            .into_iter()
            .map(|(key, bytes)| decode_value(table, &bytes).map(|value| (key, value)))
            .collect()
    }
}

impl<R: Rows + ?Sized> TypedRows for R {}

/// Conveniences over any [`RowsMut`].
pub trait TypedRowsMut: RowsMut {
    /// Sets the typed value under a key.
    ///
    /// # Errors
    /// As [`RowsMut::put`]; [`CatalogError::TooLong`] when it exceeds the bound of its type.
    fn put_value<T: Value>(
        &mut self,
        table: Table,
        key: &[u8],
        value: &T,
    ) -> Result<(), CatalogError> {
        self.put(table, key, &encode_value(table, value)?)
    }
}

impl<R: RowsMut + ?Sized> TypedRowsMut for R {}

/// The smallest key above all that begin with `prefix`; none when there is no such key.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// Whether no key lies between these bounds; ordered maps panic on ranges that run backwards.
fn is_empty_range(lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> bool {
    match (lower, upper) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(lower), Bound::Included(upper)) => lower > upper,
        (
            Bound::Included(lower) | Bound::Excluded(lower),
            Bound::Included(upper) | Bound::Excluded(upper),
        ) => lower >= upper,
    }
}

/// Refuses a key or value above its bound before anything is written.
fn check_bounds(table: Table, key: &[u8], value: &[u8]) -> Result<(), CatalogError> {
    for (what, bytes, bytes_max) in
        [("key", key.len(), KEY_BYTES_MAX), ("value", value.len(), VALUE_BYTES_MAX)]
    {
        if bytes > bytes_max {
            return Err(CatalogError::TooLong { table: table.name(), what, bytes, bytes_max });
        }
    }
    Ok(())
}
