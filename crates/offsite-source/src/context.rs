//! What every command is given, and the way to the daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use offsite_proto::endpoint::Endpoint;
use offsite_transport::{CallError, LocalClient, LocalError};

use crate::exit::{Exit, Failure};
use crate::output::Output;

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
        let client = LocalClient::open(&self.data.join(SOCKET), ANSWER_WITHIN).await;
        let client = client.map_err(|error| not_reached(&self.data, &error))?;
        match client.call::<E>(params, body).await {
            Ok(answer) => Ok(answer.body),
            Err(CallError::Refused(refusal, _)) => Err(refusal.into()),
            Err(error) => Err(Failure::new(
                Exit::NotRunning,
                "daemon_not_running",
                format!("the daemon ended before it answered: {error}"),
                "see its log; start it with: offsite-source serve",
            )),
        }
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
        LocalError::Other { .. } => Failure::failed(error.to_string(), ""),
    }
}
