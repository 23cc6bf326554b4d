//! Sources and their agents: what is paired here, and its end.

use std::sync::Arc;

use offsite_exchange::pairing::target::{Acceptance, EndedBy, Stage};
use offsite_model::{CoreId, Span};
use offsite_proto::admin::target::{
    Adopt, AdoptSource, Agent, AllowRestore, Approval, DenyRestore, ListAgents, ListSources,
    RevokeSource, ShowAgent, ShowSource, Source, SourceAgent,
};
use offsite_proto::endpoint::Action;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::text::{Big, Text, Time};
use offsite_transport::{Call, Reply};

use super::context::{Operators, answer};
use super::kept::{Kept, changed_bytes};
use super::show::tenant_name;
use super::{approvals, requests};
use crate::accept::source_object;
use crate::approvals::Act;
use crate::authority::permits;
use crate::peers::tables::{PeerRow, thumbprint_of};
use crate::principal::Principal;
use crate::replicas::Owner;

const UNKNOWN: &str = "no such source";
/// A source that was heard of within this time is online: it synchronises every minute.
const ONLINE_WITHIN: Span = Span::from_secs(180);

/// Sources.
pub(super) async fn list(
    state: Arc<Operators>,
    call: Call<ListSources, Principal>,
) -> Result<Reply<Json<Vec<Source>>>, Refusal> {
    answer(state, move |state| {
        let rows = visible(state, &call.principal, Action::ReadStatus)?;
        rows.iter().map(|row| source(state, row)).collect()
    })
    .await
}

/// One source.
pub(super) async fn show(
    state: Arc<Operators>,
    call: Call<ShowSource, Principal>,
) -> Result<Reply<Json<Source>>, Refusal> {
    answer(state, move |state| {
        let row = find(state, &call.principal, Action::ReadStatus, &call.params.0)?;
        source(state, &row)
    })
    .await
}

/// Ends a pairing at once.
pub(super) async fn revoke(
    state: Arc<Operators>,
    call: Call<RevokeSource, Principal>,
) -> Result<Reply<Json<Source>>, Refusal> {
    answer(state, move |state| {
        let row = find(state, &call.principal, Action::RevokeSource, &call.params.0)?;
        let subject = subject(&row)?;
        state.target.revoke(&call.principal, subject)?;
        let row = state.target.register().of_subject(subject)?;
        let row = row.ok_or_else(|| Refusal::new(ErrorCode::SystemUnknown, UNKNOWN))?;
        source(state, &row)
    })
    .await
}

/// Gives a source the right to read its own points back.
pub(super) async fn allow_restore(
    state: Arc<Operators>,
    call: Call<AllowRestore, Principal>,
) -> Result<Reply<Json<Source>>, Refusal> {
    answer(state, move |state| {
        set_restore(state, &call.principal, Action::DecideRequest, &call.params.0, true)
    })
    .await
}

/// Takes that right.
pub(super) async fn deny_restore(
    state: Arc<Operators>,
    call: Call<DenyRestore, Principal>,
) -> Result<Reply<Json<Source>>, Refusal> {
    answer(state, move |state| {
        set_restore(state, &call.principal, Action::RevokeSource, &call.params.0, false)
    })
    .await
}

fn set_restore(
    state: &Operators,
    by: &Principal,
    action: Action,
    name: &str,
    is_allowed: bool,
) -> Result<Source, Refusal> {
    let subject = subject(&find(state, by, action, name)?)?;
    state.target.allow_restore(by, subject, is_allowed)?;
    let row = state.target.register().of_subject(subject)?;
    let row = row.ok_or_else(|| Refusal::new(ErrorCode::SystemUnknown, UNKNOWN))?;
    source(state, &row)
}

/// Begins the adoption of a source's identity by the key of a request.
pub(super) async fn adopt(
    state: Arc<Operators>,
    call: Call<AdoptSource, Principal>,
) -> Result<Reply<Json<Approval>>, Refusal> {
    answer(state, move |state| {
        let Json(Adopt { request }) = call.body;
        let row = find(state, &call.principal, Action::FourEyes, &call.params.0)?;
        let asking = requests::find(state, &call.principal, &request)?;
        let act = Act::AdoptIdentity { source: subject(&row)?, request: asking.pending().request };
        approvals::ask(state, &call.principal, act)
    })
    .await
}

