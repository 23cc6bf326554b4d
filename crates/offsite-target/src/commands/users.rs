//! Verbs about accounts.

use std::path::Path;

use offsite_proto::admin::target::{
    AddUser, ChangeUser, ListUsers, MakeUser, OfUser, RemoveUser, SetUser, User,
};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, facts, table, visible};

use super::approvals;
use crate::cli::Users;
use crate::context::Context;
use crate::exit::not_built;
use crate::secrets;

/// Runs them.
pub(crate) async fn run(context: &Context, verb: Users) -> Result<Exit, Failure> {
    match verb {
        Users::Add { ntlm: true, .. } => Err(not_built("users add --ntlm")),
        Users::Add { name, role, password_file, tenants, allow_restore, ntlm: false } => {
            let password = password_file.as_deref().map(password).transpose()?;
            let body = AddUser {
                name,
                role,
                tenants: (!tenants.is_empty()).then_some(tenants),
                restore_grant: allow_restore,
                password,
            };
            let Json(user) = context.ask::<MakeUser>(&(), &Json(body)).await?;
            context.out.result(&user, text)
        }
        Users::Set { name, role, tenants, all_tenants, allow_restore } => {
            let body = ChangeUser {
                role,
                tenants: (!tenants.is_empty()).then_some(tenants),
                all_tenants,
                restore_grant: allow_restore,
            };
            let Json(changed) = context.ask::<SetUser>(&OfUser(name), &Json(body)).await?;
            context.out.result(&changed, |changed| {
                changed.approval.as_ref().map_or_else(|| text(&changed.user), approvals::waiting)
            })
        }
        Users::List => list(context).await,
        Users::Remove { name } => {
            let Json(user) = context.ask::<RemoveUser>(&OfUser(name), &()).await?;
            context.out.result(&user, |user| format!("removed {}", visible(&user.name)))
        }
    }
}

fn password(path: &Path) -> Result<String, Failure> {
    secrets::first_line(path, "password").map(|password| password.expose().clone())
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let Json(users) = context.ask::<ListUsers>(&(), &()).await?;
    context.out.result(&users, |users| {
        table(
            ["NAME", "ROLE", "TENANTS", "PASSWORD", "MADE AT"],
            users.iter().map(|user| {
                [
                    user.name.clone(),
                    user.role.to_string(),
                    tenants(user),
                    if user.password { "yes" } else { "no" }.to_owned(),
                    user.created_at.to_string(),
                ]
            }),
        )
    })
}

fn tenants(user: &User) -> String {
    user.tenants.as_ref().map_or_else(|| "all".to_owned(), |tenants| tenants.join(", "))
}

fn text(user: &User) -> String {
    facts(&[
        ("user", Some(user.name.clone())),
        ("id", Some(user.user_id.to_string())),
        ("role", Some(user.role.to_string())),
        ("tenants", Some(tenants(user))),
    ])
}
