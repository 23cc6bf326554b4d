//! What sources send, over HTTP: groups that are bombs or lie, a memory that is bounded, and
//! answers that depend on the asker's own data alone.

use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderValue};
use offsite_model::{Key, Luck as _, VolumeId};
use offsite_proto::catalog::{CountPoints, OfAgent};
use offsite_proto::endpoint::{Method, Segment, Values};
use offsite_proto::error::ErrorCode;
use offsite_proto::group::Codec;
use offsite_proto::json::Json;
use offsite_proto::session::Open;
use offsite_store::group::{CheckedGroup, Form};
use offsite_testkit::SeededLuck;
use offsite_transport::{CallError, Outgoing};

use super::calls::{masked, replication_rows, values};
use super::replicas;
use super::scene::{ROOT, Scene, Source, decision};
use super::wire::{Image, Wire, group, record};
use crate::replicas::BUDGET_BYTES;

/// A source with a quota: what is left of it does not depend on this machine's disk.
async fn paired(scene: &Scene) -> Source {
    let mut source = scene.source();
    let request = scene.submit(&source).await.unwrap().request_id.0;
    let mut decide = decision(request, true);
    decide.quota_bytes = Some(offsite_proto::text::Big(64 << 20));
    scene.target.decide(&ROOT, &decide).unwrap();
    scene.target.issue_ordered();
    source.fetch(scene, request).await;
    source.sync(scene).await.unwrap();
    source
}

/// Ids are drawn, so they differ from world to world.
fn without_ids(text: &str) -> String {
    const ID_BYTES: usize = 36;
    let (mut shown, mut rest) = (String::new(), text);
    while let Some(letter) = rest.chars().next() {
        let is_id = rest.get(..ID_BYTES).is_some_and(|id| {
            id.parse::<VolumeId>().is_ok() && id.as_bytes().get(8) == Some(&b'-')
        });
        let n_bytes = if is_id { ID_BYTES } else { letter.len_utf8() };
        shown.push_str(if is_id { "ID" } else { &rest[..n_bytes] });
        rest = &rest[n_bytes..];
    }
    shown
}

/// The answer of every call that only asks, about what is the asker's own.
async fn everything_shown(wire: &Wire, image: &Image, source: &Source, told: &mut Vec<String>) {
    let (open, luck) = (image.open(source), SeededLuck::new(3));
    let rows = replication_rows().into_iter().filter(|row| row.method == Method::Get);
    for row in rows {
        let mut asked = Values::new();
        let drawn = values(row, &luck);
        for segment in row.segments() {
            let Segment::Parameter(name) = segment else { continue };
            let own = match name {
                "agentId" => open.agent_id.to_string(),
                "sessionId" => wire.path.session.to_string(),
                "jobId" => open.job_id.to_string(),
                "volumeDriverId" => open.volume_driver_id.to_string(),
                "recoveryPointId" => open.recovery_point_id.to_string(),
                _ => drawn.find(name).unwrap().to_owned(),
            };
            asked.insert(name, own);
        }
        if let Some(commit) = drawn.find("commit") {
            asked.insert("commit", commit);
        }
        let json = HeaderValue::from_static("application/json");
        let answer = wire.connection.stream(row, &asked, json, Outgoing::empty(), 1 << 22).await;
        let said = match answer {
            Ok(answer) => {
                let status = answer.status;
                let body = answer.body.whole().await.unwrap();
                format!("{status} {}", String::from_utf8_lossy(&body))
            }
            Err(CallError::Refused(refusal, status)) => format!("{status} {:?}", masked(refusal)),
            Err(error) => panic!("row {}: {error}", row.id),
        };
        told.push(format!("row {}: {}", row.id, without_ids(&said)));
    }
}

/// Everything that a source is told while it sends images, over the wire.
async fn told(scene: &Scene, source: &Source, images: &[Image]) -> Vec<String> {
    let mut told = Vec::new();
    for image in images {
        let wire = Wire::open(scene, source, image).await.unwrap();
        told.push(without_ids(&format!("{:?}", wire.opened)));
        let wanted = wire.offer(image).await;
        assert!(wanted.iter().all(|wanted| *wanted), "something is held before it was sent");
        told.push(format!("{wanted:?}"));
        told.push(format!("{:?}", wire.commit().await));
        everything_shown(&wire, image, source, &mut told).await;
        wire.send(&image.groups()).await.unwrap();
        told.push(format!("{:?}", wire.commit().await));
        everything_shown(&wire, image, source, &mut told).await;
    }
    told
}

