//! What every command is given, and the way to the daemon.

use std::io;
use std::path::{Path, PathBuf};

use offsite_proto::endpoint::Endpoint;
use offsite_transport::{CallError, LocalClient};

use crate::exit::{Exit, Failure};
use crate::output::Output;

/// The socket of the daemon, in the data directory.
pub const SOCKET: &str = "run/offsite.sock";

/// What every command is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// The data directory.
    pub data: PathBuf,
    /// Where results go.
    pub out: Output,
}

impl Context {
    /// Asks the daemon.
    pub async fn ask<E: Endpoint>(
        &self,
        params: &E::Params,
        body: &E::Request,
    ) -> Result<E::Response, Failure> {
        let client = LocalClient::open(&self.data.join(SOCKET)).await;
        let client = client.map_err(|error| not_running(&self.data, &error))?;
        match client.call::<E>(params, body).await {
            Ok(answer) => Ok(answer.body),
            Err(CallError::Refused(refusal)) => Err(refusal.into()),
            Err(error) => Err(Failure::new(
                Exit::NotRunning,
                "daemon_not_running",
                format!("the daemon ended before it answered: {error}"),
                "see its log; start it with: offsite-source serve",
            )),
        }
    }
}

fn not_running(data: &Path, error: &io::Error) -> Failure {
    let shown = data.display();
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Failure::failed(
            format!("cannot talk to the daemon in {shown}: {error}"),
            "only the user as whom it runs, and root, may give it orders",
        );
    }
    Failure::new(
        Exit::NotRunning,
        "daemon_not_running",
        format!("no daemon is running in {shown}"),
        format!("start it with: offsite-source serve --data '{shown}'"),
    )
}
