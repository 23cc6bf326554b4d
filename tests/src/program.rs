//! One of our programs: its data directory, its command line, its daemon.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::scene::{DEADLINE, eventually};
use crate::strace::Kill;

/// A program with a data directory of its own.
pub struct Program {
    binary: PathBuf,
    data: PathBuf,
    /// What `init --json` said.
    pub init: Value,
}

/// What a command said.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ran {
    /// The last line of standard output as JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        let line = self.stdout.trim_end().lines().last().unwrap_or_default();
        serde_json::from_str(line)
            .or_else(|_| serde_json::from_str(&self.stdout))
            .unwrap_or_else(|error| panic!("no JSON ({error}) in {self:?}"))
    }

    /// The same command, which must have ended with this code.
    #[track_caller]
    #[must_use]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// A running daemon. It is killed when dropped.
pub struct Daemon {
    child: Child,
    pid: u32,
    log: PathBuf,
}

/// Settings that only change the pace: a test shall not wait as long as an office link.
const TARGET_PACE: &[(&str, &str)] =
    &[("[pairing]", "poll_after = \"1s\""), ("[log]", "filter = \"debug\"")];
const SOURCE_PACE: &[(&str, &str)] = &[
    ("[pairing]", "poll_first = \"1s\""),
    ("[log]", "filter = \"debug\""),
    ("name =", "cacheLifetime = \"1s\""),
];

impl Program {
    pub(crate) fn init_target(folder: &Path, name: &str, listen: &str) -> Self {
        let data = folder.join(name);
        let arguments = ["init", "--name", name, "--listen", listen, "--operator", "127.0.0.1:0"];
        Self::init("offsite-target", data, &arguments, TARGET_PACE)
    }

    pub(crate) fn init_source(folder: &Path, name: &str) -> Self {
        Self::init("offsite-source", folder.join(name), &["init", "--name", name], SOURCE_PACE)
    }

    pub(crate) fn init_source_as(folder: &Path, name: &str, lost: &str) -> Self {
        let arguments = ["init", "--name", name, "--as", lost];
        Self::init("offsite-source", folder.join(name), &arguments, SOURCE_PACE)
    }

