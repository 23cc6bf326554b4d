//! Answers `proto::admin::protection`: recovery points, and the long work that makes and reads
//! them.
//!
//! Long work runs on threads that may block; a task beside it tells how far it is, about twice a
//! second. When nobody listens any more, or the daemon stops, the work is cancelled at its next
//! safe point.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use offsite_content::Part;
use offsite_model::{Clock, JobId};
use offsite_proto::admin::content;
use offsite_proto::admin::protection::{
    self as calls, CONTENT_MEDIA, EVENTS_MEDIA, Event, Hooks, OfAgent, OfContent, OfPoint, Point,
    Progress as Shown,
};
use offsite_proto::endpoint::{Body as _, Params};
use offsite_proto::error::Refusal;
use offsite_proto::json::Json;
use offsite_proto::text::{Big, Text};
use offsite_transport::{BodySender, Bytes, Outgoing, RawCall, RawReply, Reply};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::state::{Admin, Answered, Asked, Operator, reply};
use crate::error::Trouble;
use crate::pairing::off;
use crate::progress::Progress;
use crate::restore::{self, Opened};
use crate::wayback::{self, Wayback};
use crate::{agents, held, hooks, keeper, points, verify};

/// The time between two lines of progress.
const TELL_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn list_points(
    admin: Arc<Admin>,
    call: Asked<calls::ListPoints>,
) -> Answered<Vec<Point>> {
    let (protection, OfAgent(agent)) = (Arc::clone(&admin.protection), call.params);
    let points = off(&admin.means, move |means| {
        points::list(&protection.store, protection.tenant, &means.memory, &agent)
    });
    reply(points.await?)
}

pub(super) async fn show_point(
    admin: Arc<Admin>,
    call: Asked<calls::ShowPoint>,
) -> Answered<Point> {
    let (protection, OfPoint(point)) = (Arc::clone(&admin.protection), call.params);
    let pairings = admin.handle.pairings();
    let shown = off(&admin.means, move |means| {
        let kept = points::show(&protection.store, protection.tenant, point)?;
        let of = (kept.point.agent, &*kept.note.agent);
        let lacking = held::lacking(&means.memory, &pairings, of, point)?;
        Ok(Point { lacking, ..kept.view() })
    });
    reply(shown.await?)
}

pub(super) async fn delete_point(
    admin: Arc<Admin>,
    call: Asked<calls::DeletePoint>,
) -> Answered<Point> {
    let (protection, calls::OfDeletion { point, sure }) =
        (Arc::clone(&admin.protection), call.params);
    let pairings = admin.handle.pairings();
    let deleted = off(&admin.means, move |means| {
        let kept = points::show(&protection.store, protection.tenant, point)?;
        let of = (kept.point.agent, &*kept.note.agent);
        let lacking = held::lacking(&means.memory, &pairings, of, point)?;
        // One that is not whole was never anybody's.
        if !sure && kept.point.is_complete() && !lacking.is_empty() {
            return Err(keeper::not_replicated(point, &lacking));
        }
        points::delete(&protection.store, protection.tenant, point, means.clock.now())
    });
    let deleted = deleted.await?;
    let uid = call.principal.uid;
    tracing::info!(%point, agent = deleted.agent, uid, "recovery point deleted");
    reply(deleted)
}

pub(super) async fn show_hooks(
    admin: Arc<Admin>,
    call: Asked<calls::ShowHooks>,
) -> Answered<Hooks> {
    let OfAgent(agent) = call.params;
    let row = off(&admin.means, move |means| {
        let agent = agents::find(&means.memory, &agent)?;
        Ok(means.memory.hooks(agent.agent_id())?)
    });
    reply(hooks::view(row.await?))
}

pub(super) async fn set_hooks(admin: Arc<Admin>, call: Asked<calls::SetHooks>) -> Answered<Hooks> {
    let (OfAgent(agent), Json(order)) = (call.params, call.body);
    let files = Arc::clone(&admin.files);
    let row = off(&admin.means, move |means| {
        let agent = agents::find(&means.memory, &agent)?;
        let row = hooks::check(&*files, &order)?;
        means.memory.set_hooks(agent.agent_id(), &row)?;
        tracing::info!(agent = agent.name, uid = call.principal.uid, "hooks of an agent set");
        Ok(row)
    });
    reply(hooks::view(Some(row.await?)))
}

pub(super) async fn protect(
    admin: Arc<Admin>,
    call: RawCall<Operator>,
) -> Result<RawReply, Refusal> {
    let OfAgent(agent) = OfAgent::read(&call.values)?;
    let found = off(&admin.means, move |means| {
        let agent = agents::find(&means.memory, &agent)?;
        let hooks = means.memory.hooks(agent.agent_id())?;
        Ok((agent, hooks))
    });
    let (agent, hooks) = found.await?;
    let (progress, protection) = (Arc::new(Progress::default()), Arc::clone(&admin.protection));
    let (told, uid) = (Arc::clone(&progress), call.principal.uid);
    let (shared, job) = (Arc::clone(&admin), JobId::random(&*admin.means.luck));
    admin.jobs.begin(job, "protect", &agent.name, admin.means.clock.now(), &progress);
    let work = move || {
        let made = protection.protect(&agent, hooks.as_ref(), &told);
        shared.jobs.end(job, shared.means.clock.now(), &made);
        match &made {
            Ok(made) => tracing::info!(
                agent = agent.name, point = %made.point, bytes = made.read_bytes.0,
                stored = made.stored_bytes.0, seconds = made.seconds, uid, "recovery point made"
            ),
            Err(trouble) => {
                tracing::warn!(
                    agent = agent.name,
                    cause = trouble.message,
                    uid,
                    "no recovery point made"
                );
            }
        }
        made
    };
    Ok(told_as_it_goes(&admin, &call, progress, work))
}