#[tokio::test]
async fn b_01_every_answer_over_the_wire_is_the_same_with_and_without_another_tenants_data() {
    const N: u64 = 2_000;
    let images = || {
        let of =
            |number, contents: std::ops::Range<u64>| Image { number, contents: contents.collect() };
        [of(1, 0..N), of(2, 5 * N..6 * N)]
    };
    let [shared, _] = images();
    let mut worlds = Vec::new();
    for has_other in [true, false] {
        let scene = replicas::scene().await;
        let other = paired(&scene).await;
        if has_other {
            let wire = Wire::open(&scene, &other, &shared).await.unwrap();
            assert_eq!(wire.offer(&shared).await, vec![true; N as usize]);
            wire.send(&shared.groups()).await.unwrap();
            wire.commit().await.unwrap();
        }
        let asker = paired(&scene).await;
        worlds.push(told(&scene, &asker, &images()).await);
    }
    assert!(worlds[0].len() > 60, "{}", worlds[0].len());
    for (with, without) in worlds[0].iter().zip(&worlds[1]) {
        assert_eq!(with, without);
    }
}

/// A session that wants the records of the image that it was opened for.
async fn wanting(scene: &Scene, source: &Source, image: &Image) -> Wire {
    let wire = Wire::open(scene, source, image).await.unwrap();
    assert!(wire.offer(image).await.iter().all(|wanted| *wanted));
    wire
}

#[tokio::test]
async fn b_06_what_calls_itself_encrypted_is_refused_in_a_session_that_is_not() {
    let (scene, luck) = (replicas::scene().await, SeededLuck::from_env_or(1));
    let source = scene.paired().await;
    let image = Image { number: 1, contents: vec![1, 2, 3] };
    let wire = wanting(&scene, &source, &image).await;
    for case in 0..300 {
        // The very bytes that the key is of, and wrong ones under the same table.
        let mut payload = record(2);
        if case > 0 {
            payload[luck.below(4096) as usize] ^= 1 << luck.below(8);
        }
        let sent = group(&[(1, 2)], Codec::None, true, Some(&payload));
        let refused = wire.send(&[sent]).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::BadRequest, "case {case}");
    }
    assert_eq!(wire.commit().await, Err(ErrorCode::Incomplete));
    // The session is none the worse for it.
    wire.send(&image.groups()).await.unwrap();
    wire.commit().await.unwrap();
}

/// A frame of zstd that says nothing of its length and holds so many runs of 128 KiB of one byte.
fn runs(window: u8, n_runs: u32) -> Vec<u8> {
    const RUN: u32 = 128 << 10;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, window];
    for number in 1..=n_runs {
        let head = RUN << 3 | 1 << 1 | u32::from(number == n_runs);
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// A frame of zstd that holds these bytes as they are.
fn around(bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 10 << 3];
    // One raw block that is the last: 21 bits of length, 2 of type, 1 of "last".
    let head = u32::try_from(bytes.len()).unwrap() << 3 | 1;
    frame.extend_from_slice(&head.to_le_bytes()[..3]);
    frame.extend_from_slice(bytes);
    frame
}

/// The largest resident memory of this process so far, in KiB.
#[allow(clippy::disallowed_methods, reason = "what the kernel says of this process is no file")]
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Runs one test of this binary alone in a process of its own, where memory is its own as well;
/// whether this is that process.
fn is_alone(name: &str) -> bool {
    const ALONE: &str = "OFFSITE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let path = format!("tests::content::{name}");
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", &path, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
    false
}

