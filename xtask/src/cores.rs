//! Throw-away cores, for verbs that show or measure the product: the released programs, each with a
//! data directory in a folder that goes away, and daemons on loopback.
//!
//! Everything is done by command line, as an administrator's script would do it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cargo::{cargo, target};
use crate::machines::Machine;

/// How long a daemon may take to serve, or a pair to stand.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Builds both programs as they are released; the folder they lie in.
pub(crate) fn build() -> Result<PathBuf> {
    build_as(&["--release"], "release")
}

/// Builds both as tests start them: the same promises, and slower.
pub(crate) fn build_for_tests() -> Result<PathBuf> {
    build_as(&[], "debug")
}

fn build_as(profile: &[&str], folder: &str) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--quiet", "-p", "offsite-source", "-p", "offsite-target"]).args(profile);
    ensure!(build.status()?.success(), "the programs do not build");
    Ok(target().join(folder))
}

/// A program with its data directory. Its daemon is killed when this is dropped.
pub(crate) struct Core {
    program: PathBuf,
    /// What the program is started by, before its own name; mostly nothing.
    through: Vec<OsString>,
    data: PathBuf,
    daemon: Option<Child>,
}

impl Core {
    /// A new source.
    pub(crate) fn source(programs: &Path, folder: &Path, name: &str) -> Result<Self> {
        Self::source_through(&[], programs, folder, name)
    }

    /// A new source whose program is started by another one.
    pub(crate) fn source_through(
        through: &[OsString],
        programs: &Path,
        folder: &Path,
        name: &str,
    ) -> Result<Self> {
        Self::init(through, programs.join("offsite-source"), folder, name, &[])
    }

    /// A new target on ports that are free.
    pub(crate) fn target(programs: &Path, folder: &Path, name: &str) -> Result<Self> {
        Self::target_through(&[], "127.0.0.1:0", programs, folder, name)
    }

    /// A new target at this address whose program is started by another one.
    pub(crate) fn target_through(
        through: &[OsString],
        listen: &str,
        programs: &Path,
        folder: &Path,
        name: &str,
    ) -> Result<Self> {
        let ports = ["--listen", listen, "--operator", "127.0.0.1:0"];
        let program = programs.join("offsite-target");
        let target = Self::init(through, program, folder, name, &ports)?;
        // Two operators at one desk need not wait for the next poll as two offices do.
        target.configure("[pairing]", "poll_after = \"1s\"")?;
        Ok(target)
    }

    fn init(
        through: &[OsString],
        program: PathBuf,
        folder: &Path,
        name: &str,
        ports: &[&str],
    ) -> Result<Self> {
        let data = folder.join(name);
        let core = Self { program, through: through.to_vec(), data, daemon: None };
        core.json(&[&["init", "--name", name], ports].concat())?;
        Ok(core)
    }

    /// The same core with a copy of its data directory, started by another program. The daemon must
    /// not run.
    pub(crate) fn copy(&self, through: &[OsString], data: &Path) -> Result<Self> {
        ensure!(self.daemon.is_none(), "a running daemon is writing what would be copied");
        let copied =
            Command::new("cp").args(["-a", "--reflink=auto"]).args([&self.data, data]).status()?;
        ensure!(copied.success(), "{} cannot be copied", self.data.display());
        let (program, through) = (self.program.clone(), through.to_vec());
        Ok(Self { program, through, data: data.to_owned(), daemon: None })
    }