/// Agents.
pub(super) async fn agents(
    state: Arc<Operators>,
    call: Call<ListAgents, Principal>,
) -> Result<Reply<Json<Vec<Agent>>>, Refusal> {
    answer(state, move |state| {
        let agents = all_kept(state, &call.principal, Action::ListPoints)?;
        agents.iter().map(|kept| agent_view(state, kept, &agents)).collect()
    })
    .await
}

/// One agent.
pub(super) async fn agent(
    state: Arc<Operators>,
    call: Call<ShowAgent, Principal>,
) -> Result<Reply<Json<Agent>>, Refusal> {
    answer(state, move |state| {
        let (by, action) = (&call.principal, Action::ListPoints);
        let kept = kept(state, by, action, &call.params.0)?;
        agent_view(state, &kept, &all_kept(state, by, action)?)
    })
    .await
}

/// The agent that somebody names: by id, by `SOURCE/NAME`, or by a name that only one has.
pub(super) fn kept(
    state: &Operators,
    by: &Principal,
    action: Action,
    name: &str,
) -> Result<Kept, Refusal> {
    let mut found = all_kept(state, by, action)?;
    let id = name.parse().ok();
    found.retain(|kept| {
        let both = || format!("{}/{}", kept.source_name, kept.name);
        id == Some(kept.agent) || kept.name == name || both() == name
    });
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 => Err(Refusal::new(ErrorCode::AgentUnknown, format!("no such agent {name}"))),
        _ => {
            let both = |kept: &Kept| format!("{}/{}", kept.source_name, kept.name);
            let candidates: Vec<_> = found.iter().map(both).collect();
            let sentence = format!("several agents are called {name}: {}", candidates.join(", "));
            Err(Refusal::new(ErrorCode::BadRequest, sentence).with("candidates", candidates))
        }
    }
}

/// Rows that are or were a pairing, as far as the caller may do this to them.
fn visible(state: &Operators, by: &Principal, action: Action) -> Result<Vec<PeerRow>, Refusal> {
    let mut rows = state.target.register().peers()?;
    rows.retain(|row| row.place.is_some() && permits(by, action, &source_object(row)).is_granted());
    Ok(rows)
}

/// The source that somebody names by id or by a name that only one has.
fn find(state: &Operators, by: &Principal, action: Action, name: &str) -> Result<PeerRow, Refusal> {
    let mut rows = visible(state, by, action)?;
    match name.parse::<CoreId>() {
        Ok(id) => rows.retain(|row| subject(row).is_ok_and(|subject| subject == id)),
        Err(_) => rows.retain(|row| row.asked().host_name == name),
    }
    match rows.len() {
        1 => Ok(rows.swap_remove(0)),
        0 => Err(Refusal::new(ErrorCode::SystemUnknown, UNKNOWN)),
        _ => Err(Refusal::new(
            ErrorCode::BadRequest,
            format!("several sources are called {name}: give the id"),
        )),
    }
}

fn subject(row: &PeerRow) -> Result<CoreId, Refusal> {
    let place = row.place.as_ref();
    place
        .map(|place| place.subject.0)
        .ok_or_else(|| Refusal::new(ErrorCode::SystemUnknown, UNKNOWN))
}

fn acceptance(row: &PeerRow) -> Option<&Acceptance> {
    match row.machine.stage() {
        Stage::AwaitIssued(waiting) => Some(&waiting.acceptance),
        Stage::AwaitFirstUse(paired) | Stage::Active(paired) => Some(&paired.acceptance),
        Stage::Ended(ended) => Some(&ended.acceptance),
        Stage::Pending(_) | Stage::Rejected(_) | Stage::Expired(_) | Stage::Withdrawn(_) => None,
    }
}

fn state_word(row: &PeerRow) -> &'static str {
    match row.machine.stage() {
        Stage::AwaitIssued(_) | Stage::AwaitFirstUse(_) => "accepted",
        Stage::Active(_) => "active",
        Stage::Ended(ended) => match ended.by {
            EndedBy::Operator(_) => "revoked",
            EndedBy::Source { .. } => "ended",
        },
        Stage::Pending(_) | Stage::Rejected(_) | Stage::Expired(_) | Stage::Withdrawn(_) => {
            "pending"
        }
    }
}

