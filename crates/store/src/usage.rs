//! What is stored, counted without reading it: bytes of a tenant, and how large a stored group is.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use offsite_model::TenantId;

use crate::catalog::Transactions;
use crate::error::StoreError;
use crate::format::PLACE_BYTES;
use crate::recover::rows_in;
use crate::rows::{MANIFESTS, ManifestRow};
use crate::segment::{RecordPlace, read_heading};
use crate::store::Store;

/// What the header and the table of a group mostly take: those of sixteen records.
const HEADING_BYTES: u64 = 1 << 10;

impl Store {
    /// The tenants that have anything here.
    ///
    /// # Errors
    /// The catalog's.
    pub fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        let manifests = self.core.catalog.read(|rows| rows_in::<ManifestRow>(rows, MANIFESTS))?;
        let mut tenants: BTreeSet<TenantId> =
            manifests.iter().map(|(_, row)| TenantId::from_bytes(row.tenant)).collect();
        let segments = self.core.segments.read().unwrap_or_else(PoisonError::into_inner);
        tenants.extend(segments.values().map(|segment| segment.tenant));
        Ok(tenants.into_iter().collect())
    }

    /// Bytes of all segments and manifests, of all tenants.
    #[must_use]
    pub fn bytes_in_all(&self) -> u64 {
        let manifests = self.core.catalog.read(|rows| rows_in::<ManifestRow>(rows, MANIFESTS));
        let lists = manifests.iter().flatten().map(|(_, row)| row.bytes);
        let segments = self.core.segments.read().unwrap_or_else(PoisonError::into_inner);
        let records = segments.values().map(|segment| segment.bytes());
        lists.chain(records).fold(0, u64::saturating_add)
    }

    /// Bytes that are free on the disk of the store.
    ///
    /// # Errors
    /// The disk's.
    pub fn bytes_free(&self) -> Result<u64, StoreError> {
        let place = &self.core.place;
        let free = place.files.bytes_free(place.directory());
        free.map_err(StoreError::io("ask how much of the store's disk is free"))
    }

    /// Bytes that a tenant's segments take on disk, those of open sessions included.
    #[must_use]
    pub fn bytes_stored(&self, tenant: TenantId) -> u64 {
        let segments = self.core.segments.read().unwrap_or_else(PoisonError::into_inner);
        let own = segments.values().filter(|segment| segment.tenant == tenant);
        own.fold(0, |sum, segment| segment.bytes().saturating_add(sum))
    }

    /// Has the disk bring the headers of these groups, of which [`Store::group_size`] will be
    /// asked; only a hint.
    pub fn expect_sizes(&self, tenant: TenantId, places: impl Iterator<Item = RecordPlace>) {
        let mut open = None;
        for place in places {
            let file = match &open {
                Some((segment, file)) if *segment == place.segment => file,
                _ => {
                    let segment = self.core.segment_of(tenant, place.segment);
                    // A segment that cannot be opened is told by whoever reads it.
                    let file = segment.ok().and_then(|it| it.file(&self.core.place).ok());
                    let Some(file) = file else { continue };
                    &open.insert((place.segment, file)).1
                }
            };
            file.advise(u64::from(place.place) * PLACE_BYTES, HEADING_BYTES, true);
        }
    }

    /// Has the disk bring a group that will be read as it lies; only a hint.
    pub fn expect_group(&self, tenant: TenantId, place: RecordPlace, stored_bytes: u32) {
        let segment = self.core.segment_of(tenant, place.segment);
        if let Some(file) = segment.ok().and_then(|it| it.file(&self.core.place).ok()) {
            let bytes = HEADING_BYTES.saturating_add(stored_bytes.into());
            file.advise(u64::from(place.place) * PLACE_BYTES, bytes, true);
        }
    }

    /// How many records the group at a place has, and how many bytes its payload, read from its
    /// header alone.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], or the disk's.
    pub fn group_size(
        &self,
        tenant: TenantId,
        place: RecordPlace,
    ) -> Result<(u16, u32), StoreError> {
        let segment = self.core.segment_of(tenant, place.segment)?;
        let doing = || format!("read segment {:08x}", place.segment);
        let file = segment.file(&self.core.place).map_err(StoreError::io(doing()))?;
        let heading = read_heading(&*file, place.segment, tenant, place.place, segment.bytes())
            .map_err(StoreError::io(doing()))?;
        let damaged = || StoreError::Damaged(format!("segment {:08x}", place.segment));
        let heading = heading.ok_or_else(damaged)?;
        let n_records = u16::try_from(heading.table.len()).unwrap_or(u16::MAX);
        Ok((n_records, u32::try_from(heading.stored_bytes).unwrap_or(u32::MAX)))
    }
}
