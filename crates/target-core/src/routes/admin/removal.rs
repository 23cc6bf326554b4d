//! Deletion of recovery points by operators, its undoing, and purge before its time.

use std::sync::Arc;

use offsite_model::PointId;
use offsite_proto::admin::target::{
    AgentDeleted, Approval, DeleteAgent, DeletePoint, Point, PurgePoint, UndeletePoint,
};
use offsite_proto::endpoint::Action;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::text::Text;
use offsite_transport::{Call, Reply};

use super::approvals;
use super::context::{Operators, answer};
use super::kept::Kept;
use super::points::show_point;
use super::sources::{all_kept, kept};
use crate::approvals::Act;
use crate::principal::Principal;
use crate::replicas::Orphan;
use crate::retention::{Removal, rules};

/// A point that somebody named: what is committed of it, and its images that wait.
struct Found {
    kept: Kept,
    point: Option<offsite_store::Point>,
    waiting: Vec<Orphan>,
}

/// The agent of a point and the point itself, where the caller may do this to it. Not his and not
/// there are one answer.
fn find(state: &Operators, by: &Principal, action: Action, id: PointId) -> Result<Found, Refusal> {
    for kept in all_kept(state, by, action)? {
        let points = state.target.committed_points(&kept.owner, Some(kept.agent))?;
        let point = points.into_iter().find(|point| point.point == id);
        let mut waiting = state.target.replicas()?.orphans(&kept.owner, Some(kept.agent))?;
        waiting.retain(|orphan| orphan.held.point() == id);
        if point.is_some() || !waiting.is_empty() {
            return Ok(Found { kept, point, waiting });
        }
    }
    Err(Refusal::new(ErrorCode::PointUnknown, format!("there is no recovery point {id}")))
}

/// Marks a point as deleted.
pub(super) async fn delete(
    state: Arc<Operators>,
    call: Call<DeletePoint, Principal>,
) -> Result<Reply<Json<Point>>, Refusal> {
    answer(state, move |state| {
        let (by, id) = (&call.principal, call.params.0);
        let Found { kept, point, waiting } = find(state, by, Action::RequestDelete, id)?;
        let (what, points) = (format!("point of {}", kept.name), point.into_iter().collect());
        let removal = Removal { owner: &kept.owner, what, points, waiting };
        state.target.delete_softly(by, &removal)?;
        show_point(state, &kept, id)
    })
    .await
}

/// Takes that back.
pub(super) async fn undelete(
    state: Arc<Operators>,
    call: Call<UndeletePoint, Principal>,
) -> Result<Reply<Json<Point>>, Refusal> {
    answer(state, move |state| {
        let (by, id) = (&call.principal, call.params.0);
        let Found { kept, point, waiting } = find(state, by, Action::Undelete, id)?;
        state.target.undelete(by, &kept.owner, id, (point.as_ref(), &waiting))?;
        show_point(state, &kept, id)
    })
    .await
}

/// Begins the purge of a deleted point before its time.
pub(super) async fn purge(
    state: Arc<Operators>,
    call: Call<PurgePoint, Principal>,
) -> Result<Reply<Json<Approval>>, Refusal> {
    let reply = answer(state, move |state| {
        let id = call.params.0;
        let Found { kept, point, waiting } = find(state, &call.principal, Action::FourEyes, id)?;
        let is_deleted = point.is_some_and(|point| point.deleted_at.is_some());
        if !is_deleted && waiting.iter().all(|orphan| orphan.dismissed_at.is_none()) {
            return Err(Refusal::new(
                ErrorCode::WrongState,
                format!("recovery point {id} is not deleted; delete it first"),
            ));
        }
        let act = Act::Purge { tenant: kept.owner.tenant, point: id.to_bytes() };
        approvals::ask(state, &call.principal, act)
    })
    .await?;
    Ok(reply.status(202))
}

/// Marks all points of an agent as deleted, and what waits for parents.
pub(super) async fn delete_agent(
    state: Arc<Operators>,
    call: Call<DeleteAgent, Principal>,
) -> Result<Reply<Json<AgentDeleted>>, Refusal> {
    answer(state, move |state| {
        let by = &call.principal;
        let kept = kept(state, by, Action::RequestDelete, &call.params.0)?;
        let points = state.target.committed_points(&kept.owner, Some(kept.agent))?;
        let what = format!("agent {}", kept.name);
        let waiting = state.target.replicas()?.orphans(&kept.owner, Some(kept.agent))?;
        let removal = Removal { owner: &kept.owner, what, points, waiting };
        let n_marked = state.target.delete_softly(by, &removal)?;
        Ok(AgentDeleted {
            agent_id: Text(kept.agent),
            points: n_marked as u64,
            soft_delete_days: state.read(|rows| rules::soft_delete_days(rows))?,
        })
    })
    .await
}
