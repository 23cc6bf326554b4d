//! What every operators' call has at hand: the target, reads and writes of its register, the table
//! of rights.
//!
//! **Absent:** the calls themselves (the modules beside this one) and their routers (`admin`).

use std::sync::Arc;

use offsite_model::Span;
use offsite_proto::endpoint::{Action, Body};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_store::catalog::{Rows, RowsMut, Transactions};
use offsite_transport::Reply;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Target;
use crate::accounts::login::Logins;
use crate::authority::{Grant, Object, permits};
use crate::deed::Deed;
use crate::failure::Failure;
use crate::principal::Principal;
use crate::target::off_runtime;

/// What operators' calls share: the target, and how operators prove who they are.
pub struct Operators {
    pub(super) target: Arc<Target>,
    pub(super) logins: Logins,
    pub(super) started: Span,
}

impl AsRef<Arc<Target>> for Operators {
    fn as_ref(&self) -> &Arc<Target> {
        &self.target
    }
}

/// Refuses what is about all tenants to an account that is limited to some: it would learn of the
/// others, or decide about them.
///
/// # Errors
/// `forbidden`; `what` is the sentence's beginning.
pub(super) fn check_unbounded(by: &Principal, what: &str) -> Result<(), Refusal> {
    match by.tenants().is_unbounded() {
        true => Ok(()),
        false => Err(Refusal::new(
            ErrorCode::Forbidden,
            format!("{what}; it takes an account that is not limited to tenants"),
        )),
    }
}

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

    /// How operators prove who they are.
    #[must_use]
    pub const fn logins(&self) -> &Logins {
        &self.logins
    }

    pub(super) fn read<T>(
        &self,
        look: impl FnOnce(&dyn Rows) -> Result<T, Failure>,
    ) -> Result<T, Refusal> {
        Ok(self.target.catalog().read(look)?)
    }

    /// One act of this principal, in one transaction.
    pub(super) fn write<T>(
        &self,
        by: &Principal,
        act: impl FnOnce(&mut dyn RowsMut, &Deed<'_>) -> Result<T, Failure>,
    ) -> Result<T, Refusal> {
        let deed = self.target.deed(by);
        Ok(self.target.catalog().write(|rows| act(rows, &deed))?)
    }
}

/// Answers with what blocking work returns, off the runtime's threads.
pub(super) async fn answer<T: Serialize + DeserializeOwned + Send + 'static>(
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
pub(super) fn require(
    by: &Principal,
    action: Action,
    object: &Object,
    unknown: ErrorCode,
    sentence: &str,
) -> Result<Grant, Failure> {
    Ok(permits(by, action, object).terms(unknown, sentence)?)
}
