//! Recovery points for operators: listed, shown, read, verified.
//!
//! Reading and verifying answer with streams, as on the source; whoever hangs up ends a restore,
//! and a verify goes on to its end.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::HeaderValue;
use offsite_content::Part;
use offsite_model::PointId;
use offsite_model::retention::is_time_odd;
use offsite_proto::admin::content as frames;
use offsite_proto::admin::protection::{CONTENT_MEDIA, PointVolume};
use offsite_proto::admin::target::{ListPoints, OfContent, OfVerify, Point, ShowPoint};
use offsite_proto::catalog::PointStatus;
use offsite_proto::endpoint::{Action, Params as _};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::text::{Big, Text, Time};
use offsite_transport::{BodySender, Bytes, Call, Outgoing, RawCall, RawReply, Reply};

use super::context::{Operators, answer, check_unbounded};
use super::kept::{Kept, new_bytes};
use super::sources::{all_kept, kept};
use super::stream::told_as_it_goes;
use crate::audit::Event;
use crate::content::{Named, Opened, refusal};
use crate::failure::Failure;
use crate::principal::Principal;
use crate::replicas::{Held, PointShown, Replicas};
use crate::target::off_runtime;
use crate::verify::verify;

/// The points of an agent, oldest first.
pub(super) async fn list(
    state: Arc<Operators>,
    call: Call<ListPoints, Principal>,
) -> Result<Reply<Json<Vec<Point>>>, Refusal> {
    answer(state, move |state| {
        let kept = kept(state, &call.principal, Action::ListPoints, &call.params.0)?;
        let replicas = state.target.replicas()?;
        let mut points = replicas.points_with_orphans(&kept.owner, Some(kept.agent))?;
        points.reverse();
        let held = replicas.held(&kept.owner, Some(kept.agent))?;
        points.iter().map(|point| shown(state, &replicas, &kept, &held, point)).collect()
    })
    .await
}

/// One point.
pub(super) async fn show(
    state: Arc<Operators>,
    call: Call<ShowPoint, Principal>,
) -> Result<Reply<Json<Point>>, Refusal> {
    answer(state, move |state| {
        let id = call.params.0;
        for kept in all_kept(state, &call.principal, Action::ListPoints)? {
            match show_point(state, &kept, id) {
                Err(refusal) if refusal.code == ErrorCode::PointUnknown => {}
                shown => return shown,
            }
        }
        Err(point_unknown(id))
    })
    .await
}

/// A point of an agent.
pub(super) fn show_point(state: &Operators, kept: &Kept, id: PointId) -> Result<Point, Refusal> {
    let replicas = state.target.replicas()?;
    let points = replicas.points_with_orphans(&kept.owner, Some(kept.agent))?;
    let point = points.iter().find(|point| point.id == id).ok_or_else(|| point_unknown(id))?;
    let held = replicas.held(&kept.owner, Some(kept.agent))?;
    shown(state, &replicas, kept, &held, point)
}

fn point_unknown(id: PointId) -> Refusal {
    Refusal::new(ErrorCode::PointUnknown, format!("there is no recovery point {id}"))
}

fn shown(
    state: &Operators,
    replicas: &Replicas,
    kept: &Kept,
    held: &[Held],
    point: &PointShown,
) -> Result<Point, Refusal> {
    let volumes = point.images.iter().map(|image| PointVolume {
        label: image.open.display_name.clone().unwrap_or_else(|| image.name.volume.to_string()),
        volume_id: Text(image.name.volume),
        bytes: image.open.size_bytes,
        record_bytes: image.open.record_size,
        digest: image.open.image_digest,
        blake3: None,
    });
    let target = &state.target;
    let lock = target.lock_of(kept.owner.tenant, kept.agent)?;
    let standing = target.standing(point.received_at, point.deleted_at, lock)?;
    let state_word = match point.status {
        _ if point.deleted_at.is_some() => "deleted",
        PointStatus::Ok => "ok",
        PointStatus::Orphaned => "orphaned",
        _ => "incomplete",
    };
    Ok(Point {
        id: Text(point.id),
        agent: kept.name.clone(),
        agent_id: Text(point.agent),
        created_at: Time(point.taken_at),
        received_at: Time(point.received_at),
        state: state_word.to_owned(),
        deleted_at: point.deleted_at.map(Time),
        purge_at: standing.purge_at.map(Time),
        locked_until: standing.locked_until.map(Time),
        time_odd: is_time_odd(point.taken_at, point.received_at),
        waits_for: point.waits_for.clone(),
        logical_bytes: Big(point.bytes()),
        new_bytes: Big(new_bytes(state, replicas, kept, held, &point.images)),
        volumes: volumes.collect(),
    })
}

