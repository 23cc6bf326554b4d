//! Reading everything that is kept, and saying which recovery points suffer from what is damaged.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use offsite_model::PointId;
use offsite_proto::admin::protection::{DamagedPart, Verified};
use offsite_proto::text::{Big, Text};

use crate::error::Trouble;
use crate::progress::Progress;
use crate::protect::Protection;

/// Damaged parts that are named; more than these are counted.
const PARTS_MAX: usize = 1_000;
/// Points that are named with one part.
const POINTS_PER_PART_MAX: usize = 20;

/// Reads the whole store.
///
/// # Errors
/// What keeps it from going on. Damage is no error but its result.
pub fn verify(protection: &Protection, progress: &Progress) -> Result<Verified, Trouble> {
    progress.stage("verifying", None);
    let report = protection.store.verify(&mut |done, total| {
        progress.set_total(total);
        progress.set_done(done);
        if progress.check().is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    progress.check()?;
    let report = report?;
    let affected: BTreeSet<PointId> = report
        .damage
        .iter()
        .flat_map(|damage| damage.points.iter().map(|(_, point)| *point))
        .collect();
    let damage = report.damage.iter().take(PARTS_MAX).map(|damage| DamagedPart {
        what: damage.what.clone(),
        points: damage
            .points
            .iter()
            .take(POINTS_PER_PART_MAX)
            .map(|(_, point)| Text(*point))
            .collect(),
    });
    Ok(Verified {
        records: report.n_records,
        groups: report.n_groups,
        points: report.n_points,
        bytes: Big(report.bytes),
        damaged: report.damage.len() as u64,
        damage: damage.collect(),
        points_affected: affected.into_iter().map(Text).collect(),
    })
}
