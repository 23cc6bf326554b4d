//! Damaged groups are put aside: what lies in them counts as missing, so that nobody is told "have"
//! and a good copy takes their place (B-07).
//!
//! Nothing is deleted. A row of the catalog names the group, and look-ups pass over it; the bytes
//! stay where they are, and a group that reads well again is let out by the next verify. A good
//! copy comes with any session that stores the record again; [`Session::keep`] makes it stay where
//! no point is made.
//!
//! **Absent:** whom to ask for a good copy; when damage was found (the store knows no time).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use offsite_model::{Key, PointId, TenantId, VolumeId};
use serde::{Deserialize, Serialize};

use crate::catalog::{
    CatalogError, Order, RedbCatalog, Table, Transactions, TypedRows, TypedRowsMut, Value,
};
use crate::error::StoreError;
use crate::manifest::ListEntry;
use crate::segment::RecordPlace;
use crate::store::{Alarm, Core, SCAN_ROWS, Store, lock};

const DAMAGED: Table = Table::new("store.damaged");
/// Entries that are looked up at once.
const WINDOW: usize = 4_096;

/// A group: its segment and its place in it.
pub(crate) type GroupAt = (u32, u32);

/// A group that is put aside. Its key says all there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DamagedRow {}

impl Value for DamagedRow {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 16;
}

fn row_key(tenant: TenantId, (segment, place): GroupAt) -> Vec<u8> {
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
pub(crate) struct Quarantine(RwLock<BTreeMap<TenantId, Arc<BTreeSet<GroupAt>>>>);

/// What is put aside of one tenant, as a look-up sees it from beginning to end.
#[derive(Clone, Default)]
pub(crate) struct Aside(Option<Arc<BTreeSet<GroupAt>>>);

impl Aside {
    pub(crate) fn has(&self, at: GroupAt) -> bool {
        self.0.as_ref().is_some_and(|groups| groups.contains(&at))
    }

    /// Whether a place may be answered.
    pub(crate) fn allows(&self, place: &RecordPlace) -> bool {
        !self.has((place.segment, place.place))
    }

    pub(crate) fn has_segment(&self, segment: u32) -> bool {
        self.0
            .as_ref()
            .is_some_and(|groups| groups.range((segment, 0)..=(segment, u32::MAX)).next().is_some())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|groups| groups.is_empty())
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
        Ok(Self(RwLock::new(groups.collect())))
    }

    pub(crate) fn of(&self, tenant: TenantId) -> Aside {
        let groups = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Aside(groups.get(&tenant).cloned())
    }

    /// Whether the set became another one.
    fn change(
        &self,
        tenant: TenantId,
        change: impl FnOnce(&mut BTreeSet<GroupAt>) -> bool,
    ) -> bool {
        let mut groups = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(groups.entry(tenant).or_default()))
    }
}

impl Core {
    pub(crate) fn aside(&self, tenant: TenantId) -> Aside {
        self.quarantine.of(tenant)
    }

    /// Puts groups aside. That the catalog cannot keep it is no reason to go on answering them: the
    /// next reader finds the damage again.
    pub(crate) fn put_aside(&self, tenant: TenantId, groups: &BTreeSet<GroupAt>) {
        let is_new = self.quarantine.change(tenant, |aside| {
            let n_before = aside.len();
            aside.extend(groups);
            aside.len() > n_before
        });
        if !is_new {
            return;
        }
        for (segment, _) in groups {
            self.alarm_once(Alarm::SegmentDamaged { segment: *segment });
        }
        {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(index) = index.get_mut(&tenant) {
                index.recent.retain(|_, place| !groups.contains(&(place.segment, place.place)));
            }
        }
        lock(&self.trails).clear();
        let kept = self.catalog.write::<_, StoreError>(|rows| {
            for group in groups {
                rows.put_value(DAMAGED, &row_key(tenant, *group), &DamagedRow {})?;
            }
            Ok(())
        });
        if let Err(error) = kept {
            self.alarm(Alarm::RunNotWritten { cause: error.to_string() });
        }
    }

    /// Lets groups out that read well again.
    pub(crate) fn let_out(
        &self,
        tenant: TenantId,
        groups: &BTreeSet<GroupAt>,
    ) -> Result<(), StoreError> {
        self.catalog.write::<_, StoreError>(|rows| {
            for group in groups {
                rows.remove(DAMAGED, &row_key(tenant, *group))?;
            }
            Ok(())
        })?;
        self.quarantine.change(tenant, |aside| {
            aside.retain(|group| !groups.contains(group));
            true
        });
        lock(&self.trails).clear();
        let segments: BTreeSet<u32> = groups.iter().map(|(segment, _)| *segment).collect();
        let _upkeep = lock(&self.upkeep);
        self.read_segments(tenant, segments)
    }

    /// Puts the group at a place aside where it cannot be read twice in a row.
    pub(crate) fn doubt(&self, tenant: TenantId, at: GroupAt) {
        let is_good = self
            .segment_of(tenant, at.0)
            .is_ok_and(|segment| segment.read_group(&self.place, at.1).is_ok());
        if !is_good {
            self.put_aside(tenant, &BTreeSet::from([at]));
        }
    }
}

impl Store {
    /// Whether records of this tenant are known to be damaged. Whether a good copy has come since
    /// is asked by [`Store::missing`].
    #[must_use]
    pub fn has_damage(&self, tenant: TenantId) -> bool {
        !self.core.aside(tenant).is_empty()
    }

    /// Tells of the entries of an image's list whose records this store has no good copy of, with
    /// their ordinals, in order. The list is that of [`Store::changes`].
    ///
    /// # Errors
    /// As [`Store::changes`].
    pub fn missing(
        &self,
        tenant: TenantId,
        point: PointId,
        volume: VolumeId,
        parent: Option<PointId>,
        tell: &mut dyn FnMut(u64, ListEntry),
    ) -> Result<(), StoreError> {
        let mut changes = self.changes(tenant, point, volume, parent)?;
        let form = changes.image().form();
        let mut ordinal = 0_u64;
        loop {
            let window = changes.by_ref().take(WINDOW).collect::<Result<Vec<_>, _>>()?;
            if window.is_empty() {
                return Ok(());
            }
            let keys: Vec<Key> = window.iter().map(|entry| entry.key).collect();
            for (entry, place) in window.into_iter().zip(self.find_many(tenant, form, &keys)?) {
                if entry.key != Key::ZERO && place.is_none() {
                    tell(ordinal, entry);
                }
                ordinal += 1;
            }
        }
    }
}
