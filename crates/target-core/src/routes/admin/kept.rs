//! An agent and what is kept of it, in bytes.

use offsite_model::AgentId;
use offsite_proto::error::Refusal;

use super::context::Operators;
use crate::outline::ListName;
use crate::replicas::{Held, Owner, Replicas};

/// An agent whose points are kept here, or may be.
pub(super) struct Kept {
    pub(super) owner: Owner,
    pub(super) agent: AgentId,
    pub(super) name: String,
    pub(super) source_name: String,
    pub(super) tenant: String,
    pub(super) state: &'static str,
    pub(super) logical_bytes: u64,
}

/// The list of what an image changed; none where its parent is not here.
fn own_list(kept: &Kept, held: &[Held], image: &Held) -> Option<ListName> {
    let parent = match image.open.previous_epoch_number {
        None => None,
        Some(epoch) => {
            let is_it =
                |other: &&Held| other.name.volume == image.name.volume && other.name.epoch == epoch;
            Some(held.iter().find(is_it)?.point())
        }
    };
    let (tenant, point, volume) = (kept.owner.tenant, image.point(), image.name.volume);
    Some(ListName { tenant, point, volume, parent })
}

/// Bytes of the records that a point changed. A list that cannot be read counts as nothing: verify
/// says what is wrong with it.
pub(super) fn new_bytes(
    state: &Operators,
    replicas: &Replicas,
    kept: &Kept,
    held: &[Held],
    images: &[Held],
) -> u64 {
    let lists = images.iter().filter_map(|image| own_list(kept, held, image));
    let bytes = lists.map(|list| {
        let outline = state.target.outlines().of(&replicas.store, &list);
        outline.map_or(0, |outline| outline.record_bytes)
    });
    bytes.fold(0, u64::saturating_add)
}

/// What an agent takes: its points' changed bytes, for its share of what its tenant stores.
pub(super) fn changed_bytes(
    state: &Operators,
    replicas: &Replicas,
    kept: &Kept,
) -> Result<u64, Refusal> {
    let held = replicas.held(&kept.owner, Some(kept.agent))?;
    Ok(new_bytes(state, replicas, kept, &held, &held))
}