#[test]
fn e_06_bombs_are_refused_over_the_wire_with_little_memory() {
    if !is_alone("e_06_bombs_are_refused_over_the_wire_with_little_memory") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let scene = replicas::scene().await;
        let source = scene.paired().await;
        // 256 records of 4 KiB: the most that a group may decode to.
        let image = Image { number: 1, contents: (0..256).collect() };
        let records: Vec<(u64, u64)> = (0..).zip(image.contents.iter().copied()).collect();
        let raw: Vec<Vec<u8>> = image.contents.iter().map(|content| record(*content)).collect();
        let keyed: Vec<(Key, &[u8])> = raw.iter().map(|raw| (Key::of(raw), &raw[..])).collect();
        let good = CheckedGroup::encode(Form::Plain, &keyed, 1).unwrap().payload().to_vec();
        let (window_1_mib, window_2_gib) = (10 << 3, 21 << 3);
        let bombs = [
            ("10 GiB of runs", runs(window_1_mib, 80 << 10)),
            ("one run too many", runs(window_1_mib, 9)),
            ("a window of 2 GiB", runs(window_2_gib, 8)),
            ("a frame within a frame", around(&good)),
            ("a frame and a bomb", [good.clone(), runs(window_1_mib, 80 << 10)].concat()),
            ("the frame twice", [good.clone(), good.clone()].concat()),
        ];
        let wire = wanting(&scene, &source, &image).await;
        let before = peak_kib();
        for (name, payload) in &bombs {
            let sent = group(&records, Codec::Zstd, false, Some(payload));
            let refused = wire.send(&[sent]).await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::HashMismatch, "{name}");
        }
        let grown = peak_kib() - before;
        println!("{} KiB more at the peak", grown);
        assert!(grown < 32 << 10, "{grown} KiB more at the peak");
        assert_eq!(wire.commit().await, Err(ErrorCode::Incomplete));
        wire.send(&[group(&records, Codec::Zstd, false, Some(&good))]).await.unwrap();
        wire.commit().await.unwrap();
    });
}

#[tokio::test]
async fn e_06_a_compressed_document_is_refused() {
    let scene = replicas::scene().await;
    let source = scene.paired().await;
    let image = Image { number: 1, contents: vec![1] };
    let connection = source.dial(&scene).await;
    for coding in ["gzip", "zstd", "identity, gzip"] {
        let mut headers = HeaderMap::new();
        headers.insert("content-encoding", HeaderValue::from_static(coding));
        let body = Json(image.open(&source));
        let refused = connection.call_with::<Open>(&(), &body, headers).await.err();
        let Some(CallError::Refused(refusal, status)) = refused else { panic!("{coding}") };
        assert_eq!((status, refusal.code), (415, ErrorCode::MediaTypeUnsupported), "{coding}");
    }
}

#[tokio::test]
async fn e_07_fifty_sessions_with_full_buffers_share_one_budget() {
    // As large as a group may be, with its payload as it came and as it decodes.
    const GROUP_BYTES: usize = 2 << 20;
    const SESSIONS: u8 = 50;
    let scene = replicas::scene().await;
    let target = scene.target.replicas().unwrap();
    let (mut sources, mut sessions) = (Vec::new(), Vec::new());
    for number in 0..SESSIONS {
        if number.is_multiple_of(10) {
            sources.push(scene.paired().await);
        }
        let first = u64::from(number) * 1_000_000;
        let image = Image { number, contents: (first..first + 512).collect() };
        let wire = wanting(&scene, sources.last().unwrap(), &image).await;
        let numbered: Vec<(u64, u64)> = (0..).zip(image.contents.iter().copied()).collect();
        let chunks = numbered.chunks(256);
        let groups = chunks.map(|records| group(records, Codec::None, false, None)).collect();
        sessions.push((wire, groups));
    }
    // Nobody decodes, so everything that is taken in stays in memory.
    let (nobody, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    for _ in 0..target.n_threads {
        let (pool, held) = (Arc::clone(&target.pool), Arc::clone(&held));
        // Until the other end is dropped.
        tokio::spawn(async move { pool.run(move || held.lock().unwrap().recv()).await });
    }
    let sending = sessions.into_iter().map(|(wire, groups): (Wire, Vec<Vec<u8>>)| {
        tokio::spawn(async move {
            wire.send(&groups).await.unwrap();
            wire
        })
    });
    let sending: Vec<_> = sending.collect();
    let asks = sources[0].dial(&scene).await;
    let of = OfAgent { agent: sources[0].agents[0].id.0 };
    let mut n_asked = 0;
    while target.budget.available_permits() >= GROUP_BYTES {
        asks.call::<CountPoints>(&of, &()).await.unwrap();
        n_asked += 1;
        assert!(n_asked < 10_000, "more is in memory than the budget has");
    }
    // While it is used up, nobody is let past it, and calls without content are answered.
    for _ in 0..200 {
        asks.call::<CountPoints>(&of, &()).await.unwrap();
        assert!(target.budget.available_permits() < GROUP_BYTES);
    }
    drop(nobody);
    for session in sending {
        session.await.unwrap().commit().await.unwrap();
    }
    assert_eq!(target.budget.available_permits(), BUDGET_BYTES);
    let count = asks.call::<CountPoints>(&of, &()).await.unwrap().body.0;
    assert_eq!(count, 10);
}
