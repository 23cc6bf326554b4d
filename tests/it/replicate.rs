//! A machine's recovery points cross to the target and come back, whole or not at all, whatever is
//! killed meanwhile.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use offsite_model::Luck as _;
use offsite_testkit::SeededLuck;
use offsite_tests::pairing::{Pair, add_agent, request_and_accept_at};
use offsite_tests::{Program, Scene, eventually};
use rustix::process::Signal;

const MIB: usize = 1 << 20;

/// Writes the volume of the agent `web`: bytes that do not compress, text that does, a hole.
fn fill(scene: &Scene, luck: &SeededLuck, n_mib: usize) -> PathBuf {
    let path = scene.path().join("web.img");
    let mut bytes = vec![0; n_mib * MIB];
    for (index, piece) in bytes.chunks_mut(MIB).enumerate() {
        match index % 8 {
            6 => piece.fill(b'a'),
            7 => {}
            _ => luck.fill(piece),
        }
    }
    std::fs::write(&path, bytes).unwrap();
    path
}

/// SHA-256 by a program that is not ours.
#[track_caller]
fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap().to_owned()
}

#[track_caller]
fn restore(scene: &Scene, target: &Program, name: &str) -> PathBuf {
    let to = scene.path().join(name);
    target.json(&["restore", "web", "root", "--to", to.to_str().unwrap(), "--offline"]);
    to
}

/// Starts a replication that is left to itself.
fn begin(source: &Program) -> Child {
    source
        .command(&["replicate", "web", "--wait", "--json"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until the target has the draft of an image on its way.
#[track_caller]
fn until_on_its_way(target: &Program) {
    let drafts = target.data().join("store/drafts");
    eventually("an image is on its way", || {
        let first = std::fs::read_dir(&drafts).ok()?.flatten().next()?;
        (first.metadata().ok()?.len() > 1_000).then_some(())
    });
}

#[test]
fn a_machine_crosses_and_comes_back_the_same() {
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(1));
    let pair = Pair::paired(&scene);
    let volume = fill(&scene, &luck, 24);
    pair.source.json(&["protect", "web"]);
    let first = pair.source.json(&["replicate", "web", "--wait"]);
    assert_eq!(first["points"], 1, "{first}");
    // The next point sends what changed and nothing else.
    let mut bytes = std::fs::read(&volume).unwrap();
    luck.fill(&mut bytes[5 * MIB..5 * MIB + 100_000]);
    bytes[9 * MIB..10 * MIB].fill(0);
    std::fs::write(&volume, bytes).unwrap();
    pair.source.json(&["protect", "web"]);
    let second = pair.source.json(&["replicate", "web", "--wait"]);
    assert_eq!(second["points"], 1, "{second}");
    let offered = second["records_offered"].as_u64().unwrap();
    assert!((1..=16).contains(&offered), "only changed positions are offered: {second}");
    let again = pair.source.json(&["replicate", "web", "--wait"]);
    assert_eq!(again["records_sent"], 0, "{again}");
    pair.target_daemon.stop();
    assert_eq!(sha256(&restore(&scene, &pair.target, "back.img")), sha256(&volume));
}

#[test]
fn a_replication_that_is_not_waited_for_names_its_job() {
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(5));
    let pair = Pair::paired(&scene);
    let volume = fill(&scene, &luck, 8);
    pair.source.json(&["protect", "web"]);
    let begun = pair.source.json(&["replicate", "web"]);
    let job = begun["job_id"].as_str().unwrap();
    assert_eq!((job.len(), begun.as_object().unwrap().len()), (36, 1), "{begun}");
    eventually("the log tells how the job ended", || {
        let log = pair.source_daemon.log();
        log.lines().any(|line| line.contains(job) && line.contains("replicated")).then_some(())
    });
    pair.target_daemon.stop();
    assert_eq!(sha256(&restore(&scene, &pair.target, "back.img")), sha256(&volume));
}

#[test]
fn a_pause_holds_until_it_is_resumed() {
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(11));
    let Pair { target, target_daemon, source, source_daemon } = Pair::paired(&scene);
    let volume = fill(&scene, &luck, 8);
    source.json(&["protect", "web"]);
    let paused = source.json(&["jobs", "pause", "web"]);
    assert_eq!((&paused["state"], &paused["agent"]), (&"paused".into(), &"web".into()), "{paused}");
    // Again is the same pause, and it outlives the daemon.
    assert_eq!(source.json(&["jobs", "pause", "web"])["id"], paused["id"]);
    source_daemon.kill_9();
    let _source_daemon = source.serve();
    let (code, message) = source.refused(&["replicate", "web", "--wait"], 1);
    assert_eq!(code, "replication_paused", "{message}");
    let jobs = source.json(&["jobs", "list"]);
    let listed = jobs.as_array().unwrap().iter().find(|job| job["state"] == "paused");
    assert_eq!(listed.unwrap()["id"], paused["id"], "{jobs}");
    let status = source.json(&["status"]);
    assert_eq!(status["paused"][0]["agent"], "web", "{status}");
    assert_eq!(source.json(&["jobs", "resume", "web"]).as_array().unwrap().len(), 1);
    assert_eq!(source.json(&["jobs", "resume", "web"]).as_array().unwrap().len(), 0);
    let sent = source.json(&["replicate", "web", "--wait"]);
    assert_eq!(sent["points"], 1, "{sent}");
    assert_eq!(source.json(&["status"])["paused"].as_array().unwrap().len(), 0);
    target_daemon.stop();
    assert_eq!(sha256(&restore(&scene, &target, "back.img")), sha256(&volume));
}

