//! A client that shares no line with us: examples/python-client, written in Python from
//! docs/protocol.md alone, against the real target.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use offsite_model::Luck as _;
use offsite_testkit::SeededLuck;
use offsite_tests::{Daemon, Program, Scene, python, require};
use serde_json::Value;

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python-client");
const RECORD_BYTES: usize = 16 << 10;
const MIB: usize = 1 << 20;

/// A target and the Python client, paired.
struct Foreign {
    scene: Scene,
    target: Program,
    daemon: Option<Daemon>,
}

impl Foreign {
    /// Pairs by request, with the check code that the client computed.
    #[track_caller]
    fn paired() -> Self {
        let scene = Scene::new();
        let target = scene.target("target");
        Self::paired_with(scene, target)
    }

    /// The same with a target that is found again after a restart.
    #[track_caller]
    fn paired_that_stays() -> Self {
        let scene = Scene::new();
        let target = scene.target_that_stays("target");
        Self::paired_with(scene, target)
    }

    #[track_caller]
    fn paired_with(scene: Scene, target: Program) -> Self {
        let daemon = target.serve();
        let foreign = Self { scene, target, daemon: Some(daemon) };
        let url = format!("https://{}", foreign.target.address("replication"));
        let code = foreign.run("client.py", &["request", &url]);
        foreign.target.json(&["requests", "accept", "1", "--code", code.trim()]);
        foreign.run("client.py", &["wait"]);
        let sources = foreign.target.json(&["sources", "list"]);
        assert_eq!(sources[0]["state"], "active", "{sources}");
        foreign
    }

    /// A program of the client; what it said.
    #[track_caller]
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let state = self.scene.path().join("client");
        let output = python()
            .arg(Path::new(CLIENT).join(program))
            .arg("--state")
            .arg(state)
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn send(&self, image: &str, options: &[&str]) -> Value {
        let said = self.run("client.py", &[&["send", image], options].concat());
        serde_json::from_str(&said).unwrap()
    }

    /// How the target answered each of these breaches.
    #[track_caller]
    fn rude(&self, options: &[&str], image: &str, cases: &[&str]) -> Value {
        let said = self.run("rude.py", &[options, &[image], cases].concat());
        serde_json::from_str(&said).unwrap()
    }

    /// The volume of the point that was sent, by a target that does not run.
    #[track_caller]
    fn restored(&mut self, sent: &Value, name: &str) -> PathBuf {
        let point = sent["recoveryPointId"].as_str().unwrap();
        self.restored_from(sent, point, name)
    }

    /// The same volume of any point.
    #[track_caller]
    fn restored_from(&mut self, sent: &Value, point: &str, name: &str) -> PathBuf {
        if let Some(daemon) = self.daemon.take() {
            assert!(daemon.stop().success());
        }
        let to = self.scene.path().join(name);
        let (volume, file) = (sent["volume"].as_str().unwrap(), to.to_str().unwrap());
        let whence = ["restore", "web", volume, "--point", point, "--to", file, "--offline"];
        self.target.json(&whence);
        to
    }
}

/// SHA-256 by a program that is not ours.
#[track_caller]
fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap().to_owned()
}

/// A volume of random bytes, text and zeros, whose last record is a short one.
fn volume(luck: &SeededLuck) -> Vec<u8> {
    let mut bytes = vec![0; 64 * RECORD_BYTES + 5_000];
    for (index, record) in bytes.chunks_mut(RECORD_BYTES).enumerate() {
        match index % 8 {
            0..=3 => luck.fill(record),
            4 | 5 => {
                let text = format!("record {index}\n").repeat(RECORD_BYTES);
                record.copy_from_slice(&text.as_bytes()[..record.len()]);
            }
            _ => {}
        }
    }
    bytes
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("{field} in {value}"))
}

