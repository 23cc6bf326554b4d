//! E-01: stalled peers of seven kinds beside honest callers. And E-03, the floods that the HTTP
//! library must end.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use offsite_model::Luck;
use offsite_proto::endpoint::Values;
use offsite_transport::{Bytes, Connection, ConnectionPolicy, Outgoing, Pace};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::silence::{HALF_HELLO, PREFACE};
use crate::support::*;

const STALLED: usize = 140;
const HONEST_CALLS: usize = 200;

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Connected and nothing else. Stands for the half-open SYN, which needs raw sockets.
    Silent,
    SilentAfterOneByte,
    HalfHello,
    TlsIdle,
    SlowHead,
    SlowBody,
    NeverReads,
}

const KINDS: [Kind; 7] = [
    Kind::Silent,
    Kind::SilentAfterOneByte,
    Kind::HalfHello,
    Kind::TlsIdle,
    Kind::SlowHead,
    Kind::SlowBody,
    Kind::NeverReads,
];

/// Stalls until it is closed, and says after how long that was.
async fn stall(scene: &Scene, source: &Source, kind: Kind) -> Duration {
    let since = Instant::now();
    match kind {
        Kind::Silent | Kind::SilentAfterOneByte | Kind::HalfHello => {
            let mut tcp = TcpStream::connect(scene.address).await.unwrap();
            let first: &[u8] = match kind {
                Kind::Silent => b"",
                Kind::SilentAfterOneByte => b"\x16",
                _ => HALF_HELLO,
            };
            tcp.write_all(first).await.unwrap();
            read_all(&mut tcp).await;
        }
        Kind::TlsIdle => {
            let Ok(mut stream) = scene.try_raw(None, b"h2").await else { return since.elapsed() };
            let _ = stream.write_all(PREFACE).await;
            read_all(&mut stream).await;
        }
        Kind::SlowHead | Kind::SlowBody => {
            let Ok(stream) = scene.try_raw(None, b"http/1.1").await else { return since.elapsed() };
            let (mut reader, mut writer) = tokio::io::split(stream);
            let reading = tokio::spawn(async move { read_all(&mut reader).await });
            let start: &[u8] = match kind {
                Kind::SlowHead => b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ",
                _ => b"POST /replicationcomms/test/submit HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n",
            };
            let _ = writer.write_all(start).await;
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            while !reading.is_finished() {
                ticks.tick().await;
                if writer.write_all(b" ").await.is_err() || writer.flush().await.is_err() {
                    break;
                }
            }
            let _ = reading.await;
        }
        Kind::NeverReads => {
            // A paired key: the worst case, since its class is never pushed out.
            let Ok(mut stream) = scene.try_raw(Some(source), b"http/1.1").await else {
                return since.elapsed();
            };
            let request = b"GET /replicationcomms/test/large HTTP/1.1\r\nHost: a\r\n\r\n";
            let _ = stream.write_all(request).await;
            let _ = stream.flush().await;
            // Not reading, we learn of the end by writing.
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            loop {
                ticks.tick().await;
                if stream.write_all(b"GET /").await.is_err() || stream.flush().await.is_err() {
                    break;
                }
            }
        }
    }
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e_01_stalled_peers_of_seven_kinds_do_not_slow_honest_ones() {
    let limit = Duration::from_secs(2);
    let policy = ConnectionPolicy {
        handshake: limit,
        first_request: limit,
        head: limit,
        idle_unknown: limit,
        unread: limit,
        paired_per_key: 64,
        unknown_per_address: 64,
        ..usual()
    };
    let pace = Pace { over: limit, bytes: 2 << 10, ..Pace::default() };
    let scene = Arc::new(scene_with(policy, pace).await);
    let honest: Vec<_> = (0..2).map(|_| scene.paired()).collect();
    let mut connections: Vec<Connection> = Vec::new();
    for source in &honest {
        let connection = scene.dial(Some(source)).await.unwrap();
        // Until the target has ended the handshake on its side, a source is a stranger among them.
        connection.call::<Read>(&agent(), &()).await.unwrap();
        connections.push(connection);
    }
    let greedy = Arc::new(scene.paired());
    let stalled: Vec<_> = (0..STALLED)
        .map(|n| {
            let (scene, greedy) = (Arc::clone(&scene), Arc::clone(&greedy));
            let kind = KINDS[n % KINDS.len()];
            tokio::spawn(async move { (kind, stall(&scene, &greedy, kind).await) })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for n in 0..HONEST_CALLS {
        let since = Instant::now();
        let connection = &connections[n % connections.len()];
        connection.call::<Echo>(&agent(), &said("a")).await.unwrap();
        if n % 20 == 0 {
            // A source that comes back gets in at once, whoever else waits at the door.
            let source = &honest[n % honest.len()];
            let again = within(3, "a reconnect", scene.dial(Some(source))).await.unwrap();
            again.call::<Read>(&agent(), &()).await.unwrap();
        }
        slowest = slowest.max(since.elapsed());
    }
    assert!(slowest < Duration::from_secs(3), "the slowest honest call took {slowest:?}");
    for stalled in stalled {
        let (kind, took) = within(30, "the end of a stalled peer", stalled).await.unwrap();
        assert!(
            took <= limit * 2 + Duration::from_secs(2),
            "{kind:?} was closed after {took:?} only"
        );
    }
    assert!(scene.connections.n_strangers() == 0);
    for connection in &connections {
        connection.call::<Read>(&agent(), &()).await.unwrap();
    }
}

#[tokio::test]
async fn e_09_a_stream_that_falls_silent_ends_though_its_reader_looks_up_meanwhile() {
    let pace = Pace { stream_idle: Duration::from_millis(300), ..Pace::default() };
    let mut scene = scene_with(usual(), pace).await;
    let source = scene.paired();
    let connection = scene.dial(Some(&source)).await.unwrap();
    let (sender, body) = Outgoing::stream();
    let media = HeaderValue::from_static(STREAM_MEDIA);
    let values = Values::new();
    let answer = connection.stream(&STREAM, &values, media, body, 1 << 30).await.unwrap();
    assert_eq!(scene.begun.recv().await, Some("stream"));
    sender.send(Bytes::from_static(b"a piece")).await.unwrap();
    // Neither more nor an end: the peer may be gone for good.
    assert_eq!(within(10, "the end", scene.begun.recv()).await, Some("stream ended"));
    drop((sender, answer));
}

#[tokio::test]
async fn e_01_a_full_house_of_strangers_gives_way() {
    let policy = ConnectionPolicy { unknown_per_address: 8, ..usual() };
    let scene = scene(policy).await;
    let source = scene.paired();
    let kept = scene.dial(Some(&source)).await.unwrap();
    assert!(kept.call::<Read>(&agent(), &()).await.is_ok());
    let mut strangers = Vec::new();
    for _ in 0..40 {
        strangers.push(TcpStream::connect(scene.address).await.unwrap());
    }
    // The shipped deadlines are ten seconds; getting in takes less than that only by pushing out.
    let since = Instant::now();
    let new = within(5, "an honest connection", scene.dial(Some(&source))).await.unwrap();
    assert!(new.call::<Read>(&agent(), &()).await.is_ok());
    assert!(kept.call::<Read>(&agent(), &()).await.is_ok());
    let plain = within(5, "an unknown connection", scene.dial(None)).await.unwrap();
    assert!(plain.call::<Healthz>(&(), &()).await.is_ok());
    assert!(since.elapsed() < Duration::from_secs(5));
    assert!(scene.connections.n_strangers() <= 8 + 1, "{}", scene.connections.n_strangers());
}

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// `GET /healthz` by the static table, authority `a`.
fn headers(stream: u32, flags: u8) -> Vec<u8> {
    let mut block = vec![0x82, 0x87, 0x04, 8];
    block.extend_from_slice(b"/healthz");
    block.extend_from_slice(&[0x01, 1, b'a']);
    frame(1, flags, stream, &block)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e_03_floods_of_frames_are_ended() {
    let scene = scene(short()).await;
    let luck = Seeded::new(11);
    type Flood = fn(u32, &dyn Luck) -> Vec<u8>;
    let floods: [(&str, Flood); 5] = [
        ("rapid reset", |n, _| {
            let stream = n * 2 + 1;
            [headers(stream, 5), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
        }),
        ("continuation", |n, luck| match n {
            0 => headers(1, 1),
            _ => {
                let mut junk = vec![0, 1, b'x', 100];
                junk.extend((0..100).map(|_| b'a' + u8::try_from(luck.below(26)).unwrap()));
                frame(9, 0, 1, &junk)
            }
        }),
        ("settings", |_, _| frame(4, 0, 0, &[])),
        ("pings", |_, _| frame(6, 0, 0, b"12345678")),
        ("empty data", |n, _| match n {
            0 => headers(1, 4),
            _ => frame(0, 0, 1, &[]),
        }),
    ];
    for (name, flood) in floods {
        let stream = scene.raw(None, b"h2").await;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let reading = tokio::spawn(async move { read_all(&mut reader).await.len() });
        let since = Instant::now();
        let sending = async {
            writer.write_all(PREFACE).await?;
            for n in 0..1_000_000 {
                let mut batch = flood(n, &*luck);
                if n > 0 && name != "rapid reset" {
                    batch = batch.repeat(20);
                }
                writer.write_all(&batch).await?;
                writer.flush().await?;
            }
            Ok::<_, std::io::Error>(())
        };
        assert!(within(10, name, sending).await.is_err(), "{name} was never ended");
        let took = since.elapsed();
        assert!(took < Duration::from_secs(5), "{name} was ended after {took:?} only");
        reading.abort();
    }
    let source = scene.paired();
    assert!(scene.dial(Some(&source)).await.unwrap().call::<Read>(&agent(), &()).await.is_ok());
}

#[tokio::test]
async fn e_03_a_window_that_is_never_opened_ends_its_connection() {
    let scene = scene(short()).await;
    let source = scene.paired();
    let mut stream = scene.raw(Some(&source), b"h2").await;
    stream.write_all(&PREFACE[..24]).await.unwrap();
    // SETTINGS_INITIAL_WINDOW_SIZE = 0: no answer's body can ever be sent.
    stream.write_all(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])).await.unwrap();
    let mut block = vec![0x82, 0x87, 0x04];
    let path = b"/replicationcomms/test/large";
    block.push(u8::try_from(path.len()).unwrap());
    block.extend_from_slice(path);
    block.extend_from_slice(&[0x01, 1, b'a']);
    stream.write_all(&frame(1, 5, 1, &block)).await.unwrap();
    stream.flush().await.unwrap();
    within(5, "the end", read_all(&mut stream)).await;
    assert_eq!(scene.connections.n_open(), 0);
}
