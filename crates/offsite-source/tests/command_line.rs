//! The program as scripts see it: words, JSON keys, exit codes. Each test has a data directory and
//! a daemon of its own.

#![allow(missing_docs, reason = "a test binary has no public interface")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails, and files are its fixtures"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_offsite-source");

struct Source {
    place: TempDir,
    daemon: Option<Child>,
}

impl Source {
    fn new() -> Self {
        Self { place: tempfile::tempdir().unwrap(), daemon: None }
    }

    /// A source that is set up and serves.
    fn serving() -> Self {
        let mut source = Self::new();
        assert_eq!(source.run(&["init", "--name", "here"]).status.code(), Some(0));
        source.serve();
        source
    }

    fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).arg("--data").arg(self.data()).env_remove("OFFSITE_DATA");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs with `--json`; the exit code and the last line of the answer.
    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.command(arguments).arg("--json").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().last().unwrap_or_else(|| panic!("{arguments:?} printed nothing"));
        (output.status.code().unwrap(), serde_json::from_str(line).unwrap())
    }

    fn serve(&mut self) {
        let mut command = self.command(&["serve"]);
        let mut daemon = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        // The log says when it serves; what comes after is read away so that the daemon never
        // blocks on it.
        let mut log = BufReader::new(daemon.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("serving") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the daemon ended instead of serving");
        }
        std::thread::spawn(move || drop(std::io::copy(&mut log, &mut std::io::sink())));
        self.daemon = Some(daemon);
    }

    fn stop(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take().unwrap();
        signal(&daemon, "-TERM");
        daemon.wait().unwrap().code()
    }

    fn volume(&self, name: &str) -> String {
        let path = self.place.path().join(name);
        fs::write(&path, [1; 4_096]).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            drop(daemon.kill());
            drop(daemon.wait());
        }
    }
}