#[test]
fn a_client_in_python_replicates_a_base_an_increment_and_what_a_cut_left() {
    let luck = SeededLuck::from_env_or(1);
    let mut foreign = Foreign::paired();
    let mut bytes = volume(&luck);
    let first_file = foreign.scene.file("first.img", &bytes);
    // In small groups and requests; the connection is killed when some of it is durable.
    let taken_at = ["--taken-at", "2026-03-01T08:00:00Z"];
    let how = ["--group-bytes", "65536", "--body-bytes", "262144", "--cut-after", "400000"];
    let first = foreign.send(&first_file, &[&how[..], &taken_at, &["--when-flushed"]].concat());
    assert_eq!(first["imageType"], "Base", "{first}");
    let openings = first["openings"].as_array().unwrap();
    let [cut, resumed] = openings.as_slice() else { panic!("not two openings: {first}") };
    assert_eq!(cut["ended_by"], "this client was told to cut the connection", "{first}");
    assert!(number(cut, "flushed_through") > 0, "{first}");
    assert_eq!(resumed["resumed"], true, "{first}");
    // What the bitmap covers is not even offered; what it does not cover is.
    assert!(number(resumed, "positions_held") > 0, "{first}");
    let offered = number(resumed, "entries_offered");
    assert!(offered > 0 && offered < number(cut, "entries_offered"), "{first}");
    // Four in eight are random, two are text, the rest zeros; the last, short one is random.
    let n_records = 64 / 8 * 6 + 1;
    let sent = number(cut, "records_sent") + number(resumed, "records_sent");
    assert!(number(resumed, "records_sent") < n_records, "{first}");
    assert!(sent >= n_records, "{first}");

    // Two records change, one becomes zeros, one becomes what another one is.
    luck.fill(&mut bytes[3 * RECORD_BYTES..4 * RECORD_BYTES]);
    luck.fill(&mut bytes[64 * RECORD_BYTES..]);
    bytes[8 * RECORD_BYTES..9 * RECORD_BYTES].fill(0);
    bytes.copy_within(0..RECORD_BYTES, 20 * RECORD_BYTES);
    let second_file = foreign.scene.file("second.img", &bytes);
    let second = foreign.send(&second_file, &taken_at);
    assert_eq!(second["imageType"], "Incremental", "{second}");
    assert_eq!(number(&second, "recordCount"), 4, "{second}");
    assert_eq!(number(&second["openings"][0], "records_sent"), 2, "{second}");
    assert_eq!(
        number(&second["openings"][0], "record_bytes_sent"),
        RECORD_BYTES as u64 + 5_000,
        "{second}"
    );

    // It shrinks to an odd length that ends in zeros, and grows again: with zeros, which its first
    // image had otherwise.
    bytes.truncate(24 * RECORD_BYTES + 5_000);
    bytes[24 * RECORD_BYTES..].fill(0);
    let third_file = foreign.scene.file("third.img", &bytes);
    foreign.send(&third_file, &taken_at);
    bytes.resize(64 * RECORD_BYTES, 0);
    let fourth_file = foreign.scene.file("fourth.img", &bytes);
    let fourth = foreign.send(&fourth_file, &taken_at);
    assert_eq!(number(&fourth, "recordCount"), 1, "one run of zeros: {fourth}");

    let again = foreign.restored(&first, "first.restored");
    assert_eq!(sha256(&again), sha256(Path::new(&first_file)));
    let again = foreign.restored(&second, "second.restored");
    assert_eq!(sha256(&again), sha256(Path::new(&second_file)));
    // All four were taken in one second: the latest is the last of the chain.
    let again = foreign.restored_from(&fourth, "latest", "fourth.restored");
    assert_eq!(sha256(&again), sha256(Path::new(&fourth_file)));
}

#[test]
fn a_client_in_python_sends_a_child_before_its_parent() {
    let luck = SeededLuck::from_env_or(1);
    let mut foreign = Foreign::paired_that_stays();
    let mut bytes = volume(&luck);
    let mut version = |foreign: &Foreign, name: &str| {
        luck.fill(&mut bytes[..RECORD_BYTES]);
        foreign.scene.file(name, &bytes)
    };
    let first_file = version(&foreign, "first.img");
    foreign.send(&first_file, &[]);
    let held_file = version(&foreign, "held.img");
    foreign.run("client.py", &["send", &held_file, "--hold"]);
    let last_file = version(&foreign, "last.img");
    let last = foreign.send(&last_file, &["--allow-orphan"]);
    let states = |foreign: &Foreign| -> Vec<(String, String)> {
        let points = foreign.target.json(&["points", "list", "web"]);
        let of = |point: &Value, field: &str| point[field].as_str().unwrap().to_owned();
        let points = points.as_array().unwrap().iter();
        points.map(|point| (of(point, "state"), of(point, "id"))).collect()
    };
    let before = states(&foreign);
    let [(whole, first), (orphaned, orphan)] = &before[..] else { panic!("two: {before:?}") };
    assert_eq!((whole.as_str(), orphaned.as_str()), ("ok", "orphaned"));
    let shown = foreign.target.json(&["points", "show", orphan]);
    let waits = shown["waits_for"][0].as_str().unwrap();
    assert!(waits.contains("waits for its epoch 2"), "{shown}");
    let to = foreign.scene.path().join("nothing.img");
    let volume = last["volume"].as_str().unwrap();
    let arguments = ["restore", "web", volume, "--point", orphan, "--to", to.to_str().unwrap()];
    let (code, message) = foreign.target.refused(&arguments, 3);
    assert_eq!(code, "base_missing", "{message}");
    assert!(message.contains("epoch 2"), "{message}");
    assert_eq!(foreign.target.json(&["agents", "list"])[0]["recovery_points"], 1);
    // What waits outlives the target's death.
    foreign.daemon.take().unwrap().kill_9();
    foreign.daemon = Some(foreign.target.serve());
    let held = foreign.run("client.py", &["release", &held_file]);
    let held: Value = serde_json::from_str(&held).unwrap();
    assert!(states(&foreign).iter().all(|(state, _)| state == "ok"));
    let of_held = held["recoveryPointId"].as_str().unwrap();
    for (point, file) in [(&first[..], &first_file), (of_held, &held_file), (orphan, &last_file)] {
        let again = foreign.restored_from(&last, point, &format!("{point}.restored"));
        assert_eq!(sha256(&again), sha256(Path::new(file)), "{point}");
    }
}

