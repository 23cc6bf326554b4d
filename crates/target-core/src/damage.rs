//! H1: records of a source's own points that this target has no good copy of.
//!
//! The store knows which groups are damaged; which entries of which lists they hurt is walked for
//! when somebody asks, and only where there is damage at all. A record that has a good copy by now
//! is not listed, whoever stored it.
//!
//! **Absent:** finding damage (verify, and whoever reads).

use std::collections::BTreeMap;

use offsite_model::{AgentId, Key, PointId, Timestamp};
use offsite_proto::error::Refusal;
use offsite_proto::heal::DamagedRecord;
use offsite_proto::text::{Big, Text, Time};
use offsite_store::StoreError;

use crate::replicas::{Held, Owner, Replicas};

/// The damaged records of an agent, by image and ordinal; each key once, under the first image that
/// has it. Blocks.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn damaged(
    replicas: &Replicas,
    owner: &Owner,
    agent: AgentId,
    now: Timestamp,
) -> Result<Vec<DamagedRecord>, Refusal> {
    if !replicas.store.has_damage(owner.tenant) {
        return Ok(Vec::new());
    }
    let held = replicas.held(owner, Some(agent))?;
    let points: BTreeMap<_, PointId> =
        held.iter().map(|held| ((held.name.volume, held.name.epoch), held.point())).collect();
    let mut listed: BTreeMap<Key, ()> = BTreeMap::new();
    let mut all = Vec::new();
    for held in &held {
        let parent = match held.open.previous_epoch_number {
            None => None,
            // Where its parent is gone, the list is that of the whole image: what is asked for is
            // named by its key, and each key once.
            Some(epoch) => points.get(&(held.name.volume, epoch)).copied(),
        };
        let mut tell = |ordinal, entry: offsite_store::ListEntry| {
            if listed.insert(entry.key, ()).is_none() {
                all.push(record(held, ordinal, &entry, now));
            }
        };
        let (tenant, volume) = (owner.tenant, held.name.volume);
        match replicas.store.missing(tenant, held.point(), volume, parent, &mut tell) {
            Ok(()) => {}
            // The list itself is damaged: records cannot heal it, and the others are still listed.
            Err(StoreError::Damaged(cause)) => {
                tracing::error!(image = %held.image(), cause, "the list of an image is damaged");
            }
            Err(error) => return Err(crate::readback::unreadable(&error)),
        }
    }
    Ok(all)
}

fn record(
    held: &Held,
    ordinal: u64,
    entry: &offsite_store::ListEntry,
    now: Timestamp,
) -> DamagedRecord {
    DamagedRecord {
        image_id: Text(held.image()),
        driver_volume_id: Text(held.name.volume),
        epoch_number: held.name.epoch,
        recovery_point_id: Text(held.point()),
        ordinal: Big(ordinal),
        offset: Big(entry.offset),
        length: entry.length,
        key: Text(entry.key),
        found_at: Time(now),
    }
}