pub(super) async fn verify(
    admin: Arc<Admin>,
    call: RawCall<Operator>,
) -> Result<RawReply, Refusal> {
    let (progress, protection) = (Arc::new(Progress::default()), Arc::clone(&admin.protection));
    let told = Arc::clone(&progress);
    let work = move || {
        let verified = verify::verify(&protection, &told)?;
        match verified.damaged {
            0 => tracing::info!(
                records = verified.records,
                "verified: everything is as it was written"
            ),
            damaged => tracing::error!(damaged, "verified: damage found"),
        }
        Ok(verified)
    };
    Ok(told_as_it_goes(&admin, &call, progress, work))
}

/// Begins work and answers with a stream of what becomes of it.
pub(super) fn told_as_it_goes<T: Serialize + DeserializeOwned + Send + 'static>(
    admin: &Arc<Admin>,
    call: &RawCall<Operator>,
    progress: Arc<Progress>,
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> RawReply {
    let (sender, body) = Outgoing::stream();
    let (clock, stop) = (Arc::clone(&admin.means.clock), admin.stop.clone());
    // Its own task: the answer's head is out at once, and the work is waited for when the daemon
    // stops.
    drop(call.mutations.spawn(async move {
        let ended = told(&sender, &*clock, &stop, &progress, work).await;
        let last = match ended {
            Ok(value) => Event::Done(value),
            Err(trouble) => Event::Failed(trouble.into()),
        };
        // Whoever hung up is not told.
        if sender.send(line(last).into()).await.is_ok() {
            sender.finish().await.ok();
        }
    }));
    RawReply { reply: Reply::new(body), media: Some(HeaderValue::from_static(EVENTS_MEDIA)) }
}

fn line<T: Serialize + DeserializeOwned + Send + 'static>(event: Event<T>) -> Vec<u8> {
    let mut line = Json(event).encode();
    line.push(b'\n');
    line
}

async fn told<T: Send + 'static>(
    sender: &BodySender,
    clock: &dyn Clock,
    stop: &CancellationToken,
    progress: &Arc<Progress>,
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    let mut pace = Pace::new(clock);
    let mut working = tokio::task::spawn_blocking(work);
    loop {
        tokio::select! {
            ended = &mut working => {
                return ended.unwrap_or_else(|error| Err(panicked(&error)));
            }
            () = stop.cancelled() => progress.cancel(),
            () = tokio::time::sleep(TELL_EVERY) => {
                let shown = Event::<()>::Progress(pace.shown(progress, clock));
                if sender.send(line(shown).into()).await.is_err() && progress.check().is_ok() {
                    tracing::info!("whoever asked has hung up; the work is cancelled");
                    progress.cancel();
                }
                continue;
            }
        }
        // Cancelled: nothing more to tell until the work has noticed.
        let ended = working.await;
        return ended.unwrap_or_else(|error| Err(panicked(&error)));
    }
}

/// Work that did not come to an end of its own.
fn panicked(error: &tokio::task::JoinError) -> Trouble {
    Trouble::us(format!("the work failed: {error}"))
}

/// How fast it goes.
struct Pace {
    began_micros: u64,
}

impl Pace {
    fn new(clock: &dyn Clock) -> Self {
        Self { began_micros: clock.uptime().as_micros() }
    }

    fn shown(&mut self, progress: &Progress, clock: &dyn Clock) -> Shown {
        let (done, total) = progress.bytes();
        let stage = progress.now();
        if done == 0 {
            // Hooks and waiting are not reading.
            self.began_micros = clock.uptime().as_micros();
        }
        let micros = clock.uptime().as_micros().saturating_sub(self.began_micros);
        let rate =
            u128::from(done).saturating_mul(1_000_000).checked_div(u128::from(micros)).unwrap_or(0);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        Shown {
            phase: stage.phase.to_owned(),
            volume: stage.volume,
            bytes_done: Big(done),
            bytes_total: Big(total),
            bytes_per_second: Big(rate),
            eta_seconds: total.saturating_sub(done).checked_div(rate),
        }
    }
}

