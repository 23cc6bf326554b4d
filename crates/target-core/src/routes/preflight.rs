//! Rows 59, 37, 49 and 51: what anybody may learn before a request is filed. Nothing here depends
//! on what this target holds, so nothing about it can leak.

use std::sync::Arc;

use offsite_model::CoreId;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::limits::REQUEST_AGENTS_MAX;
use offsite_proto::pairing::{
    AgentVerdict, CanPair, Greet, Reason, TargetSummary, Validate, VerifyAgents, VerifyPairing,
};
use offsite_proto::text::Text;
use offsite_transport::{Call, Reply};

use crate::Target;
use crate::names::check_name;
use crate::principal::Principal;
use crate::submit::check_agent;

/// Row 59.
pub(super) async fn validate(
    target: Arc<Target>,
    _: Call<Validate, Principal>,
) -> Result<Reply<Json<Text<CoreId>>>, Refusal> {
    Ok(Json(target.identity().core.into()).into())
}

/// Row 37. The name is for callers this target knows.
pub(super) async fn greet(
    target: Arc<Target>,
    call: Call<Greet, Principal>,
) -> Result<Reply<Json<TargetSummary>>, Refusal> {
    let is_paired = matches!(call.principal, Principal::Source(_));
    Ok(Json(target.summary(is_paired)).into())
}

/// Row 49. A target that is older than the source is worth a warning, not a refusal.
pub(super) async fn verify_pairing(
    target: Arc<Target>,
    call: Call<VerifyPairing, Principal>,
) -> Result<Reply<Json<CanPair>>, Refusal> {
    let Json(source) = call.body;
    let mut reasons = Vec::new();
    if source.version > target.settings().version {
        reasons.push(Reason {
            code: ErrorCode::VersionUnsupported,
            message: "the target is older than the source; both work with what both know"
                .to_owned(),
        });
    }
    let form = check_name("the name of the source", &source.host_name);
    let can_pair = form.is_ok();
    if let Err(refusal) = form {
        reasons.push(Reason { code: refusal.code, message: refusal.message });
    }
    let slave_core_id = target.identity().core.into();
    Ok(Json(CanPair { can_pair, slave_core_id, reasons }).into())
}

/// Row 51: form only, never whether an agent exists.
pub(super) async fn verify_agents(
    _: Arc<Target>,
    call: Call<VerifyAgents, Principal>,
) -> Result<Reply<Json<Vec<AgentVerdict>>>, Refusal> {
    let Json(request) = call.body;
    if request.agents.len() > REQUEST_AGENTS_MAX {
        let sentence = format!("more than {REQUEST_AGENTS_MAX} agents are asked for");
        return Err(Refusal::new(ErrorCode::BadRequest, sentence));
    }
    let mut seen = std::collections::HashSet::new();
    let verdicts = request
        .agents
        .iter()
        .map(|agent| {
            let refusal = check_agent(agent).err().or_else(|| {
                (!seen.insert(agent.id.0)).then(|| {
                    Refusal::new(ErrorCode::BadRequest, "this agent stands twice in the request")
                })
            });
            AgentVerdict {
                agent_id: agent.id,
                ok: refusal.is_none(),
                code: refusal.as_ref().map(|refusal| refusal.code),
                message: refusal.map(|refusal| refusal.message),
            }
        })
        .collect();
    Ok(Json(verdicts).into())
}
