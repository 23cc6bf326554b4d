//! What readers hold while they read: images by name, places by the epoch.

use offsite_model::{PointId, TenantId, VolumeId};

use crate::error::StoreError;
use crate::holds::{HeldImage, Reading};
use crate::manifest::Image;
use crate::rows::ImageRow;
use crate::store::{Core, Store};

impl Store {
    /// To be taken before places are looked up that will be read later: they stay readable until it
    /// is dropped, whatever collection moves meanwhile.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.core.holds.reading()
    }
}

impl Core {
    /// Opens a volume of a point, its pages held; none where the point has no such volume.
    pub(crate) fn open_image(
        &self,
        tenant: TenantId,
        point: PointId,
        volume: VolumeId,
    ) -> Result<Option<Image>, StoreError> {
        let held = {
            // Seen and held at once: no collection begins between the two.
            let _looking = self.holds.looking();
            let row = self.point_row(tenant, point)?;
            let row = row.images.into_iter().find(|image| image.volume() == volume);
            row.map(|row| (self.holds.image(tenant, row.clone()), row))
        };
        let image = held.map(|(held, row)| Image::open(&self.place, row).map(|i| i.held(held)));
        image.transpose()
    }

    /// Holds an image of a point that was seen before; none where it has been purged since.
    pub(crate) fn hold_image(
        &self,
        tenant: TenantId,
        point: PointId,
        image: &ImageRow,
    ) -> Result<Option<HeldImage>, StoreError> {
        let _looking = self.holds.looking();
        match self.point_row(tenant, point) {
            Err(StoreError::PointUnknown(_)) => Ok(None),
            Err(error) => Err(error),
            Ok(row) => {
                let is_there = row.images.contains(image);
                Ok(is_there.then(|| self.holds.image(tenant, image.clone())))
            }
        }
    }
}
