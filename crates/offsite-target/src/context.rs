//! What every command is given, and the way to the daemon.

use std::path::PathBuf;
use std::time::Duration;

use offsite_proto::endpoint::Endpoint;
use offsite_terminal::{Exit, Failure, Output};
use offsite_transport::{CallError, LocalClient, LocalError};

use crate::exit::refused;
use crate::place::SOCKET;

/// How long the daemon may take to answer; it is on this machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

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
        let client = LocalClient::open(&self.data.join(SOCKET), ANSWER_WITHIN)
            .await
            .map_err(|error| self.unreached(&error))?;
        match client.call::<E>(params, body).await {
            Ok(answer) => Ok(answer.body),
            Err(CallError::Refused(refusal, _)) => Err(refused(refusal)),
            Err(error @ CallError::Transport { .. }) => Err(Failure::new(
                Exit::Failed,
                "failed",
                format!("the daemon did not answer: {error}"),
                "its log says more; the same command may be given again",
            )),
        }
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
