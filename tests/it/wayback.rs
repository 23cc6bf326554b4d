//! What a source has lost comes back from its target.

use std::path::{Path, PathBuf};
use std::process::Command;

use offsite_model::Luck as _;
use offsite_testkit::SeededLuck;
use offsite_tests::pairing::{self, Pair, id_of, pending, request_and_accept, state};
use offsite_tests::{Program, Scene, curl, eventually};
use serde_json::Value;

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
    // The last record is shorter than the others.
    bytes.truncate(n_mib * MIB - 5_000);
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

/// A pairing with the right to read back, and two recovery points at both ends; the SHA-256 of the
/// volume at each.
fn two_points(scene: &Scene, luck: &SeededLuck, options: &[&str]) -> (Pair, [(String, String); 2]) {
    let pair = Pair::serving(scene);
    let path = fill(scene, luck, 40);
    request_and_accept(&pair.target, &pair.source, options);
    let point = || pair.source.json(&["protect", "web"])["point"].as_str().unwrap().to_owned();
    let first = (point(), sha256(&path));
    let mut bytes = std::fs::read(&path).unwrap();
    luck.fill(&mut bytes[3 * MIB..4 * MIB]);
    bytes[10 * MIB..12 * MIB].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let second = (point(), sha256(&path));
    pair.source.json(&["replicate", "web", "--wait"]);
    (pair, [first, second])
}

#[track_caller]
fn bring_back(scene: &Scene, source: &Program, from: &str, options: &[&str]) -> PathBuf {
    let to = scene.path().join(format!("back-{}.img", options.join("-")));
    let arguments = ["restore", "web", "root", "--from", from, "--to", to.to_str().unwrap()];
    let told = source.json(&[&arguments, options].concat());
    assert_eq!(told["bytes"], std::fs::metadata(&to).unwrap().len(), "{told}");
    assert_eq!(told["blake3"].as_str().unwrap().len(), 64, "{told}");
    to
}

#[test]
fn what_this_source_still_knows_comes_back_from_the_target() {
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(1));
    let (pair, points) = two_points(&scene, &luck, &["--allow-restore"]);
    let address = pair.target.address("replication");
    for (id, expected) in &points {
        let back = bring_back(&scene, &pair.source, &address, &["--point", id]);
        assert_eq!(sha256(&back), *expected, "{id}");
    }
    // The same rules as for a restore from this source: nothing is written over unasked.
    let to = scene.path().join("web.img");
    let arguments = ["restore", "web", "root", "--from", &address, "--to", to.to_str().unwrap()];
    let (code, _) = pair.source.refused(&arguments, 3);
    assert_eq!(code, "forbidden");
    let there = scene.path().join("there.img");
    std::fs::write(&there, b"mine").unwrap();
    let arguments = ["restore", "web", "root", "--from", &address, "--to", there.to_str().unwrap()];
    let (code, _) = pair.source.refused(&arguments, 1);
    assert_eq!(code, "already_exists");
    assert_eq!(std::fs::read(&there).unwrap(), b"mine");
    // Every reading stands in the log of the target.
    let audit = pair.target.json(&["audit", "list"]);
    let read = audit.as_array().unwrap().iter().filter(|entry| entry["event"] == "data_read");
    assert!(read.count() >= 4, "{audit}");
    pair.target.json(&["audit", "verify"]);
}