#[test]
fn a_client_in_python_that_breaks_a_rule_is_told_what_the_page_says() {
    let luck = SeededLuck::from_env_or(1);
    let mut foreign = Foreign::paired();
    let image = foreign.scene.file("image.img", &volume(&luck));
    // Breach and the code of the answer, or how the stream ends.
    let promised = [
        ("truncated_window", "cut"),
        ("truncated_group", "cut"),
        ("window_ahead", "wrong_state"),
        ("unknown_version", "media_type_unsupported"),
        ("unknown_media_version", "media_type_unsupported"),
        ("other_sessions_prefix", "bad_request"),
        ("other_sessions_path", "session_unknown"),
        ("damaged_frame", "bad_request"),
        ("long_frame", "too_large"),
        ("unknown_opcode", "bad_request"),
        ("skippable_opcode", "END"),
        ("wrong_end", "bad_request"),
        ("entry_off_position", "bad_request"),
        ("changed_entry", "hash_mismatch"),
        ("wrong_record", "hash_mismatch"),
        ("unwanted_record", "wrong_state"),
        ("early_commit", "incomplete"),
        // The last one: it has the same records committed under another image.
        ("missing_growth", "bad_request"),
    ];
    let cases = promised.map(|(case, _)| case);
    let answers = foreign.rude(&[], &image, &cases);
    for (case, promise) in promised {
        assert_eq!(answers[case]["answer"], promise, "{case}: {}", answers[case]);
    }
    let wrong = &answers["wrong_record"];
    assert_eq!(wrong["ordinals"], wrong["expected_ordinals"], "{wrong}");
    assert_eq!(wrong["then"], "END", "the record is still wanted: {wrong}");
    // The session has survived all of it.
    let sent = foreign.send(&image, &[]);
    assert_eq!(sent["openings"][0]["resumed"], true, "{sent}");
    let again = foreign.restored(&sent, "restored.img");
    assert_eq!(sha256(&again), sha256(Path::new(&image)));
}

#[test]
fn a_client_in_python_that_sends_a_byte_beyond_its_credit_is_refused() {
    const CREDIT: usize = 8 * MIB;
    // A group's header and the line of its one record.
    const AROUND: usize = 16 + 48;
    let luck = SeededLuck::from_env_or(1);
    let mut foreign = Foreign::paired();
    let mut bytes = vec![0; CREDIT + 1 - 8 * AROUND];
    luck.fill(&mut bytes);
    let image = foreign.scene.file("image.img", &bytes);
    let records = ["--record-bytes", "1048576"];
    // Credit grows with what is stored, so storing is made slow from outside.
    let slow = Slow::writes(foreign.daemon.as_ref().unwrap());
    let answers = foreign.rude(&records, &image, &["beyond_credit"]);
    drop(slow);
    assert_eq!(answers["beyond_credit"]["answer"], "too_large", "{answers}");
    let sent = foreign.send(&image, &records);
    assert_eq!(sent["openings"][0]["resumed"], true, "{sent}");
    let again = foreign.restored(&sent, "restored.img");
    assert_eq!(sha256(&again), sha256(Path::new(&image)));
}

/// While it lives, every write of a daemon takes half a second.
struct Slow(std::process::Child);

impl Slow {
    #[track_caller]
    fn writes(daemon: &Daemon) -> Self {
        require("strace");
        let mut child = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-e", "trace=pwrite64"])
            .args(["-e", "inject=pwrite64:delay_enter=500000"])
            .args(["-p", &daemon.pid().to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(said.any(|line| line.contains("attached")), "strace does not attach");
        // It goes on to tell of threads that begin, and would die of nobody listening.
        std::thread::spawn(move || said.for_each(drop));
        Self(child)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        // A tracer that is gone lets its process go on as it was.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}
