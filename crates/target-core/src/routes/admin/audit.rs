//! The audit log, as its readers see it.

use std::sync::Arc;

use offsite_model::{TenantId, Timestamp};
use offsite_proto::admin::target::{AuditEntry, AuditVerified, ListAudit, VerifyAudit};
use offsite_proto::error::Refusal;
use offsite_proto::json::Json;
use offsite_proto::text::Time;
use offsite_transport::{Call, Reply};

use super::context::{Operators, answer};
use super::show;
use crate::audit::{self, Kept};
use crate::failure::Failure;
use crate::principal::Principal;

const SHOWN_DEFAULT: u32 = 100;
const SHOWN_MAX: u32 = 10_000;

/// The newest entries of the caller's tenants.
pub(super) async fn list(
    state: Arc<Operators>,
    call: Call<ListAudit, Principal>,
) -> Result<Reply<Json<Vec<AuditEntry>>>, Refusal> {
    answer(state, move |state| {
        let n_max = call.params.limit.unwrap_or(SHOWN_DEFAULT).min(SHOWN_MAX);
        let scope = call.principal.tenants();
        let found = state.read(|rows| {
            Ok(audit::newest(rows, &scope, usize::try_from(n_max).unwrap_or_default())?)
        })?;
        Ok(found.into_iter().map(entry).collect())
    })
    .await
}

fn entry(kept: Kept) -> AuditEntry {
    AuditEntry {
        number: kept.number,
        at: Time(Timestamp::from_micros(kept.at_micros)),
        principal: kept.principal,
        tenant_id: kept.tenant.map(|tenant| TenantId::from_bytes(tenant).to_string()),
        event: kept.event,
        facts: show::facts(&kept.facts),
    }
}

/// Checks the whole chain.
pub(super) async fn verify(
    state: Arc<Operators>,
    _: Call<VerifyAudit, Principal>,
) -> Result<Reply<Json<AuditVerified>>, Refusal> {
    answer(state, |state| {
        let found = audit::verify(&**state.target.catalog()).map_err(Failure::from)?;
        Ok(AuditVerified { entries: found.n_entries, first_bad: found.first_bad })
    })
    .await
}
