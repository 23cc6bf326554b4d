//! H1 and H2: what is damaged here, and records on their way back.

use std::sync::Arc;

use http::HeaderValue;
use http::header::{CONTENT_TYPE, HeaderName};
use offsite_proto::endpoint::{Action, Body as _, Params as _};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::heal::{
    DamagedRecord, LIST_COUNT_HEADER, LIST_DIGEST_HEADER, ListDamaged, OfPoint,
    RECORD_BYTES_HEADER, ReadRecords, VOLUME_BYTES_HEADER, WhichList,
};
use offsite_proto::json::Json;
use offsite_proto::page::Page;
use offsite_proto::stream::StreamKind;
use offsite_store::catalog::Transactions;
use offsite_transport::{BodySender, Call, Outgoing, RawCall, RawReply, Reply};

use super::catalog::page;
use super::replication::{Known, NO_AGENT};
use crate::Target;
use crate::audit::Event;
use crate::authority::{Object, permits};
use crate::damage;
use crate::failure::Failure;
use crate::outline::ListName;
use crate::principal::Principal;
use crate::readback::{Answer, Reading, check_ranges, unreadable};
use crate::replicas::{PointShown, Replicas};
use crate::target::off_runtime;

const NO_POINT: &str = "there is no such recovery point, or it has no such volume";

/// H1.
pub(super) async fn damaged(
    target: Arc<Target>,
    call: Call<ListDamaged, Principal>,
) -> Result<Reply<Json<Page<DamagedRecord>>>, Refusal> {
    let (principal, of) = (call.principal, call.params);
    let listed = off_runtime(move || {
        let known = Known::of(&target, &principal)?;
        known.agent(of.of.agent)?;
        let all = damage::damaged(&known.replicas, &known.owner, of.of.agent, target.now())?;
        page(all, &of)
    });
    Ok(Reply::new(Json(listed.await?)))
}

/// H2.
pub(super) async fn read_back(
    target: Arc<Target>,
    call: RawCall<Principal>,
) -> Result<RawReply, Refusal> {
    let of = OfPoint::read(&call.values)?;
    let given = call.headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok());
    let essence = given.and_then(|given| given.split(';').next()).unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let sentence = "the body must be of the media type application/json";
        return Err(Refusal::new(ErrorCode::MediaTypeUnsupported, sentence));
    }
    let Json(asked) = Json::<ReadRecords>::decode(&call.body.whole().await?)?;
    let busy = || Refusal::new(ErrorCode::Busy, "too much is read back at once").after(5);
    let place = Arc::clone(target.readers()).try_acquire_owned().map_err(|_| busy())?;
    let principal = call.principal;
    let opened = off_runtime(move || open(&target, &principal, &of, &asked));
    let (replicas, reading) = opened.await?;
    let outline = Arc::clone(&reading.outline);
    let (sender, body) = Outgoing::stream();
    drop(call.mutations.spawn(async move {
        send(&replicas, Answer::new(reading), sender).await;
        drop(place);
    }));
    let text = |text: String| HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
    let reply = Reply::new(body)
        .header(HeaderName::from_static(LIST_DIGEST_HEADER), text(outline.digest.to_string()))
        .header(HeaderName::from_static(LIST_COUNT_HEADER), outline.n_entries.into())
        .header(HeaderName::from_static(VOLUME_BYTES_HEADER), outline.volume_bytes.into())
        .header(HeaderName::from_static(RECORD_BYTES_HEADER), outline.record_bytes.into());
    let media = Some(HeaderValue::from_static(StreamKind::Records.media_type()));
    Ok(RawReply { reply, media })
}

async fn send(replicas: &Arc<Replicas>, mut answer: Answer, sender: BodySender) {
    loop {
        // The thread is given back while the reader is waited for.
        let made = replicas.pool.run(move || {
            let piece = answer.next_piece();
            (answer, piece)
        });
        let Some((next, piece)) = made.await else { return };
        answer = next;
        match piece {
            None => {
                // Whoever hung up is not told.
                sender.finish().await.ok();
                return;
            }
            Some(piece) => {
                if sender.send(piece).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Judges the call, writes it into the log, and finds the list. Blocks.
fn open(
    target: &Target,
    principal: &Principal,
    of: &OfPoint,
    asked: &ReadRecords,
) -> Result<(Arc<Replicas>, Reading), Refusal> {
    let known = Known::of(target, principal)?;
    let owner = known.owner;
    let object = Object::Source { source: owner.source, tenant: owner.tenant };
    permits(principal, Action::ReadBack, &object).terms(ErrorCode::AgentUnknown, NO_AGENT)?;
    known.agent(of.agent)?;
    let unknown = || Refusal::new(ErrorCode::PointUnknown, NO_POINT);
    let points = known.replicas.points_with_orphans(&owner, Some(of.agent))?;
    let is_it = |point: &&PointShown| point.id == of.point && point.deleted_at.is_none();
    let point = points.iter().find(is_it).ok_or_else(unknown)?;
    point.check_whole()?;
    let volume = asked.driver_volume_id.0;
    let image = point.images.iter().find(|image| image.name.volume == volume);
    let image = image.ok_or_else(unknown)?;
    let parent = match (asked.list, image.open.previous_epoch_number) {
        (WhichList::Volume, _) | (WhichList::Image, None) => None,
        (WhichList::Image, Some(epoch)) => {
            let held = known.replicas.held(&owner, Some(of.agent))?;
            let is_it = |held: &&crate::replicas::Held| {
                held.name.volume == volume && held.name.epoch == epoch
            };
            Some(held.iter().find(is_it).map(crate::replicas::Held::point).ok_or_else(unknown)?)
        }
    };
    let store = known.replicas.store.clone();
    let name = ListName { tenant: owner.tenant, point: of.point, volume, parent };
    let form = store.image(name.tenant, name.point, volume).map_err(|e| unreadable(&e))?.form();
    let outline = target.outlines().of(&store, &name).map_err(|e| unreadable(&e))?;
    if asked.list == WhichList::Image && outline.digest != image.open.image_digest.0 {
        // A source whose list named what its parent has already: its ordinals are lost.
        let sentence = "the list of this image cannot be made again; read the volume's instead";
        return Err(Refusal::new(ErrorCode::HashMismatch, sentence));
    }
    let ranges = check_ranges(&asked.ranges, outline.n_entries, asked.keys_only)?;
    let n_ordinals = ranges
        .iter()
        .fold(0_u64, |sum, range| sum.saturating_add(range.end.saturating_sub(range.start)));
    let facts = [
        ("agent", of.agent.to_string()),
        ("point", of.point.to_string()),
        ("volume", volume.to_string()),
        ("ordinals", n_ordinals.to_string()),
        ("keys_only", asked.keys_only.to_string()),
    ];
    let tenant = Some(owner.tenant);
    let recorded = target.catalog().write(|rows| {
        Ok::<_, Failure>(target.deed(principal).record(rows, Event::DataRead, tenant, &facts)?)
    });
    recorded?;
    let keys_only = asked.keys_only;
    Ok((known.replicas, Reading { store, name, form, outline, ranges, keys_only }))
}