#[test]
fn a_job_that_runs_stops_when_it_is_paused_and_goes_on_when_it_is_resumed() {
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(12));
    let Pair { target, target_daemon, source, source_daemon: _daemon } = Pair::paired(&scene);
    let volume = fill(&scene, &luck, 256);
    source.json(&["protect", "web"]);
    let mut job = source.command(&["replicate", "web", "--wait", "--json"]);
    let job = job.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    until_on_its_way(&target);
    source.json(&["jobs", "pause", "web"]);
    let ended = job.wait_with_output().unwrap();
    // It may have been done before it heard of the pause; a commit that runs is not taken back.
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success() || said.contains("replication_paused"), "{said}");
    source.refused(&["replicate", "web", "--wait"], 1);
    source.json(&["jobs", "resume", "web"]);
    source.json(&["replicate", "web", "--wait"]);
    target_daemon.stop();
    assert_eq!(sha256(&restore(&scene, &target, "back.img")), sha256(&volume));
}

#[test]
fn e_09_kill_9_of_the_source_in_the_middle_is_gone_on_from() {
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(2));
    let Pair { target, target_daemon, source, source_daemon } = Pair::paired(&scene);
    let volume = fill(&scene, &luck, 96);
    source.json(&["protect", "web"]);
    let mut cut = begin(&source);
    until_on_its_way(&target);
    source_daemon.kill_9();
    cut.wait().unwrap();
    let _source_daemon = source.serve();
    source.json(&["replicate", "web", "--wait"]);
    target_daemon.stop();
    assert_eq!(sha256(&restore(&scene, &target, "back.img")), sha256(&volume));
}

#[test]
fn e_09_kill_9_of_the_target_in_the_middle_is_gone_on_from() {
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(3));
    let pair = Pair::paired_that_stays(&scene, |_| {});
    let Pair { target, target_daemon, source, source_daemon } = pair;
    let volume = fill(&scene, &luck, 96);
    source.json(&["protect", "web"]);
    let mut going = begin(&source);
    until_on_its_way(&target);
    target_daemon.kill_9();
    let target_daemon = target.serve();
    // The job that was cut goes on by itself, or had ended before.
    let ended = going.wait().unwrap();
    assert!(ended.success(), "{ended}");
    let again = source.json(&["replicate", "web", "--wait"]);
    assert_eq!(again["records_sent"], 0, "everything had arrived: {again}");
    target_daemon.stop();
    source_daemon.stop();
    assert_eq!(sha256(&restore(&scene, &target, "back.img")), sha256(&volume));
}

