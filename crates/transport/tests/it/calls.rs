//! What honest callers get, over HTTP/2 and HTTP/1.1 alike.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderValue;
use offsite_proto::endpoint::Listener;
use offsite_proto::error::ErrorCode;
use offsite_proto::json::PlainText;
use offsite_proto::rows;
use offsite_transport::{CallError, Connection, Outgoing, Reply, RouteError, Routes};

use crate::support::*;

fn code<T: std::fmt::Debug>(answer: Result<T, CallError>) -> ErrorCode {
    match answer {
        Err(CallError::Refused(refusal, status)) => {
            assert_eq!(refusal.code.status(), status);
            refusal.code
        }
        other => panic!("not refused: {other:?}"),
    }
}

async fn both(scene: &Scene, source: &Source) -> [Connection; 2] {
    let http2 = scene.dial(Some(source)).await.unwrap();
    let http1 = scene.dial_http1(Some(source)).await;
    assert!(http2.is_http2() && !http1.is_http2());
    [http2, http1]
}

#[tokio::test]
async fn calls_are_answered_and_connections_are_used_again() {
    let scene = scene(short()).await;
    let source = scene.paired();
    let connections = both(&scene, &source).await;
    for connection in &connections {
        for n in 0..20 {
            let text = format!("\u{e9} {n}");
            let answer = connection.call::<Echo>(&agent(), &said(&text)).await.unwrap();
            assert_eq!((answer.status, answer.body), (200, said(&text)));
            assert_eq!(answer.headers["cache-control"], "no-store");
            assert_eq!(answer.headers["offsite-protocol"], "1");
            assert_eq!(answer.headers["offsite-request"].len(), 16);
        }
        let answer = connection.call::<Submit>(&(), &said("a")).await.unwrap();
        assert_eq!((answer.status, answer.retry_after), (202, Some(7)));
        let answer = connection.call::<Large>(&(), &()).await.unwrap();
        assert_eq!(answer.body, PlainText("a".repeat(8 << 20)));
        assert_eq!(connection.peer().thumbprint(), scene.pin);
        assert!(!connection.is_closed());
    }
    assert_eq!(scene.connections.n_open(), 2);
}

#[tokio::test]
async fn many_calls_share_one_connection_at_once() {
    let scene = scene(short()).await;
    let source = scene.paired();
    for connection in both(&scene, &source).await {
        let agent = agent();
        let body = said("a");
        let calls = (0..60).map(|_| connection.call::<Echo>(&agent, &body));
        let answers = futures_util::future::join_all(calls).await;
        let failed = answers.iter().find(|answer| answer.is_err());
        assert!(failed.is_none(), "{failed:?}");
    }
}

#[tokio::test]
async fn refusals_reach_the_caller_as_refusals() {
    let scene = scene(short()).await;
    let source = scene.paired();
    for connection in both(&scene, &source).await {
        assert_eq!(
            code(connection.call::<FreeSpace>(&agent(), &()).await),
            ErrorCode::NotImplemented
        );
        let long = said(&"a".repeat(64 << 10));
        assert_eq!(code(connection.call::<Echo>(&agent(), &long).await), ErrorCode::TooLarge);
    }
    let stranger = Source::new();
    let connection = scene.dial(Some(&stranger)).await.unwrap();
    assert_eq!(code(connection.call::<Echo>(&agent(), &said("a")).await), ErrorCode::NotPaired);
    let connection = scene.dial(None).await.unwrap();
    assert_eq!(
        code(connection.call::<Echo>(&agent(), &said("a")).await),
        ErrorCode::Unauthenticated
    );
}

#[tokio::test]
async fn f_08_a_panic_ends_its_request_and_nothing_else() {
    let scene = scene(short()).await;
    let source = scene.paired();
    for connection in both(&scene, &source).await {
        for _ in 0..25 {
            assert_eq!(code(connection.call::<PanicRead>(&(), &()).await), ErrorCode::Internal);
            let changed = connection.call::<PanicChange>(&(), &said("a")).await;
            assert_eq!(code(changed), ErrorCode::Internal);
        }
        assert!(connection.call::<Read>(&agent(), &()).await.is_ok());
    }
}

