//! A-15, the half of the transport: a key that is revoked loses what it has open, at once.

use http::HeaderValue;
use offsite_proto::error::ErrorCode;
use offsite_transport::{CallError, Outgoing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::support::*;

const ROUNDS: usize = 5;

fn revoke(scene: &Scene, source: &Source) -> Instant {
    scene.pairings.remove(&source.thumbprint());
    scene.connections.close(&source.thumbprint());
    Instant::now()
}

fn is_refused<T>(answer: Result<T, CallError>) -> bool {
    matches!(answer, Err(CallError::Refused(refusal, 403)) if refusal.code == ErrorCode::NotPaired)
}

#[tokio::test]
async fn a_15_new_and_kept_connections_of_a_revoked_key_are_refused() {
    let scene = scene(usual()).await;
    for _ in 0..ROUNDS {
        let (source, other) = (scene.paired(), scene.paired());
        let kept = scene.dial(Some(&source)).await.unwrap();
        let neighbour = scene.dial(Some(&other)).await.unwrap();
        assert!(kept.call::<Read>(&agent(), &()).await.is_ok());
        let since = revoke(&scene, &source);
        let call = within(5, "the end", kept.call::<Read>(&agent(), &())).await;
        assert!(call.is_err());
        let new = scene.dial(Some(&source)).await.unwrap();
        assert!(is_refused(new.call::<Read>(&agent(), &()).await));
        assert!(since.elapsed().as_secs() < 5);
        assert!(neighbour.call::<Read>(&agent(), &()).await.is_ok());
    }
}

#[tokio::test]
async fn a_cut_ends_what_was_open_when_it_was_ordered_and_nothing_later() {
    let scene = scene(usual()).await;
    let source = scene.paired();
    let before = scene.dial(Some(&source)).await.unwrap();
    assert!(before.call::<Read>(&agent(), &()).await.is_ok());
    scene.pairings.remove(&source.thumbprint());
    let condemned = scene.connections.open_of(&source.thumbprint());
    let after = scene.dial(Some(&source)).await.unwrap();
    assert!(is_refused(after.call::<Read>(&agent(), &()).await));
    assert_eq!(condemned.cut(), 1);
    let ended = within(5, "the end", before.call::<Read>(&agent(), &())).await;
    assert!(matches!(ended, Err(CallError::Transport { .. })));
    // Answered on the connection that was opened meanwhile, and not with a hang-up.
    assert!(is_refused(after.call::<Read>(&agent(), &()).await));
}

#[tokio::test]
async fn a_15_the_row_is_asked_on_every_request_of_a_connection() {
    let scene = scene(usual()).await;
    for _ in 0..ROUNDS {
        let source = scene.paired();
        let kept = scene.dial(Some(&source)).await.unwrap();
        assert!(kept.call::<Read>(&agent(), &()).await.is_ok());
        // Without closing anything: the next request on the same connection is refused all the
        // same.
        scene.pairings.remove(&source.thumbprint());
        assert!(is_refused(kept.call::<Read>(&agent(), &()).await));
    }
}

#[tokio::test]
async fn a_15_a_stream_in_mid_upload_is_reset() {
    let mut scene = scene(usual()).await;
    for _ in 0..ROUNDS {
        let source = scene.paired();
        let connection = scene.dial(Some(&source)).await.unwrap();
        let (sender, body) = Outgoing::stream();
        let media = HeaderValue::from_static(STREAM_MEDIA);
        let answer = connection.stream(&STREAM, &no_values(), media, body, 1 << 30).await.unwrap();
        assert_eq!(scene.begun.recv().await, Some("stream"));
        sender.send(piece(1024)).await.unwrap();
        revoke(&scene, &source);
        // Both ends see the cut: our sender, our reader, and the handler at the target.
        within(5, "the cut at the source", async {
            while sender.send(piece(1024)).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(within(5, "the cut answer", answer.body.whole()).await.is_err());
        assert_eq!(within(5, "the end", scene.begun.recv()).await, Some("stream ended"));
    }
}

#[tokio::test]
async fn a_15_nothing_is_given_that_could_be_resumed() {
    let scene = scene(usual()).await;
    for _ in 0..ROUNDS {
        let source = scene.paired();
        let mut first = scene.raw(Some(&source), b"http/1.1").await;
        first.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        first.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        revoke(&scene, &source);
        within(5, "the end", read_all(&mut first)).await;
        assert_eq!(first.get_ref().1.tls13_tickets_received(), 0);
        let second = scene.raw(Some(&source), b"http/1.1").await;
        let kind = second.get_ref().1.handshake_kind();
        assert!(matches!(
            kind,
            Some(rustls::HandshakeKind::Full | rustls::HandshakeKind::FullWithHelloRetryRequest)
        ));
    }
}
