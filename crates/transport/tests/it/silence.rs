//! E-02: a connection that falls silent at any stage is closed in time.

use std::time::Duration;

use offsite_transport::ConnectionPolicy;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::*;

/// The preface of HTTP/2 and an empty SETTINGS frame.
pub(crate) const PREFACE: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
/// An HTTP/2 ping.
const PING: &[u8] = b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678";
/// The beginning of a TLS hello, without its rest.
pub(crate) const HALF_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// How a connection falls silent.
#[derive(Clone, Copy, Debug)]
enum Stage {
    BeforeHello,
    InHello,
    AfterHandshake1,
    AfterHandshake2,
    InRequestLine,
    InHead,
    AfterAnswer,
    AfterPreface,
    InHeaders2,
    PingsOnly,
}

const STAGES: [Stage; 10] = [
    Stage::BeforeHello,
    Stage::InHello,
    Stage::AfterHandshake1,
    Stage::AfterHandshake2,
    Stage::InRequestLine,
    Stage::InHead,
    Stage::AfterAnswer,
    Stage::AfterPreface,
    Stage::InHeaders2,
    Stage::PingsOnly,
];

/// Connects, does what the stage says, falls silent, and waits to be closed; says how long that
/// took.
async fn fall_silent(scene: &Scene, stage: Stage) -> Duration {
    let protocol: &[u8] = match stage {
        Stage::AfterHandshake2 | Stage::AfterPreface | Stage::InHeaders2 | Stage::PingsOnly => {
            b"h2"
        }
        _ => b"http/1.1",
    };
    if let Stage::BeforeHello | Stage::InHello = stage {
        let mut tcp = TcpStream::connect(scene.address).await.unwrap();
        if let Stage::InHello = stage {
            tcp.write_all(HALF_HELLO).await.unwrap();
        }
        let since = Instant::now();
        read_all(&mut tcp).await;
        return since.elapsed();
    }
    let mut stream = scene.raw(None, protocol).await;
    let before: &[u8] = match stage {
        Stage::InRequestLine => b"GET /hea",
        Stage::InHead => b"GET /healthz HTTP/1.1\r\nHost: a\r\nX",
        Stage::AfterAnswer => b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        Stage::AfterPreface | Stage::InHeaders2 | Stage::PingsOnly => PREFACE,
        _ => b"",
    };
    stream.write_all(before).await.unwrap();
    if let Stage::InHeaders2 = stage {
        // A HEADERS frame for stream 1 that does not end its headers; ":method: GET".
        stream.write_all(b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82").await.unwrap();
    }
    stream.flush().await.unwrap();
    let since = Instant::now();
    if let Stage::PingsOnly = stage {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let reading = tokio::spawn(async move { read_all(&mut reader).await });
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while !reading.is_finished() {
            ticks.tick().await;
            if writer.write_all(PING).await.is_err() || writer.flush().await.is_err() {
                break;
            }
        }
        reading.await.unwrap();
    } else {
        read_all(&mut stream).await;
    }
    since.elapsed()
}

async fn all_stages(scene: &Scene, n_each: usize, limit: Duration) {
    let silences = STAGES.iter().flat_map(|stage| (0..n_each).map(move |_| *stage));
    let silences = silences.map(|stage| async move { (stage, fall_silent(scene, stage).await) });
    for (stage, took) in within(60, "the end", futures_util::future::join_all(silences)).await {
        assert!(took <= limit, "{stage:?} was closed after {took:?} only");
    }
    assert_eq!(scene.connections.n_open(), 0);
}

#[tokio::test]
async fn e_02_silence_at_every_stage_is_ended() {
    let scene = scene(short()).await;
    all_stages(&scene, 10, Duration::from_secs(4)).await;
}

#[tokio::test]
async fn e_02_the_shipped_deadlines_end_silence_within_twelve_seconds() {
    let scene = scene(usual()).await;
    all_stages(&scene, 2, Duration::from_secs(12)).await;
}

#[tokio::test]
async fn a_paired_source_may_pause_between_calls() {
    let policy = ConnectionPolicy { idle_known: Duration::from_secs(60), ..short() };
    let scene = scene(policy).await;
    let source = scene.paired();
    let connection = scene.dial(Some(&source)).await.unwrap();
    assert!(connection.call::<Read>(&agent(), &()).await.is_ok());
    // Longer than every other deadline of this policy.
    let unknown = fall_silent(&scene, Stage::AfterPreface).await;
    assert!(unknown >= Duration::from_millis(400), "{unknown:?}");
    assert!(!connection.is_closed());
    assert!(connection.call::<Read>(&agent(), &()).await.is_ok());
}

#[tokio::test]
async fn e_02_a_paired_source_must_finish_its_heads_too() {
    let scene = scene(short()).await;
    let source = scene.paired();
    let mut stream = scene.raw(Some(&source), b"http/1.1").await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ").await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let reading = tokio::spawn(async move { read_all(&mut reader).await });
    let since = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let dripping = async {
        // Never silent, and never done.
        while writer.write_all(b"a").await.is_ok() && writer.flush().await.is_ok() {
            ticks.tick().await;
        }
    };
    within(10, "the end", dripping).await;
    assert!(since.elapsed() < Duration::from_secs(4));
    assert_eq!(reading.await.unwrap().matches("200 OK").count(), 1);
}
