//! Answers `proto::admin::source`: what operators ask of this daemon on its local socket.
//!
//! There is one right here: whoever may open the socket and is its owner or root may do everything.
//!
//! **Absent:** decisions about pairings (the engine), the socket itself (transport), the command
//! line's words.

mod jobs;
mod keeping;
mod protection;
mod replication;
mod state;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use offsite_proto::admin::jobs as job_calls;
use offsite_proto::admin::keeping as keeping_calls;
use offsite_proto::admin::protection as protection_calls;
use offsite_proto::admin::replication as replication_calls;
use offsite_proto::admin::source::{
    self as calls, Agent, OfAgent, OfTarget, Pairing, ROWS, ShowPairing, State, Status,
};
use offsite_proto::admin::upkeep as upkeep_calls;
use offsite_proto::endpoint::{Listener, Row, Values};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::text::Text;
use offsite_transport::{Gate, Origin, Place, Reply, RouteError, Router, Routes};
use tokio::sync::oneshot;

pub use self::state::{Admin, Operator};
use self::state::{Answered, Asked, reply};
use crate::agents;
use crate::choose::choose;
use crate::engine::Handle;
use crate::error::Trouble;
use crate::event::{Order, ReplyTo};
use crate::pairing::off;
use crate::paused;

/// How long a reader waits for a change before it is told that there was none.
const CHANGE_WAIT: Duration = Duration::from_secs(20);
/// How long an order's outcome is waited for; after that the present state is told.
const ORDER_WAIT: Duration = Duration::from_secs(60);

/// Lets the owner of the daemon and root in.
#[derive(Clone, Copy, Debug)]
pub struct OwnerOnly {
    /// The user as whom the daemon runs.
    pub owner: u32,
}

impl Gate<Operator> for OwnerOnly {
    async fn admit(
        &self,
        _: &'static Row,
        _: &Values,
        origin: &Origin,
        _: &HeaderMap,
    ) -> Result<Operator, Refusal> {
        match origin.address {
            Place::Local { uid } if uid == self.owner || uid == 0 => Ok(Operator { uid }),
            _ => Err(Refusal::new(
                ErrorCode::Forbidden,
                "only the user as whom the daemon runs, and root, may give it orders",
            )),
        }
    }

    fn approved(&self, _: &Operator) -> bool {
        true
    }
}

/// The router of the local socket.
///
/// # Errors
/// A mistake of this file: a call that is not in the table, or two handlers for one.
pub fn router(admin: Arc<Admin>, owner: u32) -> Result<Arc<Router<Admin, Operator>>, RouteError> {
    let luck = Arc::clone(&admin.means.luck);
    Routes::new(
        &[
            ROWS,
            job_calls::ROWS,
            protection_calls::ROWS,
            replication_calls::ROWS,
            upkeep_calls::SOURCE_ROWS,
            keeping_calls::ROWS,
        ],
        Listener::Source,
    )
    .on::<calls::ReadStatus>(read_status)
    .on::<calls::ListAgents>(list_agents)
    .on::<calls::CreateAgent>(create_agent)
    .on::<calls::ShowAgent>(show_agent)
    .on::<calls::RemoveAgent>(remove_agent)
    .on::<calls::ListPairings>(list_pairings)
    .on::<calls::ReadPairing>(read_pairing)
    .on::<calls::FileRequest>(file_request)
    .on::<calls::Withdraw>(withdraw)
    .on::<calls::Renew>(renew)
    .on::<calls::Retry>(retry)
    .on::<calls::Reset>(reset)
    .on::<calls::End>(end)
    .on::<job_calls::ListJobs>(jobs::list)
    .on::<job_calls::ShowJob>(jobs::show)
    .on::<job_calls::CancelJob>(jobs::cancel)
    .on::<protection_calls::ListPoints>(protection::list_points)
    .on::<protection_calls::ShowPoint>(protection::show_point)
    .on::<protection_calls::DeletePoint>(protection::delete_point)
    .on::<protection_calls::ShowHooks>(protection::show_hooks)
    .on::<protection_calls::SetHooks>(protection::set_hooks)
    .raw(protection_calls::PROTECT.id, protection::protect)
    .raw(protection_calls::CONTENT.id, protection::read_content)
    .raw(protection_calls::VERIFY.id, protection::verify)
    .on::<keeping_calls::ShowRetention>(keeping::show)
    .on::<keeping_calls::ChangeRetention>(keeping::set)
    .on::<keeping_calls::PreviewRetention>(keeping::preview)
    .on::<keeping_calls::ApplyRetention>(keeping::apply)
    .raw(upkeep_calls::SOURCE_GC.id, upkeep::gc)
    .raw(upkeep_calls::SOURCE_SCRUB.id, upkeep::scrub)
    .on::<replication_calls::Pause>(replication::pause)
    .on::<replication_calls::Resume>(replication::resume)
    .raw(replication_calls::REPLICATE.id, replication::replicate)
    .finish(admin, OwnerOnly { owner }, luck)
}