#[test]
fn without_the_grant_nothing_is_read_back() {
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(2));
    let (pair, _) = two_points(&scene, &luck, &[]);
    let address = pair.target.address("replication");
    let to = scene.path().join("back.img");
    let arguments = ["restore", "web", "root", "--from", &address, "--to", to.to_str().unwrap()];
    let (code, message) = pair.source.refused(&arguments, 3);
    assert_eq!(code, "forbidden", "{message}");
    assert!(message.contains("does not let"), "{message}");
    assert!(!to.exists());
    // It can be given later, and taken again: the next call already hears so.
    let name = pair.target.json(&["sources", "list"])[0]["name"].as_str().unwrap().to_owned();
    let given = pair.target.json(&["sources", "allow-restore", &name]);
    assert_eq!(given["allow_restore"], true, "{given}");
    pair.source.json(&arguments);
    assert_eq!(sha256(&to), sha256(&scene.path().join("web.img")));
    std::fs::remove_file(&to).unwrap();
    let taken = pair.target.json(&["sources", "deny-restore", &name]);
    assert_eq!(taken["allow_restore"], false, "{taken}");
    assert_eq!(pair.source.refused(&arguments, 3).0, "forbidden");
    assert!(!to.exists());
    let audit = pair.target.json(&["audit", "list"]);
    let count = |event: &str| {
        audit.as_array().unwrap().iter().filter(|entry| entry["event"] == event).count()
    };
    assert_eq!((count("restore_allowed"), count("restore_denied")), (1, 1), "{audit}");
    let unknown = ["restore", "web", "root", "--from", "nobody:1", "--to", to.to_str().unwrap()];
    assert_eq!(pair.source.refused(&unknown, 4).0, "system_unknown");
}

/// Begins an adoption at the target and has a second person agree.
#[track_caller]
fn adopt(target: &Program, source_id: &str, request: &Value) {
    let asked = target.json(&["sources", "adopt", source_id, "--request", &id_of(request)]);
    let token = target.init["token"].as_str().unwrap();
    let url = format!(
        "https://{}/api/v1/approvals/{}/approve",
        target.address("operator"),
        asked["approval_id"].as_str().unwrap()
    );
    let header = format!("AuthToken: {token}");
    let body = format!("{{\"digest\": {}}}", asked["digest"]);
    let json = "content-type: application/json";
    let arguments = ["--insecure", "-H", &header, "-H", json, "--data", &body, &url];
    let (status, answer) = curl(&arguments);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn a_source_that_lost_everything_is_adopted_and_brings_its_machine_back() {
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(3));
    let (pair, points) = two_points(&scene, &luck, &["--allow-restore"]);
    let Pair { target, target_daemon: _daemon, source, source_daemon } = pair;
    source_daemon.kill_9();
    std::fs::remove_dir_all(source.data()).unwrap();
    std::fs::remove_file(scene.path().join("web.img")).unwrap();
    // The target's operator reads out what the lost source was.
    let lost = target.json(&["sources", "list"])[0].clone();
    let agent = target.json(&["agents", "list"])[0].clone();
    let (source_id, core_id) =
        (lost["source_id"].as_str().unwrap(), lost["core_id"].as_str().unwrap());
    let fresh = scene.source_as("fresh", core_id);
    let _fresh_daemon = fresh.serve();
    let empty = scene.path().join("new-disk.img");
    std::fs::write(&empty, b"").unwrap();
    let volume = format!("root={}", empty.display());
    let agent_id = agent["agent_id"].as_str().unwrap();
    fresh.json(&["agents", "add", "web", "--volume", &volume, "--as", agent_id]);
    pairing::request(&target, &fresh);
    let asked = pending(&target);
    let address = target.address("replication");
    let to = scene.path().join("early.img");
    let early = ["restore", "web", "root", "--from", &address, "--to", to.to_str().unwrap()];
    fresh.refused(&early, 4);
    adopt(&target, source_id, &asked);
    eventually("the fresh source is active", || (state(&fresh) == "active").then_some(()));
    for (id, expected) in &points {
        let back = bring_back(&scene, &fresh, &address, &["--point", id]);
        assert_eq!(sha256(&back), *expected, "{id}");
    }
    let latest = bring_back(&scene, &fresh, &address, &[]);
    assert_eq!(sha256(&latest), points[1].1);
}

