//! Rows 56, 5, 6, 52, 8, 57, 47 and 7: the transfer of one volume image.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::CONTENT_TYPE;
use offsite_exchange::replication::target::{Ending, Input};
use offsite_proto::endpoint::Params;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::session::{
    AskCommitted, BitmapBody, End, InSession, Open, SessionOpened, StartEnd, TransferredBlocks,
    TransferredBlocksOfImage,
};
use offsite_proto::stream::StreamKind;
use offsite_transport::{Call, Outgoing, RawCall, RawReply, Reply};

use super::replication::Known;
use crate::Target;
use crate::principal::Principal;
use crate::replicas::{ImageName, Live, Replicas, Stream};
use crate::target::off_runtime;

pub(super) async fn open(
    target: Arc<Target>,
    call: Call<Open, Principal>,
) -> Result<Reply<Json<SessionOpened>>, Refusal> {
    let (principal, Json(asked)) = (call.principal, call.body);
    let opened = off_runtime(move || {
        let known = Known::of(&target, &principal)?;
        known.replicas.open_session(known.caller(asked.agent_id.0), asked)
    });
    let opened = opened.await?;
    Ok(Reply::new(Json(opened.answer)).status(if opened.is_new { 201 } else { 200 }))
}

pub(super) async fn offer_keys(
    target: Arc<Target>,
    call: RawCall<Principal>,
) -> Result<RawReply, Refusal> {
    stream(target, call, StreamKind::Keys, StreamKind::Wanted).await
}

pub(super) async fn send_records(
    target: Arc<Target>,
    call: RawCall<Principal>,
) -> Result<RawReply, Refusal> {
    stream(target, call, StreamKind::Records, StreamKind::Receipt).await
}

async fn stream(
    target: Arc<Target>,
    call: RawCall<Principal>,
    up: StreamKind,
    down: StreamKind,
) -> Result<RawReply, Refusal> {
    let path = InSession::read(&call.values)?;
    let given = call.headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok());
    if given != Some(up.media_type()) {
        let sentence = format!("the body must be of the media type {}", up.media_type());
        return Err(Refusal::new(ErrorCode::MediaTypeUnsupported, sentence));
    }
    let (replicas, live) = find(&target, call.principal, path).await?;
    let stream = Stream::open(&replicas, &live, up)?;
    let (sender, answer) = Outgoing::stream();
    // The answer's head goes out at once; the stream goes on in a task that a stop waits for.
    drop(call.mutations.spawn(stream.run(call.body, sender)));
    let media = Some(HeaderValue::from_static(down.media_type()));
    Ok(RawReply { reply: Reply::new(answer), media })
}

async fn find(
    target: &Arc<Target>,
    principal: Principal,
    path: InSession,
) -> Result<(Arc<Replicas>, Arc<Live>), Refusal> {
    let target = Arc::clone(target);
    off_runtime(move || {
        let known = Known::of(&target, &principal)?;
        let live = known.replicas.session(&known.owner, &path)?;
        Ok((known.replicas, live))
    })
    .await
}

pub(super) async fn transferred(
    target: Arc<Target>,
    call: Call<TransferredBlocks, Principal>,
) -> Result<Reply<BitmapBody>, Refusal> {
    let (principal, session) = (call.principal, call.params.session);
    let bitmap = off_runtime(move || {
        let known = Known::of(&target, &principal)?;
        known.replicas.session_by_id(&known.owner, session)?.transferred()
    });
    Ok(Reply::new(BitmapBody(bitmap.await?)))
}

pub(super) async fn transferred_of_image(
    target: Arc<Target>,
    call: Call<TransferredBlocksOfImage, Principal>,
) -> Result<Reply<BitmapBody>, Refusal> {
    let (principal, of) = (call.principal, call.params);
    let bitmap = off_runtime(move || {
        let known = Known::of(&target, &principal)?;
        known.agent(of.agent)?;
        let owner = known.owner;
        let name = ImageName { owner, agent: of.agent, volume: of.volume, epoch: of.epoch };
        known.replicas.transferred(&name)
    });
    Ok(Reply::new(BitmapBody(bitmap.await?)))
}

async fn end_session(
    target: &Arc<Target>,
    principal: Principal,
    path: InSession,
    commit: bool,
) -> Result<(Arc<Live>, Ending), Refusal> {
    let (replicas, live) = find(target, principal, path).await?;
    let ending = live.end(&replicas, Input::End { commit })?;
    Ok((live, ending))
}

pub(super) async fn start_end(
    target: Arc<Target>,
    call: Call<StartEnd, Principal>,
) -> Result<Reply<()>, Refusal> {
    let asked = call.params;
    end_session(&target, call.principal, asked.session, asked.commit).await?;
    Ok(Reply::new(()).status(202))
}

pub(super) async fn end(
    target: Arc<Target>,
    call: Call<End, Principal>,
) -> Result<Reply<()>, Refusal> {
    let asked = call.params;
    let (live, ending) = end_session(&target, call.principal, asked.session, asked.commit).await?;
    if ending == Ending::Running {
        live.outcome(None).await?;
    }
    Ok(Reply::new(()))
}

pub(super) async fn poke(
    target: Arc<Target>,
    call: Call<AskCommitted, Principal>,
) -> Result<Reply<Json<bool>>, Refusal> {
    let asked = call.params;
    let (_, live) = find(&target, call.principal, asked.session).await?;
    let wait = Duration::from_secs(u64::from(asked.wait_secs));
    let is_committed = live.outcome(Some(wait)).await?;
    let reply = Reply::new(Json(is_committed));
    Ok(if is_committed { reply } else { reply.retry_after(1) })
}
