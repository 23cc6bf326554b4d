//! What waits for a second person, and his answer.

use std::sync::Arc;

use offsite_model::{CoreId, Digest, JobId, PointId, RequestId, Span, TenantId};
use offsite_proto::admin::target::{Approval, ApproveApproval, ListApprovals, RejectApproval};
use offsite_proto::endpoint::Action;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_store::catalog::RowsMut;
use offsite_transport::{Call, Reply};

use super::context::{Operators, answer as answer_with, require};
use super::show;
use crate::Target;
use crate::adopt;
use crate::approvals::{self, Act, Answer, ApprovalRow, Register, Seen};
use crate::authority::{Object, sees};
use crate::failure::Failure;
use crate::peers;
use crate::principal::Principal;

/// What waits, and what ended.
pub(super) async fn list(
    state: Arc<Operators>,
    call: Call<ListApprovals, Principal>,
) -> Result<Reply<Json<Vec<Approval>>>, Refusal> {
    answer_with(state, move |state| {
        let now = state.target.now();
        let rows = state.read(|rows| approvals::list(rows))?;
        let shown = rows.iter().filter(|row| may_see(&call.principal, row));
        Ok(shown.map(|row| show::approval(row, now)).collect())
    })
    .await
}

/// What is about one tenant is not shown to those who are bound to others.
fn may_see(by: &Principal, row: &ApprovalRow) -> bool {
    match row.act {
        Act::DeleteTenant { tenant }
        | Act::Purge { tenant, .. }
        | Act::ShortenLock { tenant, .. } => sees(by, &Object::Tenant(tenant)),
        Act::AdoptIdentity { .. }
        | Act::WidenRole { .. }
        | Act::ShortenSoftDelete { .. }
        | Act::CreditClock { .. } => {
            by.tenants().is_unbounded() || by.person() == Some(row.initiator)
        }
    }
}

/// Agrees; the act is done before this is answered.
pub(super) async fn approve(
    state: Arc<Operators>,
    call: Call<ApproveApproval, Principal>,
) -> Result<Reply<Json<Approval>>, Refusal> {
    answer_with(state, move |state| {
        let digest: Digest = call.body.0.digest.parse().map_err(|_| {
            Refusal::new(ErrorCode::BadRequest, "the digest is not one of 64 digits")
        })?;
        answer(state, &call.principal, &call.params.0, *digest.as_bytes(), Answer::Agree)
    })
    .await
}

/// Refuses.
pub(super) async fn reject(
    state: Arc<Operators>,
    call: Call<RejectApproval, Principal>,
) -> Result<Reply<Json<Approval>>, Refusal> {
    answer_with(state, move |state| {
        answer(state, &call.principal, &call.params.0, [0; 32], Answer::Refuse)
    })
    .await
}

fn answer(
    state: &Operators,
    by: &Principal,
    id: &str,
    digest: [u8; 32],
    said: Answer,
) -> Result<Approval, Refusal> {
    let id: JobId = id.parse().map_err(|_| approvals::unknown())?;
    let target = &state.target;
    let deed = target.deed(by);
    let (row, outcomes) = target.register().step(|step| {
        if !may_see(by, &approvals::find(step.rows(), id.to_bytes())?) {
            return Err(approvals::unknown());
        }
        let row = approvals::answer(step.rows(), &deed, &Peers, id.to_bytes(), digest, said)?;
        let outcomes = match (&row.act, said) {
            (Act::AdoptIdentity { source, request }, Answer::Agree) => {
                target.adopt(step, by, *source, *request)?
            }
            _ => Vec::new(),
        };
        Ok((row, outcomes))
    })?;
    for outcome in outcomes {
        target.carry_out(outcome)?;
    }
    if said == Answer::Agree {
        carry_out(target, by, &row.act)?;
    }
    Ok(show::approval(&row, state.target.now()))
}

/// Does what of an act is the store's or the clock's.
fn carry_out(target: &Target, by: &Principal, act: &Act) -> Result<(), Refusal> {
    match *act {
        Act::Purge { tenant, point } => target.purge_early(by, tenant, PointId::from_bytes(point)),
        Act::ShortenLock { tenant, before, governance_days } => {
            target.shorten_governance(by, tenant, before, governance_days)
        }
        Act::CreditClock { micros } => {
            let time = &target.retention()?.time;
            time.credited(Span::from_micros(micros)).map_err(|cause| Failure::from(cause).into())
        }
        Act::AdoptIdentity { .. }
        | Act::WidenRole { .. }
        | Act::DeleteTenant { .. }
        | Act::ShortenSoftDelete { .. } => Ok(()),
    }
}

/// Begins an act. That the caller may, about this object, was asked before.
pub(super) fn ask(state: &Operators, by: &Principal, act: Act) -> Result<Approval, Refusal> {
    let row = state.write(by, |rows, deed| approvals::ask(rows, deed, &Peers, act))?;
    Ok(show::approval(&row, state.target.now()))
}

/// May this caller begin an act about this object.
pub(super) fn may_begin(
    by: &Principal,
    object: &Object,
    unknown: ErrorCode,
    sentence: &str,
) -> Result<(), Failure> {
    require(by, Action::FourEyes, object, unknown, sentence).map(drop)
}

/// The register of sources, as four-eyes acts need it.
pub(super) struct Peers;

impl Register for Peers {
    fn describe_adoption(
        &self,
        rows: &dyn RowsMut,
        source: CoreId,
        request: RequestId,
    ) -> Result<Seen, Failure> {
        adopt::describe(rows, source, request)
    }

    fn sources_of(&self, rows: &dyn RowsMut, tenant: TenantId) -> Result<Vec<String>, Failure> {
        peers::sources_of(rows, tenant)
    }
}
