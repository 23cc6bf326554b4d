//! The real program: set-up, start, refusals, and what must never be seen outside.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test looks at files as an outsider does, and a panic is how it fails"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use offsite_pki::tls::{ClientIdentity, Trust, client};
use offsite_proto::json::Json;
use offsite_proto::operator::{Login, OpenLogin};
use offsite_transport::{Connection, HostPort, Timeouts};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_offsite-target");
const PATIENCE: Duration = Duration::from_secs(60);

fn command(data: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(words).arg("--data").arg(data).env_remove("OFFSITE_DATA").stdin(Stdio::null());
    command
}

fn run(data: &Path, words: &[&str]) -> Output {
    command(data, words).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by a signal")
}

/// The JSON document of a command that succeeded.
fn json(data: &Path, words: &[&str]) -> Value {
    let words = [words, &["--json"]].concat();
    let output = run(data, &words);
    assert_eq!(code(&output), 0, "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The error of a command that failed, with its exit code.
fn error(data: &Path, words: &[&str]) -> (i32, String, String) {
    let words = [words, &["--json"]].concat();
    let output = run(data, &words);
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{words:?}: {}", String::from_utf8_lossy(&output.stdout)));
    let word = |name: &str| document["error"][name].as_str().expect(name).to_owned();
    assert!(document["error"]["hint"].is_string());
    (code(&output), word("code"), word("message"))
}

fn init(data: &Path) -> Value {
    let listen = ["--listen", "127.0.0.1:0", "--operator", "127.0.0.1:0"];
    json(data, &[&["init", "--name", "vault"][..], &listen].concat())
}

/// A running daemon; its log is kept.
struct Daemon {
    child: Child,
    log: mpsc::Receiver<String>,
    seen: String,
}

impl Daemon {
    fn start(data: &Path) -> Self {
        let mut child = command(data, &["serve"]).stderr(Stdio::piped()).spawn().unwrap();
        let log = lines(child.stderr.take().unwrap());
        let mut daemon = Self { child, log, seen: String::new() };
        loop {
            let line = daemon.log.recv_timeout(PATIENCE).expect("the daemon starts");
            daemon.seen.push_str(&line);
            daemon.seen.push('\n');
            if line.contains(" serving ") {
                return daemon;
            }
        }
    }

    fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        while let Ok(line) = self.log.recv() {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        std::mem::take(&mut self.seen)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Gone already when it was stopped.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn lines(stderr: ChildStderr) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match fs::symlink_metadata(&path).unwrap() {
            metadata if metadata.is_dir() => found.extend(files(&path)),
            metadata if metadata.is_file() => found.push(path),
            _ => {}
        }
    }
    found
}

#[test]
fn a_18_keys_are_for_their_owner_alone() {
    for round in 0..20 {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("data");
        let keys = data.join("keys");
        let words = ["init", "--name", "vault", "--json"];
        let mut child = command(&data, &words).stdout(Stdio::null()).spawn().unwrap();
        // No file may have a wider mode at any moment of its making.
        while child.try_wait().unwrap().is_none() {
            for entry in fs::read_dir(&keys).into_iter().flatten().flatten() {
                if let Ok(metadata) = entry.metadata() {
                    assert_eq!(metadata.mode() & 0o077, 0, "{:?}", entry.path());
                }
            }
        }
        assert!(child.wait().unwrap().success());
        assert_eq!(fs::metadata(&keys).unwrap().mode() & 0o777, 0o700);
        let made = files(&keys);
        assert_eq!(made.len(), 3);
        for path in &made {
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600, "{}", path.display());
        }
        if round == 0 {
            others_cannot_read(place.path(), &data, &made);
        }
    }
}

/// As another user: root reads everything, so this is asked as nobody.
fn others_cannot_read(place: &Path, data: &Path, keys: &[PathBuf]) {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let reads = |path: &Path| {
        let mut cat = Command::new("cat");
        cat.arg(path).uid(65_534).gid(65_534).stdout(Stdio::null()).stderr(Stdio::null());
        cat.status().unwrap().success()
    };
    for directory in [place, data] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let open = data.join("open");
    fs::write(&open, "x").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(reads(&open), "the way there is open, so the test can fail");
    for key in keys {
        assert!(!reads(key), "{}", key.display());
    }
    for private in ["catalog.redb", "offsite.toml"] {
        assert!(!reads(&data.join(private)), "{private}");
    }
}

#[test]
fn looser_keys_are_no_start() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    init(&data);
    let key = data.join("keys/target.key.pem");
    for (path, loose, sound) in [(&key, 0o640, 0o600), (&data.join("keys"), 0o750, 0o700)] {
        fs::set_permissions(path, fs::Permissions::from_mode(loose)).unwrap();
        // A daemon that starts after all would never end, and say nothing of it.
        let mut child = command(&data, &["serve"]).stderr(Stdio::piped()).spawn().unwrap();
        let log = lines(child.stderr.take().unwrap());
        let started = loop {
            match log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(" serving ") => break true,
                Ok(_) => {}
                Err(_) => break false,
            }
        };
        drop(child.kill());
        let exit = child.wait().unwrap().code();
        assert!(!started, "it serves with mode {loose:o} of {}", path.display());
        assert_eq!(exit, Some(1), "{}", path.display());
        let (_, _, message) = error(&data, &["serve"]);
        assert!(message.contains("may be used by others"), "{message}");
        fs::set_permissions(path, fs::Permissions::from_mode(sound)).unwrap();
    }
    Daemon::start(&data).stop();
}

