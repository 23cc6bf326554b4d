//! Requests to pair: the list, one of them, and the decision.

use std::sync::Arc;

use offsite_model::AgentId;
use offsite_proto::admin::target::{
    Accept, AcceptRequest, Decided, ListRequests, RejectRequest, Request, RequestedAgent,
    ShowRequest,
};
use offsite_proto::endpoint::Action;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::operator::{self, RequestName};
use offsite_proto::pairing::Resolution;
use offsite_proto::text::Text;
use offsite_transport::{Call, Reply};

use super::context::{Operators, answer};
use super::show::tenant_name;
use crate::accept::request_object;
use crate::authority::permits;
use crate::peers::tables::PeerRow;
use crate::principal::Principal;
use offsite_exchange::pairing::target::Stage;

const UNKNOWN: &str = "no such pairing request";

/// Requests that wait, or all that are remembered.
pub(super) async fn list(
    state: Arc<Operators>,
    call: Call<ListRequests, Principal>,
) -> Result<Reply<Json<Vec<Request>>>, Refusal> {
    answer(state, move |state| {
        let mut shown = Vec::new();
        for row in state.target.register().peers()? {
            let status = resolution(&row, state);
            let is_wanted = call.params.all || status == Resolution::Pending;
            if is_wanted && may_see(&call.principal, &row) {
                shown.push(request(state, &row)?);
            }
        }
        Ok(shown)
    })
    .await
}

/// One request.
pub(super) async fn show(
    state: Arc<Operators>,
    call: Call<ShowRequest, Principal>,
) -> Result<Reply<Json<Request>>, Refusal> {
    answer(state, move |state| {
        let row = find(state, &call.principal, &call.params.0)?;
        request(state, &row)
    })
    .await
}

/// The request that somebody names, where he may see it.
pub(super) fn find(state: &Operators, by: &Principal, name: &str) -> Result<PeerRow, Refusal> {
    let unknown = || Refusal::new(ErrorCode::RequestUnknown, UNKNOWN);
    let name: RequestName = name.parse().map_err(|_| unknown())?;
    let row = state.target.register().named(name)?.ok_or_else(unknown)?;
    if may_see(by, &row) { Ok(row) } else { Err(unknown()) }
}

fn may_see(by: &Principal, row: &PeerRow) -> bool {
    permits(by, Action::ListRequests, &request_object(row)).is_granted()
}

fn resolution(row: &PeerRow, state: &Operators) -> Resolution {
    match row.machine.stage() {
        Stage::Pending(pending) if state.target.now() < pending.expires_at => Resolution::Pending,
        Stage::Pending(_) | Stage::Expired(_) | Stage::Withdrawn(_) => Resolution::Expired,
        Stage::Rejected(_) => Resolution::Rejected,
        Stage::AwaitIssued(_) | Stage::AwaitFirstUse(_) | Stage::Active(_) | Stage::Ended(_) => {
            Resolution::Accepted
        }
    }
}

fn request(state: &Operators, row: &PeerRow) -> Result<Request, Refusal> {
    let shown = state.target.shown_request(row);
    let tenant = match row.arrival.tenant {
        Some(tenant) => Some(state.read(|rows| tenant_name(rows, tenant.0))?),
        None => None,
    };
    Ok(Request {
        request_id: shown.request_guid,
        number: shown.request_id,
        source_id: shown.source_id,
        source_name: shown.source_name,
        status: resolution(row, state),
        check_code: shown.check_code,
        agents: shown
            .agents
            .into_iter()
            .map(|agent| RequestedAgent {
                agent_id: agent.id,
                name: agent.display_name,
                logical_bytes: agent.logical_bytes,
            })
            .collect(),
        customer_id: shown.customer_id,
        email: shown.email,
        comment: shown.comment,
        address: shown.address,
        created_at: shown.created_at,
        expires_at: shown.expires_at,
        version: shown.version,
        digest: shown.digest,
        tenant,
        locked: shown.locked,
        warnings: shown.warnings,
    })
}

/// Accepts a request.
pub(super) async fn accept(
    state: Arc<Operators>,
    call: Call<AcceptRequest, Principal>,
) -> Result<Reply<Json<Decided>>, Refusal> {
    answer(state, move |state| {
        let Json(accept) = call.body;
        let row = find(state, &call.principal, &call.params.0)?;
        let decide = decision(&row, accept)?;
        state.target.decide(&call.principal, &decide).map(decided)
    })
    .await
}

/// Unlike row 60, this call takes no silence for a wish: the code, or the express word that there
/// is none.
fn decision(row: &PeerRow, accept: Accept) -> Result<operator::Decide, Refusal> {
    let refused = |why: &str| Err(Refusal::new(ErrorCode::BadRequest, why));
    match (&accept.check_code, accept.without_code) {
        (None, false) => return refused("give the check code, or say that you go without it"),
        (Some(_), true) => return refused("give the check code or go without it, not both"),
        (Some(_), false) | (None, true) => {}
    }
    let agents = match accept.agents {
        None => None,
        Some(named) => {
            let chosen: Result<Vec<_>, _> = named.iter().map(|name| agent(row, name)).collect();
            Some(chosen?)
        }
    };
    Ok(operator::Decide {
        request_id: RequestName::Id(row.pending().request),
        accept: true,
        message: accept.message,
        storage_id: accept.storage_id,
        check_code: accept.check_code,
        digest: Some(accept.digest),
        tenant: accept.tenant,
        quota_bytes: accept.quota_bytes,
        allow_restore: accept.allow_restore,
        lock_days: accept.lock_days,
        agents,
    })
}

/// The agent of a request that an operator names, by name or id. A name that two agents have says
/// nothing.
fn agent(row: &PeerRow, name: &str) -> Result<Text<AgentId>, Refusal> {
    let by_id: Option<AgentId> = name.parse().ok();
    let named: Vec<_> = row
        .asked()
        .wish
        .agents
        .iter()
        .filter(|agent| Some(agent.id) == by_id || agent.display_name == name)
        .map(|agent| agent.id)
        .collect();
    match named[..] {
        [one] => Ok(Text(one)),
        [] => Err(Refusal::new(
            ErrorCode::AgentUnknown,
            format!("the request does not ask for an agent {name}"),
        )),
        _ => Err(Refusal::new(
            ErrorCode::BadRequest,
            format!("several agents of the request are called {name}: give the id"),
        )),
    }
}

/// Rejects a request.
pub(super) async fn reject(
    state: Arc<Operators>,
    call: Call<RejectRequest, Principal>,
) -> Result<Reply<Json<Decided>>, Refusal> {
    answer(state, move |state| {
        let row = find(state, &call.principal, &call.params.0)?;
        let decide = operator::Decide {
            request_id: RequestName::Id(row.pending().request),
            accept: false,
            message: Some(call.body.0.message),
            storage_id: None,
            check_code: None,
            digest: None,
            tenant: None,
            quota_bytes: None,
            allow_restore: None,
            lock_days: None,
            agents: None,
        };
        state.target.decide(&call.principal, &decide).map(decided)
    })
    .await
}

fn decided(decided: operator::Decided) -> Decided {
    Decided {
        request_id: decided.request_id,
        status: decided.status,
        sid: decided.sid,
        role: decided.role,
        tenant: decided.tenant,
    }
}
