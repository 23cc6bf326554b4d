//! What is stored, counted without reading it: bytes of a tenant, and how large a stored group is.

use std::sync::PoisonError;

use offsite_model::TenantId;

use crate::error::StoreError;
use crate::segment::{RecordPlace, read_heading};
use crate::store::Store;

impl Store {
    /// Bytes that a tenant's segments take on disk, those of open sessions included.
    #[must_use]
    pub fn bytes_stored(&self, tenant: TenantId) -> u64 {
        let segments = self.core.segments.read().unwrap_or_else(PoisonError::into_inner);
        let own = segments.values().filter(|segment| segment.tenant == tenant);
        own.fold(0, |sum, segment| segment.bytes().saturating_add(sum))
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
