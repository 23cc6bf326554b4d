//! The same calls over a Unix socket, for the command line: no TLS, the kernel says who calls.
//!
//! The socket has the mode 0600 from its first moment, so only its owner and root can connect at
//! all; who it was, the gate learns as [`Place::Local`].

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderValue;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use offsite_proto::endpoint::{Endpoint, Row, Values};
use rustix::fs::Mode;
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Outgoing;
use crate::caller::{Answer, CallError, Caller, StreamAnswer};
use crate::connection::{self, Peer};
use crate::connections::{ConnectionClass, Connections};
use crate::peer::Place;
use crate::policy::ConnectionPolicy;
use crate::routes::Answering;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 64;
/// The pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What stands for the host in requests and messages.
const HOST: &str = "localhost";

/// A listener on a Unix socket.
#[derive(Debug)]
pub struct LocalServer {
    listener: UnixListener,
    policy: ConnectionPolicy,
}

impl LocalServer {
    /// Binds the path. A socket that a dead daemon left there is replaced; one that answers is not.
    ///
    /// # Errors
    /// `AddrInUse` when another daemon answers there; otherwise those of binding.
    pub fn bind(path: &Path, policy: ConnectionPolicy) -> io::Result<Self> {
        match bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_dead(path) => {
                rustix::fs::unlink(path)?;
                bind(path)
            }
            bound => bound,
        }
        .map(|listener| Self { listener, policy })
    }

    /// Serves until `shutdown`, then as [`crate::Listening::serve`].
    pub async fn serve(self, service: impl Answering, shutdown: CancellationToken) {
        let Self { listener, policy } = self;
        let connections = Connections::new(policy.clone());
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (connections, policy) = (connections.clone(), policy.clone());
                    let (service, draining) = (service.clone(), shutdown.clone());
                    tasks.spawn(serve(stream, connections, policy, service, draining));
                }
                Err(error) => {
                    tracing::warn!(cause = %error, "cannot accept a local connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        tasks.close();
        if tokio::time::timeout(policy.drain, tasks.wait()).await.is_err() {
            connections.cut_all();
            tasks.wait().await;
        }
    }
}

async fn serve(
    stream: UnixStream,
    connections: Connections,
    policy: ConnectionPolicy,
    service: impl Answering,
    draining: CancellationToken,
) {
    // As the kernel saw it when the peer connected, whatever the peer has become since.
    let uid = match stream.peer_cred() {
        Ok(credentials) => credentials.uid(),
        Err(error) => return tracing::warn!(cause = %error, "cannot tell who connected"),
    };
    let Ok(ticket) = connections.admit(None) else { return };
    let settled = ticket.settle(ConnectionClass::Operator);
    if settled.is_ok() {
        let peer = Peer { address: Place::Local { uid }, key: None, http2: false, known: true };
        connection::serve(stream, peer, &ticket, &policy, service, &draining).await;
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    // Linux gives the file the mode of the socket, so there is no moment at which others may
    // connect.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(path)?;
    socket.listen(BACKLOG)
}

/// Whether nobody listens at a path that is taken.
fn is_dead(path: &Path) -> bool {
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        Ok(_) => false,
    }
}

/// A daemon that was not reached.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Nobody listens at the socket.
    #[error("the daemon is not running: nothing answers at {}", .0.display())]
    NotRunning(PathBuf),
    /// The socket belongs to somebody else.
    #[error("only the daemon's own user and root may speak to it: permission denied at \
        {}", .0.display())]
    Denied(PathBuf),
    /// Anything else.
    #[error("cannot reach the daemon at {}: {cause}", path.display())]
    Other {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// A connection to the daemon on this machine.
#[derive(Clone, Debug)]
pub struct LocalClient {
    caller: Caller,
}

impl LocalClient {
    /// Connects to the daemon's socket; calls may take so long.
    ///
    /// # Errors
    /// [`LocalError::NotRunning`] where the command line ends with its own exit code; the others.
    pub async fn open(path: &Path, answer_within: Duration) -> Result<Self, LocalError> {
        let stream = UnixStream::connect(path).await.map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                LocalError::NotRunning(path.to_owned())
            }
            io::ErrorKind::PermissionDenied => LocalError::Denied(path.to_owned()),
            _ => LocalError::Other { path: path.to_owned(), cause },
        })?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| LocalError::Other {
                path: path.to_owned(),
                cause: io::Error::other(error),
            })?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(cause = %error, "local connection ended");
            }
        });
        Ok(Self { caller: Caller::http1(sender, HOST.to_owned(), answer_within) })
    }

    /// Makes a call and reads its whole answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<E: Endpoint>(
        &self,
        params: &E::Params,
        body: &E::Request,
    ) -> Result<Answer<E::Response>, CallError> {
        self.caller.call::<E>(params, body, HeaderMap::new()).await
    }

    /// The same with more headers, such as `AuthToken`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call_with<E: Endpoint>(
        &self,
        params: &E::Params,
        body: &E::Request,
        headers: HeaderMap,
    ) -> Result<Answer<E::Response>, CallError> {
        self.caller.call::<E>(params, body, headers).await
    }

    /// Makes a call whose answer is read as it comes, such as the stream of events.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stream(
        &self,
        row: &Row,
        values: &Values,
        media: Option<HeaderValue>,
        body: Outgoing,
        answer_bytes_max: u64,
    ) -> Result<StreamAnswer, CallError> {
        self.stream_with(row, values, media, HeaderMap::new(), body, answer_bytes_max).await
    }

    /// The same with headers of the caller's, such as his token.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stream_with(
        &self,
        row: &Row,
        values: &Values,
        media: Option<HeaderValue>,
        headers: HeaderMap,
        body: Outgoing,
        answer_bytes_max: u64,
    ) -> Result<StreamAnswer, CallError> {
        self.caller.stream(row, values, media, headers, body, answer_bytes_max).await
    }
}
