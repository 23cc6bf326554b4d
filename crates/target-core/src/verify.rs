//! Reading everything that is kept, and saying which recovery points suffer from what is damaged.
//!
//! What is found damaged is put aside by the store: it is listed to its source and healed by it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use offsite_model::PointId;
use offsite_proto::admin::protection::{DamagedPart, Verified};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::text::{Big, Text};
use offsite_store::{Store, VerifyReport};

/// Damaged parts that are named; more than these are counted.
const PARTS_MAX: usize = 1_000;
/// Points that are named with one part.
const POINTS_PER_PART_MAX: usize = 20;

/// Reads a whole store; with `only`, what hurts none of these points is left out of the outcome.
/// Blocks.
///
/// # Errors
/// What keeps it from going on. Damage is no error but its result.
pub(crate) fn verify(
    store: &Store,
    only: Option<&BTreeSet<PointId>>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, Refusal> {
    let mut report = store
        .verify(&mut |read, all| {
            progress(read, all);
            ControlFlow::Continue(())
        })
        .map_err(failed)?;
    if let Some(only) = only {
        for damage in &mut report.damage {
            damage.points.retain(|(_, point)| only.contains(point));
        }
        report.damage.retain(|damage| !damage.points.is_empty());
    }
    Ok(told(&report))
}

fn failed(error: offsite_store::StoreError) -> Refusal {
    Refusal::new(ErrorCode::RepositoryUnavailable, format!("cannot verify: {error}"))
}

/// The outcome, for people and scripts.
#[must_use]
pub fn told(report: &VerifyReport) -> Verified {
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
    Verified {
        records: report.n_records,
        groups: report.n_groups,
        points: report.n_points,
        bytes: Big(report.bytes),
        damaged: report.damage.len() as u64,
        damage: damage.collect(),
        points_affected: affected.into_iter().map(Text).collect(),
    }
}