    /// The program, by what starts it.
    fn program(&self) -> Command {
        let mut words =
            self.through.iter().map(OsString::as_os_str).chain([self.program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    }

    /// Puts a setting below a line of the configuration file.
    pub(crate) fn configure(&self, below: &str, setting: &str) -> Result<()> {
        let path = self.data.join("offsite.toml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        ensure!(text.contains(below), "no line {below} in {}", path.display());
        fs::write(path, text.replacen(below, &format!("{below}\n{setting}"), 1))?;
        Ok(())
    }

    /// Makes a version the present state of a machine's volume: a link in a folder, so that each
    /// version is the next state of one disk. The first makes the agent too.
    pub(crate) fn attach(&self, machine: &Machine, version: usize, folder: &Path) -> Result<()> {
        let link = folder.join(format!("{}.volume", machine.name));
        let is_new = fs::remove_file(&link).is_err();
        symlink(machine.versions.get(version).context("no such version")?, &link)?;
        if is_new {
            let volume = format!("disk={}", link.display());
            self.json(&["agents", "add", &machine.name, "--volume", &volume])?;
        }
        Ok(())
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The daemon's process, while there is one.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// Starts the daemon and waits until it serves.
    pub(crate) fn serve(&mut self) -> Result<()> {
        let said = self.data.with_extension("log");
        let log = File::create(&said).with_context(|| said.display().to_string())?;
        let addresses = self.data.join("run/addresses.json");
        drop(fs::remove_file(&addresses));
        let mut serve = self.program();
        serve.arg("serve").arg("--data").arg(&self.data).stdin(Stdio::null());
        let mut daemon = serve.stdout(Stdio::null()).stderr(log).spawn()?;
        let begun = Instant::now();
        while !addresses.exists() {
            let ended = daemon.try_wait()?;
            if ended.is_some() || begun.elapsed() > PATIENCE {
                drop(daemon.kill());
                drop(daemon.wait());
                bail!("the daemon does not serve; it said:\n{}", fs::read_to_string(said)?);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.daemon = Some(daemon);
        self.keep_ports()
    }

    /// Makes the ports that were free the core's own, so that its peer finds it after a restart.
    fn keep_ports(&self) -> Result<()> {
        let path = self.data.join("offsite.toml");
        let mut text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for (listener, address) in self.addresses()? {
            let address = address.as_str().unwrap_or_default();
            let line = |port: &str| format!("{listener} = \"{port}\"");
            text = text.replace(&line("127.0.0.1:0"), &line(address));
        }
        fs::write(path, text)?;
        Ok(())
    }

    /// The addresses as bound, by listener.
    fn addresses(&self) -> Result<serde_json::Map<String, Value>> {
        Ok(serde_json::from_slice(&fs::read(self.data.join("run/addresses.json"))?)?)
    }

    /// Asks the daemon to end, as an administrator would, and waits for it.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let Some(mut daemon) = self.daemon.take() else { return Ok(()) };
        let told = Command::new("kill").arg(daemon.id().to_string()).status()?;
        ensure!(told.success(), "the daemon cannot be told to end");
        ensure!(daemon.wait()?.success(), "the daemon did not end well");
        Ok(())
    }

    /// Kills the daemon.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let Some(mut daemon) = self.daemon.take() else { return Ok(()) };
        daemon.kill()?;
        daemon.wait()?;
        Ok(())
    }

    /// A command of the program, not yet started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program();
        command.args(arguments).arg("--data").arg(&self.data).stdin(Stdio::null());
        command
    }

    /// What a command says to a script, which must succeed.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value> {
        self.follow(arguments, |_| {})
    }

    /// The last line that a command says to a script; those before it are shown as they come.
    pub(crate) fn follow(&self, arguments: &[&str], mut show: impl FnMut(&Value)) -> Result<Value> {
        let mut command = self.command(arguments);
        command.arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let lines = child.stdout.take().context("a pipe")?;
        let mut last = Value::Null;
        for line in BufReader::new(lines).lines() {
            last = serde_json::from_str(&line?).with_context(|| format!("{command:?}"))?;
            show(&last);
        }
        let mut said = String::new();
        child.stderr.take().context("a pipe")?.read_to_string(&mut said)?;
        let status = child.wait()?;
        ensure!(status.success(), "{command:?} ended with {status}: {last} {said}");
        Ok(last)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // What is in the folder goes away next.
        if let Some(mut daemon) = self.daemon.take() {
            drop(daemon.kill());
            drop(daemon.wait());
        }
    }
}

/// The check codes that the two operators read to each other.
pub(crate) struct Codes {
    pub(crate) at_source: String,
    pub(crate) at_target: String,
}

/// Asks for these agents at the source, compares the codes and accepts at the target, and waits
/// until the pair stands.
pub(crate) fn pair(source: &Core, target: &Core, agents: &[&str]) -> Result<Codes> {
    let addresses = target.addresses()?;
    let address = addresses.get("replication").and_then(Value::as_str);
    let address = address.context("the target has no address")?;
    let url = format!("https://{address}");
    let mut ask = vec!["pair", "request", url.as_str()];
    agents.iter().for_each(|agent| ask.extend(["--agent", agent]));
    source.json(&ask)?;
    let begun = Instant::now();
    let request = loop {
        let list = target.json(&["requests", "list"])?;
        if let Some(request) = list.as_array().and_then(|list| list.first()) {
            break request.clone();
        }
        ensure!(begun.elapsed() < PATIENCE, "the request does not reach the target");
        std::thread::sleep(LOOK_EVERY);
    };
    let code = source.json(&["pair", "code"])?;
    let text = |value: &Value| value["check_code"].as_str().unwrap_or_default().to_owned();
    let codes = Codes { at_source: text(&code), at_target: text(&request) };
    ensure!(codes.at_source == codes.at_target, "the check codes differ: somebody is in between");
    let id = match &request["request_id"] {
        Value::String(id) => id.clone(),
        id => id.to_string(),
    };
    target.json(&["requests", "accept", &id, "--code", &codes.at_source, "--allow-restore"])?;
    source.json(&["pair", "wait"])?;
    Ok(codes)
}