    fn init(binary: &str, data: PathBuf, arguments: &[&str], pace: &[(&str, &str)]) -> Self {
        let mut program = Self { binary: built(binary), data, init: Value::Null };
        program.init = program.json(arguments);
        pace.iter().for_each(|(after, setting)| program.configure(after, setting));
        program
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Puts a setting into the configuration file, below the first line that starts with `after`.
    #[track_caller]
    pub fn configure(&self, after: &str, setting: &str) {
        let path = self.data.join("offsite.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let place = text.lines().position(|line| line.starts_with(after));
        let place = place.unwrap_or_else(|| panic!("no line {after:?} in {}", path.display()));
        let mut lines: Vec<&str> = text.lines().collect();
        lines.insert(place + 1, setting);
        std::fs::write(path, lines.join("\n") + "\n").unwrap();
    }

    /// A command of the program, not yet started.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--data").arg(&self.data).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command with `--json` that must succeed.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--json"]].concat()).expect_code(0).json()
    }

    /// Runs a command with `--json` that must fail with this exit code; returns the error's code
    /// and message.
    #[track_caller]
    pub fn refused(&self, arguments: &[&str], code: i32) -> (String, String) {
        let error = self.run(&[arguments, &["--json"]].concat()).expect_code(code).json();
        let text = |name: &str| error["error"][name].as_str().unwrap_or_default().to_owned();
        assert!(!text("code").is_empty() && !text("message").is_empty(), "{error}");
        (text("code"), text("message"))
    }

    /// Starts the daemon and waits until it says that it serves.
    #[track_caller]
    pub fn serve(&self) -> Daemon {
        let daemon = self.start(Command::new(&self.binary));
        daemon.unwrap_or_else(|log| panic!("{} does not serve:\n{log}", self.data.display()))
    }

    /// Starts a daemon that must not come to serve; returns what it said.
    #[track_caller]
    #[must_use]
    pub fn refuses_to_serve(&self) -> String {
        match self.start(Command::new(&self.binary)) {
            Ok(_) => panic!("{} serves", self.data.display()),
            Err(log) => log,
        }
    }

    /// Starts the daemon under a kill; `None` when the kill came before it served.
    #[must_use]
    pub fn serve_under(&self, kill: Kill) -> Option<Daemon> {
        self.start(kill.command(&self.binary)).ok()
    }

    /// Starts the daemon by a program that runs it, with these arguments before its own; where it
    /// does not come to serve, what it said.
    ///
    /// # Errors
    /// What it said.
    pub fn serve_by(&self, runner: &str, arguments: &[&str]) -> Result<Daemon, String> {
        let mut command = Command::new(runner);
        command.args(arguments).arg(&self.binary);
        self.start(command)
    }

    /// The same program where its data directory is seen under another path.
    #[must_use]
    pub fn seen_at(&self, data: PathBuf) -> Self {
        Self { binary: self.binary.clone(), data, init: self.init.clone() }
    }

    /// The address of one of the daemon's listeners, as `addresses.json` has it.
    #[track_caller]
    #[must_use]
    pub fn address(&self, listener: &str) -> String {
        let path = self.data.join("run/addresses.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let addresses: Value = serde_json::from_str(&text).unwrap();
        addresses[listener].as_str().unwrap_or_else(|| panic!("{listener} in {text}")).to_owned()
    }

    fn start(&self, mut command: Command) -> Result<Daemon, String> {
        // The service manager's protocol tells when it serves, so nobody guesses how long that
        // takes.
        let folder = tempfile::tempdir().unwrap();
        let notify = folder.path().join("notify");
        let socket = UnixDatagram::bind(&notify).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
        let log = self.data.with_extension(format!("{}.log", unique()));
        let mut child = command
            .args(["serve", "--data"])
            .arg(&self.data)
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let started = std::time::Instant::now();
        let mut word = [0; 4096];
        while started.elapsed() < DEADLINE {
            if let Ok(n) = socket.recv(&mut word)
                && String::from_utf8_lossy(&word[..n]).contains("READY=1")
            {
                let pid = self.daemon_pid().unwrap_or(child.id());
                return Ok(Daemon { child, pid, log });
            }
            if child.try_wait().unwrap().is_some() {
                break;
            }
        }
        let _ended = child.kill();
        let _status = child.wait();
        Err(std::fs::read_to_string(&log).unwrap_or_default())
    }

    fn daemon_pid(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.data.join("run/addresses.json")).ok()?;
        serde_json::from_str::<Value>(&text).ok()?["pid"].as_u64()?.try_into().ok()
    }
}

fn unique() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

impl Daemon {
    /// SIGKILL: what the page cache holds stays, nothing else does.
    pub fn kill_9(mut self) {
        self.signal(Signal::KILL);
        let _status = self.child.wait();
    }

    /// SIGTERM, and its end; it must end by itself.
    #[track_caller]
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        eventually("the daemon ends after SIGTERM", || self.child.try_wait().unwrap())
    }

    /// Waits until the daemon has ended by itself or by a kill that was laid for it.
    #[track_caller]
    pub fn wait(mut self) -> ExitStatus {
        eventually("the daemon ends", || self.child.try_wait().unwrap())
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends any signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).unwrap();
        // It may have ended already; then there is nobody to tell.
        let _told = kill_process(pid, signal);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The program as `cargo build` leaves it, built once per run of the tests.
fn built(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let exe = std::env::current_exe().unwrap();
        // target/PROFILE/deps/it-0123: programs lie two folders up.
        let folder = exe.parent().and_then(Path::parent).unwrap().to_owned();
        if std::env::var_os("OFFSITE_PROGRAMS_BUILT").is_none() {
            let release = folder.ends_with("release").then_some("--release");
            let status = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "-p", "offsite-source", "-p", "offsite-target"])
                .args(release)
                .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
                .status()
                .unwrap();
            assert!(status.success(), "the programs do not build");
        }
        folder
    });
    folder.join(name)
}
