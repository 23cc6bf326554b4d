//! Images that wait for a parent, and that an operator or a policy gave up.
//!
//! ```text
//!  waits ─► dismissed ─► gone: the draft is ended, the image is told as purged
//!    ▲          │
//!    └──────────┘ taken back
//! ```
//!
//! An image that is dismissed is kept as it is and does not join its chain, so that taking it back
//! loses nothing. One that is gone leaves its row: whoever opens it again is answered as he was
//! when it landed, and does not send it again.
//!
//! **Absent:** when, and who may (`retention`). No call of a source leads here.

use offsite_model::{PointId, TenantId, Timestamp};
use offsite_proto::error::Refusal;
use offsite_store::catalog::{Transactions, TypedRows, TypedRowsMut};

use super::images::{ImageName, unreadable};
use super::live::lock;
use super::orphans::{DISMISSED, DismissedRow, ORPHANS, Orphan};
use super::{Replicas, draft};
use crate::failure::Failure;

impl Replicas {
    /// Dismisses images that wait. Blocks.
    ///
    /// # Errors
    /// The catalog's.
    pub(crate) fn dismiss(&self, orphans: &[Orphan], at: Timestamp) -> Result<(), Refusal> {
        // None of them finds its parent meanwhile.
        let _alone = lock(&self.adopting);
        let row = DismissedRow { at: at.as_micros(), is_gone: false };
        let written = self.catalog.write(|rows| {
            for orphan in orphans {
                let key = orphan.held.name.key();
                if rows.value::<DismissedRow>(DISMISSED, &key)?.is_none() {
                    rows.put_value(DISMISSED, &key, &row)?;
                }
            }
            Ok::<_, Failure>(())
        });
        Ok(written?)
    }

    /// Takes that back, as long as they are here; those whose parents came meanwhile become part of
    /// their chains. Blocks.
    ///
    /// # Errors
    /// The catalog's.
    pub(crate) fn take_back(&self, orphans: &[Orphan]) -> Result<(), Refusal> {
        let written = self.catalog.write(|rows| {
            for orphan in orphans {
                let key = orphan.held.name.key();
                let is_here =
                    rows.value::<DismissedRow>(DISMISSED, &key)?.is_some_and(|r| !r.is_gone);
                if is_here {
                    rows.remove(DISMISSED, &key)?;
                }
            }
            Ok::<_, Failure>(())
        });
        written?;
        orphans.iter().for_each(|orphan| self.adopt(&orphan.held.name));
        Ok(())
    }

    /// Ends dismissed images of a tenant, of which `is_due` says whether it is time; whose points
    /// they were. Their space comes back with the next collection. Blocks.
    ///
    /// # Errors
    /// The store's, or the catalog's; what is left is ended the next time.
    pub(crate) fn end_dismissed(
        &self,
        tenant: TenantId,
        is_due: impl Fn(&Orphan, Timestamp) -> Result<bool, Refusal>,
    ) -> Result<Vec<PointId>, Refusal> {
        let _alone = lock(&self.adopting);
        let mut points = Vec::new();
        for orphan in self.orphans_under(&tenant.to_bytes())? {
            let Some(at) = orphan.dismissed_at else { continue };
            if !is_due(&orphan, at)? {
                continue;
            }
            let name = &orphan.held.name;
            // The draft first: a crash after it leaves a row that is due again.
            let ended = self.store.end_draft(tenant, draft::id_of(name));
            ended.map_err(|error| unreadable(&error))?;
            let written = self.catalog.write(|rows| {
                rows.remove(ORPHANS, &name.key())?;
                let row = DismissedRow { at: at.as_micros(), is_gone: true };
                rows.put_value(DISMISSED, &name.key(), &row)?;
                Ok::<_, Failure>(())
            });
            written?;
            points.push(orphan.held.point());
        }
        points.dedup();
        Ok(points)
    }

    /// Whether an image was dismissed and nothing of it is here any more.
    pub(super) fn is_dismissed_and_gone(&self, name: &ImageName) -> Result<bool, Refusal> {
        let row = self.catalog.read(|rows| rows.value::<DismissedRow>(DISMISSED, &name.key()));
        Ok(row.map_err(Failure::from)?.is_some_and(|row| row.is_gone))
    }
}
