//! The catalog as a map in memory: the model the real one is compared with, and a light stand-in
//! for tests of what stands on a catalog.
//!
//! **Absent:** durability.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::{
    Catalog, CatalogError, KeyRange, Order, Row, Rows, RowsMut, Table, Verdict, check_bounds,
    is_empty_range,
};

/// Tables share their maps until one of them is changed, so that a transaction begins at no cost.
type Tables = BTreeMap<&'static str, Arc<BTreeMap<Vec<u8>, Vec<u8>>>>;

/// A catalog that lives as long as its process.
#[derive(Default)]
pub struct MemoryCatalog {
    tables: RwLock<Tables>,
}

impl MemoryCatalog {
    /// An empty catalog.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Catalog for MemoryCatalog {
    fn read_with(&self, look: &mut dyn FnMut(&dyn Rows)) -> Result<(), CatalogError> {
        let snapshot = self.tables.read().unwrap_or_else(PoisonError::into_inner).clone();
        look(&Snapshot(snapshot));
        Ok(())
    }

    fn write_with(
        &self,
        change: &mut dyn FnMut(&mut dyn RowsMut) -> Verdict,
    ) -> Result<(), CatalogError> {
        // A panic inside the closure leaves the map as it was, so a poisoned lock does no harm.
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = Snapshot(tables.clone());
        if change(&mut changed) == Verdict::Keep {
            *tables = changed.0;
        }
        Ok(())
    }
}

struct Snapshot(Tables);

impl Rows for Snapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogError> {
        Ok(self.0.get(table.name()).and_then(|rows| rows.get(key)).cloned())
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        order: Order,
        n_max: usize,
    ) -> Result<Vec<Row>, CatalogError> {
        let Some(rows) = self.0.get(table.name()) else { return Ok(Vec::new()) };
        if is_empty_range(range.0, range.1) {
            return Ok(Vec::new());
        }
        let found = rows.range::<[u8], _>(range).map(|(key, value)| (key.clone(), value.clone()));
        Ok(match order {
            Order::Ascending => found.take(n_max).collect(),
            Order::Descending => found.rev().take(n_max).collect(),
        })
    }
}

impl RowsMut for Snapshot {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), CatalogError> {
        check_bounds(table, key, value)?;
        let rows = self.0.entry(table.name()).or_default();
        Arc::make_mut(rows).insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<bool, CatalogError> {
        let Some(rows) = self.0.get_mut(table.name()) else { return Ok(false) };
        Ok(Arc::make_mut(rows).remove(key).is_some())
    }
}
