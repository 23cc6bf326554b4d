//! Retention for operators: policies, soft deletion, the clock, and what would go.

use std::cmp::Reverse;
use std::sync::Arc;

use offsite_model::retention::{Hold, Why, is_time_odd};
use offsite_model::{Clock as _, Span};
use offsite_proto::admin::target::{
    Approval, ChangeRetention, CreditRetention, PolicyShown, PreviewRetention, Previewed,
    PreviewedPoint, Retention, ShortenRetention, ShortenTenantLock, ShowRetention,
};
use offsite_proto::endpoint::Action;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::text::{Text, Time};
use offsite_transport::{Call, Reply};

use super::context::{Operators, answer, check_unbounded};
use super::kept::Kept;
use super::sources::{all_kept, kept};
use super::{approvals, tenants};
use crate::approvals::Act;
use crate::authority::Object;
use crate::failure::Failure;
use crate::principal::Principal;
use crate::retention::rules;

/// The agents that somebody names: one, or all that he may do this to.
fn named(
    state: &Operators,
    by: &Principal,
    action: Action,
    name: Option<&str>,
) -> Result<Vec<Kept>, Refusal> {
    match name {
        Some(name) => Ok(vec![kept(state, by, action, name)?]),
        None => all_kept(state, by, action),
    }
}

/// Policies, soft deletion and the clock.
pub(super) async fn show(
    state: Arc<Operators>,
    call: Call<ShowRetention, Principal>,
) -> Result<Reply<Json<Retention>>, Refusal> {
    answer(state, move |state| shown(state, &call.principal, call.params.agent.as_deref())).await
}

fn shown(state: &Operators, by: &Principal, agent: Option<&str>) -> Result<Retention, Refusal> {
    let target = &state.target;
    let time = &target.retention()?.time;
    let agents = named(state, by, Action::ListPoints, agent)?;
    let agents = agents.iter().map(|kept| {
        let held = state.read(|rows| rules::policy_of(rows, &kept.owner, kept.agent))?;
        let lock = target.lock_of(kept.owner.tenant, kept.agent)?;
        Ok(PolicyShown {
            agent_id: Text(kept.agent),
            agent: format!("{}/{}", kept.source_name, kept.name),
            policy: Text(held.policy),
            own: held.is_own,
            lock_days: lock.compliance_days.max(lock.governance_days),
        })
    });
    let agents: Result<Vec<_>, Refusal> = agents.collect();
    let paused_until = time.look(|clock| clock.is_paused().then(|| clock.paused_until()));
    Ok(Retention {
        default_policy: Text(state.read(|rows| rules::default_policy(rows))?),
        agents: agents?,
        soft_delete_days: state.read(|rows| rules::soft_delete_days(rows))?,
        clock: Time(time.now()),
        owed_seconds: time.look(|clock| clock.owed().as_secs()),
        paused_until: paused_until.map(Time),
    })
}

/// Sets a policy, or lengthens soft deletion.
pub(super) async fn set(
    state: Arc<Operators>,
    call: Call<ChangeRetention, Principal>,
) -> Result<Reply<Json<Retention>>, Refusal> {
    answer(state, move |state| {
        let (by, Json(wish), agent) = (&call.principal, call.body, call.params.agent.as_deref());
        if wish.policy.is_none() && wish.soft_delete_days.is_none() {
            return Err(Refusal::new(ErrorCode::BadRequest, "nothing was given to be set"));
        }
        if let Some(days) = wish.soft_delete_days {
            if agent.is_some() {
                let sentence = "soft deletion holds for the whole target; name no agent";
                return Err(Refusal::new(ErrorCode::BadRequest, sentence));
            }
            check_unbounded(by, "soft deletion holds for all tenants")?;
            state.write(by, |rows, deed| rules::lengthen_soft_delete(rows, deed, days))?;
        }
        if let Some(Text(policy)) = wish.policy {
            let kept = agent.map(|name| kept(state, by, Action::SetPolicy, name)).transpose()?;
            match &kept {
                None => {
                    check_unbounded(by, "the default policy holds for all tenants")?;
                    state.write(by, |rows, deed| rules::set_policy(rows, deed, None, policy))?;
                }
                Some(kept) => state.write(by, |rows, deed| {
                    let of = (&kept.owner, kept.agent, kept.name.as_str());
                    rules::set_policy(rows, deed, Some(of), policy)
                })?,
            }
            state.target.look_again();
        }
        shown(state, by, agent)
    })
    .await
}

