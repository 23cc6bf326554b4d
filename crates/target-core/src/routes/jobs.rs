//! Rows 29 and 30: mirrors of the sources' jobs.

use std::sync::Arc;

use offsite_proto::error::Refusal;
use offsite_proto::jobs::{MirrorStarted, MirrorWishes, Start, Sync};
use offsite_proto::json::Json;
use offsite_transport::{Call, Reply};

use super::replication::Known;
use crate::Target;
use crate::principal::Principal;
use crate::target::off_runtime;

pub(super) async fn start(
    target: Arc<Target>,
    call: Call<Start, Principal>,
) -> Result<Reply<Json<MirrorStarted>>, Refusal> {
    let (principal, Json(asked)) = (call.principal, call.body);
    let remote_job_id = asked.job_id;
    let started = off_runtime(move || {
        let known = Known::of(&target, &principal)?;
        known.agent(asked.agent_id.0)?;
        known.replicas.mirrors.start(known.owner.source, &asked)
    });
    let (is_new, state) = started.await?;
    Ok(Reply::new(Json(MirrorStarted { remote_job_id, state })).status(if is_new {
        201
    } else {
        200
    }))
}

pub(super) async fn sync(
    target: Arc<Target>,
    call: Call<Sync, Principal>,
) -> Result<Reply<Json<MirrorWishes>>, Refusal> {
    let (principal, Json(told)) = (call.principal, call.body);
    let synced = off_runtime(move || {
        let known = Known::of(&target, &principal)?;
        known.replicas.mirrors.sync(known.owner.source, &told)
    });
    let remote_state = synced.await?;
    Ok(Reply::new(Json(MirrorWishes { remote_state, ..MirrorWishes::default() })))
}
