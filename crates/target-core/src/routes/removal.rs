//! Row 12: a source deletes an agent. Its points leave the source's view at once; how long they are
//! kept back is this target's policy.
//!
//! **Absent:** any way for a source to make something go for good (I6).

use std::sync::Arc;

use offsite_proto::catalog::DeleteAgent;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_transport::{Call, Reply};

use super::replication::Known;
use crate::Target;
use crate::principal::Principal;
use crate::replicas::Owner;
use crate::retention::Removal;
use crate::target::off_runtime;

/// Row 12, again and again if need be.
pub(super) async fn delete_agent(
    target: Arc<Target>,
    call: Call<DeleteAgent, Principal>,
) -> Result<Reply<()>, Refusal> {
    let (principal, agent) = (call.principal, call.params.agent);
    off_runtime(move || {
        let known = Known::of(&target, &principal)?;
        known.agent(agent)?;
        if known.replicas.is_agent_at_work(&known.owner, agent) {
            return Err(Refusal::new(
                ErrorCode::WrongState,
                "a session of this agent is open; end it first",
            ));
        }
        let points = target.committed_points(&known.owner, Some(agent))?;
        let what = format!("agent {agent}");
        let removal = Removal { owner: &known.owner, what, points, waiting: Vec::new() };
        target.delete_softly(&principal, &removal).map(drop)
    })
    .await?;
    Ok(().into())
}

/// What row 46 asks for beside the end of the pairing: all points of the source. A target without a
/// store has none. Blocks.
pub(super) fn delete_all(
    target: &Target,
    principal: &Principal,
    owner: &Owner,
) -> Result<(), Refusal> {
    if target.replicas().is_err() {
        return Ok(());
    }
    let points = target.committed_points(owner, None)?;
    let removal =
        Removal { owner, what: "everything of the source".to_owned(), points, waiting: Vec::new() };
    target.delete_softly(principal, &removal).map(drop)
}
