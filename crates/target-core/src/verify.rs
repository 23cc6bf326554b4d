//! Reading everything that is kept, and saying which recovery points suffer from what is damaged.
//!
//! What is found damaged is put aside by the store: it is listed to its source and healed by it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use offsite_model::{FileSystem, PointId};
use offsite_proto::admin::protection::{DamagedPart, Verified};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::text::{Big, Text};
use offsite_store::{Settings, Store, VerifyReport};

/// Damaged parts that are named; more than these are counted.
const PARTS_MAX: usize = 1_000;
/// Points that are named with one part.
const POINTS_PER_PART_MAX: usize = 20;

/// Reads a whole store while no daemon has it. Blocks.
///
/// # Errors
/// What keeps it from going on. Damage is no error but its result.
pub fn verify_offline(
    files: Arc<dyn FileSystem>,
    store: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, Refusal> {
    let store = Store::open(files, store, Settings::default()).map_err(failed)?;
    verify(&store, None, progress)
}

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
    let mut report = store.verify(progress).map_err(failed)?;
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

fn told(report: &VerifyReport) -> Verified {
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
