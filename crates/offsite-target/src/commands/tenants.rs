//! Verbs about tenants.

use offsite_proto::admin::target::{
    AddTenant, ChangeTenant, DeleteTenant, ListTenants, MakeTenant, OfTenant, SetTenant,
    ShortenLock, ShortenTenantLock, Tenant,
};
use offsite_proto::json::Json;
use offsite_proto::text::Big;
use offsite_terminal::{Exit, Failure, facts, size, table};

use super::approvals;
use crate::cli::Tenants;
use crate::context::Context;

/// Runs them.
pub(crate) async fn run(context: &Context, verb: Tenants) -> Result<Exit, Failure> {
    match verb {
        Tenants::List => list(context).await,
        Tenants::Add { name } => {
            let Json(tenant) = context.ask::<MakeTenant>(&(), &Json(AddTenant { name })).await?;
            context.out.result(&tenant, text)
        }
        Tenants::Set { name, quota, lock, governance } => {
            if quota.is_none() && lock.is_none() && governance.is_none() {
                let sentence = "say what to set: --quota, --lock or --governance";
                return Err(Failure::usage(sentence, ""));
            }
            let quota_bytes = quota.map(|quota| Big(quota.bytes()));
            let body =
                Json(ChangeTenant { quota_bytes, lock_days: lock, governance_days: governance });
            let Json(tenant) = context.ask::<SetTenant>(&OfTenant(name), &body).await?;
            context.out.result(&tenant, text)
        }
        Tenants::ShortenLock { name, governance } => {
            let body = Json(ShortenLock { governance_days: governance });
            let Json(approval) = context.ask::<ShortenTenantLock>(&OfTenant(name), &body).await?;
            context.out.result(&approval, approvals::waiting)
        }
        Tenants::Delete { name } => {
            let Json(approval) = context.ask::<DeleteTenant>(&OfTenant(name), &()).await?;
            context.out.result(&approval, approvals::waiting)
        }
    }
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let Json(tenants) = context.ask::<ListTenants>(&(), &()).await?;
    context.out.result(&tenants, |tenants| {
        table(
            ["NAME", "ID", "SOURCES", "QUOTA", "LOCK"],
            tenants.iter().map(|tenant| {
                [
                    tenant.name.clone(),
                    tenant.tenant_id.to_string(),
                    tenant.sources.to_string(),
                    quota(tenant),
                    format!("{} days", tenant.lock_days),
                ]
            }),
        )
    })
}

fn quota(tenant: &Tenant) -> String {
    tenant.quota_bytes.map_or_else(|| "none".to_owned(), |bytes| size(bytes.0))
}

fn text(tenant: &Tenant) -> String {
    facts(&[
        ("tenant", Some(tenant.name.clone())),
        ("id", Some(tenant.tenant_id.to_string())),
        ("quota", Some(quota(tenant))),
        ("lock", Some(format!("{} days", tenant.lock_days))),
        ("governance lock", Some(format!("{} days", tenant.governance_days))),
        ("sources", Some(tenant.sources.to_string())),
    ])
}
