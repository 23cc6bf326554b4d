//! `login`: a person proves who he is and gets a token, by which further commands know him.

use std::path::Path;

use offsite_proto::json::Json;
use offsite_proto::operator::{Login, OpenLogin};
use offsite_terminal::{Exit, Failure};

use crate::context::Context;
use crate::secrets;

/// Runs it.
pub(crate) async fn run(
    context: &Context,
    user: String,
    password_file: &Path,
) -> Result<Exit, Failure> {
    let password = secrets::first_line(password_file, "password")?;
    let body = Json(Login { username: user, password: password.expose().clone() });
    let Json(opened) = context.ask::<OpenLogin>(&(), &body).await?;
    context.out.note(&format!(
        "a token until {}; keep it in a file of your own and give that to --token-file",
        opened.expires
    ));
    // Alone, so that it can be written to that file.
    context.out.result(&opened, |opened| opened.auth_token.clone())
}