/// What a policy would keep now, and why.
pub(super) async fn preview(
    state: Arc<Operators>,
    call: Call<PreviewRetention, Principal>,
) -> Result<Reply<Json<Vec<Previewed>>>, Refusal> {
    answer(state, move |state| {
        let by = &call.principal;
        let agents = named(state, by, Action::ListPoints, call.params.agent.as_deref())?;
        let instead = call.params.policy.map(|policy| policy.0);
        let previewed = agents.iter().map(|kept| {
            let mut decided = state.target.decided(&kept.owner, Some(kept.agent), instead)?;
            let mut decided = decided.remove(&kept.agent).unwrap_or_default();
            decided.sort_by_key(|one| Reverse((one.point.committed_at, one.point.point)));
            let points = decided.iter().map(|one| PreviewedPoint {
                id: Text(one.point.point),
                received_at: Time(one.point.committed_at),
                created_at: Time(one.point.taken_at),
                time_odd: is_time_odd(one.point.taken_at, one.point.committed_at),
                keep: one.verdict.is_kept(),
                why: one.verdict.why.iter().map(ToString::to_string).collect(),
                locked_until: one.verdict.why.iter().find_map(|why| match why {
                    Why::Held(Hold::Locked { until }) => Some(Time(*until)),
                    _ => None,
                }),
            });
            let own = state.read(|rows| rules::policy_of(rows, &kept.owner, kept.agent))?;
            Ok(Previewed {
                agent_id: Text(kept.agent),
                agent: format!("{}/{}", kept.source_name, kept.name),
                policy: Text(instead.unwrap_or(own.policy)),
                points: points.collect(),
            })
        });
        previewed.collect()
    })
    .await
}

/// Begins the shortening of soft deletion.
pub(super) async fn shorten(
    state: Arc<Operators>,
    call: Call<ShortenRetention, Principal>,
) -> Result<Reply<Json<Approval>>, Refusal> {
    let reply = answer(state, move |state| {
        let by = &call.principal;
        may_begin(by)?;
        check_unbounded(by, "soft deletion holds for all tenants")?;
        let act = Act::ShortenSoftDelete { days: call.body.0.soft_delete_days };
        approvals::ask(state, by, act)
    })
    .await?;
    Ok(reply.status(202))
}

/// Begins crediting time to the retention clock.
pub(super) async fn credit(
    state: Arc<Operators>,
    call: Call<CreditRetention, Principal>,
) -> Result<Reply<Json<Approval>>, Refusal> {
    let reply = answer(state, move |state| {
        let by = &call.principal;
        may_begin(by)?;
        check_unbounded(by, "the retention clock holds for all tenants")?;
        let micros = Span::from_secs(call.body.0.seconds).as_micros();
        approvals::ask(state, by, Act::CreditClock { micros })
    })
    .await?;
    Ok(reply.status(202))
}

/// Begins the shortening of a governance lock.
pub(super) async fn shorten_lock(
    state: Arc<Operators>,
    call: Call<ShortenTenantLock, Principal>,
) -> Result<Reply<Json<Approval>>, Refusal> {
    let reply = answer(state, move |state| {
        let by = &call.principal;
        let tenant =
            state.read(|rows| tenants::named(rows, by, Action::FourEyes, &call.params.0))?;
        let governance_days = call.body.0.governance_days;
        let before = state.target.tenant_lock(tenant.id)?.governance_days;
        if governance_days >= before {
            let sentence = format!("the governance lock is {before} days; that is no shorter");
            return Err(Refusal::new(ErrorCode::BadRequest, sentence));
        }
        approvals::ask(state, by, Act::ShortenLock { tenant: tenant.id, before, governance_days })
    })
    .await?;
    Ok(reply.status(202))
}

fn may_begin(by: &Principal) -> Result<(), Failure> {
    approvals::may_begin(by, &Object::Target, ErrorCode::Forbidden, "not with this account")
}
