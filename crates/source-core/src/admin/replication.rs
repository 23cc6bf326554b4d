//! Answers `proto::admin::replication`: a job for one agent, started by hand.

use std::sync::Arc;

use http::HeaderValue;
use offsite_model::JobId;
use offsite_proto::admin::jobs::Job;
use offsite_proto::admin::protection::{EVENTS_MEDIA, Event};
use offsite_proto::admin::replication::{Begun, OfPair, Pause, Replicate, Replicated, Resume};
use offsite_proto::endpoint::{Body as _, Params};
use offsite_proto::error::Refusal;
use offsite_proto::json::Json;
use offsite_proto::text::Text;
use offsite_transport::{Outgoing, RawCall, RawReply, Reply};

use super::protection::told_as_it_goes;
use super::state::{Admin, Answered, Asked, Operator, reply};
use crate::agents;
use crate::error::Trouble;
use crate::pairing::off;
use crate::progress::Progress;

pub(super) async fn pause(admin: Arc<Admin>, call: Asked<Pause>) -> Answered<Job> {
    let OfPair { agent, target } = call.params;
    let agent = off(&admin.means, move |means| agents::find(&means.memory, &agent)).await?;
    let name = agent.name.clone();
    let paused = admin.replicator.pause(agent, target).await?;
    tracing::info!(agent = name, uid = call.principal.uid, "replication is paused");
    reply(paused)
}

pub(super) async fn resume(admin: Arc<Admin>, call: Asked<Resume>) -> Answered<Vec<Job>> {
    let OfPair { agent, target } = call.params;
    let agent = off(&admin.means, move |means| agents::find(&means.memory, &agent)).await?;
    let resumed = admin.replicator.resume(agent.agent_id(), target).await?;
    tracing::info!(agent = agent.name, uid = call.principal.uid, "replication is resumed");
    reply(resumed)
}

pub(super) async fn replicate(
    admin: Arc<Admin>,
    call: RawCall<Operator>,
) -> Result<RawReply, Refusal> {
    let Replicate { agent, target, wait } = Replicate::read(&call.values)?;
    let agent = off(&admin.means, move |means| agents::find(&means.memory, &agent)).await?;
    let (progress, uid) = (Arc::new(Progress::default()), call.principal.uid);
    let (replicator, told) = (Arc::clone(&admin.replicator), Arc::clone(&progress));
    let name = agent.name.clone();
    let (shared, id) = (Arc::clone(&admin), JobId::random(&*admin.means.luck));
    admin.jobs.begin(id, "replicate", &name, admin.means.clock.now(), &progress);
    let job = async move {
        let done = replicator.run(id, agent, target, told).await;
        shared.jobs.end(id, shared.means.clock.now(), &done);
        match &done {
            Ok(done) => tracing::info!(
                job = %id,
                agent = name,
                points = done.points,
                records = done.records_sent.0,
                bytes = done.wire_bytes_out.0,
                seconds = done.seconds,
                uid,
                "replicated"
            ),
            Err(trouble) => {
                let cause = &trouble.message;
                tracing::warn!(job = %id, agent = name, cause, uid, "not replicated");
            }
        }
        done
    };
    if wait {
        let runtime = tokio::runtime::Handle::current();
        return Ok(told_as_it_goes(&admin, &call, progress, move || runtime.block_on(job)));
    }
    let stop = admin.stop.clone();
    drop(call.mutations.spawn(async move {
        tokio::pin!(job);
        let stopping = async {
            stop.cancelled().await;
            progress.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            done = &mut job => drop::<Result<Replicated, Trouble>>(done),
            () = stopping => {}
        }
    }));
    let mut line = Json(Event::Done(Begun { job_id: Text(id) })).encode();
    line.push(b'\n');
    let media = Some(HeaderValue::from_static(EVENTS_MEDIA));
    Ok(RawReply { reply: Reply::new(Outgoing::whole(line)).status(202), media })
}
