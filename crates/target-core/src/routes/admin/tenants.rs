//! Tenants: made, bounded, listed, ended.

use std::collections::HashMap;
use std::sync::Arc;

use offsite_model::TenantId;
use offsite_proto::admin::target::{
    Approval, DeleteTenant, ListTenants, MakeTenant, SetTenant, Tenant,
};
use offsite_proto::endpoint::Action;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_store::catalog::Rows;
use offsite_transport::{Call, Reply};

use super::context::{Operators, answer, require};
use super::{approvals, show};
use crate::approvals::Act;
use crate::audit::Event;
use crate::authority::{Object, sees};
use crate::failure::Failure;
use crate::principal::Principal;
use crate::tenants::{self, TenantRow};

/// Tenants, as far as the caller sees them.
pub(super) async fn list(
    state: Arc<Operators>,
    call: Call<ListTenants, Principal>,
) -> Result<Reply<Json<Vec<Tenant>>>, Refusal> {
    answer(state, move |state| {
        let counts = n_sources(state)?;
        let tenants = state.read(|rows| tenants::list(rows))?;
        let visible = tenants.iter().filter(|row| sees(&call.principal, &Object::Tenant(row.id)));
        visible.map(|row| shown(state, row, &counts)).collect()
    })
    .await
}

/// Makes a tenant.
pub(super) async fn add(
    state: Arc<Operators>,
    call: Call<MakeTenant, Principal>,
) -> Result<Reply<Json<Tenant>>, Refusal> {
    let reply = answer(state, move |state| {
        let name = call.body.0.name;
        let row = state.write(&call.principal, |rows, deed| tenants::add(rows, deed, &name))?;
        shown(state, &row, &HashMap::new())
    })
    .await?;
    Ok(reply.status(201))
}

/// Sets quota and locks.
pub(super) async fn set(
    state: Arc<Operators>,
    call: Call<SetTenant, Principal>,
) -> Result<Reply<Json<Tenant>>, Refusal> {
    answer(state, move |state| {
        let Json(change) = call.body;
        let quota = change.quota_bytes.map(|bytes| bytes.0);
        let found =
            state.read(|rows| named(rows, &call.principal, Action::SetPolicy, &call.params.0))?;
        let set = state.write(&call.principal, |rows, deed| {
            tenants::set(rows, deed, found.id, quota, change.lock_days)
        });
        if let Err(refusal) = &set
            && refusal.code == ErrorCode::RetentionLocked
        {
            let facts = [("shorten", "lock".to_owned()), ("name", found.name)];
            state.target.write_audit(&call.principal, found.id, Event::Refused, &facts)?;
        }
        let row = set?;
        state.target.raise_lock(row.id, None, row.lock_days)?;
        if let Some(days) = change.governance_days {
            state.target.lengthen_governance(&call.principal, &row, days)?;
        }
        shown(state, &row, &n_sources(state)?)
    })
    .await
}

/// Begins the deletion of a tenant.
pub(super) async fn delete(
    state: Arc<Operators>,
    call: Call<DeleteTenant, Principal>,
) -> Result<Reply<Json<Approval>>, Refusal> {
    let reply = answer(state, move |state| {
        let found =
            state.read(|rows| named(rows, &call.principal, Action::FourEyes, &call.params.0))?;
        approvals::ask(state, &call.principal, Act::DeleteTenant { tenant: found.id })
    })
    .await?;
    Ok(reply.status(202))
}

/// The tenant that somebody names, where he may do this to it. Not his and not there are one
/// answer.
pub(super) fn named<R: Rows + ?Sized>(
    rows: &R,
    by: &Principal,
    action: Action,
    name: &str,
) -> Result<TenantRow, Failure> {
    let row = tenants::find(rows, name)?;
    let sentence = format!("there is no tenant {name}");
    require(by, action, &Object::Tenant(row.id), ErrorCode::TenantUnknown, &sentence)?;
    Ok(row)
}

fn shown(
    state: &Operators,
    row: &TenantRow,
    counts: &HashMap<TenantId, usize>,
) -> Result<Tenant, Refusal> {
    // A target without a store has no governance locks.
    let lock = state.target.tenant_lock(row.id).unwrap_or_default();
    let n_sources = counts.get(&row.id).copied().unwrap_or_default();
    Ok(show::tenant(row, lock.governance_days, n_sources))
}

fn n_sources(state: &Operators) -> Result<HashMap<TenantId, usize>, Refusal> {
    let mut counts = HashMap::new();
    for row in state.target.register().peers()? {
        if let (Some(place), Some(_)) = (&row.place, row.paired()) {
            *counts.entry(place.tenant.0).or_default() += 1;
        }
    }
    Ok(counts)
}