#[tokio::test]
async fn an_answer_may_end_its_connection() {
    let scene = scene(short()).await;
    let source = scene.paired();
    for connection in both(&scene, &source).await {
        let answer = connection.call::<Last>(&(), &()).await.unwrap();
        assert_eq!(answer.body, said("good bye"));
        within(5, "the end of the connection", async {
            while !connection.is_closed() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(connection.call::<Read>(&agent(), &()).await.is_err());
    }
    let text = scene
        .exchange(
            Some(&source),
            b"POST /replicationcomms/test/last HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
    assert!(text.to_lowercase().contains("\r\nconnection: close\r\n"), "{text}");
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let scene = scene(short()).await;
    let source = scene.paired();
    let connection = scene.dial(Some(&source)).await.unwrap();
    let media = HeaderValue::from_static(STREAM_MEDIA);
    let (sender, body) = Outgoing::stream();
    let answer = connection.stream(&STREAM, &no_values(), media, body, 1 << 30).await.unwrap();
    assert_eq!(answer.media(), Some(STREAM_MEDIA));
    let mut incoming = answer.body;
    let mut n_back = 0;
    for _ in 0..64 {
        // Each piece comes back before the next one goes out: both directions are open at once.
        sender.send(piece(64 << 10)).await.unwrap();
        let mut n = 0;
        while n < 64 << 10 {
            n += within(5, "an echo", incoming.next()).await.unwrap().unwrap().len();
        }
        n_back += n;
    }
    sender.finish().await.unwrap();
    assert!(incoming.next().await.unwrap().is_none());
    assert_eq!(n_back, 64 * (64 << 10));
}

#[tokio::test]
async fn half_a_stream_is_never_taken_for_a_whole_one() {
    let mut scene = scene(short()).await;
    let source = scene.paired();
    for connection in both(&scene, &source).await {
        let media = HeaderValue::from_static(STREAM_MEDIA);
        let (sender, body) = Outgoing::stream();
        let values = no_values();
        let sending = connection.stream(&STREAM, &values, media, body, 1 << 30);
        let feeding = async {
            sender.send(piece(1024)).await.unwrap();
            assert_eq!(scene.begun.recv().await, Some("stream"));
            drop(sender);
            assert_eq!(scene.begun.recv().await, Some("stream ended"));
        };
        let (answer, ()) = within(10, "the cut", async { tokio::join!(sending, feeding) }).await;
        let whole = match answer {
            Ok(answer) => answer.body.whole().await.is_ok(),
            Err(_) => false,
        };
        assert!(!whole, "http2 {}", connection.is_http2());
    }
}

#[tokio::test]
async fn e_14_a_change_survives_the_loss_of_its_caller() {
    for http2 in [true, false] {
        let mut scene = scene(short()).await;
        let source = scene.paired();
        let connection = match http2 {
            true => scene.dial(Some(&source)).await.unwrap(),
            false => scene.dial_http1(Some(&source)).await,
        };
        let body = said("a");
        tokio::select! {
            _ = connection.call::<Change>(&(), &body) => panic!("it waits for us"),
            begun = scene.begun.recv() => assert_eq!(begun, Some("change")),
        }
        drop(connection);
        within(5, "the end of all connections", async {
            while scene.connections.n_open() > 0 {
                scene.connections.close(&source.thumbprint());
                tokio::task::yield_now().await;
            }
        })
        .await;
        scene.state.go_on.notify_one();
        assert_eq!(within(5, "the change", scene.begun.recv()).await, Some("changed"));
        assert_eq!(scene.state.n_handled.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn e_16_a_stop_lets_open_requests_end_and_waits_for_changes() {
    let mut scene = scene(short()).await;
    let source = scene.paired();
    let connection = scene.dial(Some(&source)).await.unwrap();
    let mut calling = tokio::spawn({
        let connection = connection.clone();
        async move { connection.call::<Change>(&(), &said("a")).await.map(|answer| answer.status) }
    });
    assert_eq!(scene.begun.recv().await, Some("change"));
    scene.shutdown.cancel();
    within(5, "the end of accepting", async {
        while tokio::net::TcpStream::connect(scene.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The stop has begun and is patient: the call is still open.
    let patience = std::time::Duration::from_millis(300);
    assert!(tokio::time::timeout(patience, &mut calling).await.is_err(), "the call was cut");
    assert_eq!(scene.router.mutations().n_running(), 1);
    scene.state.go_on.notify_one();
    assert_eq!(within(5, "the answer", calling).await.unwrap().unwrap(), 204);
    drop(connection);
    within(5, "the stop", &mut scene.served).await.unwrap();
    assert_eq!(scene.router.mutations().finish(std::time::Duration::from_secs(5)).await, 0);
    assert!(scene.dial(Some(&source)).await.is_err());
}

#[tokio::test]
async fn e_16_a_stop_does_not_wait_for_ever() {
    let mut scene = scene(short()).await;
    let source = scene.paired();
    let connection = scene.dial(Some(&source)).await.unwrap();
    let calling = tokio::spawn(async move { connection.call::<Change>(&(), &said("a")).await });
    assert_eq!(scene.begun.recv().await, Some("change"));
    scene.shutdown.cancel();
    within(5, "the stop", &mut scene.served).await.unwrap();
    assert!(calling.await.unwrap().is_err());
    // The change itself was not cut.
    scene.state.go_on.notify_one();
    assert_eq!(within(5, "the change", scene.begun.recv()).await, Some("changed"));
}

#[test]
fn a_router_with_a_gap_or_a_duplicate_is_not_built() {
    let state = || {
        let (begun, _) = tokio::sync::mpsc::unbounded_channel();
        Arc::new(State {
            n_handled: 0.into(),
            n_bodies: 0.into(),
            begun,
            go_on: tokio::sync::Notify::new(),
        })
    };
    let routes = || Routes::<State, Caller>::new(&[rows::ALL, ROWS], Listener::Replication);
    async fn read(
        _: Arc<State>,
        _: offsite_transport::Call<Read, Caller>,
    ) -> Result<Reply<offsite_proto::json::Json<Said>>, offsite_proto::error::Refusal> {
        Ok(said("").into())
    }
    async fn free(
        _: Arc<State>,
        _: offsite_transport::Call<FreeSpace, Caller>,
    ) -> Result<Reply<()>, offsite_proto::error::Refusal> {
        Ok(().into())
    }
    let finish = |routes: Routes<State, Caller>| {
        routes
            .finish(state(), Pairings::default(), Seeded::new(1))
            .map(|router| router.not_implemented().len())
    };
    let n_rows = finish(routes()).unwrap();
    assert_eq!(finish(routes().on::<Read>(read)), Ok(n_rows - 1));
    assert_eq!(
        finish(routes().on::<Read>(read).on::<Read>(read)),
        Err(RouteError::Duplicate("T2"))
    );
    let operator = Routes::<State, Caller>::new(&[rows::ALL], Listener::Operator);
    assert_eq!(finish(operator.on::<FreeSpace>(free)), Err(RouteError::Foreign("13".to_owned())));
}