/// Bytes of the records that the target has received so far.
fn stored_bytes(target: &Program) -> u64 {
    let segments = target.data().join("store/segments");
    let files = std::fs::read_dir(segments).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

const BARRIER_MIB: usize = 16;
const IMAGE_MIB: usize = 192;

/// A first replication of an image that is mostly across.
struct Crossing {
    scene: Scene,
    pair: Pair,
    volume: PathBuf,
    job: Child,
}

impl Crossing {
    fn under_way(seed: u64, settings: &[&str]) -> Self {
        let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(seed));
        let pair = Pair::paired_that_stays(&scene, |target| {
            let barrier = format!("barrier = \"{BARRIER_MIB} MiB\"");
            settings.iter().for_each(|setting| target.configure("[replication]", setting));
            target.configure("[replication]", &barrier);
        });
        let volume = scene.path().join("web.img");
        let mut bytes = vec![0; IMAGE_MIB * MIB];
        luck.fill(&mut bytes);
        std::fs::write(&volume, &bytes).unwrap();
        pair.source.json(&["protect", "web"]);
        let job = pair
            .source
            .command(&["replicate", "web", "--wait", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("most of the image has arrived", || {
            (stored_bytes(&pair.target) > (150 * MIB) as u64).then_some(())
        });
        Self { scene, pair, volume, job }
    }

    /// Ends the target's daemon and starts it again.
    fn end_target(&mut self, signal: Signal) {
        let pair = &mut self.pair;
        pair.target_daemon.signal(signal);
        eventually("the daemon ends", || (!pair.target_daemon.is_alive()).then_some(()));
        pair.target_daemon = pair.target.serve();
    }

    /// The job that was disturbed ends well; a barrier and 64 MiB were sent again, at most.
    #[track_caller]
    fn ends_within_the_bound(self) {
        let Self { scene, pair, volume, job } = self;
        let ended = job.wait_with_output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        let stdout = String::from_utf8(ended.stdout).unwrap();
        let said: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
        let sent = said["wire_bytes_out"].as_u64().unwrap();
        let bound = (IMAGE_MIB + BARRIER_MIB + 64) * MIB + IMAGE_MIB * MIB / 100;
        assert!(sent >= (IMAGE_MIB * MIB) as u64, "all of it crossed: {said}");
        assert!(sent <= bound as u64, "{sent} bytes crossed, bound {bound}: {said}");
        pair.target_daemon.stop();
        pair.source_daemon.stop();
        assert_eq!(sha256(&restore(&scene, &pair.target, "back.img")), sha256(&volume));
    }
}

#[test]
fn e_09_kill_9_of_the_target_costs_a_barrier_and_what_was_under_way() {
    let mut crossing = Crossing::under_way(4, &[]);
    crossing.end_target(Signal::KILL);
    crossing.ends_within_the_bound();
}

#[test]
fn e_16_a_target_that_is_stopped_under_load_ends_soon_and_is_gone_on_with() {
    for seed in 6..9 {
        let mut crossing = Crossing::under_way(seed, &[]);
        let began = Instant::now();
        crossing.end_target(Signal::TERM);
        assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
        crossing.ends_within_the_bound();
    }
}

#[test]
fn d_12_a_source_that_is_held_up_loses_its_lease_and_not_what_it_sent() {
    let crossing = Crossing::under_way(9, &["lease = \"2s\""]);
    let (source, target) = (&crossing.pair.source_daemon, &crossing.pair.target_daemon);
    source.signal(Signal::STOP);
    eventually("the lease is over", || target.log().contains("its lease is").then_some(()));
    source.signal(Signal::CONT);
    crossing.ends_within_the_bound();
}

/// Passes bytes on to the target, and cuts after so many of them.
struct Cutter {
    address: String,
    left: Arc<AtomicU64>,
    n_cuts: Arc<AtomicU64>,
}

impl Cutter {
    fn before(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (left, n_cuts) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::new(AtomicU64::new(0)));
        let (left_of, n_of) = (Arc::clone(&left), Arc::clone(&n_cuts));
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&target) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (left, n_cuts) = (Arc::clone(&left_of), Arc::clone(&n_of));
                    std::thread::spawn(move || pass(from, to, &left, &n_cuts));
                }
            }
        });
        Self { address, left, n_cuts }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, left: &AtomicU64, n_cuts: &AtomicU64) {
    let mut piece = [0; 16 << 10];
    while let Ok(n @ 1..) = from.read(&mut piece) {
        let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            Some(if left == u64::MAX { left } else { left.saturating_sub(n as u64) })
        });
        let n_passed = usize::try_from(before.unwrap()).unwrap_or(usize::MAX).min(n);
        if to.write_all(&piece[..n_passed]).is_err() {
            break;
        }
        if n_passed < n {
            // Once; whatever is made next passes again.
            left.store(u64::MAX, Ordering::SeqCst);
            n_cuts.fetch_add(1, Ordering::SeqCst);
            break;
        }
    }
    let _closed = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[test]
