//! The admin API: what operators ask of this target, over the operator listener and over the local
//! socket.
//!
//! Both doors lead to the same handlers; they differ in how a caller is known: a token there; the
//! kernel's word here, or the token of whoever shows one. The gate asks the authority table whether
//! this caller may do this at all, the handler asks again about the object.
//!
//! **Absent:** what the acts do (`accounts`, `tenants`, `approvals`, `accept`), list A (`list_a`).

mod accounts;
mod approvals;
mod audit;
mod context;
mod enrolment;
mod gate;
mod kept;
mod login;
mod pairing;
mod points;
mod removal;
mod report;
mod requests;
mod retention;
mod show;
mod sources;
mod status;
mod storage;
mod stream;
mod tenants;
mod tokens;
mod upkeep;

use std::sync::Arc;

use offsite_proto::admin::report as report_calls;
use offsite_proto::admin::target as calls;
use offsite_proto::admin::upkeep as upkeep_calls;
use offsite_proto::endpoint::Listener;
use offsite_proto::{operator, rows};
use offsite_transport::{RouteError, Router, Routes};

pub use self::context::Operators;
use self::gate::{LocalGate, TokenGate};
use crate::Target;
use crate::principal::Principal;

/// A router of operators' calls.
pub type OperatorRouter = Arc<Router<Operators, Principal>>;

impl Operators {
    /// The router of the operator listener: callers are known by token.
    ///
    /// # Errors
    /// [`RouteError`] where table and handlers do not fit: a mistake of this build.
    pub fn network_router(self: &Arc<Self>) -> Result<OperatorRouter, RouteError> {
        let luck = Arc::clone(&self.target.world().luck);
        self.routes().finish(Arc::clone(self), TokenGate::new(Arc::clone(self)), luck)
    }

    /// The router of the local socket: callers are known by the kernel, or by the token that
    /// they show.
    ///
    /// # Errors
    /// As [`Operators::network_router`].
    pub fn local_router(self: &Arc<Self>) -> Result<OperatorRouter, RouteError> {
        let luck = Arc::clone(&self.target.world().luck);
        self.routes().finish(Arc::clone(self), LocalGate::new(Arc::clone(self)), luck)
    }

    fn routes(&self) -> Routes<Self, Principal> {
        let routes = Routes::new(
            &[rows::ALL, calls::ROWS, upkeep_calls::TARGET_ROWS, report_calls::ROWS],
            Listener::Operator,
        )
        .mutations(self.target.mutations().clone());
        Target::operator_routes(routes)
            .on::<operator::OpenLogin>(login::login)
            .on::<calls::ReadStatus>(status::status)
            .on::<calls::ReadFingerprint>(status::fingerprint)
            .on::<calls::RunDoctor>(status::doctor)
            .on::<calls::ListRequests>(requests::list)
            .on::<calls::ShowRequest>(requests::show)
            .on::<calls::AcceptRequest>(requests::accept)
            .on::<calls::RejectRequest>(requests::reject)
            .on::<calls::ListSources>(sources::list)
            .on::<calls::ShowSource>(sources::show)
            .on::<calls::RevokeSource>(sources::revoke)
            .on::<calls::AllowRestore>(sources::allow_restore)
            .on::<calls::DenyRestore>(sources::deny_restore)
            .on::<calls::AdoptSource>(sources::adopt)
            .on::<calls::ListAgents>(sources::agents)
            .on::<calls::ShowAgent>(sources::agent)
            .on::<calls::ListPoints>(points::list)
            .on::<calls::ShowPoint>(points::show)
            .on::<calls::DeletePoint>(removal::delete)
            .on::<calls::UndeletePoint>(removal::undelete)
            .on::<calls::PurgePoint>(removal::purge)
            .on::<calls::DeleteAgent>(removal::delete_agent)
            .on::<calls::ShowRetention>(retention::show)
            .on::<calls::ChangeRetention>(retention::set)
            .on::<calls::PreviewRetention>(retention::preview)
            .on::<calls::ShortenRetention>(retention::shorten)
            .on::<calls::CreditRetention>(retention::credit)
            .raw(calls::CONTENT.id, points::read_content)
            .raw(calls::VERIFY.id, points::run_verify)
            .raw(report_calls::REPORT.id, report::report)
            .raw(upkeep_calls::TARGET_GC.id, upkeep::gc)
            .raw(upkeep_calls::TARGET_SCRUB.id, upkeep::scrub)
            .on::<calls::ListTenants>(tenants::list)
            .on::<calls::MakeTenant>(tenants::add)
            .on::<calls::SetTenant>(tenants::set)
            .on::<calls::DeleteTenant>(tenants::delete)
            .on::<calls::ShortenTenantLock>(retention::shorten_lock)
            .on::<calls::ListStorages>(storage::list)
            .on::<calls::MakeStorage>(storage::add)
            .on::<calls::ListUsers>(accounts::list)
            .on::<calls::MakeUser>(accounts::add)
            .on::<calls::SetUser>(accounts::change)
            .on::<calls::RemoveUser>(accounts::remove)
            .on::<calls::ListTokens>(tokens::list)
            .on::<calls::MakeToken>(tokens::add)
            .on::<calls::RevokeToken>(tokens::revoke)
            .on::<calls::ListApprovals>(approvals::list)
            .on::<calls::ApproveApproval>(approvals::approve)
            .on::<calls::RejectApproval>(approvals::reject)
            .on::<calls::ListAudit>(audit::list)
            .on::<calls::VerifyAudit>(audit::verify)
            .on::<calls::ShowPairing>(pairing::show)
            .on::<calls::OpenPairingDoor>(pairing::open)
            .on::<calls::ClosePairingDoor>(pairing::close)
            .on::<calls::ListEnrolment>(enrolment::list)
            .on::<calls::MakeEnrolment>(enrolment::add)
    }
}