fn signal(process: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &process.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// An error document with its code, a message and a hint.
fn error_code(document: &Value) -> &str {
    let error = &document["error"];
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{document}");
    assert!(error["hint"].is_string(), "{document}");
    error["code"].as_str().unwrap()
}

#[test]
fn init_prints_the_promised_keys_and_happens_once() {
    let source = Source::new();
    let (exit, document) = source.json(&["init", "--name", "here"]);
    assert_eq!(exit, 0);
    assert_eq!(document["source_id"].as_str().unwrap().len(), 36);
    assert_eq!(document["fingerprint"].as_str().unwrap().len(), 64);
    let (exit, document) = source.json(&["init", "--name", "here"]);
    assert_eq!((exit, error_code(&document)), (1, "already_exists"));
    let foreign = Source::new();
    fs::create_dir(foreign.data()).unwrap();
    fs::write(foreign.data().join("thesis.txt"), "mine").unwrap();
    let (exit, document) = foreign.json(&["init", "--name", "here"]);
    assert_eq!((exit, error_code(&document)), (1, "foreign_directory"));
    let (exit, document) = Source::new().json(&["init", "--name", "a\u{1b}[2J"]);
    assert_eq!((exit, error_code(&document)), (2, "bad_request"));
}

#[test]
fn wrong_usage_is_2_and_no_daemon_is_5() {
    let source = Source::new();
    for arguments in
        [&["frobnicate"][..], &["pair", "request"], &["agents", "add", "x"], &["status", "--no"]]
    {
        let (exit, document) = source.json(arguments);
        assert_eq!((exit, error_code(&document)), (2, "usage"), "{arguments:?}");
        assert_eq!(source.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    for arguments in [
        &["status"][..],
        &["agents", "list"],
        &["pair", "status"],
        &["pair", "wait"],
        &["unpair", "a:1"],
    ] {
        let (exit, document) = source.json(arguments);
        assert_eq!((exit, error_code(&document)), (5, "daemon_not_running"), "{arguments:?}");
        let plain = source.run(arguments);
        assert!(plain.stdout.is_empty() && !plain.stderr.is_empty(), "{arguments:?}");
    }
    let (exit, document) = source.json(&["serve"]);
    assert_eq!((exit, error_code(&document)), (4, "not_set_up"));
    assert_eq!(source.run(&["--version"]).status.code(), Some(0));
}

#[test]
fn a_daemon_publishes_itself_and_stops_gracefully() {
    let mut source = Source::serving();
    let addresses = fs::read_to_string(source.data().join("run/addresses.json")).unwrap();
    let addresses: Value = serde_json::from_str(&addresses).unwrap();
    assert_eq!(addresses["console"], Value::Null);
    assert_eq!(addresses["pid"], source.daemon.as_ref().unwrap().id());
    let (exit, status) = source.json(&["status"]);
    assert_eq!(exit, 0);
    assert!(status["version"].is_string() && status["uptime_seconds"].is_u64());
    assert_eq!(status["state"], "serving");
    let (exit, pairing) = source.json(&["pair", "status"]);
    assert_eq!((exit, &pairing["state"]), (0, &Value::from("unpaired")));
    for key in ["connection", "target", "check_code", "message"] {
        assert!(pairing.get(key).is_some(), "{key}");
    }
    let (exit, document) = source.json(&["serve"]);
    assert_eq!((exit, error_code(&document)), (1, "in_use"));
    assert_eq!(source.stop(), Some(0));
    assert!(!source.data().join("run/addresses.json").exists());
    source.serve();
}

#[test]
fn agents_are_kept_over_a_restart() {
    let mut source = Source::serving();
    let root = format!("root={}", source.volume("root.img"));
    let (exit, agent) = source.json(&["agents", "add", "web", "--volume", &root]);
    assert_eq!((exit, &agent["logical_bytes"]), (0, &Value::from(4_096)));
    let (exit, document) = source.json(&["agents", "add", "web", "--volume", &root]);
    assert_eq!((exit, error_code(&document)), (1, "already_exists"));
    for volume in ["root", "root=", "root=/none.img", "=x"] {
        let (exit, _) = source.json(&["agents", "add", "db", "--volume", volume]);
        assert_eq!(exit, 2, "{volume}");
    }
    let (exit, document) = source.json(&["agents", "add", "db", "--volume", &root, "--encrypt"]);
    assert_eq!((exit, error_code(&document)), (1, "not_implemented"));
    source.daemon.as_mut().unwrap().kill().unwrap();
    source.daemon.take().unwrap().wait().unwrap();
    source.serve();
    let (exit, agents) = source.json(&["agents", "list"]);
    assert_eq!((exit, agents.as_array().unwrap().len()), (0, 1));
    assert_eq!(agents[0]["agent_id"], agent["agent_id"]);
    assert_eq!(source.json(&["agents", "show", "web"]).0, 0);
    let (exit, document) = source.json(&["agents", "show", "none"]);
    assert_eq!((exit, error_code(&document)), (4, "agent_unknown"));
    assert_eq!(source.json(&["agents", "remove", "web"]).0, 0);
    assert_eq!(source.json(&["agents", "remove", "web"]).0, 4);
}

#[test]
fn a_target_that_is_not_there_is_told_apart_and_nothing_is_left() {
    let source = Source::serving();
    let root = format!("root={}", source.volume("root.img"));
    assert_eq!(source.json(&["agents", "add", "web", "--volume", &root]).0, 0);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("https://127.0.0.1:{port}");
    let (exit, document) = source.json(&["pair", "request", &url, "--agent", "web"]);
    assert_eq!((exit, error_code(&document)), (1, "target_unreachable"));
    assert_eq!(source.json(&["pair", "status"]).1["state"], "unpaired");
    let (exit, document) = source.json(&["pair", "request", "http://a:1", "--agent", "web"]);
    assert_eq!((exit, error_code(&document)), (2, "bad_request"));
    let (exit, document) = source.json(&["pair", "request", &url, "--agent", "none"]);
    assert_eq!((exit, error_code(&document)), (4, "agent_unknown"));
    for (arguments, code) in [
        (&["unpair", "a:1"][..], "system_unknown"),
        (&["pair", "withdraw"], "system_unknown"),
        (&["pair", "reset"], "system_unknown"),
        (&["pair", "code"], "request_unknown"),
    ] {
        let (exit, document) = source.json(arguments);
        assert_eq!((exit, error_code(&document)), (4, code), "{arguments:?}");
    }
    assert_eq!(source.json(&["pair", "wait"]).0, 4, "there is nothing to wait for");
    let (exit, doctor) = source.json(&["doctor", &url]);
    let last = doctor["findings"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((exit, &doctor["ok"]), (1, &Value::from(false)));
    assert_eq!((&last["step"], &last["verdict"]), (&Value::from("tcp"), &Value::from("failed")));
    assert_eq!(source.json(&["doctor"]).0, 0);
}

#[test]
fn a_broken_configuration_is_placed() {
    let source = Source::new();
    assert_eq!(source.run(&["init", "--name", "here"]).status.code(), Some(0));
    let file = source.data().join("offsite.toml");
    let sound = fs::read_to_string(&file).unwrap();
    fs::write(&file, sound.replace("#poll_first = \"5s\"", "poll_frist = \"5s\"")).unwrap();
    let (exit, document) = source.json(&["serve"]);
    assert_eq!((exit, error_code(&document)), (1, "configuration_wrong"));
    let message = document["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("offsite.toml:13:1") && message.contains("`poll_first`?"),
        "{message}"
    );
}

#[test]
fn a_18_keys_that_others_may_read_refuse_the_start() {
    use std::os::unix::fs::PermissionsExt;
    let source = Source::new();
    assert_eq!(source.run(&["init", "--name", "here"]).status.code(), Some(0));
    let keys = source.data().join("keys");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let key = fs::read_dir(&keys).unwrap().next().unwrap().unwrap().path();
    assert_eq!((mode(&keys), mode(&key)), (0o700, 0o600));
    for (path, loose, strict) in [(&key, 0o640, 0o600), (&keys, 0o750, 0o700)] {
        fs::set_permissions(path, fs::Permissions::from_mode(loose)).unwrap();
        let (exit, document) = source.json(&["serve"]);
        assert_eq!((exit, error_code(&document)), (1, "keys_not_private"));
        fs::set_permissions(path, fs::Permissions::from_mode(strict)).unwrap();
    }
}

#[test]
fn waiting_is_interrupted_with_130() {
    // A listener that never answers keeps the request in flight, so there is something to wait for.
    let source = Source::serving();
    let root = format!("root={}", source.volume("root.img"));
    assert_eq!(source.json(&["agents", "add", "web", "--volume", &root]).0, 0);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let mut request = source
        .command(&["pair", "request", &url, "--agent", "web"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut silent, _) = listener.accept().unwrap();
    silent.read_exact(&mut [0; 5]).unwrap();
    let mut wait =
        source.command(&["pair", "wait", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(wait.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["state"], "pending");
    signal(&wait, "-INT");
    let last: Value = serde_json::from_str(&lines.last().unwrap().unwrap()).unwrap();
    assert_eq!(error_code(&last), "interrupted");
    assert_eq!(wait.wait().unwrap().code(), Some(130));
    request.kill().unwrap();
    request.wait().unwrap();
}