fn e_14_a_line_cut_at_any_byte_leaves_each_point_once() {
    const ROUNDS: u64 = 40;
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(10));
    let target = scene.target_that_stays("target");
    let target_daemon = target.serve();
    let cutter = Cutter::before(target.address("replication"));
    let source = scene.source("source");
    let source_daemon = source.serve();
    add_agent(&source, scene.path(), "web");
    request_and_accept_at(&target, &source, &cutter.address);
    let volume = scene.path().join("web.img");
    let mut versions = Vec::new();
    let mut usual = 20_000;
    for round in 0..ROUNDS {
        let mut bytes = std::fs::read(&volume).unwrap();
        luck.fill(&mut bytes[..20_000]);
        std::fs::write(&volume, bytes).unwrap();
        let made = source.json(&["protect", "web"]);
        versions.push((made["point"].as_str().unwrap().to_owned(), sha256(&volume)));
        // Every fourth is let through, and tells how many bytes there are to cut at.
        let at = if round % 4 == 0 { u64::MAX - 1 } else { luck.below(usual) };
        cutter.left.store(at, Ordering::SeqCst);
        let ran = source.run(&["replicate", "web", "--wait", "--json"]);
        let left = cutter.left.swap(u64::MAX, Ordering::SeqCst);
        if round % 4 == 0 {
            usual = u64::MAX - 1 - left;
        }
        if ran.code != 0 {
            source.json(&["replicate", "web", "--wait"]);
        }
    }
    let n_cuts = cutter.n_cuts.load(Ordering::SeqCst);
    assert!(n_cuts * 2 > ROUNDS, "{n_cuts} cuts in {ROUNDS} rounds");
    let again = source.json(&["replicate", "web", "--wait"]);
    assert_eq!((&again["points"], &again["records_sent"]), (&0.into(), &0.into()), "{again}");
    source_daemon.stop();
    target_daemon.stop();
    let left = std::fs::read_dir(target.data().join("store/drafts")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "drafts are left");
    for (n, (point, digest)) in versions.iter().enumerate() {
        let to = scene.path().join(format!("back-{n}.img"));
        let place = to.to_str().unwrap();
        target.json(&["restore", "web", "root", "--to", place, "--point", point, "--offline"]);
        assert_eq!(&sha256(&to), digest, "round {n}");
    }
}