async fn read_status(admin: Arc<Admin>, _: Asked<calls::ReadStatus>) -> Answered<Status> {
    let n_agents = off(&admin.means, |means| Ok(means.memory.agents()?.len())).await?;
    let uptime = admin.means.clock.uptime().as_secs().saturating_sub(admin.since.as_secs());
    let keeper = Arc::clone(&admin.keeper);
    let state = if admin.stop.is_cancelled() { "stopping" } else { "serving" };
    reply(Status {
        version: admin.version.to_owned(),
        uptime_seconds: uptime,
        state: state.to_owned(),
        source_id: Text(admin.means.identity.core_id()),
        name: admin.means.identity.name.clone(),
        agents: n_agents,
        pairings: admin.handle.pairings(),
        paused: off(&admin.means, |means| Ok(paused::list(&means.memory)?)).await?,
        upkeep: off(&admin.means, move |_| keeper.state()).await?,
    })
}

async fn list_agents(admin: Arc<Admin>, _: Asked<calls::ListAgents>) -> Answered<Vec<Agent>> {
    let files = Arc::clone(&admin.files);
    reply(off(&admin.means, move |means| agents::list(&means.memory, &*files)).await?)
}

async fn create_agent(admin: Arc<Admin>, call: Asked<calls::CreateAgent>) -> Answered<Agent> {
    let (files, Json(order)) = (Arc::clone(&admin.files), call.body);
    let agent = off(&admin.means, move |means| {
        agents::add(&means.memory, &*files, &*means.clock, &*means.luck, &order)
    })
    .await?;
    tracing::info!(agent = %agent.agent_id, name = agent.name, uid = call.principal.uid, "agent \
        added");
    Ok(Reply::new(Json(agent)).status(201))
}

async fn show_agent(admin: Arc<Admin>, call: Asked<calls::ShowAgent>) -> Answered<Agent> {
    let (files, OfAgent(name)) = (Arc::clone(&admin.files), call.params);
    let agent = off(&admin.means, move |means| {
        let row = agents::find(&means.memory, &name)?;
        Ok(agents::view(&*files, &row))
    });
    reply(agent.await?)
}

async fn remove_agent(admin: Arc<Admin>, call: Asked<calls::RemoveAgent>) -> Answered<Agent> {
    let (files, OfAgent(name)) = (Arc::clone(&admin.files), call.params);
    let pairings = admin.handle.pairings();
    let agent = off(&admin.means, move |means| {
        let row = agents::find(&means.memory, &name)?;
        let is_live = |pairing: &&Pairing| {
            matches!(pairing.state, State::Pending | State::Accepted | State::Active)
                && pairing.agents.contains(&row.name)
        };
        if let Some(pairing) = pairings.iter().find(is_live) {
            let target = pairing.target.as_deref().unwrap_or("a target");
            return Err(Trouble::operator(
                ErrorCode::WrongState,
                format!("agent {} is part of the pairing with {target}", row.name),
                format!("end the pairing first: offsite-source unpair {target}"),
            ));
        }
        let shown = agents::view(&*files, &row);
        means.memory.remove_agent(row.agent_id())?;
        Ok(shown)
    })
    .await?;
    tracing::info!(agent = %agent.agent_id, name = agent.name, uid = call.principal.uid, "agent \
        removed");
    reply(agent)
}

