//! Making the catalog and the index of a store again, while no daemon has it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use offsite_model::FileSystem;
use offsite_proto::admin::upkeep::{ImageInDoubt, Rebuilt};
use offsite_proto::text::{Big, Text};
use offsite_store::{InDoubt, RebuildAsked, Replayed, Settings, Store, StoreError};

use crate::Surroundings;

/// Rebuilds a store and opens it, which makes its index; the store, and what came of it. With
/// `up_to_damage` a journal that is damaged before its end is believed up to there. `replayed` is
/// told of each commit. Blocks.
///
/// # Errors
/// As [`Store::rebuild`] and [`Store::open`].
pub fn rebuild(
    files: &Arc<dyn FileSystem>,
    directory: &Path,
    up_to_damage: bool,
    around: &dyn Surroundings,
    replayed: &mut dyn FnMut(&Replayed<'_>),
) -> Result<(Store, Rebuilt), StoreError> {
    let began = around.clock().uptime().as_micros();
    let mut progress = |done, all| {
        around.show("reading the journal", done, all);
        if around.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let asked = RebuildAsked { up_to_damage, progress: &mut progress, replayed };
    let made = Store::rebuild(Arc::clone(files), directory, asked)?;
    around.show("making the index", 0, 0);
    let store = Store::open(Arc::clone(files), directory, Settings::default())?;
    let micros = around.clock().uptime().as_micros().saturating_sub(began);
    let rebuilt = Rebuilt {
        catalog_made: made.is_catalog_new,
        entries: made.n_entries,
        journal_left: Big(made.bytes_behind),
        points: made.n_points,
        points_deleted: made.n_deleted,
        points_purged: made.n_purged,
        locks: made.n_locks,
        in_doubt: made.in_doubt.iter().map(in_doubt).collect(),
        missing: made.n_missing,
        missing_files: made.missing,
        seconds: micros as f64 / 1e6,
    };
    Ok((store, rebuilt))
}

fn in_doubt(image: &InDoubt) -> ImageInDoubt {
    ImageInDoubt {
        tenant: Text(image.tenant),
        point: Text(image.point),
        image: Text(image.image),
        volume: Text(image.volume),
        bytes: Big(image.bytes),
        file: format!("doubt/{:08x}", image.manifest),
    }
}
