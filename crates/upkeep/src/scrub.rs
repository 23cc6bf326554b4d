//! Looking for damage, at a share of the disk.

use std::ops::ControlFlow;

use offsite_model::Span;
use offsite_proto::admin::protection::DamagedPart;
use offsite_proto::admin::upkeep::Scrubbed;
use offsite_proto::text::{Big, Text, Time};
use offsite_store::{ScrubPass, ScrubProgress, Store, StoreError};

use crate::Surroundings;
use crate::pace::DutyCycle;

/// Reads the whole store, from where the last reading stopped, for so many percent of the time.
/// Blocks. One at a time: see [`crate::Turn`].
///
/// # Errors
/// [`StoreError::Interrupted`] when it was told to stop; the catalog's. Damage is in the outcome.
pub fn scrub(
    store: &Store,
    share_percent: u8,
    around: &dyn Surroundings,
) -> Result<Scrubbed, StoreError> {
    let mut cycle = DutyCycle::new(share_percent, around.clock().uptime());
    let mut progress = |at: &ScrubProgress| {
        around.show("scrubbing", at.bytes, at.bytes_total);
        if around.is_stopped() {
            return ControlFlow::Break(());
        }
        let pause = cycle.pause(around.clock().uptime());
        if pause > Span::ZERO {
            around.pause(pause);
        }
        ControlFlow::Continue(())
    };
    let pass = store.scrub(&|| around.clock().now(), &mut progress)?;
    Ok(told(&pass))
}

/// A pass, for people and scripts.
pub(crate) fn told(pass: &ScrubPass) -> Scrubbed {
    let damage = pass.damage.iter().map(|damage| DamagedPart {
        what: damage.what.clone(),
        points: damage.points.iter().map(|(_, point)| Text(*point)).collect(),
    });
    Scrubbed {
        began_at: Time(pass.began_at),
        ended_at: pass.ended_at.map(Time),
        bytes: Big(pass.bytes),
        groups: pass.n_groups,
        points: pass.n_points,
        damaged: pass.n_damaged,
        damage: damage.collect(),
    }
}
