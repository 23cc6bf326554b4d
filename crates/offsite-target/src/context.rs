//! What every command is given, and the way to the daemon.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use offsite_daemon::Secret;
use offsite_proto::endpoint::{Endpoint, Params, Row, Values};
use offsite_terminal::{Exit, Failure, Output};
use offsite_transport::{CallError, LocalClient, LocalError, Outgoing, StreamAnswer};

use crate::exit::refused;
use crate::place::SOCKET;

/// How long the daemon may take to answer; it is on this machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    /// The data directory.
    pub(crate) data: PathBuf,
    /// Where results go.
    pub(crate) out: Output,
    /// The token of the account that acts; none = whoever the kernel says.
    pub(crate) token: Option<Secret<String>>,
}

impl Context {
    /// Asks the daemon.
    pub(crate) async fn ask<E: Endpoint>(
        &self,
        params: &E::Params,
        body: &E::Request,
    ) -> Result<E::Response, Failure> {
        let answer = self.client().await?.call_with::<E>(params, body, self.credential()?).await;
        answer.map(|answer| answer.body).map_err(not_answered)
    }

    /// Asks the daemon for an answer that is read as it comes.
    pub(crate) async fn ask_stream(
        &self,
        row: &Row,
        params: &impl Params,
    ) -> Result<StreamAnswer, Failure> {
        let mut values = Values::new();
        params.write(&mut values);
        let (client, credential) = (self.client().await?, self.credential()?);
        let body = Outgoing::empty();
        let answer = client.stream_with(row, &values, None, credential, body, u64::MAX).await;
        answer.map_err(not_answered)
    }

    async fn client(&self) -> Result<LocalClient, Failure> {
        let client = LocalClient::open(&self.data.join(SOCKET), ANSWER_WITHIN).await;
        client.map_err(|error| self.unreached(&error))
    }

    /// The header that says who acts.
    fn credential(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(token.expose()).map_err(|_| {
                Failure::usage("the first line of the token's file is no token", "")
            })?;
            value.set_sensitive(true);
            headers.insert("authtoken", value);
        }
        Ok(headers)
    }

    fn unreached(&self, error: &LocalError) -> Failure {
        let shown = self.data.display();
        match error {
            LocalError::NotRunning(_) => Failure::new(
                Exit::NotRunning,
                "daemon_not_running",
                format!("no daemon is running in {shown}"),
                format!("start it with: offsite-target serve --data '{shown}'"),
            ),
            LocalError::Denied(_) => Failure::new(
                Exit::Refused,
                "forbidden",
                error.to_string(),
                "run this as that user, or as root",
            ),
            LocalError::Other { .. } => Failure::failed(error.to_string()),
        }
    }
}

/// What a daemon that ended in the middle looks like.
pub(crate) fn ended_early(cause: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Exit::NotRunning,
        "daemon_not_running",
        format!("the daemon ended before it answered: {cause}"),
        "see its log; start it with: offsite-target serve",
    )
}

fn not_answered(error: CallError) -> Failure {
    match error {
        CallError::Refused(refusal, _) => refused(refusal),
        error @ CallError::Transport { .. } => Failure::new(
            Exit::Failed,
            "failed",
            format!("the daemon did not answer: {error}"),
            "its log says more; the same command may be given again",
        ),
    }
}
