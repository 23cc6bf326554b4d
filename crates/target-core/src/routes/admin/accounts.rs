//! Accounts of operators.

use std::sync::Arc;

use offsite_daemon::Secret;
use offsite_proto::admin::target::{
    AddUser, ChangeUser, Changed, ListUsers, MakeUser, RemoveUser, SetUser, User,
};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_transport::{Call, Reply};

use super::context::{Operators, answer};
use super::{approvals, show};
use crate::accounts::users::{self, Rights};
use crate::approvals::Act;
use crate::authority::Object;
use crate::principal::{Principal, TenantScope};

/// Accounts.
pub(super) async fn list(
    state: Arc<Operators>,
    _: Call<ListUsers, Principal>,
) -> Result<Reply<Json<Vec<User>>>, Refusal> {
    answer(state, |state| {
        state.read(|rows| users::list(rows)?.iter().map(|row| show::user(rows, row)).collect())
    })
    .await
}

/// Makes an account. Its password is hashed here, one of two at a time.
pub(super) async fn add(
    state: Arc<Operators>,
    call: Call<MakeUser, Principal>,
) -> Result<Reply<Json<User>>, Refusal> {
    let Json(AddUser { name, role, tenants, restore_grant, password }) = call.body;
    let password = match password {
        Some(password) => {
            let luck = Arc::clone(&state.target.world().luck);
            Some(state.logins.passwords.hash(Secret::new(password), &*luck).await?)
        }
        None => None,
    };
    let reply = answer(state, move |state| {
        state.write(&call.principal, |rows, deed| {
            let tenants = show::scope(rows, &call.principal, tenants.as_deref())?;
            let rights = Rights { role, tenants, restore_grant };
            let row = users::add(rows, deed, &name, &rights, password)?;
            show::user(rows, &row)
        })
    })
    .await?;
    Ok(reply.status(201))
}

/// Changes rights: at once where they narrow, with a second person where they widen.
pub(super) async fn change(
    state: Arc<Operators>,
    call: Call<SetUser, Principal>,
) -> Result<Reply<Json<Changed>>, Refusal> {
    answer(state, move |state| {
        let (by, Json(wish)) = (&call.principal, call.body);
        let (row, rights) = state.read(|rows| {
            let row = users::named(rows, &call.params.0)?;
            let rights = rights(rows, by, &row, &wish)?;
            Ok((row, rights))
        })?;
        let now = Rights { role: row.role, tenants: row.scope(), restore_grant: row.restore_grant };
        if rights.widens(&now) {
            approvals::may_begin(
                by,
                &Object::Target,
                ErrorCode::Forbidden,
                "not with this account",
            )?;
            let act = Act::WidenRole {
                user: row.id,
                role: rights.role,
                tenants: users::scope_row(&rights.tenants),
                restore_grant: rights.restore_grant,
            };
            let approval = approvals::ask(state, by, act)?;
            let user = state.read(|rows| show::user(rows, &row))?;
            return Ok(Changed { user, approval: Some(approval) });
        }
        let user = state.write(by, |rows, deed| {
            // As it is now: in between somebody may have narrowed it further.
            let row = users::named(rows, &call.params.0)?;
            let current =
                Rights { role: row.role, tenants: row.scope(), restore_grant: row.restore_grant };
            if rights.widens(&current) {
                return Err(crate::failure::Failure::refused(
                    ErrorCode::RequestChanged,
                    "the account was changed in the meantime; look again",
                ));
            }
            let row = users::change(rows, deed, row.id, &rights)?;
            show::user(rows, &row)
        })?;
        Ok(Changed { user, approval: None })
    })
    .await
}

fn rights<R: offsite_store::catalog::Rows + ?Sized>(
    rows: &R,
    by: &Principal,
    row: &users::UserRow,
    wish: &ChangeUser,
) -> Result<Rights, crate::failure::Failure> {
    let tenants = match (&wish.tenants, wish.all_tenants) {
        (Some(_), true) => {
            return Err(crate::failure::Failure::refused(
                ErrorCode::BadRequest,
                "name tenants or all of them, not both",
            ));
        }
        (Some(named), false) => show::scope(rows, by, Some(named))?,
        (None, true) => TenantScope::All,
        (None, false) => row.scope(),
    };
    Ok(Rights {
        role: wish.role.unwrap_or(row.role),
        tenants,
        restore_grant: wish.restore_grant.unwrap_or(row.restore_grant),
    })
}

/// Removes an account.
pub(super) async fn remove(
    state: Arc<Operators>,
    call: Call<RemoveUser, Principal>,
) -> Result<Reply<Json<User>>, Refusal> {
    answer(state, move |state| {
        state.write(&call.principal, |rows, deed| {
            let row = users::remove(rows, deed, &call.params.0)?;
            show::user(rows, &row)
        })
    })
    .await
}
