//! Tokens: one's own, or anybody's for administrators.

use std::sync::Arc;

use offsite_model::TokenId;
use offsite_proto::admin::target::{
    AddToken, ListTokens, MakeToken, RevokeToken, Token, TokenAdded,
};
use offsite_proto::endpoint::Action;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::text::{Text, Time};
use offsite_transport::{Call, Reply};

use super::context::{Operators, answer, require};
use super::show;
use crate::accounts::tokens::{self, Wanted};
use crate::accounts::users;
use crate::authority::{Object, permits};
use crate::failure::Failure;
use crate::principal::{Account, Principal};

/// Tokens that the caller may see.
pub(super) async fn list(
    state: Arc<Operators>,
    call: Call<ListTokens, Principal>,
) -> Result<Reply<Json<Vec<Token>>>, Refusal> {
    answer(state, move |state| {
        let now = state.target.now();
        state.read(|rows| {
            let mut all = tokens::list(rows, None)?;
            all.retain(|token| {
                permits(&call.principal, Action::OwnToken, &Object::Account(token.user))
                    .is_granted()
            });
            all.iter().map(|row| show::token(rows, row, now)).collect()
        })
    })
    .await
}

/// Makes a token; the answer is the only place where its secret ever stands.
pub(super) async fn add(
    state: Arc<Operators>,
    call: Call<MakeToken, Principal>,
) -> Result<Reply<Json<TokenAdded>>, Refusal> {
    let reply = answer(state, move |state| {
        let Json(AddToken { user, days, role, tenants }) = call.body;
        let name = named(&call.principal, user)?;
        state.write(&call.principal, |rows, deed| {
            let sentence = format!("there is no user {name}");
            let owner = users::named(rows, &name)?;
            let object = Object::Account(owner.id);
            require(
                &call.principal,
                Action::OwnToken,
                &object,
                ErrorCode::AccountUnknown,
                &sentence,
            )?;
            let tenants = show::scope(rows, &call.principal, tenants.as_deref())?;
            let mut wanted = Wanted { role, tenants, ..Wanted::days(days)? };
            narrow_to_own(&mut wanted, &call.principal, owner.id);
            let (row, text) = tokens::issue(rows, deed, &owner, &wanted)?;
            Ok(TokenAdded {
                token: text.expose().clone(),
                token_id: Text(row.id),
                user: owner.name,
                expires_at: Time(row.expires_at()),
            })
        })
    })
    .await?;
    Ok(reply.status(201))
}

/// A narrowed token cannot make a wider one for its own account.
fn narrow_to_own(wanted: &mut Wanted, by: &Principal, owner: offsite_model::UserId) {
    if let Principal::User(Account { user, role, tenants, .. }) = by
        && *user == owner
    {
        let narrow = wanted.role.filter(|wish| users::role_includes(*role, *wish));
        wanted.role = narrow.or(Some(*role));
        wanted.tenants = wanted.tenants.intersection(tenants);
    }
}

fn named(by: &Principal, user: Option<String>) -> Result<String, Refusal> {
    match (user, by) {
        (Some(name), _) => Ok(name),
        (None, Principal::User(account)) => Ok(account.name.clone()),
        (None, _) => Err(Refusal::new(ErrorCode::BadRequest, "name the account of the token")),
    }
}

/// Revokes a token.
pub(super) async fn revoke(
    state: Arc<Operators>,
    call: Call<RevokeToken, Principal>,
) -> Result<Reply<Json<Token>>, Refusal> {
    answer(state, move |state| {
        let name = call.params.0;
        let unknown = |name: &str| format!("there is no token {name}");
        let id: TokenId = name
            .parse()
            .map_err(|_| Failure::refused(ErrorCode::AccountUnknown, unknown(&name)))?;
        // As the one for tokens that are not there has it, however the id was spelt.
        let sentence = unknown(&id.to_string());
        let now = state.target.now();
        state.write(&call.principal, |rows, deed| {
            let object = Object::Account(tokens::find(rows, id)?.user);
            require(
                &call.principal,
                Action::OwnToken,
                &object,
                ErrorCode::AccountUnknown,
                &sentence,
            )?;
            let row = tokens::revoke(rows, deed, id)?;
            show::token(rows, &row, now)
        })
    })
    .await
}
