//! What every command is given, and the way to the daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use offsite_proto::endpoint::{Endpoint, Params, Row, Values};
use offsite_terminal::{Exit, Failure, Output};
use offsite_transport::{CallError, LocalClient, LocalError, Outgoing, StreamAnswer};

use crate::exit::refused;

/// The socket of the daemon, in the data directory.
pub(crate) const SOCKET: &str = "run/offsite.sock";

/// How long the daemon may take to answer: longer than it waits for a target itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// What every command is given.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The data directory.
    pub(crate) data: PathBuf,
    /// Where results go.
    pub(crate) out: Output,
}

impl Context {
    /// Asks the daemon.
    pub(crate) async fn ask<E: Endpoint>(
        &self,
        params: &E::Params,
        body: &E::Request,
    ) -> Result<E::Response, Failure> {
        let answer = self.client().await?.call::<E>(params, body).await;
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
        let client = self.client().await?;
        let answer = client.stream(row, &values, None, Outgoing::empty(), u64::MAX).await;
        answer.map_err(not_answered)
    }

    async fn client(&self) -> Result<LocalClient, Failure> {
        let client = LocalClient::open(&self.data.join(SOCKET), ANSWER_WITHIN).await;
        client.map_err(|error| not_reached(&self.data, &error))
    }
}

/// What a daemon that ended in the middle looks like.
pub(crate) fn ended_early(cause: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Exit::NotRunning,
        "daemon_not_running",
        format!("the daemon ended before it answered: {cause}"),
        "see its log; start it with: offsite-source serve",
    )
}

fn not_answered(error: CallError) -> Failure {
    match error {
        CallError::Refused(refusal, _) => refused(refusal),
        error => ended_early(&error),
    }
}

fn not_reached(data: &Path, error: &LocalError) -> Failure {
    let shown = data.display();
    match error {
        LocalError::NotRunning(_) => Failure::new(
            Exit::NotRunning,
            "daemon_not_running",
            format!("no daemon is running in {shown}"),
            format!("start it with: offsite-source serve --data '{shown}'"),
        ),
        LocalError::Denied(_) => Failure::new(
            Exit::Refused,
            "forbidden",
            format!("cannot talk to the daemon in {shown}: {error}"),
            "run this as the user as whom the daemon runs, or as root",
        ),
        LocalError::Other { .. } => Failure::failed(error.to_string()),
    }
}
