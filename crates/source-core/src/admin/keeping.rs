//! Answers `proto::admin::keeping`.

use std::sync::Arc;

use offsite_proto::admin::keeping::{
    ApplyRetention, ChangeRetention, OfRetention, PreviewRetention, Retention, SetRetention,
    ShowRetention, Verdict,
};
use offsite_proto::error::ErrorCode;
use offsite_proto::json::Json;

use super::state::{Admin, Answered, Asked, reply};
use crate::error::Trouble;
use crate::pairing::off;
use crate::retention::{self, Judge};

pub(super) async fn show(admin: Arc<Admin>, call: Asked<ShowRetention>) -> Answered<Retention> {
    let OfRetention { agent, .. } = call.params;
    let shown = off(&admin.means, move |means| {
        let agent = retention::agent_of(&means.memory, agent.as_deref())?;
        retention::show(&means.memory, agent.as_ref())
    });
    reply(shown.await?)
}

pub(super) async fn set(admin: Arc<Admin>, call: Asked<ChangeRetention>) -> Answered<Retention> {
    let (OfRetention { agent, .. }, Json(SetRetention { policy })) = (call.params, call.body);
    let set = off(&admin.means, move |means| {
        let agent = retention::agent_of(&means.memory, agent.as_deref())?;
        retention::set(&means.memory, agent.as_ref(), policy.as_deref())
    });
    let set = set.await?;
    let (agent, uid) = (set.agent.as_deref().unwrap_or("all"), call.principal.uid);
    tracing::info!(agent, cause = set.policy, uid, "a retention policy is set");
    reply(set)
}

pub(super) async fn preview(
    admin: Arc<Admin>,
    call: Asked<PreviewRetention>,
) -> Answered<Vec<Verdict>> {
    let OfRetention { agent, policy } = call.params;
    let shared = Arc::clone(&admin);
    let shown = off(&admin.means, move |means| {
        let policy = policy.as_deref().map(retention::parse).transpose()?;
        let Some(agent) = retention::agent_of(&means.memory, agent.as_deref())? else {
            let message = "a preview is of one agent";
            let hint = "name it: offsite-source retention preview NAME";
            return Err(Trouble::operator(ErrorCode::BadRequest, message, hint));
        };
        shared.judged(|judge| judge.preview(&agent, policy))
    });
    reply(shown.await?)
}

pub(super) async fn apply(
    admin: Arc<Admin>,
    call: Asked<ApplyRetention>,
) -> Answered<Vec<Verdict>> {
    let OfRetention { agent, .. } = call.params;
    let shared = Arc::clone(&admin);
    let gone = off(&admin.means, move |means| {
        let agent = retention::agent_of(&means.memory, agent.as_deref())?;
        shared.judged(|judge| judge.apply(agent.as_ref()))
    });
    reply(gone.await?)
}

impl Admin {
    /// Looks at points with what decides about them. Blocks.
    pub(super) fn judged<T>(
        &self,
        look: impl FnOnce(&Judge<'_>) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let pairings = self.handle.pairings();
        look(&Judge {
            protection: &self.protection,
            memory: &self.means.memory,
            pairings: &pairings,
            await_max: self.await_max,
        })
    }
}