pub(super) async fn read_content(
    admin: Arc<Admin>,
    call: RawCall<Operator>,
) -> Result<RawReply, Refusal> {
    let asked = OfContent::read(&call.values)?;
    if let Some(target) = asked.from.clone() {
        return bring_back(admin, call, asked, target).await;
    }
    let OfContent { agent, volume, point, from: _ } = asked;
    let protection = Arc::clone(&admin.protection);
    let opened = off(&admin.means, move |means| {
        let opened = restore::open(&protection, &means.memory, &agent, &volume, point.as_deref())?;
        let (point, uid) = (opened.point, call.principal.uid);
        tracing::info!(agent, volume, %point, uid, "restore begins");
        Ok(opened)
    });
    let opened = opened.await?;
    let (sender, body) = Outgoing::stream();
    let stop = admin.stop.clone();
    drop(call.mutations.spawn(async move {
        let progress = Arc::new(Progress::default());
        let (stopping, sending) = (Arc::clone(&progress), tokio::runtime::Handle::current());
        let work = tokio::task::spawn_blocking(move || {
            let ended = send_content(&opened, &stopping, &sending, &sender);
            if let Err(trouble) = ended {
                tracing::warn!(cause = trouble.message, "restore ended early");
                let last = content::failed(trouble.into());
                sending.block_on(sender.send(last.into())).ok();
            }
            sending.block_on(sender.finish()).ok();
        });
        tokio::select! {
            ended = work => drop(ended),
            () = stop.cancelled() => progress.cancel(),
        }
    }));
    Ok(RawReply { reply: Reply::new(body), media: Some(HeaderValue::from_static(CONTENT_MEDIA)) })
}

fn send_content(
    opened: &Opened,
    progress: &Progress,
    sending: &tokio::runtime::Handle,
    sender: &BodySender,
) -> Result<(), Trouble> {
    let send = |bytes: Bytes| {
        let sent = sending.block_on(sender.send(bytes));
        sent.map_err(|_| {
            Trouble::operator(
                offsite_proto::error::ErrorCode::WrongState,
                "nobody reads the volume any more",
                "",
            )
        })
    };
    send(
        content::head(content::Head {
            point: Text(opened.point),
            bytes: Big(opened.content.bytes()),
            data_bytes: Big(opened.data_bytes),
        })
        .into(),
    )?;
    opened.content.in_order(&mut |part| {
        progress.check()?;
        match part {
            Part::Zeros(n) => send(Bytes::copy_from_slice(&content::zeros(n))),
            Part::Bytes(bytes) => {
                send(Bytes::copy_from_slice(&content::bytes_header(bytes.len() as u64)))?;
                send(Bytes::from_owner(bytes))
            }
        }
    })?;
    send(content::end(content::End { bytes: Big(opened.content.bytes()) }).into())
}

/// As [`read_content`], from a target.
async fn bring_back(
    admin: Arc<Admin>,
    call: RawCall<Operator>,
    asked: OfContent,
    target: String,
) -> Result<RawReply, Refusal> {
    let settings = admin.replicator.settings();
    let opened = wayback::open(&admin.means, settings, &admin.protection, &asked, &target).await?;
    let (point, uid) = (opened.point(), call.principal.uid);
    tracing::info!(agent = asked.agent, %point, target, uid, "restore from a target begins");
    let (sender, body) = Outgoing::stream();
    let (stop, opened) = (admin.stop.clone(), Arc::new(opened));
    drop(call.mutations.spawn(async move {
        let ended = tokio::select! {
            ended = send_brought(&opened, &sender) => ended,
            () = stop.cancelled() => Err(Trouble::operator(
                offsite_proto::error::ErrorCode::WrongState,
                "the daemon stopped before the volume was whole",
                "start the daemon, then start the restore again",
            )),
        };
        if let Err(trouble) = ended {
            tracing::warn!(cause = trouble.message, "restore from a target ended early");
            // Whoever hung up is not told.
            sender.send(content::failed(trouble.into()).into()).await.ok();
        }
        sender.finish().await.ok();
    }));
    Ok(RawReply { reply: Reply::new(body), media: Some(HeaderValue::from_static(CONTENT_MEDIA)) })
}

async fn send_brought(opened: &Arc<Wayback>, sender: &BodySender) -> Result<(), Trouble> {
    let send = async |bytes: Vec<u8>| {
        sender.send(bytes.into()).await.map_err(|_| {
            let message = "nobody reads the volume any more";
            Trouble::operator(offsite_proto::error::ErrorCode::WrongState, message, "")
        })
    };
    send(content::head(content::Head {
        point: Text(opened.point()),
        bytes: Big(opened.bytes()),
        data_bytes: Big(opened.data_bytes()),
    }))
    .await?;
    let (parts, mut made) = mpsc::channel(1);
    let progress = Progress::default();
    let reading = async {
        let parts = parts;
        opened.read(&progress, &parts).await
    };
    let sending = async {
        while let Some(part) = made.recv().await {
            match part {
                Part::Zeros(n) => send(content::zeros(n).to_vec()).await?,
                Part::Bytes(bytes) => {
                    send(content::bytes_header(bytes.len() as u64).to_vec()).await?;
                    send(bytes).await?;
                }
            }
        }
        Ok(())
    };
    let (read, sent) = tokio::join!(reading, sending);
    sent.and(read)?;
    send(content::end(content::End { bytes: Big(opened.bytes()) })).await
}