/// A volume's content.
pub(super) async fn read_content(
    state: Arc<Operators>,
    call: RawCall<Principal>,
) -> Result<RawReply, Refusal> {
    let asked = OfContent::read(&call.values)?;
    let principal = call.principal;
    let opened = off_runtime(move || {
        let kept = kept(&state, &principal, Action::ReadBack, &asked.agent)?;
        let replicas = state.target.replicas()?;
        let point = asked.point.as_deref().unwrap_or("latest");
        let named = Named { agent: &asked.agent, volume: &asked.volume, point };
        let opened = Opened::of(&replicas, &kept.owner, kept.agent, &named)?;
        state.write(&principal, |rows, deed| {
            let facts = [
                ("agent", kept.agent.to_string()),
                ("point", opened.point.to_string()),
                ("volume", asked.volume.clone()),
            ];
            Ok(deed.record(rows, Event::DataRead, Some(kept.owner.tenant), &facts)?)
        })?;
        let data_bytes = opened.content.data_bytes().map_err(|error| refusal(&error))?;
        Ok((opened, data_bytes))
    });
    let (opened, data_bytes) = opened.await?;
    let (sender, body) = Outgoing::stream();
    drop(call.mutations.spawn(async move {
        let sending = tokio::runtime::Handle::current();
        let work = tokio::task::spawn_blocking(move || {
            if let Err(refusal) = send_content(&opened, data_bytes, &sending, &sender) {
                tracing::warn!(cause = %refusal, "restore ended early");
                // Whoever hung up is not told.
                sending.block_on(sender.send(frames::failed(refusal).into())).ok();
            }
            sending.block_on(sender.finish()).ok();
        });
        if let Err(cause) = work.await {
            tracing::error!(%cause, "a restore failed");
        }
    }));
    Ok(RawReply { reply: Reply::new(body), media: Some(HeaderValue::from_static(CONTENT_MEDIA)) })
}

fn send_content(
    opened: &Opened,
    data_bytes: u64,
    sending: &tokio::runtime::Handle,
    sender: &BodySender,
) -> Result<(), Refusal> {
    let send = |bytes: Bytes| {
        let gone = |_| Failure::refused(ErrorCode::WrongState, "nobody reads the volume any more");
        sending.block_on(sender.send(bytes)).map_err(gone)
    };
    let (point, bytes) = (Text(opened.point), Big(opened.content.bytes()));
    send(frames::head(frames::Head { point, bytes, data_bytes: Big(data_bytes) }).into())?;
    opened.content.in_order(&mut |part| match part {
        Part::Zeros(n) => send(Bytes::copy_from_slice(&frames::zeros(n))),
        Part::Bytes(bytes) => {
            send(Bytes::copy_from_slice(&frames::bytes_header(bytes.len() as u64)))?;
            send(Bytes::from_owner(bytes))
        }
    })?;
    Ok(send(frames::end(frames::End { bytes }).into())?)
}

/// Reads everything.
pub(super) async fn run_verify(
    state: Arc<Operators>,
    call: RawCall<Principal>,
) -> Result<RawReply, Refusal> {
    let OfVerify { agent } = OfVerify::read(&call.values)?;
    let (principal, target) = (call.principal.clone(), Arc::clone(&state.target));
    check_unbounded(&principal, "verify reads the whole store")?;
    let found = off_runtime(move || {
        let replicas = state.target.replicas()?;
        let Some(name) = agent else { return Ok((replicas, None)) };
        let kept = kept(&state, &principal, Action::ListPoints, &name)?;
        let points = replicas.points(&kept.owner, Some(kept.agent))?;
        let points: BTreeSet<PointId> = points.iter().map(|point| point.id).collect();
        Ok((replicas, Some(points)))
    });
    let (replicas, only) = found.await?;
    Ok(told_as_it_goes(target, &call, move |shown| {
        let verified = verify(&replicas.store, only.as_ref(), &mut |read, all| {
            shown.show("verifying", read, all);
        })?;
        if verified.damaged > 0 {
            tracing::error!(records = verified.damaged, "verified: damage found");
        }
        Ok(verified)
    }))
}
