//! Verbs about tokens.

use offsite_proto::admin::target::{AddToken, ListTokens, MakeToken, OfToken, RevokeToken};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, facts, table};

use crate::cli::Tokens;
use crate::context::Context;

/// Runs them.
pub(crate) async fn run(context: &Context, verb: Tokens) -> Result<Exit, Failure> {
    match verb {
        Tokens::Add { user, days, role } => {
            let body = AddToken { user: Some(user), days, role, tenants: None };
            let Json(added) = context.ask::<MakeToken>(&(), &Json(body)).await?;
            context.out.note("the token is shown this once; keep it as you keep a password");
            context.out.result(&added, |added| {
                facts(&[
                    ("token", Some(added.token.clone())),
                    ("id", Some(added.token_id.to_string())),
                    ("user", Some(added.user.clone())),
                    ("until", Some(added.expires_at.to_string())),
                ])
            })
        }
        Tokens::List => list(context).await,
        Tokens::Revoke { id } => {
            let Json(token) = context.ask::<RevokeToken>(&OfToken(id), &()).await?;
            context.out.result(&token, |token| format!("revoked {}", token.token_id))
        }
    }
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let Json(tokens) = context.ask::<ListTokens>(&(), &()).await?;
    context.out.result(&tokens, |tokens| {
        table(
            ["ID", "USER", "ROLE", "STATE", "UNTIL"],
            tokens.iter().map(|token| {
                [
                    token.token_id.to_string(),
                    token.user.clone(),
                    token.role.map_or_else(|| "the user's".to_owned(), |role| role.to_string()),
                    token.state.clone(),
                    token.expires_at.to_string(),
                ]
            }),
        )
    })
}
