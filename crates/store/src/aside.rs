//! Putting damaged groups aside, letting out what reads well again, and telling what is missing.

use std::collections::{BTreeSet, HashMap};
use std::sync::PoisonError;

use offsite_model::{Key, PointId, TenantId, VolumeId};

use crate::catalog::{RowsMut, Transactions};
use crate::error::StoreError;
use crate::index::IndexKey;
use crate::manifest::ListEntry;
use crate::quarantine::{Aside, GroupAt, forget_row, keep_row};
use crate::segment::RecordPlace;
use crate::store::{Alarm, Core, Store, lock};

/// Entries that are looked up at once.
const WINDOW: usize = 4_096;

impl Aside {
    /// Whether a place may be answered.
    pub(crate) fn allows(&self, place: &RecordPlace) -> bool {
        !self.is_emptied(place.segment) && !self.has((place.segment, place.place))
    }
}

impl Core {
    pub(crate) fn aside(&self, tenant: TenantId) -> Aside {
        self.quarantine.of(tenant)
    }

    /// Puts groups aside. That the catalog cannot keep it is no reason to go on answering them: the
    /// next reader finds the damage again.
    pub(crate) fn put_aside(&self, tenant: TenantId, groups: &BTreeSet<GroupAt>) {
        // What was collected meanwhile hurts nobody, and nobody would ever forget it.
        let groups: BTreeSet<GroupAt> =
            groups.iter().filter(|(number, _)| self.segment(*number).is_some()).copied().collect();
        let groups = &groups;
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
        let kept = self.change_damaged(|rows| {
            for group in groups {
                keep_row(rows, tenant, *group)?;
            }
            Ok(())
        });
        if let Err(error) = kept {
            self.alarm(Alarm::RunNotWritten { cause: error.to_string() });
        }
    }

    /// Changes what the catalog remembers; one who only reads has nothing remembered.
    fn change_damaged(
        &self,
        change: impl FnOnce(&mut dyn RowsMut) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.is_read_only {
            return Ok(());
        }
        self.check_fence()?;
        self.reserve.make_room(&self.place);
        self.catalog.write(change)
    }

    /// Lets groups out that read well again.
    pub(crate) fn let_out(
        &self,
        tenant: TenantId,
        groups: &BTreeSet<GroupAt>,
    ) -> Result<(), StoreError> {
        self.change_damaged(|rows| {
            for group in groups {
                forget_row(rows, tenant, *group)?;
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

    /// The records of a tenant that lie in what is put aside, as the lists of the segments name
    /// them: for words alone.
    pub(crate) fn keys_aside(&self, tenant: TenantId) -> HashMap<IndexKey, GroupAt> {
        let aside = self.aside(tenant);
        let mut keys = HashMap::new();
        let numbers: BTreeSet<u32> =
            self.quarantine.segments().into_iter().filter(|n| aside.has_segment(*n)).collect();
        for segment in numbers.into_iter().filter_map(|number| self.segment(number)) {
            let Ok(contents) = segment.contents(&self.place) else { continue };
            let records = contents.records.into_iter();
            let records =
                records.map(|(key, form, place)| ((key, form), (place.segment, place.place)));
            keys.extend(records.filter(|(_, group)| aside.has(*group)));
        }
        keys
    }

    /// Forgets what was put aside in a segment that is gone.
    pub(crate) fn forget_aside(&self, segment: u32) -> Result<(), StoreError> {
        let groups = self.quarantine.groups_of(segment);
        if groups.is_empty() {
            return Ok(());
        }
        self.change_damaged(|rows| {
            for (tenant, group) in &groups {
                forget_row(rows, *tenant, *group)?;
            }
            Ok(())
        })?;
        for (tenant, group) in &groups {
            self.quarantine.change(*tenant, |aside| aside.remove(group));
        }
        Ok(())
    }

    /// Puts the group at a place aside where it cannot be read twice in a row. A segment that has
    /// gone with its session was never promised to anybody.
    pub(crate) fn doubt(&self, tenant: TenantId, at: GroupAt) {
        let Ok(segment) = self.segment_of(tenant, at.0) else { return };
        // One that was collected meanwhile is not damaged: it leaves the list before its file goes.
        if segment.read_group(&self.place, at.1).is_err() && self.segment(at.0).is_some() {
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
