//! Which point and which volume at a target an operator means.
//!
//! **Absent:** asking the target.

use offsite_model::{PointId, VolumeId};
use offsite_proto::admin::protection::OfContent;
use offsite_proto::catalog::{PointStatus, RecoveryPointSummary, VolumeImageSummary};
use offsite_proto::error::ErrorCode;

use crate::error::Trouble;

/// What somebody wrote, for a sentence.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(128).flat_map(char::escape_debug).collect()
}

/// The point that is meant, of points with the newest first: an id, or the latest that is whole and
/// has the volume.
///
/// # Errors
/// `point_unknown`; `base_missing` for one that is orphaned.
pub(super) fn point(
    points: &[RecoveryPointSummary],
    images: &[VolumeImageSummary],
    own: Option<VolumeId>,
    asked: &OfContent,
) -> Result<PointId, Trouble> {
    let named = asked.point.as_deref().filter(|point| *point != "latest");
    let id = named.map(str::parse::<PointId>);
    let found = match &id {
        None => {
            let whole = || points.iter().filter(|point| point.status == PointStatus::Ok);
            let has_it = |point: &&RecoveryPointSummary| {
                find(images, point.id.0, own, &asked.volume).is_some()
            };
            // Volumes come and go. Where no point has it, the newest says what there is.
            whole().find(has_it).or_else(|| whole().next())
        }
        Some(id) => points.iter().find(|point| id.as_ref().is_ok_and(|id| *id == point.id.0)),
    };
    let hint = format!("the target has {} recovery points of this agent", points.len());
    let found = found.ok_or_else(|| {
        let what = named.map_or_else(
            || "no whole recovery point".to_owned(),
            |named| format!("no recovery point {}", shown(named)),
        );
        let message = format!("the target has {what} of agent {}", shown(&asked.agent));
        Trouble::operator(ErrorCode::PointUnknown, message, hint)
    })?;
    match found.status {
        PointStatus::Ok => Ok(found.id.0),
        PointStatus::Orphaned => {
            let missing = missing(images, found.id.0).map_or_else(String::new, |epoch| {
                format!(": it waits for an image of epoch {epoch}")
            });
            let message = format!("recovery point {} is orphaned at the target{missing}", found.id);
            let hint = "replicate what it builds on first, or name another point";
            Err(Trouble::operator(ErrorCode::BaseMissing, message, hint))
        }
        PointStatus::Incomplete => {
            let message = format!("recovery point {} is not whole at the target", found.id);
            let hint = "replicate what lacks first, or name another point";
            Err(Trouble::operator(ErrorCode::PointUnknown, message, hint))
        }
    }
}

/// The epoch that an orphaned point waits for; none where the target does not say.
fn missing(images: &[VolumeImageSummary], point: PointId) -> Option<u32> {
    let is_waiting = |image: &&VolumeImageSummary| image.is_orphaned;
    let mut image =
        images.iter().filter(is_waiting).find(|image| image.recovery_point_id.0 == point)?;
    loop {
        let previous = image.previous_epoch_number.filter(|epoch| *epoch < image.epoch_number)?;
        let next = images.iter().filter(is_waiting).find(|other| {
            other.driver_volume_id == image.driver_volume_id && other.epoch_number == previous
        });
        match next {
            Some(next) => image = next,
            None => return Some(previous),
        }
    }
}

/// The volume that is meant: by the name that the target was told, by this source's own, or by its
/// id.
///
/// # Errors
/// `image_unknown`.
pub(super) fn volume(
    images: &[VolumeImageSummary],
    point: PointId,
    own: Option<VolumeId>,
    label: &str,
) -> Result<VolumeId, Trouble> {
    find(images, point, own, label).ok_or_else(|| {
        let of_point = images.iter().filter(|image| image.recovery_point_id.0 == point);
        let known = of_point.filter_map(|image| image.display_name.as_deref()).map(shown);
        let known = known.collect::<Vec<_>>().join(", ");
        Trouble::operator(
            ErrorCode::ImageUnknown,
            format!("the recovery point has no volume {} at the target", shown(label)),
            format!("its volumes are: {known}"),
        )
    })
}

fn find(
    images: &[VolumeImageSummary],
    point: PointId,
    own: Option<VolumeId>,
    label: &str,
) -> Option<VolumeId> {
    let of_point = || images.iter().filter(|image| image.recovery_point_id.0 == point);
    let by_name = |image: &&VolumeImageSummary| image.display_name.as_deref() == Some(label);
    let by_id = |image: &&VolumeImageSummary| {
        Some(image.driver_volume_id.0) == own || image.driver_volume_id.0.to_string() == label
    };
    let found = of_point().find(by_name).or_else(|| of_point().find(by_id));
    found.map(|image| image.driver_volume_id.0)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