#[test]
fn a_target_that_dies_leaves_no_half_volume() {
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(4));
    let (pair, points) = two_points(&scene, &luck, &["--allow-restore"]);
    let Pair { target, target_daemon, source, source_daemon } = pair;
    let address = target.address("replication");
    // Nothing may be at hand: what is damaged here is asked for there.
    source_daemon.stop();
    let segments = source.data().join("store/segments");
    for segment in std::fs::read_dir(segments).unwrap().flatten() {
        let bytes = std::fs::read(segment.path()).unwrap();
        let damaged: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        std::fs::write(segment.path(), damaged).unwrap();
    }
    let _source_daemon = source.serve();
    let to = scene.path().join("back.img");
    let arguments = ["restore", "web", "root", "--from", &address, "--to", to.to_str().unwrap()];
    let mut going = source.command(&arguments).arg("--json").spawn().unwrap();
    eventually("the first bytes are written", || {
        let found = std::fs::metadata(&to).ok();
        use std::os::unix::fs::MetadataExt as _;
        (found?.blocks() > 0 || going.try_wait().ok()?.is_some()).then_some(())
    });
    target_daemon.kill_9();
    let ended = going.wait().unwrap();
    // It may have been faster than the kill; a half volume is never there.
    match ended.success() {
        true => assert_eq!(sha256(&to), points[1].1),
        false => assert!(!to.exists(), "half a volume is left under its name"),
    }
    let _target_daemon = target.serve();
}

/// Flips a byte in the middle of some groups of a store's segments; how many bytes.
fn flip(data: &Path, every: usize) -> usize {
    let mut n_flipped = 0;
    for segment in std::fs::read_dir(data.join("store/segments")).unwrap().flatten() {
        let mut bytes = std::fs::read(segment.path()).unwrap();
        for at in (every..bytes.len().saturating_sub(every)).step_by(every) {
            bytes[at] ^= 0x55;
            n_flipped += 1;
        }
        std::fs::write(segment.path(), bytes).unwrap();
    }
    n_flipped
}

#[track_caller]
fn restored_at_target(scene: &Scene, target: &Program, point: &str, name: &str) -> String {
    let to = scene.path().join(name);
    let to_text = to.to_str().unwrap();
    target.json(&["restore", "web", "root", "--to", to_text, "--point", point]);
    sha256(&to)
}

#[test]
fn b_07_twenty_damaged_records_at_the_target_are_healed_by_the_next_job() {
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(5));
    let (pair, points) = two_points(&scene, &luck, &[]);
    let Pair { target, target_daemon, source, .. } = pair;
    let address = target.address("replication");
    target_daemon.stop();
    // Each flipped byte hurts a record in a group of its own, and the whole group is put aside.
    assert!(flip(target.data(), MIB) >= 20);
    let settings = target.data().join("offsite.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, text.replacen("127.0.0.1:0", &address, 1)).unwrap();
    let _target_daemon = target.serve();
    let verified = target.run(&["verify", "--json"]).expect_code(6).json();
    let n_damaged = verified["damaged"].as_u64().unwrap();
    assert!(n_damaged >= 20, "{verified}");
    let affected = verified["points_affected"].as_array().unwrap();
    let hurt = |id: &str| affected.iter().any(|point| *point == id);
    assert!(hurt(&points[0].0) || hurt(&points[1].0), "{verified}");
    let to = scene.path().join("hurt.img");
    let hurt_point = affected[0].as_str().unwrap();
    let to_text = to.to_str().unwrap();
    target.refused(&["restore", "web", "root", "--to", to_text, "--point", hurt_point], 6);
    assert!(!to.exists(), "half a volume is left under its name");
    // Nobody asks for it: the next job heals what was found.
    let healed = source.json(&["replicate", "web", "--wait"]);
    assert!(healed["records_healed"].as_u64().unwrap() >= n_damaged, "{healed}");
    let again = source.json(&["replicate", "web", "--wait"]);
    assert_eq!(again["records_healed"], 0, "{again}");
    for (index, (id, expected)) in points.iter().enumerate() {
        let restored = restored_at_target(&scene, &target, id, &format!("healed-{index}.img"));
        assert_eq!(restored, *expected, "{id}");
    }
    let verified = target.json(&["verify"]);
    assert_eq!(verified["damaged"], 0, "{verified}");
}