async fn list_pairings(admin: Arc<Admin>, _: Asked<calls::ListPairings>) -> Answered<Vec<Pairing>> {
    reply(admin.handle.pairings())
}

async fn read_pairing(admin: Arc<Admin>, call: Asked<calls::ReadPairing>) -> Answered<Pairing> {
    let ShowPairing { target, after } = call.params;
    let mut handle = admin.handle.clone();
    let mut pairing = pick(&handle, target.as_deref())?;
    let change = async {
        while after == Some(pairing.change) {
            handle.changed().await;
            pairing = pick(&handle, target.as_deref())?;
        }
        Ok::<_, Refusal>(())
    };
    tokio::select! {
        found = change => found?,
        () = tokio::time::sleep(CHANGE_WAIT) => {}
        () = admin.stop.cancelled() => {}
    }
    reply(pairing)
}

/// The pairing with a target, or the newest; without any there is one that says so.
fn pick(handle: &Handle, target: Option<&str>) -> Result<Pairing, Refusal> {
    let mut pairings = handle.pairings();
    let Some(target) = target else {
        return Ok(pairings.pop().unwrap_or_else(Pairing::none));
    };
    let index = choose(target, &pairings)?;
    Ok(pairings.swap_remove(index))
}

async fn file_request(admin: Arc<Admin>, call: Asked<calls::FileRequest>) -> Answered<Pairing> {
    let Json(request) = call.body;
    give(&admin, |reply| Order::Request(request, reply)).await
}

async fn withdraw(admin: Arc<Admin>, call: Asked<calls::Withdraw>) -> Answered<Pairing> {
    let OfTarget(target) = call.params;
    give(&admin, |reply| Order::Withdraw(target, reply)).await
}

async fn renew(admin: Arc<Admin>, call: Asked<calls::Renew>) -> Answered<Pairing> {
    let OfTarget(target) = call.params;
    give(&admin, |reply| Order::Renew(target, reply)).await
}

async fn retry(admin: Arc<Admin>, call: Asked<calls::Retry>) -> Answered<Pairing> {
    let OfTarget(target) = call.params;
    give(&admin, |reply| Order::Retry(target, reply)).await
}

async fn reset(admin: Arc<Admin>, call: Asked<calls::Reset>) -> Answered<calls::ResetDone> {
    let OfTarget(target) = call.params;
    give(&admin, |reply| Order::Reset(target, reply)).await
}

async fn end(admin: Arc<Admin>, call: Asked<calls::End>) -> Answered<Pairing> {
    let Json(order) = call.body;
    give(&admin, |reply| Order::End(order, reply)).await
}

/// Gives an order to the engine and waits for what comes of it.
async fn give<T>(admin: &Admin, order: impl FnOnce(ReplyTo<T>) -> Order) -> Answered<T> {
    let (to_us, answer) = oneshot::channel();
    admin.handle.order(order(to_us)).await?;
    match tokio::time::timeout(ORDER_WAIT, answer).await {
        Ok(Ok(result)) => reply(result?),
        Ok(Err(_)) => {
            Err(Trouble::us("the daemon stopped before the order was carried out").into())
        }
        Err(_) => Err(Refusal::from(Trouble::peer(
            ErrorCode::TargetUnreachable,
            "the target has not answered yet; the order stands and is tried on",
            "watch it with: offsite-source pair status",
        ))),
    }
}
