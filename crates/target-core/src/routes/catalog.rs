//! Rows 1, 9 to 11, 13, 20 to 25, 48 and 50, and their other names: what the target holds for the
//! caller.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use offsite_model::AgentId;
use offsite_proto::catalog as calls;
use offsite_proto::catalog::{
    AgentLists, AgentPoints, AgentStorageUsage, AgentType, CanReplicate, ConsumedSeedDrive,
    FreeSpace, OfAgent, OfferedRepository, RecoveryPointSummary, ReplicatedAgent, RepositoryState,
    View, VisibleAgent, VolumeImageSummary,
};
use offsite_proto::endpoint::Endpoint;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::limits::PAGE_ITEMS_MAX;
use offsite_proto::page::{Page, Paged};
use offsite_proto::pairing::{AgentPairingState, Reason};
use offsite_proto::text::{Big, Text, Time};
use offsite_transport::{Call, Reply};

use super::replication::Known;
use crate::Target;
use crate::principal::{Principal, TenantScope};
use crate::replicas::{Held, PointShown};
use crate::storage_list::{self, DEFAULT_NUMBER};
use crate::target::off_runtime;

type Answer<T> = Result<Reply<Json<T>>, Refusal>;

/// Answers with what blocking work finds for the caller.
async fn look<E: Endpoint, T: Send + 'static>(
    target: Arc<Target>,
    call: Call<E, Principal>,
    look: impl FnOnce(&Target, &Known, E::Params) -> Result<T, Refusal> + Send + 'static,
) -> Answer<T> {
    let (principal, params) = (call.principal, call.params);
    let found = off_runtime(move || {
        let known = Known::of(&target, &principal)?;
        look(&target, &known, params)
    });
    Ok(Reply::new(Json(found.await?)))
}

pub(super) async fn consumed_seed_drives(
    target: Arc<Target>,
    call: Call<calls::ListConsumedSeedDrives, Principal>,
) -> Answer<Vec<ConsumedSeedDrive>> {
    // No seed drive can be consumed yet, so none was.
    look(target, call, |_, known, of| known.agent(of.agent).map(|()| Vec::new())).await
}

pub(super) async fn agents(
    target: Arc<Target>,
    call: Call<calls::ListAgents, Principal>,
) -> Answer<AgentLists> {
    look(target, call, |_, known, view| {
        Ok(match view {
            View::Replicated => AgentLists::Replicated(replicated(known)?),
            View::Storage => AgentLists::Storage(usage(known)?),
            View::All => AgentLists::All(visible(known)),
        })
    })
    .await
}

pub(super) async fn storage_too(
    target: Arc<Target>,
    call: Call<calls::ListAgentStorageToo, Principal>,
) -> Answer<Vec<AgentStorageUsage>> {
    look(target, call, |_, known, ()| usage(known)).await
}

pub(super) async fn visible_too(
    target: Arc<Target>,
    call: Call<calls::ListVisibleAgentsToo, Principal>,
) -> Answer<Vec<VisibleAgent>> {
    look(target, call, |_, known, ()| Ok(visible(known))).await
}

fn replicated(known: &Known) -> Result<Vec<ReplicatedAgent>, Refusal> {
    let points = by_agent(known)?;
    let agents = known.agents().into_iter().map(|(id, display_name, host_name)| ReplicatedAgent {
        id: Text(id),
        display_name,
        host_name,
        agent_pairing_state: AgentPairingState::Paired,
        repository_id: Some(Text(known.repository)),
        last_replicated_recovery_point_timestamp: points
            .get(&id)
            .and_then(|points| points.first())
            .map(|point| Time(point.taken_at)),
        paused: false,
    });
    Ok(agents.collect())
}

fn usage(known: &Known) -> Result<Vec<AgentStorageUsage>, Refusal> {
    let points = by_agent(known)?;
    let agents = known.agents().into_iter().map(|(id, display_name, host_name)| {
        let points = points.get(&id).map(Vec::as_slice).unwrap_or_default();
        AgentStorageUsage {
            display_name,
            host_name,
            id: Text(id),
            newest_rp_timestamp: points.first().map(|point| Time(point.taken_at)),
            oldest_rp_timestamp: points.last().map(|point| Time(point.taken_at)),
            recovery_point_count: count(points.len()),
            total_bytes_protected: Big(points
                .iter()
                .fold(0, |sum, point| point.bytes().saturating_add(sum))),
        }
    });
    Ok(agents.collect())
}

fn visible(known: &Known) -> Vec<VisibleAgent> {
    let agents = known.agents().into_iter().map(|(id, display_name, host_name)| VisibleAgent {
        id: Text(id),
        display_name,
        host_name,
        agent_type: AgentType::Replicated,
    });
    agents.collect()
}

