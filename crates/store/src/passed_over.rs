//! Records that the index passes over.
//!
//! The index knows one place of each key. Where a record was stored twice, the place that it knows
//! may be collected while nobody needs the record; the other copy is then known to nobody but the
//! list of its own segment. A trail of neighbours may lead there and find it alive and well, so a
//! point may come to need it. Whoever reads what must be there therefore asks the lists of the
//! tenant's segments before it says that something is missing, and the index knows it from then on.
//!
//! The same answers for whatever else an index may have lost. It reads every list of the tenant, so
//! it is for what is needed and not for what may be new.

use offsite_model::{Key, KeySet, TenantId};

use crate::error::StoreError;
use crate::group::Form;
use crate::index::IndexKey;
use crate::segment::RecordPlace;
use crate::store::{Core, Store, lock};

/// Keys that are in no list; so many are remembered.
const NOWHERE_MAX: usize = 1 << 16;

impl Store {
    /// As [`Store::find_many`], for records that a point or a draft needs: one that the index does
    /// not know is looked for in the lists of all segments of the tenant.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn find_needed(
        &self,
        tenant: TenantId,
        form: Form,
        keys: &[Key],
    ) -> Result<Vec<Option<RecordPlace>>, StoreError> {
        let _looking = self.core.holds.looking();
        let aside = self.core.aside(tenant);
        let mut found = self.core.find_many(tenant, form, keys, &aside)?;
        let missing =
            found.iter().zip(keys).filter(|(found, key)| found.is_none() && **key != Key::ZERO);
        let missing: KeySet<IndexKey> = missing.map(|(_, key)| (*key, form)).collect();
        if !missing.is_empty() && self.core.search_lists(tenant, missing)? {
            for (found, key) in found.iter_mut().zip(keys).filter(|(found, _)| found.is_none()) {
                *found = self.core.find(tenant, form, key, &aside)?;
            }
        }
        Ok(found)
    }
}

impl Core {
    /// Looks for keys in the lists of a tenant's segments and tells the index of those that are
    /// there; whether any is. The caller is looking.
    fn search_lists(
        &self,
        tenant: TenantId,
        mut missing: KeySet<IndexKey>,
    ) -> Result<bool, StoreError> {
        {
            let nowhere = lock(&self.nowhere);
            missing.retain(|key| !nowhere.contains(&(tenant, *key)));
        }
        let aside = self.aside(tenant);
        let mut is_any_there = false;
        for segment in self.segments_of(tenant) {
            if missing.is_empty() {
                break;
            }
            let number = segment.number;
            let contents = match segment.contents(&self.place) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(StoreError::io(format!("read segment {number:08x}")))?,
            };
            let there: Vec<(IndexKey, RecordPlace)> = contents
                .records
                .into_iter()
                .map(|(key, form, place)| ((key, form), place))
                .filter(|(key, place)| missing.contains(key) && aside.allows(place))
                .collect();
            segment.let_go();
            if there.is_empty() {
                continue;
            }
            is_any_there = true;
            let mut index = self.index.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            let index = index.entry(tenant).or_default();
            for (key, place) in there {
                missing.remove(&key);
                index.add_again(key, place, &|place| self.is_durable(place));
            }
        }
        let mut nowhere = lock(&self.nowhere);
        if nowhere.len() + missing.len() > NOWHERE_MAX {
            nowhere.clear();
        }
        nowhere.extend(missing.into_iter().take(NOWHERE_MAX).map(|key| (tenant, key)));
        Ok(is_any_there)
    }
}