#[test]
fn damage_at_the_source_is_healed_from_the_target() {
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(6));
    let (pair, points) = two_points(&scene, &luck, &["--allow-restore"]);
    let Pair { source, source_daemon, target_daemon: _target_daemon, .. } = pair;
    source_daemon.stop();
    assert!(flip(source.data(), 3 * MIB) > 3);
    let _source_daemon = source.serve();
    let verified = source.run(&["verify", "--json"]).expect_code(6).json();
    assert!(!verified["points_affected"].as_array().unwrap().is_empty(), "{verified}");
    let job = source.json(&["replicate", "web", "--wait"]);
    assert!(job["records_regained"].as_u64().unwrap() > 0, "{job}");
    for (index, (id, expected)) in points.iter().enumerate() {
        let to = scene.path().join(format!("regained-{index}.img"));
        let to_text = to.to_str().unwrap();
        source.json(&["restore", "web", "root", "--to", to_text, "--point", id]);
        assert_eq!(sha256(&to), *expected, "{id}");
    }
    assert_eq!(source.json(&["verify"])["damaged"], 0);
}

#[test]
fn what_builds_on_a_deleted_point_is_sent_all_the_same() {
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(7));
    let pair = Pair::serving(&scene);
    let path = fill(&scene, &luck, 8);
    let Pair { target, target_daemon, source, .. } = pair;
    request_and_accept(&target, &source, &[]);
    let mut points = Vec::new();
    let protect = |points: &mut Vec<(String, String)>| {
        let mut bytes = std::fs::read(&path).unwrap();
        let at = points.len() * MIB;
        luck.fill(&mut bytes[at..at + 50_000]);
        std::fs::write(&path, bytes).unwrap();
        let made = source.json(&["protect", "web"])["point"].as_str().unwrap().to_owned();
        points.push((made, sha256(&path)));
    };
    protect(&mut points);
    source.json(&["replicate", "web", "--wait"]);
    protect(&mut points);
    protect(&mut points);
    protect(&mut points);
    let address = target.address("replication");
    // The target is away, so that the points are announced and not sent.
    target_daemon.stop();
    assert_ne!(source.run(&["replicate", "web", "--wait"]).code, 0);
    source.json(&["points", "delete", &points[1].0, "--yes"]);
    let settings = target.data().join("offsite.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, text.replacen("127.0.0.1:0", &address, 1)).unwrap();
    let _target_daemon = target.serve();
    let sent = source.json(&["replicate", "web", "--wait"]);
    assert_eq!(sent["points"], 2, "{sent}");
    let jobs = source.json(&["jobs", "list"]);
    assert_eq!((&jobs[0]["kind"], &jobs[0]["state"]), (&"replicate".into(), &"succeeded".into()));
    assert_eq!(jobs[1]["state"], "failed", "the target was away: {jobs}");
    let job = jobs[0]["id"].as_str().unwrap();
    assert_eq!(source.json(&["jobs", "show", job])["agent"], "web");
    assert_eq!(source.refused(&["jobs", "cancel", job], 1).0, "wrong_state");
    assert_eq!(source.refused(&["jobs", "show", &points[0].0], 4).0, "job_unknown");
    let listed = target.json(&["points", "list", "web"]);
    let ids: Vec<_> = listed.as_array().unwrap().iter().map(|point| &point["id"]).collect();
    assert_eq!(ids, [&points[0].0, &points[2].0, &points[3].0], "{listed}");
    for (index, (id, expected)) in points.iter().enumerate().filter(|(index, _)| *index != 1) {
        let restored = restored_at_target(&scene, &target, id, &format!("after-{index}.img"));
        assert_eq!(restored, *expected, "{id}");
    }
    let agent = target.json(&["agents", "show", "web"]);
    assert_eq!((&agent["recovery_points"], &agent["volumes"]), (&3.into(), &1.into()), "{agent}");
    assert_eq!(agent["latest_point_at"], listed[2]["created_at"]);
    assert!(agent["stored_bytes"].as_u64().unwrap() > 4 * MIB as u64, "{agent}");
    let point = target.json(&["points", "show", &points[3].0]);
    assert_eq!(point["volumes"][0]["label"], "root", "{point}");
    assert!((1..MIB as u64).contains(&point["new_bytes"].as_u64().unwrap()), "{point}");
}
