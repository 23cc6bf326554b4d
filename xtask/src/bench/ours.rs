//! Our own program as a contender: a real daemon in a directory of its own, called by its command
//! line.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::contender::Contender;
use super::images::Machine;
use super::step::{Cost, measure, piped, size_mib};
use crate::cargo::{cargo, root};

pub(super) struct Ours {
    program: PathBuf,
    folder: PathBuf,
    daemon: Child,
    cold: bool,
}

impl Ours {
    /// Builds the released program and starts it.
    pub(super) fn start(folder: &Path, cold: bool) -> Result<Self> {
        let built =
            cargo().args(["build", "--quiet", "--release", "-p", "offsite-source"]).status()?;
        ensure!(built.success(), "offsite-source does not build");
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root().join("target"), PathBuf::from);
        let program = target.join("release/offsite-source");
        fs::create_dir_all(folder)?;
        let data = folder.join("data");
        let made = Command::new(&program)
            .args(["init", "--name", "bench", "--data"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()?;
        ensure!(made.success(), "init failed");
        let log = fs::File::create(folder.join("log"))?;
        let daemon =
            Command::new(&program).arg("serve").arg("--data").arg(&data).stderr(log).spawn()?;
        let ours = Self { program, folder: folder.to_owned(), daemon, cold };
        for _ in 0..200 {
            if data.join("run/addresses.json").exists() {
                return Ok(ours);
            }
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        anyhow::bail!("the daemon does not serve: see {}", folder.join("log").display())
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = piped(&self.program, None, None)?;
        command.args(arguments).arg("--json").arg("--data").arg(self.folder.join("data"));
        Ok(command)
    }

    fn link(&self, machine: &Machine) -> PathBuf {
        self.folder.join(format!("{}.volume", machine.name))
    }
}

impl Contender for Ours {
    fn name(&self) -> &'static str {
        "offsite"
    }

    fn put(&mut self, machine: &Machine, version: usize) -> Result<Cost> {
        // The agent's volume is a link, so that each version is the next state of the same disk.
        let link = self.link(machine);
        if version > 0 {
            fs::remove_file(&link)?;
        }
        symlink(machine.versions.get(version).context("no such version")?, &link)?;
        if version == 0 {
            let volume = format!("disk={}", link.display());
            let added =
                self.command(&["agents", "add", &machine.name, "--volume", &volume])?.status()?;
            ensure!(added.success(), "agents add failed");
        }
        let mut protect = self.command(&["protect", &machine.name])?;
        measure(&mut protect, Some(self.daemon.id()), self.cold)
    }

    fn get(&mut self, machine: &Machine, _: usize, to: &Path) -> Result<(Cost, PathBuf)> {
        let place = to.to_str().context("a path that is not UTF-8")?;
        let mut restore = self.command(&["restore", &machine.name, "disk", "--to", place])?;
        Ok((measure(&mut restore, Some(self.daemon.id()), self.cold)?, to.to_owned()))
    }

    fn repository_mib(&self) -> Result<u64> {
        size_mib(&self.folder.join("data/store"))
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // A killed daemon leaves a whole store, and the folder goes away next.
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}
