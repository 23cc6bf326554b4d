//! Enrolment codes.

use std::sync::Arc;

use offsite_model::Timestamp;
use offsite_proto::admin::target::{
    AddEnrolment, Enrolment, EnrolmentAdded, ListEnrolment, MakeEnrolment,
};
use offsite_proto::endpoint::Action;
use offsite_proto::error::Refusal;
use offsite_proto::json::Json;
use offsite_proto::text::Time;
use offsite_transport::{Call, Reply};

use super::context::{Operators, answer};
use super::{show, tenants};
use crate::accounts::enrolment;
use crate::authority::{Object, sees};
use crate::principal::Principal;

/// Codes for the caller's tenants.
pub(super) async fn list(
    state: Arc<Operators>,
    call: Call<ListEnrolment, Principal>,
) -> Result<Reply<Json<Vec<Enrolment>>>, Refusal> {
    answer(state, move |state| {
        let now = state.target.now();
        state.read(|rows| {
            let codes = enrolment::list(rows)?;
            let shown =
                codes.iter().filter(|row| sees(&call.principal, &Object::Tenant(row.tenant)));
            shown
                .map(|row| {
                    let expires_at = Timestamp::from_micros(row.expires_micros);
                    let state = match row.used_by {
                        Some(_) => "used",
                        None if now < expires_at => "waiting",
                        None => "lapsed",
                    };
                    Ok(Enrolment {
                        tenant: show::tenant_name(rows, row.tenant)?,
                        note: row.note.clone(),
                        created_at: Time(Timestamp::from_micros(row.created_micros)),
                        expires_at: Time(expires_at),
                        state: state.to_owned(),
                    })
                })
                .collect()
        })
    })
    .await
}

/// Makes a code; the answer is the only place where it ever stands.
pub(super) async fn add(
    state: Arc<Operators>,
    call: Call<MakeEnrolment, Principal>,
) -> Result<Reply<Json<EnrolmentAdded>>, Refusal> {
    let reply = answer(state, move |state| {
        let Json(AddEnrolment { tenant, days, note }) = call.body;
        state.write(&call.principal, |rows, deed| {
            let tenant = tenants::named(rows, &call.principal, Action::DecideRequest, &tenant)?;
            let (row, code) = enrolment::add(rows, deed, tenant.id, days, &note)?;
            Ok(EnrolmentAdded {
                code: code.expose().clone(),
                tenant: tenant.name,
                expires_at: Time(Timestamp::from_micros(row.expires_micros)),
            })
        })
    })
    .await?;
    Ok(reply.status(201))
}