#[test]
fn init_wants_an_empty_directory() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let again = &["init", "--name", "vault"][..];
    let made = init(&data);
    for key in ["target_id", "administrator", "token", "fingerprint"] {
        assert!(made[key].is_string(), "{key}");
    }
    let before: Vec<_> = files(&data).iter().map(|path| fs::read(path).unwrap()).collect();
    let (exit, _, message) = error(&data, again);
    assert_eq!(exit, 3);
    assert!(message.contains("was set up before"), "{message}");
    let after: Vec<_> = files(&data).iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(before == after, "a refused init changed something");

    let foreign = place.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(foreign.join("photos.tar"), "mine").unwrap();
    for words in [again, &["serve"]] {
        let (exit, _, message) = error(&foreign, words);
        assert!(exit == 3 || exit == 1, "{exit}");
        assert!(message.contains("is not empty and no data directory"), "{message}");
    }
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);

    fs::write(data.join("version"), "offsite-target 99\n").unwrap();
    let (_, _, message) = error(&data, &["serve"]);
    assert!(message.contains("has format 99"), "{message}");
    fs::write(data.join("version"), "offsite-source 1\n").unwrap();
    let (_, _, message) = error(&data, &["serve"]);
    assert!(message.contains("belongs to offsite-source"), "{message}");
}

#[test]
fn a_broken_configuration_is_named_by_line_and_nothing_starts() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    init(&data);
    let path = data.join("offsite.toml");
    let sound = fs::read_to_string(&path).unwrap();
    let broken = sound.replace("#request_life = \"7 days\"", "request_life = \"a while\"");
    fs::write(&path, broken).unwrap();
    let (exit, word, message) = error(&data, &["serve"]);
    assert_eq!((exit, word.as_str()), (2, "configuration"));
    assert!(message.contains("offsite.toml:20:16: pairing.request_life:"), "{message}");
    assert!(message.contains("\"90s\""), "accepted values are named: {message}");
    assert!(!data.join("run/addresses.json").exists());
    fs::write(&path, sound).unwrap();
    Daemon::start(&data).stop();
}

#[test]
fn the_daemon_is_alone_and_commands_say_when_it_is_not_there() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let (exit, word, _) = error(&data, &["status"]);
    assert_eq!((exit, word.as_str()), (5, "daemon_not_running"));
    init(&data);
    let daemon = Daemon::start(&data);
    let addresses: Value =
        serde_json::from_slice(&fs::read(data.join("run/addresses.json")).unwrap()).unwrap();
    assert_eq!(addresses["pid"].as_u64(), Some(daemon.child.id().into()));
    for listener in ["replication", "operator"] {
        let address: std::net::SocketAddr = addresses[listener].as_str().unwrap().parse().unwrap();
        assert_ne!(address.port(), 0);
    }
    let (_, _, message) = error(&data, &["serve"]);
    let holder = format!("is in use by process {} (offsite-target)", daemon.child.id());
    assert!(message.contains(&holder), "{message}");
    let status = json(&data, &["status"]);
    assert_eq!(status["state"], "serving");
    assert!(status["version"].is_string() && status["uptime_seconds"].is_u64());
    assert_eq!(json(&data, &["requests", "list"]), Value::Array(Vec::new()));
    for (words, exit, word) in [
        (&["requests", "show", "7"][..], 4, "request_unknown"),
        (&["requests", "accept", "7", "--without-code"], 4, "request_unknown"),
        (&["requests", "reject", "7", "--message", "no"], 4, "request_unknown"),
        (&["sources", "show", "x"], 4, "system_unknown"),
        (&["agents", "show", "x"], 4, "agent_unknown"),
        (&["tenants", "set", "x", "--lock", "1"], 4, "tenant_unknown"),
        (&["users", "remove", "x"], 4, "account_unknown"),
        (&["users", "remove", "administrator"], 3, "forbidden"),
        (&["tokens", "revoke", "x"], 4, "account_unknown"),
        (&["tenants", "add", "a\nb"], 2, "bad_request"),
        (&["users", "add", "x", "--role", "king"], 2, "usage"),
        (&["users", "add", "x", "--role", "viewer", "--ntlm"], 1, "not_implemented"),
        (&["points", "list", "x"], 4, "agent_unknown"),
        (&["verify", "x"], 4, "agent_unknown"),
        (&["retention", "show", "x"], 4, "agent_unknown"),
        (&["verify", "--offline"], 1, "data_directory"),
        (&["restore", "a", "b", "--to", "c"], 4, "agent_unknown"),
    ] {
        let (found, code, message) = error(&data, words);
        assert_eq!((found, code.as_str()), (exit, word), "{words:?}: {message}");
    }
    let log = daemon.stop();
    assert!(log.contains(" stopped"), "{log}");
    assert!(!data.join("run/addresses.json").exists());
    assert_eq!(error(&data, &["status"]).0, 5);
}

