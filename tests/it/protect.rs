//! Protecting, restoring and verifying with the real program; bytes are compared by a program that
//! is not ours.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use offsite_tests::{Daemon, Program, Scene, eventually, require};
use serde_json::Value;

/// The SHA-256 of a file by coreutils.
#[track_caller]
fn sha256(path: &Path) -> String {
    require("sha256sum");
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// Bytes that no compressor likes, the same on every run.
fn noise(seed: u64, n: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(n + 8);
    while bytes.len() < n {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(n);
    bytes
}

/// A source with its daemon.
struct Stage {
    scene: Scene,
    source: Program,
    /// Killed when the test is over.
    daemon: Daemon,
}

impl Stage {
    fn new() -> Self {
        let scene = Scene::new();
        let source = scene.source("source");
        let daemon = source.serve();
        Self { scene, source, daemon }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scene.path().join(name)
    }

    fn add(&self, agent: &str, volumes: &[(&str, &Path)]) {
        let named: Vec<_> =
            volumes.iter().map(|(label, path)| format!("{label}={}", path.display())).collect();
        let mut arguments = vec!["agents", "add", agent];
        for volume in &named {
            arguments.extend(["--volume", volume]);
        }
        self.source.json(&arguments);
    }

    fn protect(&self, agent: &str) -> Value {
        self.source.json(&["protect", agent])
    }

    /// Restores to a new file and compares it with the original by another program's digest.
    #[track_caller]
    fn check_restored(&self, agent: &str, label: &str, original: &Path) -> PathBuf {
        let to = self.path(&format!("restored-{agent}-{label}"));
        let to_text = to.to_str().unwrap();
        let restored = self.source.json(&["restore", agent, label, "--to", to_text]);
        assert_eq!(sha256(&to), sha256(original), "{label}");
        assert_eq!(restored["bytes"], fs::metadata(&to).unwrap().len(), "{restored}");
        assert_eq!(restored["blake3"].as_str().unwrap().len(), 64);
        to
    }
}

#[test]
fn d_20_volumes_of_every_shape_come_back() {
    let stage = Stage::new();
    let shapes: [(&str, Vec<u8>); 6] = [
        ("odd", [noise(1, 100_000), vec![b'x'; 77_777]].concat()),
        ("zero", vec![0; 3 << 20]),
        ("noise", noise(2, 5 << 20)),
        ("empty", Vec::new()),
        ("one", vec![7]),
        ("text", b"the same line, over and over\n".repeat(40_000)),
    ];
    let mut paths = Vec::new();
    for (name, bytes) in &shapes {
        let path = stage.path(&format!("{name}.img"));
        fs::write(&path, bytes).unwrap();
        paths.push((*name, path));
    }
    let volumes: Vec<_> = paths.iter().map(|(name, path)| (*name, path.as_path())).collect();
    stage.add("web", &volumes);
    let made = stage.protect("web");
    let logical: u64 = shapes.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(made["logical_bytes"], logical, "{made}");
    for key in ["point", "read_bytes", "new_bytes", "stored_bytes", "seconds"] {
        assert!(!made[key].is_null(), "{key} in {made}");
    }
    for (name, path) in &volumes {
        let restored = stage.check_restored("web", name, path);
        if *name == "zero" {
            assert_eq!(fs::metadata(restored).unwrap().blocks(), 0, "zeros become a hole");
        }
    }
    let points = stage.source.json(&["points", "list", "web"]);
    assert_eq!(points[0]["id"], made["point"], "{points}");
    assert_eq!((&points[0]["state"], &points[0]["agent"]), (&"ok".into(), &"web".into()));
    let volume = &points[0]["volumes"][0];
    assert_eq!((&volume["label"], &volume["bytes"]), (&"odd".into(), &177_777.into()));
    assert!(volume["digest"].as_str().unwrap().len() == 64 && volume["blake3"].is_null());
    let verified = stage.source.json(&["verify"]);
    assert_eq!(
        (&verified["damaged"], &verified["points_affected"]),
        (&0.into(), &Value::Array(vec![]))
    );
    assert!(verified["records"].as_u64().unwrap() > 100);
}

#[test]
fn d_20_a_hole_of_10_gib_is_neither_read_nor_written() {
    let stage = Stage::new();
    let path = stage.path("sparse.img");
    let file = File::create(&path).unwrap();
    file.set_len((10 << 30) + 12_345).unwrap();
    file.write_all_at(&noise(3, 70_000), 5 << 30).unwrap();
    file.write_all_at(b"the end", (10 << 30) + 12_338).unwrap();
    stage.add("big", &[("disk", &path)]);
    let made = stage.protect("big");
    assert_eq!(made["logical_bytes"], (10_u64 << 30) + 12_345);
    assert!(made["read_bytes"].as_u64().unwrap() < 1 << 20, "{made}");
    // Digests of 10 GiB by sha256sum take a minute; the extents are compared byte by byte instead.
    let to = stage.path("back.img");
    let restored = stage.source.json(&["restore", "big", "disk", "--to", to.to_str().unwrap()]);
    assert_eq!(restored["bytes"], (10_u64 << 30) + 12_345);
    let back = File::open(&to).unwrap();
    assert!(back.metadata().unwrap().blocks() * 512 < 1 << 20, "a hole stays a hole");
    for (offset, expected) in
        [(5 << 30, noise(3, 70_000)), ((10 << 30) + 12_338, b"the end".to_vec())]
    {
        let mut bytes = vec![0; expected.len()];
        back.read_exact_at(&mut bytes, offset).unwrap();
        assert!(bytes == expected, "at {offset}");
    }
}

#[test]
fn d_20_every_recovery_point_stays_as_it_was() {
    let stage = Stage::new();
    let path = stage.path("disk.img");
    let mut bytes = noise(4, 3 << 20);
    let mut made = Vec::new();
    for round in 0..4_usize {
        // It is overwritten, shortened and made longer, as disks are.
        bytes[round * 100_000..][..5_000].fill(round as u8);
        bytes.resize(bytes.len() + 30_000 * round - 40_000 * (round / 2), round as u8);
        fs::write(&path, &bytes).unwrap();
        if round == 0 {
            stage.add("web", &[("disk", &path)]);
        }
        let point = stage.protect("web");
        made.push((point["point"].as_str().unwrap().to_owned(), sha256(&path)));
        if round > 0 {
            assert!(point["new_bytes"].as_u64().unwrap() < 200_000, "{point}");
        }
    }
    let expected: Vec<_> = made.iter().map(|(id, _)| id.as_str()).collect();
    let listed = stage.source.json(&["points", "list", "web"]);
    let ids: Vec<_> =
        listed.as_array().unwrap().iter().map(|point| point["id"].as_str().unwrap()).collect();
    assert_eq!(ids, expected, "oldest first");
    for (index, (id, digest)) in made.iter().enumerate() {
        let to = stage.path(&format!("back-{index}"));
        stage.source.json(&["restore", "web", "disk", "--to", to.to_str().unwrap(), "--point", id]);
        assert_eq!(&sha256(&to), digest, "{id}");
    }
    stage.source.json(&["points", "delete", &made[3].0]);
    stage.source.refused(&["points", "delete", &made[3].0], 4);
    let to = stage.path("latest");
    stage.source.json(&[
        "restore",
        "web",
        "disk",
        "--to",
        to.to_str().unwrap(),
        "--point",
        "latest",
    ]);
    assert_eq!(sha256(&to), made[2].1, "latest is the newest that is not deleted");
}

#[test]
fn points_survive_a_kill_of_the_daemon() {
    let Stage { scene, source, daemon } = Stage::new();
    let path = scene.path().join("disk.img");
    fs::write(&path, noise(5, 2 << 20)).unwrap();
    source.json(&["agents", "add", "web", "--volume", &format!("disk={}", path.display())]);
    let made = source.json(&["protect", "web"]);
    daemon.kill_9();
    let _daemon = source.serve();
    assert_eq!(source.json(&["points", "list", "web"])[0]["id"], made["point"]);
    let to = scene.path().join("back");
    source.json(&["restore", "web", "disk", "--to", to.to_str().unwrap()]);
    assert_eq!(sha256(&to), sha256(&path));
    assert_eq!(source.json(&["protect", "web"])["new_bytes"], 0, "the index was found again");
}

/// A file that the daemon reads slowly enough to be interrupted: large, and all of it new.
fn large(stage: &Stage, mib: usize) -> PathBuf {
    let path = stage.path("large.img");
    let file = File::create(&path).unwrap();
    for index in 0..mib {
        file.write_all_at(&noise(index as u64 + 1, 1 << 20), (index as u64) << 20).unwrap();
    }
    path
}

#[test]
fn a_protect_whose_command_is_killed_is_as_if_it_had_never_come() {
    let stage = Stage::new();
    let path = large(&stage, 24);
    stage.add("web", &[("disk", &path)]);
    // All is read and written; the commit is held back until the daemon knows of the kill.
    let go = stage.path("go");
    let held = format!("while [ ! -e {} ]; do sleep 0.05; done", go.display());
    let held = script(&stage, "held", &held);
    stage.source.json(&["agents", "hooks", "web", "--after", &held]);
    let mut command = stage.source.command(&["protect", "web", "--json"]);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let segments = stage.source.data().join("store/segments");
    let n_segments = || fs::read_dir(&segments).unwrap().count();
    eventually("something is being written", || (n_segments() > 0).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    let said = |words: &str| stage.daemon.log().contains(words).then_some(());
    eventually("the daemon notices", || said("the work is cancelled"));
    fs::write(&go, b"").unwrap();
    eventually("the work has ended", || said("no recovery point made"));
    assert_eq!(n_segments(), 0, "what was written is removed");
    assert_eq!(stage.source.json(&["points", "list", "web"]), Value::Array(vec![]));
    stage.protect("web");
    stage.check_restored("web", "disk", &path);
}

#[test]
fn d_19_a_volume_cut_while_it_is_read_is_an_error_and_no_point() {
    let stage = Stage::new();
    stage.add("web", &[("disk", &large(&stage, 256))]);
    for bytes in [0, 5_000_001, (300 << 20) + 1] {
        let path = large(&stage, 256);
        let segments = stage.source.data().join("store/segments");
        let mut command = stage.source.command(&["protect", "web", "--json"]);
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        eventually("something is being written", || {
            (fs::read_dir(&segments).unwrap().count() > 0).then_some(())
        });
        OpenOptions::new().write(true).open(&path).unwrap().set_len(bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let message = last["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("volume disk of agent web") && message.contains("when it was opened"),
            "{last}"
        );
        assert_eq!(stage.source.json(&["points", "list", "web"]), Value::Array(vec![]));
    }
}

#[test]
fn what_cannot_be_protected_is_named_with_what_to_do() {
    let stage = Stage::new();
    let path = stage.path("disk.img");
    fs::write(&path, noise(6, 100_000)).unwrap();
    stage.add("web", &[("disk", &path)]);
    assert_eq!(stage.source.refused(&["protect", "nobody"], 4).0, "agent_unknown");
    let aside = stage.path("aside");
    fs::rename(&path, &aside).unwrap();
    let (_, message) = stage.source.refused(&["protect", "web"], 2);
    assert!(
        message.contains("volume disk of agent web") && message.contains("does not exist"),
        "{message}"
    );
    fs::create_dir(&path).unwrap();
    let (_, message) = stage.source.refused(&["protect", "web"], 2);
    assert!(message.contains("neither a regular file nor a block device"), "{message}");
    fs::remove_dir(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    stage.protect("web");
    let (code, _) = stage.source.refused(&["restore", "web", "other", "--to", "/tmp/never"], 4);
    assert_eq!(code, "image_unknown");
    let (code, _) =
        stage.source.refused(&["points", "show", "00000000-0000-0000-0000-000000000001"], 4);
    assert_eq!(code, "point_unknown");
    stage.source.json(&["agents", "add", "new", "--volume", &format!("d={}", path.display())]);
    let (code, message) = stage.source.refused(&["restore", "new", "d", "--to", "/tmp/never"], 4);
    assert!(code == "point_unknown" && message.contains("no recovery point"), "{message}");
}

#[test]
fn a_restore_overwrites_nothing_unasked() {
    let stage = Stage::new();
    let path = stage.path("disk.img");
    fs::write(&path, noise(7, 300_000)).unwrap();
    stage.add("web", &[("disk", &path)]);
    stage.protect("web");
    let to = stage.path("there");
    fs::write(&to, b"precious").unwrap();
    let to_text = to.to_str().unwrap();
    assert_eq!(
        stage.source.refused(&["restore", "web", "disk", "--to", to_text], 1).0,
        "already_exists"
    );
    assert_eq!(fs::read(&to).unwrap(), b"precious");
    stage.source.json(&["restore", "web", "disk", "--to", to_text, "--overwrite"]);
    assert_eq!(sha256(&to), sha256(&path));
    // The protected volume itself wants more than that, under any of its names.
    let link = stage.path("link");
    fs::hard_link(&path, &link).unwrap();
    for name in [&path, &link] {
        let arguments = ["restore", "web", "disk", "--to", name.to_str().unwrap(), "--overwrite"];
        assert_eq!(stage.source.refused(&arguments, 3).0, "forbidden");
    }
    let inside = stage.source.data().join("store/volume");
    let (code, _) =
        stage.source.refused(&["restore", "web", "disk", "--to", inside.to_str().unwrap()], 2);
    assert_eq!(code, "usage");
    assert!(!inside.exists());
}

#[test]
fn verify_names_the_damage_and_whom_it_hurts() {
    let Stage { scene, source, daemon } = Stage::new();
    let (a, b) = (scene.path().join("a.img"), scene.path().join("b.img"));
    fs::write(&a, noise(8, 2 << 20)).unwrap();
    fs::write(&b, noise(9, 1 << 20)).unwrap();
    source.json(&["agents", "add", "a", "--volume", &format!("disk={}", a.display())]);
    source.json(&["agents", "add", "b", "--volume", &format!("disk={}", b.display())]);
    let hurt = source.json(&["protect", "a"])["point"].clone();
    source.json(&["protect", "b"]);
    assert!(daemon.stop().success());
    let segments = source.data().join("store/segments");
    let mut files: Vec<_> =
        fs::read_dir(&segments).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let file = OpenOptions::new().read(true).write(true).open(&files[0]).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 700_000).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], 700_000).unwrap();
    let _daemon = source.serve();
    let verified = source.run(&["verify", "--json"]).expect_code(6).json();
    assert_eq!(verified["points_affected"], Value::Array(vec![hurt.clone()]), "{verified}");
    assert_eq!(verified["damaged"], 1, "{verified}");
    assert!(verified["damage"][0]["what"].as_str().unwrap().contains("group at"), "{verified}");
    let to = scene.path().join("back");
    let (code, message) =
        source.refused(&["restore", "a", "disk", "--to", to.to_str().unwrap()], 6);
    assert!(code == "hash_mismatch" && message.contains("damage"), "{message}");
    assert!(!to.exists(), "half a volume looks like a whole one");
    source.json(&["restore", "b", "disk", "--to", to.to_str().unwrap()]);
    assert_eq!(sha256(&to), sha256(&b), "the other agent is not hurt");
}

/// A program of the scene.
fn script(stage: &Stage, name: &str, text: &str) -> String {
    let path = stage.path(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn hooks_make_the_snapshot_that_is_read() {
    let stage = Stage::new();
    let (disk, snapshot) = (stage.path("disk.img"), stage.path("snapshot.img"));
    fs::write(&disk, noise(10, 200_000)).unwrap();
    fs::write(&snapshot, b"?").unwrap();
    stage.add("db", &[("disk", &snapshot)]);
    let before = script(&stage, "before", &format!("cp {} {}", disk.display(), snapshot.display()));
    let after = script(
        &stage,
        "after",
        &format!("mv {} {}.$OFFSITE_RESULT.$OFFSITE_AGENT", snapshot.display(), snapshot.display()),
    );
    stage.source.json(&["agents", "hooks", "db", "--before", &before, "--after", &after]);
    stage.protect("db");
    assert!(stage.path("snapshot.img.read.db").exists(), "the hook after ran");
    stage.check_restored("db", "disk", &disk);

    let failing = script(&stage, "failing", "echo no space in the volume group >&2; exit 5");
    stage.source.json(&["agents", "hooks", "db", "--before", &failing, "--after", &after]);
    fs::write(&snapshot, b"?").unwrap();
    let (_, message) = stage.source.refused(&["protect", "db"], 1);
    assert!(message.contains("ended with status 5: no space in the volume group"), "{message}");
    assert!(stage.path("snapshot.img.failed.db").exists(), "the hook after ran");

    let hanging = script(&stage, "hanging", "sleep 3600");
    fs::write(&snapshot, b"?").unwrap();
    stage.source.json(&[
        "agents",
        "hooks",
        "db",
        "--before",
        &hanging,
        "--after",
        &after,
        "--timeout",
        "1",
    ]);
    let (_, message) = stage.source.refused(&["protect", "db"], 1);
    assert!(message.contains("did not end within 1 s and was killed"), "{message}");
    assert_eq!(stage.source.json(&["points", "list", "db"]).as_array().unwrap().len(), 1);

    fs::write(&snapshot, b"?").unwrap();
    let arguments = ["agents", "hooks", "db", "--before", &failing, "--proceed-on-failure"];
    stage.source.json(&arguments);
    let made = stage.protect("db");
    assert!(made["remarks"][0].as_str().unwrap().contains("status 5"), "{made}");
    assert_eq!(stage.source.json(&["agents", "hooks", "db", "--clear"])["before"], Value::Null);
}

/// A loop device over a file; detached when dropped.
struct Loop(String);

impl Loop {
    fn over(path: &Path) -> Option<Self> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(path).output().ok()?;
        let device = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && device.starts_with("/dev/")).then_some(Self(device))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _detached = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[test]
fn d_20_a_block_device_is_protected_and_written() {
    let stage = Stage::new();
    let (path, other) = (stage.path("disk.img"), stage.path("other.img"));
    let mut bytes = noise(11, 4 << 20);
    bytes[1 << 20..2 << 20].fill(0);
    fs::write(&path, &bytes).unwrap();
    // What is there already must not shine through where the volume has zeros.
    fs::write(&other, vec![0xff; 4 << 20]).unwrap();
    let (Some(device), Some(target)) = (Loop::over(&path), Loop::over(&other)) else {
        // The only way to a block device without hardware; `cargo xtask ci` counts what was not
        // run.
        eprintln!("not run: no loop devices can be made here");
        return;
    };
    stage.add("vm", &[("disk", Path::new(&device.0))]);
    stage.protect("vm");
    stage.check_restored("vm", "disk", &path);
    assert_eq!(
        stage.source.refused(&["restore", "vm", "disk", "--to", &target.0], 1).0,
        "already_exists"
    );
    stage.source.json(&["restore", "vm", "disk", "--to", &target.0, "--overwrite"]);
    assert_eq!(sha256(Path::new(&target.0)), sha256(&path));
    let small = stage.path("small.img");
    fs::write(&small, vec![0; 1 << 20]).unwrap();
    let Some(small) = Loop::over(&small) else { return };
    let (code, message) =
        stage.source.refused(&["restore", "vm", "disk", "--to", &small.0, "--overwrite"], 1);
    assert!(code == "too_small" && message.contains("1048576"), "{message}");
}

#[test]
fn a_store_that_is_not_there_is_an_error_and_never_an_empty_one() {
    let scene = Scene::new();
    for program in [scene.source("source"), scene.target("target")] {
        let (store, elsewhere) = (program.data().join("store"), program.data().join("unmounted"));
        fs::rename(&store, &elsewhere).unwrap();
        let said = program.refuses_to_serve();
        assert!(said.contains("there is no store in"), "{said}");
        assert!(!store.exists(), "nothing was made in its place");
        fs::create_dir(&store).unwrap();
        let said = program.refuses_to_serve();
        assert!(said.contains("there is no store in"), "an empty mount point: {said}");
        fs::remove_dir_all(&store).unwrap();
        fs::rename(&elsewhere, &store).unwrap();
        assert!(program.serve().stop().success());
    }
}
