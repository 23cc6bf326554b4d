//! How rows look in answers: accounts, tokens, tenants, approvals.

use offsite_model::{Digest, TenantId};
use offsite_proto::admin::target::{self as calls, Fact};
use offsite_proto::text::{Big, Text, Time};
use offsite_store::catalog::Rows;

use crate::accounts::tokens::TokenRow;
use crate::accounts::users::{self, UserRow};
use crate::approvals::{ApprovalRow, Seen};
use crate::authority::{Object, sees};
use crate::failure::Failure;
use crate::principal::{Principal, TenantScope};
use crate::tenants::{self, TenantRow};

/// The name of a tenant, or its id where it has no row.
pub(super) fn tenant_name<R: Rows + ?Sized>(rows: &R, id: TenantId) -> Result<String, Failure> {
    Ok(tenants::by_id(rows, id)?.map_or_else(|| id.to_string(), |tenant| tenant.name))
}

/// Names of tenants.
fn names<R: Rows + ?Sized>(rows: &R, scope: &TenantScope) -> Result<Option<Vec<String>>, Failure> {
    match scope {
        TenantScope::All => Ok(None),
        TenantScope::Only(tenants) => {
            tenants.iter().map(|id| tenant_name(rows, *id)).collect::<Result<_, _>>().map(Some)
        }
    }
}

/// The tenants that somebody names, each by name or id. Not his and not there are one answer.
pub(super) fn scope<R: Rows + ?Sized>(
    rows: &R,
    by: &Principal,
    named: Option<&[String]>,
) -> Result<TenantScope, Failure> {
    let Some(named) = named else { return Ok(TenantScope::All) };
    let find = |name: &String| {
        let id = tenants::find(rows, name)?.id;
        sees(by, &Object::Tenant(id)).then_some(id).ok_or_else(|| tenants::unknown(name))
    };
    Ok(TenantScope::only(named.iter().map(find).collect::<Result<_, Failure>>()?))
}

/// An account.
pub(super) fn user<R: Rows + ?Sized>(rows: &R, user: &UserRow) -> Result<calls::User, Failure> {
    Ok(calls::User {
        user_id: Text(user.id),
        name: user.name.clone(),
        role: user.role,
        tenants: names(rows, &user.scope())?,
        restore_grant: user.restore_grant,
        password: user.password.is_some(),
        created_at: Time(user.created_at()),
    })
}

/// A token.
pub(super) fn token<R: Rows + ?Sized>(
    rows: &R,
    token: &TokenRow,
    now: offsite_model::Timestamp,
) -> Result<calls::Token, Failure> {
    let owner = users::by_id(rows, token.user)?;
    let state = match token.revoked_micros {
        Some(_) => "revoked",
        None if token.is_live(now) => "live",
        None => "lapsed",
    };
    Ok(calls::Token {
        token_id: Text(token.id),
        user: owner.map_or_else(|| token.user.to_string(), |owner| owner.name),
        role: token.role,
        created_at: Time(offsite_model::Timestamp::from_micros(token.created_micros)),
        expires_at: Time(token.expires_at()),
        state: state.to_owned(),
    })
}

/// A tenant.
pub(super) fn tenant(tenant: &TenantRow, governance_days: u32, n_sources: usize) -> calls::Tenant {
    calls::Tenant {
        tenant_id: Text(tenant.id),
        name: tenant.name.clone(),
        quota_bytes: tenant.quota_bytes.map(Big),
        lock_days: tenant.lock_days,
        governance_days,
        sources: n_sources,
        created_at: Time(tenant.created_at()),
    }
}

/// An approval.
pub(super) fn approval(row: &ApprovalRow, now: offsite_model::Timestamp) -> calls::Approval {
    calls::Approval {
        approval_id: offsite_model::JobId::from_bytes(row.id).to_string(),
        act: row.act.word().to_owned(),
        what: facts(&row.seen),
        digest: Digest::from_bytes(row.digest).to_string(),
        initiator: row.initiator_name.clone(),
        state: row.state_at(now).word().to_owned(),
        asked_at: Time(offsite_model::Timestamp::from_micros(row.asked_micros)),
        expires_at: Time(row.ends_at()),
    }
}

/// Facts by name.
pub(super) fn facts(facts: &Seen) -> Vec<Fact> {
    let fact = |(name, value): &(String, String)| Fact { name: name.clone(), value: value.clone() };
    facts.iter().map(fact).collect()
}
