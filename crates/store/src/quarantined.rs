//! Segments in quarantine: emptied because of what is damaged in them, kept for whoever may still
//! read something, and removed when they have lain there long enough.
//!
//! The store knows no time, so the caller brings it: one that never runs ahead, such as the
//! retention clock. The time of a segment begins when it is first seen here, so it may lie longer
//! than was asked for and never shorter.

use offsite_model::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::catalog::{RowsMut, Table, Transactions, TypedRows, TypedRowsMut, Value};
use crate::error::StoreError;
use crate::layout::Folder;
use crate::rows::number_key;
use crate::store::{Core, Store};

const QUARANTINED: Table = Table::new("store.quarantined");

/// A segment in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct QuarantinedRow {
    since: i64,
}

impl Value for QuarantinedRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 32;
}

/// What lies in quarantine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quarantined {
    /// Segments that lie there.
    pub n_segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Segments that were removed just now.
    pub n_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
}

impl Store {
    /// Removes the segments that have lain in quarantine for so long by the caller's clock, and
    /// notes the time of those that are new there.
    ///
    /// # Errors
    /// The disk's, or the catalog's.
    pub fn clear_quarantine(&self, now: Timestamp, after: Span) -> Result<Quarantined, StoreError> {
        let core = &*self.core;
        core.check_writable()?;
        core.place.make_folder(Folder::Quarantine)?;
        let mut quarantined = Quarantined::default();
        for number in core.place.numbers(Folder::Quarantine)? {
            let path = core.place.file(Folder::Quarantine, number);
            let metadata = core.place.files.metadata(&path);
            let bytes = metadata.map_or(0, |metadata| metadata.bytes);
            let row = core.catalog.read::<_, StoreError>(|rows| {
                Ok(rows.value::<QuarantinedRow>(QUARANTINED, &number_key(number))?)
            })?;
            let since = row.map(|row| Timestamp::from_micros(row.since));
            if since.is_some_and(|since| now >= since + after) {
                core.place.remove(&path)?;
                core.change_quarantined(|rows| {
                    Ok(rows.remove(QUARANTINED, &number_key(number)).map(drop)?)
                })?;
                quarantined.n_removed += 1;
                quarantined.bytes_removed += bytes;
                continue;
            }
            quarantined.n_segments += 1;
            quarantined.bytes += bytes;
            if since.is_none() {
                let row = QuarantinedRow { since: now.as_micros() };
                core.change_quarantined(|rows| {
                    Ok(rows.put_value(QUARANTINED, &number_key(number), &row)?)
                })?;
            }
        }
        Ok(quarantined)
    }
}

impl Core {
    fn change_quarantined(
        &self,
        change: impl FnOnce(&mut dyn RowsMut) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.check_fence()?;
        self.reserve.make_room(&self.place);
        self.catalog.write(change)
    }
}
