//! Row 60: an operator's decision, from what he typed to the grants that the machine keeps.
//!
//! What he leaves out comes from the settings; what he names must exist. An account that is bound
//! to tenants decides only about requests that an enrolment code assigned to one of them, and
//! accepts only into them.
//!
//! **Absent:** when a decision may be taken (`exchange::pairing::target`), certificates (`issue`).

use offsite_exchange::pairing::target::{Decision, Grants, Input, Reply, TypedCode, Verdict};
use offsite_exchange::pairing::{AgentDecision, PublicKey};
use offsite_model::{CoreId, Digest, TenantId};
use offsite_proto::endpoint::Action;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::operator::{Decide, Decided};
use offsite_proto::pairing::Resolution;
use offsite_store::catalog::Rows;

use crate::Target;
use crate::authority::{Object, permits};
use crate::drive::draw_serial;
use crate::failure::Failure;
use crate::names::check_message;
use crate::peers::Step;
use crate::peers::tables::PeerRow;
use crate::principal::Principal;
use crate::{storage_list, tenants};

/// Days of the longest lock that one person may set.
const LOCK_DAYS_MAX: u32 = tenants::LOCK_DAYS_MAX;

impl Target {
    /// Takes an operator's decision.
    ///
    /// # Errors
    /// Those of row 60.
    pub fn decide(&self, principal: &Principal, decide: &Decide) -> Result<Decided, Refusal> {
        let message = decide.message.as_deref().unwrap_or_default();
        check_message(message)?;
        if !decide.accept && message.trim().is_empty() {
            return Err(Refusal::new(
                ErrorCode::MessageRequired,
                "a rejection needs a message for the source's operator",
            ));
        }
        let reply = self.advance(principal, |step| {
            let row = self.request_for(step, principal, decide)?;
            let decision = self.decision(step, principal, &row, decide)?;
            Ok((row, Input::Decide(decision)))
        })?;
        let Reply::Decided { request, resolution } = reply else {
            return Err(Refusal::new(ErrorCode::Internal, "the decision was not taken"));
        };
        let name = offsite_proto::operator::RequestName::Id(request);
        let place = self.register().named(name)?.and_then(|row| row.place);
        let place = place.filter(|_| resolution == Resolution::Accepted);
        let role = match &place {
            Some(place) => self.role(place.sid)?,
            None => None,
        };
        let tenant = match &place {
            Some(place) => self.tenant_name(place.tenant.0)?,
            None => None,
        };
        Ok(Decided {
            request_id: request.into(),
            status: resolution,
            sid: place.as_ref().map(|place| place.sid),
            role,
            tenant,
        })
    }

    /// The row that the operator names, if it is there for him.
    fn request_for(
        &self,
        step: &mut Step<'_>,
        principal: &Principal,
        decide: &Decide,
    ) -> Result<PeerRow, Failure> {
        let unknown = "no such pairing request";
        let Some(row) = step.peer_named(decide.request_id)? else {
            let lapsed = step.has_lapsed(decide.request_id)? && principal.tenants().is_unbounded();
            return Err(if lapsed {
                Failure::refused(
                    ErrorCode::RequestExpired,
                    "the request lapsed before it was decided",
                )
            } else {
                Failure::refused(ErrorCode::RequestUnknown, unknown)
            });
        };
        let object = request_object(&row);
        permits(principal, Action::DecideRequest, &object)
            .terms(ErrorCode::RequestUnknown, unknown)?;
        Ok(row)
    }

    fn decision(
        &self,
        step: &mut Step<'_>,
        principal: &Principal,
        row: &PeerRow,
        decide: &Decide,
    ) -> Result<Decision, Failure> {
        let seen =
            decide.digest.as_deref().map(str::parse::<Digest>).transpose().map_err(|_| {
                Failure::refused(ErrorCode::BadRequest, "the digest is not one of 64 digits")
            })?;
        let message = decide.message.clone().filter(|message| !message.is_empty());
        let verdict = if decide.accept {
            Verdict::Accept {
                code: self.typed(decide),
                grants: self.grants(step, principal, row, decide)?,
                message,
                subject: CoreId::random(&*self.world().luck),
                serial: draw_serial(&*self.world().luck),
            }
        } else {
            Verdict::Reject { message: message.unwrap_or_default() }
        };
        Ok(Decision {
            request: row.pending().request,
            by: principal.to_string(),
            target_key: self.public_key(),
            seen,
            policy: self.settings().policy_digest(),
            verdict,
        })
    }

    fn typed(&self, decide: &Decide) -> TypedCode {
        match &decide.check_code {
            Some(code) => code.parse().map_or(TypedCode::Malformed, TypedCode::Code),
            None if self.settings().pairing.require_check_code => TypedCode::Missing,
            None => TypedCode::None,
        }
    }

    fn grants(
        &self,
        step: &mut Step<'_>,
        principal: &Principal,
        row: &PeerRow,
        decide: &Decide,
    ) -> Result<Grants, Failure> {
        let defaults = &self.settings().acceptance;
        let storage = storage_list::find(step.rows(), decide.storage_id)?;
        let lock_days = decide.lock_days.unwrap_or(defaults.lock_days);
        if lock_days > LOCK_DAYS_MAX {
            return Err(Failure::refused(
                ErrorCode::BadRequest,
                format!("a lock is at most {LOCK_DAYS_MAX} days"),
            ));
        }
        Ok(Grants {
            tenant: self.tenant(step.rows(), principal, row, decide)?.map(TenantId::to_bytes),
            storage: Some(storage.number.into()),
            quota_bytes: decide.quota_bytes.map(|bytes| bytes.0).or(defaults.quota_bytes),
            allow_restore: decide.allow_restore.unwrap_or(defaults.allow_restore),
            lock_days,
            agents: agents(row, decide)?,
        })
    }