fn by_agent(known: &Known) -> Result<BTreeMap<AgentId, Vec<PointShown>>, Refusal> {
    let mut by_agent: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for point in known.replicas.points(&known.owner, None)? {
        by_agent.entry(point.agent).or_default().push(point);
    }
    Ok(by_agent)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

pub(super) async fn free_space(
    target: Arc<Target>,
    call: Call<calls::AskFreeSpace, Principal>,
) -> Answer<FreeSpace> {
    look(target, call, |target, known, of| space(target, known, &of)).await
}

pub(super) async fn free_space_too(
    target: Arc<Target>,
    call: Call<calls::AskFreeSpaceToo, Principal>,
) -> Answer<FreeSpace> {
    look(target, call, |target, known, of| space(target, known, &of)).await
}

fn space(target: &Target, known: &Known, of: &OfAgent) -> Result<FreeSpace, Refusal> {
    known.agent(of.agent)?;
    Ok(FreeSpace {
        bytes_free: Big(bytes_free(target, known)?),
        bytes_used: Big(known.replicas.store.bytes_stored(known.owner.tenant)),
        repository_id: Text(known.repository),
    })
}

/// The smaller of the quota left and the repository's free space; the latter rounded, since it is
/// others' business too.
fn bytes_free(target: &Target, known: &Known) -> Result<u64, Refusal> {
    let row =
        target.catalog_read(|rows| storage_list::find(rows, Some(i64::from(DEFAULT_NUMBER))))?;
    let free = target.world().files.bytes_free(Path::new(&row.path)).map_err(|cause| {
        tracing::error!(%cause, path = row.path, "cannot ask for the free space of a storage");
        Refusal::new(ErrorCode::RepositoryUnavailable, "the repository cannot be used now")
            .after(30)
    })?;
    let rounded = storage_list::told_bytes(&TenantScope::Only(Vec::new()), free);
    Ok(known.replicas.quotas.left(&known.owner)?.map_or(rounded, |left| left.min(rounded)))
}

pub(super) async fn images(
    target: Arc<Target>,
    call: Call<calls::ListImages, Principal>,
) -> Answer<Page<VolumeImageSummary>> {
    look(target, call, |_, known, of| {
        known.agent(of.of.agent)?;
        let (owner, agent) = (&known.owner, of.of.agent);
        // Those that wait first: one that finds its parent meanwhile is told twice and not never.
        let waiting = known.replicas.waiting_images(owner, agent)?;
        let (held, purged) = known.replicas.held_and_purged(owner, agent)?;
        let is_held = |of: &Held| held.iter().any(|image| image.name == of.name);
        let waiting: Vec<_> = waiting.into_iter().filter(|image| !is_held(image)).collect();
        let mut images: Vec<_> = held.iter().map(|held| image(held, false)).collect();
        images.extend(waiting.iter().map(|waiting| image(waiting, true)));
        // Nothing can refer to these any more, as to one that waits for its parent.
        let purged = purged.iter().map(|gone| image(gone, true));
        images.extend(purged.map(|summary| VolumeImageSummary {
            previous_epoch_number: None,
            is_purged: true,
            ..summary
        }));
        page(images, &of)
    })
    .await
}

pub(super) async fn orphans(
    target: Arc<Target>,
    call: Call<calls::ListOrphans, Principal>,
) -> Answer<Page<VolumeImageSummary>> {
    look(target, call, |_, known, of| {
        known.agent(of.of.agent)?;
        let waiting = known.replicas.waiting_images(&known.owner, of.of.agent)?;
        page(waiting.iter().map(|waiting| image(waiting, true)).collect(), &of)
    })
    .await
}

fn image(held: &Held, is_orphaned: bool) -> VolumeImageSummary {
    let open = &held.open;
    VolumeImageSummary {
        id: open.image_id,
        driver_volume_id: open.volume_driver_id,
        epoch_number: open.epoch_number,
        previous_epoch_number: open.previous_epoch_number,
        recovery_point_id: open.recovery_point_id,
        image_digest: open.image_digest,
        is_orphaned,
        is_purged: false,
        header_hash: open.header_hash.clone(),
        rollup_granularity_cell: open.rollup_granularity_cell,
        utc_created_timestamp: open.utc_created_timestamp,
        volume_image_hash: open.volume_image_hash.unwrap_or_default(),
        display_name: open.display_name.clone(),
    }
}

/// One part of a list; `after` is how many items came before it.
pub(super) fn page<T, P>(items: Vec<T>, of: &Paged<P>) -> Result<Page<T>, Refusal> {
    let malformed = |_| Refusal::new(ErrorCode::BadRequest, "the parameter after is malformed");
    let from = of.after.as_deref().map_or(Ok(0), str::parse::<usize>).map_err(malformed)?;
    let end = from.saturating_add(PAGE_ITEMS_MAX);
    let next = (items.len() > end).then(|| end.to_string());
    Ok(Page { items: items.into_iter().skip(from).take(PAGE_ITEMS_MAX).collect(), next })
}

pub(super) async fn verify(
    target: Arc<Target>,
    call: Call<calls::VerifyReplication, Principal>,
) -> Answer<CanReplicate> {
    look(target, call, |target, known, of| {
        known.agent(of.agent)?;
        let bytes_free = bytes_free(target, known)?;
        let quota_left = known.replicas.quotas.left(&known.owner)?;
        let reason = |code, message: &str| Reason { code, message: message.to_owned() };
        let mut reasons = Vec::new();
        if known.replicas.store.is_poisoned() {
            let message = "the repository cannot be written now";
            reasons.push(reason(ErrorCode::RepositoryUnavailable, message));
        }
        if quota_left == Some(0) {
            reasons.push(reason(ErrorCode::NoSpace, "the quota is used up"));
        }
        Ok(CanReplicate {
            can_start: reasons.is_empty(),
            reasons,
            repository_id: Some(Text(known.repository)),
            bytes_free: Big(bytes_free),
        })
    })
    .await
}

pub(super) async fn points(
    target: Arc<Target>,
    call: Call<calls::ListPoints, Principal>,
) -> Answer<Page<RecoveryPointSummary>> {
    look(target, call, |_, known, of| page(of_agent(known, of.of.agent)?, &of)).await
}

pub(super) async fn count_points(
    target: Arc<Target>,
    call: Call<calls::CountPoints, Principal>,
) -> Answer<u32> {
    look(target, call, |_, known, of| Ok(count(of_agent(known, of.agent)?.len()))).await
}

pub(super) async fn points_page(
    target: Arc<Target>,
    call: Call<calls::ListPointsPage, Principal>,
) -> Answer<Page<RecoveryPointSummary>> {
    look(target, call, |_, known, of| {
        if !(1..=calls::POINTS_PER_PAGE_MAX).contains(&of.n_points) {
            return Err(Refusal::new(ErrorCode::BadRequest, "maxCount is not within 1 to 1000"));
        }
        let points = of_agent(known, of.agent)?.into_iter();
        let points = points.skip(of.skip as usize).take(of.n_points as usize);
        Ok(Page::whole(points.collect()))
    })
    .await
}

fn of_agent(known: &Known, agent: AgentId) -> Result<Vec<RecoveryPointSummary>, Refusal> {
    known.agent(agent)?;
    let points = known.replicas.points_with_orphans(&known.owner, Some(agent))?;
    let points = points.iter().filter(|point| point.deleted_at.is_none());
    let shown = points.map(|point| RecoveryPointSummary {
        id: Text(point.id),
        agent_id: Text(point.agent),
        timestamp: Time(point.taken_at),
        volume_image_ids: point.image_ids().into_iter().map(Text).collect(),
        status: point.status,
        encryption_key_id: None,
        size_bytes: Big(point.bytes()),
    });
    Ok(shown.collect())
}

pub(super) async fn agents_with_points(
    target: Arc<Target>,
    call: Call<calls::ListAgentsWithPoints, Principal>,
) -> Answer<Page<AgentPoints>> {
    look(target, call, |_, known, of| {
        let names: BTreeMap<_, _> =
            known.agents().into_iter().map(|(id, name, _)| (id, name)).collect();
        let agents = by_agent(known)?.into_iter().map(|(id, points)| AgentPoints {
            agent_id: Text(id),
            display_name: names.get(&id).cloned().unwrap_or_else(|| id.to_string()),
            recovery_point_count: count(points.len()),
            oldest_rp_timestamp: points.last().map(|point| Time(point.taken_at)),
            newest_rp_timestamp: points.first().map(|point| Time(point.taken_at)),
        });
        page(agents.collect(), &of)
    })
    .await
}

pub(super) async fn repositories(
    target: Arc<Target>,
    call: Call<calls::ListRepositories, Principal>,
) -> Answer<Vec<OfferedRepository>> {
    look(target, call, |target, known, ()| {
        let state = match known.replicas.store.is_poisoned() {
            true => RepositoryState::ReadOnly,
            false => RepositoryState::Online,
        };
        let storages = target.catalog_read(|rows| storage_list::list(rows))?;
        let own = storages.into_iter().find(|row| row.repository == known.repository);
        let own =
            own.ok_or_else(|| Refusal::new(ErrorCode::RepoUnknown, "there is no repository"))?;
        Ok(vec![OfferedRepository {
            id: Text(own.repository),
            name: own.name,
            kind: "local".to_owned(),
            bytes_free: Big(bytes_free(target, known)?),
            bytes_used: Big(known.replicas.store.bytes_stored(known.owner.tenant)),
            is_replication_only: true,
            state,
        }])
    })
    .await
}