#[test]
fn g_07_no_secret_is_seen_outside() {
    const PASSWORD: &str = "canary-Passw0rd-0815";
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let made = init(&data);
    let path = data.join("offsite.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("#filter = \"info\"", "filter = \"trace\"")).unwrap();
    let password_file = place.path().join("password");
    fs::write(&password_file, PASSWORD).unwrap();
    let mut canaries = vec![PASSWORD.to_owned(), made["token"].as_str().unwrap().to_owned()];
    let daemon = Daemon::start(&data);
    let file = password_file.to_str().unwrap();
    json(&data, &["users", "add", "anna", "--role", "operator", "--password-file", file]);
    let token = json(&data, &["tokens", "add", "--user", "anna"]);
    canaries.push(token["token"].as_str().unwrap().to_owned());
    json(&data, &["tenants", "add", "acme"]);
    let code = json(&data, &["enrolment", "add", "--tenant", "acme"]);
    canaries.push(code["code"].as_str().unwrap().to_owned());
    let addresses: Value =
        serde_json::from_slice(&fs::read(data.join("run/addresses.json")).unwrap()).unwrap();
    let operator: std::net::SocketAddr = addresses["operator"].as_str().unwrap().parse().unwrap();
    canaries.extend(log_in(operator, PASSWORD));
    let process = PathBuf::from(format!("/proc/{}", daemon.child.id()));
    for file in ["cmdline", "environ", "status", "limits"] {
        let mut bytes = Vec::new();
        // What the kernel will not show to us is not seen either.
        if let Ok(mut file) = fs::File::open(process.join(file)) {
            drop(file.read_to_end(&mut bytes));
        }
        unseen(&canaries, &bytes, file);
    }
    let limits = fs::read_to_string(process.join("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let log = daemon.stop();
    assert!(log.lines().any(|line| line.contains("TRACE")), "the log was not at TRACE");
    for key in files(&data.join("keys")) {
        let text = fs::read_to_string(&key).unwrap();
        if text.contains("PRIVATE KEY") {
            canaries.push(text.lines().nth(1).unwrap().to_owned());
        }
    }
    assert_eq!(canaries.len(), 8);
    unseen(&canaries, log.as_bytes(), "the log");
    for file in files(&data).iter().filter(|file| !file.starts_with(data.join("keys"))) {
        unseen(&canaries, &fs::read(file).unwrap(), &file.display().to_string());
    }
}

/// Tokens of a login with the right password; a wrong one and a stale token go by as well.
fn log_in(operator: std::net::SocketAddr, password: &str) -> Vec<String> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let tls = client(ClientIdentity::None, Trust::FirstSight).unwrap();
        let place = HostPort::new("127.0.0.1", operator.port()).unwrap();
        let connection = Connection::dial(&place, &tls, &Timeouts::default()).await.unwrap();
        let body = |password: &str| {
            Json(Login { username: "anna".to_owned(), password: password.to_owned() })
        };
        let opened = connection.call::<OpenLogin>(&(), &body(password)).await.unwrap();
        let wrong = format!("{password}-wrong");
        assert!(connection.call::<OpenLogin>(&(), &body(&wrong)).await.is_err());
        vec![opened.body.0.auth_token, wrong]
    })
}

fn unseen(canaries: &[String], bytes: &[u8], place: &str) {
    for canary in canaries {
        let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
        assert!(!found, "{canary} stands in {place}");
    }
}
