//! A machine's recovery points cross to the target and come back, whole or not at all, whatever is
//! killed meanwhile.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use offsite_model::Luck as _;
use offsite_testkit::SeededLuck;
use offsite_tests::pairing::Pair;
use offsite_tests::{Program, Scene, eventually};

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
    let pair = Pair::paired_that_stays(&scene, |_, _| {});
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
