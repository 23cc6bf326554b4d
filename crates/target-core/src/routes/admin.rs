//! The admin API: what operators ask of this target, over the operator listener and over the local socket.
//!
//! Both doors lead to the same handlers; they differ in how a caller is known: a token there, the kernel's word here. The
//! gate asks the authority table whether this caller may do this at all, the handler asks again about the object.
//!
//! **Absent:** what the acts do (`accounts`, `tenants`, `approvals`, `accept`), list A (`list_a`).

mod accounts;
mod approvals;
mod audit;
mod enrolment;
mod gate;
mod login;
mod pairing;
mod requests;
mod show;
mod sources;
mod status;
mod storage;
mod tenants;
mod tokens;

use std::sync::Arc;

use offsite_model::Span;
use offsite_proto::admin::target as calls;
use offsite_proto::endpoint::{Action, Body, Listener};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::{operator, rows};
use offsite_store::catalog::{Rows, RowsMut, Transactions};
use offsite_transport::{Reply, RouteError, Router, Routes};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::gate::{LocalGate, TokenGate};
use crate::Target;
use crate::accounts::login::Logins;
use crate::authority::{Grant, Object, permits};
use crate::deed::Deed;
use crate::failure::Failure;
use crate::principal::Principal;
use crate::target::off_runtime;

/// What operators' calls share: the target, and how operators prove who they are.
pub struct Operators {
    target: Arc<Target>,
    logins: Logins,
    started: Span,
}

impl AsRef<Arc<Target>> for Operators {
    fn as_ref(&self) -> &Arc<Target> {
        &self.target
    }
}

/// A router of operators' calls.
pub type OperatorRouter = Arc<Router<Operators, Principal>>;

impl Operators {
    /// The operators of this target; from now on it counts as started.
    #[must_use]
    pub fn new(target: Arc<Target>) -> Arc<Self> {
        let world = target.world();
        let logins = Logins::new(
            Arc::clone(target.catalog()),
            Arc::clone(&world.clock),
            Arc::clone(&world.luck),
        );
        let started = world.clock.uptime();
        Arc::new(Self { target, logins, started })
    }

    /// The router of the operator listener: callers are known by token.
    ///
    /// # Errors
    /// [`RouteError`] where table and handlers do not fit: a mistake of this build.
    pub fn network_router(self: &Arc<Self>) -> Result<OperatorRouter, RouteError> {
        let luck = Arc::clone(&self.target.world().luck);
        self.routes().finish(Arc::clone(self), TokenGate::new(Arc::clone(self)), luck)
    }

    /// The router of the local socket: callers are known by the kernel.
    ///
    /// # Errors
    /// As [`Operators::network_router`].
    pub fn local_router(self: &Arc<Self>) -> Result<OperatorRouter, RouteError> {
        let luck = Arc::clone(&self.target.world().luck);
        self.routes().finish(Arc::clone(self), LocalGate, luck)
    }

    fn routes(&self) -> Routes<Self, Principal> {
        let routes = Routes::new(&[rows::ALL, calls::ROWS], Listener::Operator)
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
            .on::<calls::AdoptSource>(sources::adopt)
            .on::<calls::ListAgents>(sources::agents)
            .on::<calls::ShowAgent>(sources::agent)
            .on::<calls::ListTenants>(tenants::list)
            .on::<calls::MakeTenant>(tenants::add)
            .on::<calls::SetTenant>(tenants::set)
            .on::<calls::DeleteTenant>(tenants::delete)
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

    /// How operators prove who they are.
    #[must_use]
    pub const fn logins(&self) -> &Logins {
        &self.logins
    }

    fn read<T>(&self, look: impl FnOnce(&dyn Rows) -> Result<T, Failure>) -> Result<T, Refusal> {
        Ok(self.target.catalog().read(look)?)
    }

    /// One act of this principal, in one transaction.
    fn write<T>(
        &self,
        by: &Principal,
        act: impl FnOnce(&mut dyn RowsMut, &Deed<'_>) -> Result<T, Failure>,
    ) -> Result<T, Refusal> {
        let deed = self.target.deed(by);
        Ok(self.target.catalog().write(|rows| act(rows, &deed))?)
    }
}

/// Answers with what blocking work returns, off the runtime's threads.
async fn answer<T: Serialize + DeserializeOwned + Send + 'static>(
    state: Arc<Operators>,
    work: impl FnOnce(&Operators) -> Result<T, Refusal> + Send + 'static,
) -> Result<Reply<Json<T>>, Refusal>
where
    Json<T>: Body,
{
    let answered = off_runtime(move || work(&state)).await?;
    Ok(Reply::new(Json(answered)))
}

/// Asks the table about an object that is not the pairing register's.
fn require(
    by: &Principal,
    action: Action,
    object: &Object,
    unknown: ErrorCode,
    sentence: &str,
) -> Result<Grant, Failure> {
    Ok(permits(by, action, object).terms(unknown, sentence)?)
}