fn source(state: &Operators, row: &PeerRow) -> Result<Source, Refusal> {
    let unknown = || Refusal::new(ErrorCode::SystemUnknown, UNKNOWN);
    let place = row.place.as_ref().ok_or_else(unknown)?;
    let acceptance = acceptance(row).ok_or_else(unknown)?;
    let last_seen = state.target.last_seen(row);
    let online = last_seen.is_some_and(|at| state.target.now().since(at) < ONLINE_WITHIN);
    let live = row.paired().map(|paired| &paired.live);
    let key = live.map_or_else(|| row.machine.key(), |live| &live.order.key);
    let fingerprint: String = thumbprint_of(key).iter().map(|byte| format!("{byte:02x}")).collect();
    let agents = row.asked().wish.agents.iter().map(|agent| SourceAgent {
        agent_id: Text(agent.id),
        name: agent.display_name.clone(),
        state: agent_state(acceptance, agent.id).to_owned(),
    });
    Ok(Source {
        core_id: Text(row.asked().core_id),
        source_id: Text(place.subject.0),
        name: row.asked().host_name.clone(),
        tenant: state.read(|rows| tenant_name(rows, place.tenant.0))?,
        role: state.target.role(place.sid)?.unwrap_or_default(),
        state: state_word(row).to_owned(),
        connection: if online { "online" } else { "unreachable" }.to_owned(),
        last_seen: last_seen.map(Time),
        sid: place.sid,
        storage_id: place.storage,
        fingerprint,
        certificate_not_after: live.map(|live| Time(live.order.not_after)),
        quota_bytes: acceptance.grants.quota_bytes.map(Big),
        allow_restore: acceptance.grants.allow_restore,
        lock_days: acceptance.grants.lock_days,
        agents: agents.collect(),
    })
}

fn agent_state(acceptance: &Acceptance, id: offsite_model::AgentId) -> &'static str {
    let decided = acceptance.grants.agents.iter().find(|agent| agent.id == id);
    if decided.is_some_and(|agent| agent.is_accepted) { "approved" } else { "denied" }
}

/// Accepted agents of pairings, as far as the caller may do this to them.
pub(super) fn all_kept(
    state: &Operators,
    by: &Principal,
    action: Action,
) -> Result<Vec<Kept>, Refusal> {
    let mut found = Vec::new();
    for row in visible(state, by, action)? {
        let (Some(place), Some(acceptance)) = (&row.place, acceptance(&row)) else { continue };
        let tenant = state.read(|rows| tenant_name(rows, place.tenant.0))?;
        let is_ended = matches!(row.machine.stage(), Stage::Ended(_));
        for agent in &row.asked().wish.agents {
            let word = agent_state(acceptance, agent.id);
            if word == "denied" {
                continue;
            }
            found.push(Kept {
                owner: Owner { tenant: place.tenant.0, source: place.subject.0 },
                agent: agent.id,
                name: agent.display_name.clone(),
                source_name: row.asked().host_name.clone(),
                tenant: tenant.clone(),
                state: if is_ended { "deleted" } else { word },
                logical_bytes: agent.logical_bytes,
            });
        }
    }
    Ok(found)
}

/// An agent with what is kept of it. What it takes is its share of its tenant's bytes: records are
/// kept once per tenant, and nobody can say whose they are.
fn agent_view(state: &Operators, kept: &Kept, all: &[Kept]) -> Result<Agent, Refusal> {
    let mut agent = Agent {
        agent_id: Text(kept.agent),
        name: kept.name.clone(),
        source_id: Text(kept.owner.source),
        source_name: kept.source_name.clone(),
        tenant: kept.tenant.clone(),
        state: kept.state.to_owned(),
        volumes: 0,
        recovery_points: 0,
        logical_bytes: Big(kept.logical_bytes),
        stored_bytes: Big(0),
        latest_point_at: None,
    };
    // A target without a store keeps nothing.
    let Ok(replicas) = state.target.replicas() else { return Ok(agent) };
    let points = replicas.points(&kept.owner, Some(kept.agent))?;
    let Some(newest) = points.first() else { return Ok(agent) };
    agent.volumes = newest.images.len() as u64;
    agent.recovery_points = points.len() as u64;
    agent.logical_bytes = Big(newest.bytes());
    agent.latest_point_at = Some(Time(newest.taken_at));
    let mut of_tenant = 0_u64;
    for other in all.iter().filter(|other| other.owner.tenant == kept.owner.tenant) {
        of_tenant = of_tenant.saturating_add(changed_bytes(state, &replicas, other)?);
    }
    let own = u128::from(changed_bytes(state, &replicas, kept)?);
    let stored = u128::from(replicas.store.bytes_stored(kept.owner.tenant));
    let share = stored.saturating_mul(own).checked_div(u128::from(of_tenant)).unwrap_or(0);
    agent.stored_bytes = Big(u64::try_from(share).unwrap_or(u64::MAX));
    Ok(agent)
}
