//! The local socket: the same calls, the caller known by the kernel.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Response};
use offsite_proto::endpoint::Listener;
use offsite_transport::{ConnectionPolicy, LocalClient, LocalError, LocalServer, Outgoing, Pace};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::support::*;

const WITHIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn calls_over_the_local_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("daemon.sock");
    let missing = LocalClient::open(&path, WITHIN).await.unwrap_err();
    assert!(matches!(missing, LocalError::NotRunning(_)), "{missing}");
    assert!(missing.to_string().contains("the daemon is not running"), "{missing}");

    let (begun, _keep) = mpsc::unbounded_channel();
    let state =
        Arc::new(State { n_handled: 0.into(), n_bodies: 0.into(), begun, go_on: Notify::new() });
    let router = router(state, Pairings::default(), Listener::Replication, Pace::default());
    let shutdown = CancellationToken::new();
    let server = LocalServer::bind(&path, ConnectionPolicy::default()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the mode of the socket is what is tested")]
    let metadata = std::fs::metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let serving = tokio::spawn(server.serve(router, shutdown.clone()));

    let client = LocalClient::open(&path, WITHIN).await.unwrap();
    for n in 0..20 {
        let text = n.to_string();
        let answer = client.call::<Echo>(&agent(), &said(&text)).await.unwrap();
        assert_eq!(answer.body, said(&text));
    }
    // One's own mistakes are explained in full.
    let error = client.call::<Submit>(&(), &said(&"a".repeat(20 << 10))).await.unwrap_err();
    assert!(error.to_string().contains("larger than 16384 bytes"), "{error}");

    // A second daemon does not take the socket of a running one.
    let taken = LocalServer::bind(&path, ConnectionPolicy::default()).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    drop(client);
    shutdown.cancel();
    within(30, "the stop", serving).await.unwrap();

    // The socket of a dead one is in nobody's way.
    let gone = LocalClient::open(&path, WITHIN).await.unwrap_err();
    assert!(matches!(gone, LocalError::NotRunning(_)), "{gone}");
    LocalServer::bind(&path, ConnectionPolicy::default()).unwrap();
}

#[tokio::test]
async fn a_layer_stands_around_the_router_of_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("daemon.sock");
    let (begun, _keep) = mpsc::unbounded_channel();
    let state =
        Arc::new(State { n_handled: 0.into(), n_bodies: 0.into(), begun, go_on: Notify::new() });
    let router = router(state, Pairings::default(), Listener::Replication, Pace::default());
    let marked = router.map_response(|mut response: Response<Outgoing>| {
        response.headers_mut().insert("marked", HeaderValue::from_static("yes"));
        response
    });
    let shutdown = CancellationToken::new();
    let server = LocalServer::bind(&path, ConnectionPolicy::default()).unwrap();
    let serving = tokio::spawn(server.serve(marked, shutdown.clone()));
    let client = LocalClient::open(&path, WITHIN).await.unwrap();
    for text in ["a", "b"] {
        let answer = client.call::<Echo>(&agent(), &said(text)).await.unwrap();
        assert_eq!(answer.body, said(text));
        assert_eq!(answer.headers["marked"], "yes");
    }
    drop(client);
    shutdown.cancel();
    within(30, "the stop", serving).await.unwrap();
}