    /// The tenant the source goes to; none for one of its own.
    fn tenant<R: Rows + ?Sized>(
        &self,
        rows: &R,
        principal: &Principal,
        row: &PeerRow,
        decide: &Decide,
    ) -> Result<Option<TenantId>, Failure> {
        let mine = |tenant| permits(principal, Action::DecideRequest, &Object::Tenant(tenant));
        match (&decide.tenant, row.arrival.tenant) {
            (Some(name), _) => {
                // Not the caller's, and not there, are one answer.
                let tenant = tenants::find(rows, name)?.id;
                mine(tenant)
                    .is_granted()
                    .then_some(Some(tenant))
                    .ok_or_else(|| tenants::unknown(name))
            }
            (None, Some(assigned)) => Ok(Some(assigned.0)),
            // A tenant that does not exist yet is in nobody's bounds.
            (None, None) if !principal.tenants().is_unbounded() => Err(Failure::refused(
                ErrorCode::TenantUnknown,
                "name one of your tenants; this account cannot make a new one",
            )),
            (None, None) => Ok(None),
        }
    }

    fn tenant_name(&self, tenant: TenantId) -> Result<Option<String>, Refusal> {
        let row = self.register().look(|rows| tenants::by_id(rows, tenant))?;
        Ok(row.map(|row| row.name))
    }

    /// The role of a system, in the published words.
    pub(crate) fn role(&self, sid: i64) -> Result<Option<String>, Refusal> {
        let systems = self.register().systems()?;
        let system = systems.into_iter().find(|system| system.sid == sid);
        Ok(system.map(|system| system.role.as_str().to_owned()))
    }

    /// The key that sources pin, as machines keep keys.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from_der(self.identity().certificate.spki().as_der())
    }

    /// Ends the pairing with this id, on an operator's word. Open connections of its keys are cut
    /// before this returns.
    ///
    /// # Errors
    /// `system_unknown` where there is no such pairing for this caller; `wrong_state` where it is
    /// not decided yet.
    pub fn revoke(&self, principal: &Principal, subject: CoreId) -> Result<(), Refusal> {
        let unknown = "no such source";
        self.advance(principal, |step| {
            let row = step.peer_of_subject(subject)?;
            let row = row.ok_or_else(|| Failure::refused(ErrorCode::SystemUnknown, unknown))?;
            permits(principal, Action::RevokeSource, &source_object(&row))
                .terms(ErrorCode::SystemUnknown, unknown)?;
            Ok((row, Input::Revoke { by: principal.to_string() }))
        })
        .map(|_| ())
    }
}

impl Target {
    /// Gives or takes a source's right to read its own points back. Giving is for those who may
    /// accept it, taking for those who may revoke it; what is being read ends before this returns.
    ///
    /// # Errors
    /// `system_unknown` where there is no such pairing for this caller; `wrong_state` where it is
    /// not decided yet or has ended.
    pub fn allow_restore(
        &self,
        principal: &Principal,
        subject: CoreId,
        is_allowed: bool,
    ) -> Result<(), Refusal> {
        let unknown = "no such source";
        let action = if is_allowed { Action::DecideRequest } else { Action::RevokeSource };
        self.advance(principal, |step| {
            let row = step.peer_of_subject(subject)?;
            let row = row.ok_or_else(|| Failure::refused(ErrorCode::SystemUnknown, unknown))?;
            permits(principal, action, &source_object(&row))
                .terms(ErrorCode::SystemUnknown, unknown)?;
            Ok((row, Input::AllowRestore { by: principal.to_string(), is_allowed }))
        })
        .map(|_| ())
    }
}

fn agents(row: &PeerRow, decide: &Decide) -> Result<Vec<AgentDecision>, Failure> {
    let asked = &row.asked().wish.agents;
    if let Some(chosen) = &decide.agents {
        let is_asked = |id| asked.iter().any(|agent| agent.id == id);
        if let Some(stranger) = chosen.iter().find(|id| !is_asked(id.0)) {
            return Err(Failure::refused(
                ErrorCode::AgentUnknown,
                format!("the request does not ask for agent {stranger}"),
            ));
        }
    }
    let is_chosen = |id| match &decide.agents {
        None => true,
        Some(chosen) => chosen.iter().any(|agent| agent.0 == id),
    };
    Ok(asked
        .iter()
        .map(|agent| AgentDecision { id: agent.id, is_accepted: is_chosen(agent.id) })
        .collect())
}

/// A row as an object of the authority table: a request until it is accepted, then a source.
#[must_use]
pub(crate) fn request_object(row: &PeerRow) -> Object {
    let tenant = row.place.as_ref().map(|place| place.tenant).or(row.arrival.tenant);
    Object::Request { thumbprint: row.thumbprint(), tenant: tenant.map(|tenant| tenant.0) }
}

/// A pairing as an object of the authority table.
#[must_use]
pub(crate) fn source_object(row: &PeerRow) -> Object {
    match &row.place {
        Some(place) => Object::Source { source: place.subject.0, tenant: place.tenant.0 },
        None => request_object(row),
    }
}
