//! restic: `backup`, and `copy` to a second repository behind `rclone serve restic` with mutual
//! TLS.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::certificates::certificates;
use super::done;
use crate::bench::contender::{Contender, Replicating};
use crate::bench::step::{Cost, measure, piped, size_mib};
use crate::machines::Machine;
use crate::tools;

/// How long the server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A repository and its copy.
pub(crate) struct Restic {
    program: PathBuf,
    folder: PathBuf,
    server: Child,
    url: String,
    cold: bool,
}

impl Restic {
    /// Two empty repositories that cut alike, so that what is copied is shared.
    pub(crate) fn start_pair(program: PathBuf, folder: &Path, cold: bool) -> Result<Self> {
        tools::install(&["rclone", "openssl"])?;
        fs::create_dir_all(folder.join("there"))?;
        certificates(folder)?;
        fs::write(folder.join("password"), "x\n")?;
        // Free a moment ago; nobody else on this machine takes ports meanwhile.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut serve = Command::new("rclone");
        serve.current_dir(folder).args(["serve", "restic", "--addr", &format!("127.0.0.1:{port}")]);
        serve.args(["--cert", "server.pem", "--key", "server.key", "--client-ca", "ca.pem"]);
        serve.args(["--min-tls-version", "tls1.3", "there"]).stdin(Stdio::null());
        let server = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let url = format!("rest:https://127.0.0.1:{port}/");
        let restic = Self { program, folder: folder.to_owned(), server, url, cold };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(begun.elapsed() < PATIENCE, "rclone does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        done(restic.command(None)?.args(["init", "-r", "repository"]))?;
        let mut init = restic.command(None)?;
        init.args([
            "init",
            "-r",
            &restic.url,
            "--copy-chunker-params",
            "--from-repo",
            "repository",
        ]);
        done(init.args(["--from-password-file", "password"]))?;
        Ok(restic)
    }

    fn command(&self, from: Option<&Path>) -> Result<Command> {
        let mut command = piped(&self.program, from, None)?;
        command.current_dir(&self.folder).arg("-q").args(["--password-file", "password"]);
        command.args(["--cacert", "ca.pem", "--tls-client-cert", "client.both"]);
        // The caller's own caches are left alone.
        command.env("HOME", &self.folder).env("XDG_CACHE_HOME", self.folder.join("cache"));
        Ok(command)
    }

    fn tag(machine: &Machine, version: usize) -> String {
        format!("{}-{version}", machine.name)
    }

    fn write(
        &self,
        repository: &str,
        machine: &Machine,
        version: usize,
        to: &Path,
    ) -> Result<(Cost, PathBuf)> {
        let folder = to.with_extension("folder");
        let mut restore = self.command(None)?;
        restore.args(["restore", "-r", repository, "--tag", &Self::tag(machine, version)]);
        restore.arg("--target").arg(&folder).arg("latest");
        Ok((measure(&mut restore, &[], self.cold)?, folder.join("volume")))
    }
}

impl Contender for Restic {
    fn name(&self) -> &'static str {
        "restic"
    }

    fn put(&mut self, machine: &Machine, version: usize) -> Result<Cost> {
        let image = machine.versions.get(version).context("no such version")?;
        let mut backup = self.command(Some(image))?;
        backup.args(["backup", "-r", "repository", "--tag", &Self::tag(machine, version)]);
        backup.args(["--host", &machine.name, "--stdin", "--stdin-filename", "volume"]);
        measure(&mut backup, &[], self.cold)
    }

    fn get(&mut self, machine: &Machine, version: usize, to: &Path) -> Result<(Cost, PathBuf)> {
        self.write("repository", machine, version, to)
    }

    fn repository_mib(&self) -> Result<u64> {
        size_mib(&self.folder.join("repository"))
    }
}

impl Replicating for Restic {
    fn replicate(&mut self, machine: &Machine, version: usize) -> Result<Cost> {
        let mut copy = self.command(None)?;
        copy.args(["copy", "-r", &self.url, "--from-repo", "repository"]);
        copy.args(["--from-password-file", "password", "--tag", &Self::tag(machine, version)]);
        measure(&mut copy, &[self.server.id()], self.cold)
    }

    fn get_there(
        &mut self,
        machine: &Machine,
        version: usize,
        to: &Path,
    ) -> Result<(Cost, PathBuf)> {
        self.write("there", machine, version, to)
    }

    fn there_mib(&self) -> Result<u64> {
        size_mib(&self.folder.join("there"))
    }
}

impl Drop for Restic {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}
