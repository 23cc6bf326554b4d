//! N1: opens an operator session with a password.

use std::sync::Arc;

use offsite_daemon::Secret;
use offsite_proto::error::Refusal;
use offsite_proto::json::Json;
use offsite_proto::operator::{LoggedIn, OpenLogin};
use offsite_transport::{Call, Place, Reply};

use super::context::Operators;
use crate::accounts::Network;
use crate::principal::Principal;

/// N1.
pub(super) async fn login(
    state: Arc<Operators>,
    call: Call<OpenLogin, Principal>,
) -> Result<Reply<Json<LoggedIn>>, Refusal> {
    let Call { body: Json(credentials), from, .. } = call;
    let network = match from.address {
        Place::Network(address) => address.into(),
        Place::Local { .. } => Network::Local,
    };
    let password = Secret::new(credentials.password);
    let (user, token, text) = state.logins.login(&credentials.username, password, network).await?;
    Ok(Reply::new(Json(LoggedIn {
        auth_token: text.expose().clone(),
        expires: token.expires_at().into(),
        role: user.role.to_string(),
    })))
}
