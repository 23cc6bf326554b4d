//! Damaged groups are put aside: what lies in them counts as missing, so that nobody is told "have"
//! and a good copy takes their place (B-07).
//!
//! Nothing is deleted. A row of the catalog names the group, and look-ups pass over it; the bytes
//! stay where they are, and a group that reads well again is let out by the next verify. A good
//! copy comes with any session that stores the record again; [`Session::keep`] makes it stay where
//! no point is made.
//!
//! **Absent:** putting aside and letting out (`aside`); whom to ask for a good copy; when damage
//! was found (the store knows no time).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use offsite_model::TenantId;
use serde::{Deserialize, Serialize};

use crate::catalog::{
    CatalogError, Order, RedbCatalog, RowsMut, Table, Transactions, TypedRows, TypedRowsMut, Value,
};
use crate::error::StoreError;

pub(crate) const DAMAGED: Table = Table::new("store.damaged");
/// Rows read from the catalog at a time.
const SCAN_ROWS: usize = 1_024;

/// A group: its segment and its place in it.
pub(crate) type GroupAt = (u32, u32);

/// A group that is put aside. Its key says all there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DamagedRow {}

impl Value for DamagedRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 16;
}

pub(crate) fn row_key(tenant: TenantId, (segment, place): GroupAt) -> Vec<u8> {
    [&tenant.to_bytes()[..], &segment.to_be_bytes(), &place.to_be_bytes()].concat()
}

fn read_key(key: &[u8]) -> Option<(TenantId, GroupAt)> {
    let number = |at: usize| {
        let bytes = key.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*bytes))
    };
    Some((TenantId::from_bytes(*key.first_chunk()?), (number(16)?, number(20)?)))
}

/// The groups of each tenant that are put aside.
#[derive(Default)]
pub(crate) struct Quarantine {
    groups: RwLock<BTreeMap<TenantId, Arc<BTreeSet<GroupAt>>>>,
    /// Segments, of all tenants, that collection has emptied and that runs may still name.
    emptied: RwLock<Arc<BTreeSet<u32>>>,
}

/// What look-ups of one tenant pass over, as one of them sees it from beginning to end.
#[derive(Clone, Default)]
pub(crate) struct Aside {
    groups: Option<Arc<BTreeSet<GroupAt>>>,
    emptied: Arc<BTreeSet<u32>>,
}

impl Aside {
    pub(crate) fn has(&self, at: GroupAt) -> bool {
        self.groups.as_ref().is_some_and(|groups| groups.contains(&at))
    }

    pub(crate) fn is_emptied(&self, segment: u32) -> bool {
        self.emptied.contains(&segment)
    }

    /// The same, with these segments passed over as well.
    pub(crate) fn without(&self, segments: &BTreeSet<u32>) -> Self {
        let emptied = Arc::new(self.emptied.union(segments).copied().collect());
        Self { groups: self.groups.clone(), emptied }
    }

    pub(crate) fn groups_of(&self, segment: u32) -> impl Iterator<Item = u32> + '_ {
        let groups = self.groups.iter();
        let range = (segment, 0)..=(segment, u32::MAX);
        groups.flat_map(move |groups| groups.range(range.clone())).map(|(_, place)| *place)
    }

    pub(crate) fn has_segment(&self, segment: u32) -> bool {
        self.groups
            .as_ref()
            .is_some_and(|groups| groups.range((segment, 0)..=(segment, u32::MAX)).next().is_some())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.as_ref().is_none_or(|groups| groups.is_empty())
    }
}

impl Quarantine {
    /// What the catalog remembers.
    pub(crate) fn open(catalog: &RedbCatalog) -> Result<Self, StoreError> {
        let mut groups: BTreeMap<TenantId, BTreeSet<GroupAt>> = BTreeMap::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = catalog.read::<_, CatalogError>(|rows| {
                let (after, order) = (after.as_deref(), Order::Ascending);
                rows.scan_values::<DamagedRow>(DAMAGED, b"", after, order, SCAN_ROWS)
            })?;
            let Some((last, _)) = rows.last() else { break };
            after = Some(last.clone());
            for (tenant, group) in rows.iter().filter_map(|(key, _)| read_key(key)) {
                groups.entry(tenant).or_default().insert(group);
            }
        }
        let groups = groups.into_iter().map(|(tenant, groups)| (tenant, Arc::new(groups)));
        Ok(Self { groups: RwLock::new(groups.collect()), ..Self::default() })
    }

    /// The segments, of all tenants, in which something is put aside.
    pub(crate) fn segments(&self) -> BTreeSet<u32> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.values().flat_map(|groups| groups.iter().map(|(segment, _)| *segment)).collect()
    }

    /// What is put aside in one segment, and whose it is.
    pub(crate) fn groups_of(&self, segment: u32) -> Vec<(TenantId, GroupAt)> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let range = (segment, 0)..=(segment, u32::MAX);
        let of = groups.iter().flat_map(|(tenant, groups)| {
            groups.range(range.clone()).map(|group| (*tenant, *group))
        });
        of.collect()
    }

    pub(crate) fn of(&self, tenant: TenantId) -> Aside {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let emptied = self.emptied.read().unwrap_or_else(PoisonError::into_inner);
        Aside { groups: groups.get(&tenant).cloned(), emptied: Arc::clone(&emptied) }
    }

    /// Lets look-ups pass over whole segments, until [`Quarantine::forget_emptied`].
    pub(crate) fn empty(&self, segments: impl IntoIterator<Item = u32>) {
        let mut emptied = self.emptied.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut emptied).extend(segments);
    }

    pub(crate) fn forget_emptied(&self, segments: &BTreeSet<u32>) {
        let mut emptied = self.emptied.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut emptied).retain(|segment| !segments.contains(segment));
    }

    /// Whether the set became another one.
    pub(crate) fn change(
        &self,
        tenant: TenantId,
        change: impl FnOnce(&mut BTreeSet<GroupAt>) -> bool,
    ) -> bool {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(groups.entry(tenant).or_default()))
    }
}

/// Remembers that a group is put aside.
pub(crate) fn keep_row(
    rows: &mut dyn RowsMut,
    tenant: TenantId,
    group: GroupAt,
) -> Result<(), CatalogError> {
    rows.put_value(DAMAGED, &row_key(tenant, group), &DamagedRow {})
}

/// Forgets it.
pub(crate) fn forget_row(
    rows: &mut dyn RowsMut,
    tenant: TenantId,
    group: GroupAt,
) -> Result<(), CatalogError> {
    rows.remove(DAMAGED, &row_key(tenant, group)).map(|_| ())
}
