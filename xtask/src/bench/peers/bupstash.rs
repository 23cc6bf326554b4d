//! bupstash: `put`, and `sync` to a second repository over ssh.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::done;
use super::ssh::Sshd;
use crate::bench::contender::{Contender, Replicating};
use crate::bench::step::{Cost, measure, piped, size_mib};
use crate::machines::Machine;

/// A repository, and where it is replicated another one behind an ssh server.
pub(crate) struct Bupstash {
    program: PathBuf,
    folder: PathBuf,
    ssh: Option<Sshd>,
    cold: bool,
}

impl Bupstash {
    /// An empty repository.
    pub(crate) fn start(program: PathBuf, folder: &Path, cold: bool) -> Result<Self> {
        fs::create_dir_all(folder)?;
        done(Command::new(&program).arg("init").arg("-r").arg(folder.join("repository")))?;
        done(Command::new(&program).arg("new-key").arg("-o").arg(folder.join("key")))?;
        Ok(Self { program, folder: folder.to_owned(), ssh: None, cold })
    }

    /// Two empty repositories.
    pub(crate) fn start_pair(program: PathBuf, folder: &Path, cold: bool) -> Result<Self> {
        let mut bupstash = Self::start(program, folder, cold)?;
        done(Command::new(&bupstash.program).arg("init").arg("-r").arg(folder.join("there")))?;
        bupstash.ssh = Some(Sshd::start(folder, &bupstash.program)?);
        Ok(bupstash)
    }

    fn command(
        &self,
        verb: &[&str],
        repository: &str,
        from: Option<&Path>,
        to: Option<&Path>,
    ) -> Result<Command> {
        let mut command = piped(&self.program, from, to)?;
        command.args(verb).arg("-r").arg(self.folder.join(repository));
        command.env("BUPSTASH_KEY", self.folder.join("key"));
        // The caller's own caches are left alone.
        command.env("HOME", &self.folder).env("XDG_CACHE_HOME", self.folder.join("cache"));
        Ok(command)
    }

    fn write(
        &self,
        repository: &str,
        machine: &Machine,
        version: usize,
        to: &Path,
    ) -> Result<(Cost, PathBuf)> {
        let mut get = self.command(&["get", "-q"], repository, None, Some(to))?;
        get.arg(format!("name={}-{version}", machine.name));
        Ok((measure(&mut get, &[], self.cold)?, to.to_owned()))
    }
}

impl Contender for Bupstash {
    fn name(&self) -> &'static str {
        "bupstash"
    }

    fn put(&mut self, machine: &Machine, version: usize) -> Result<Cost> {
        let image = machine.versions.get(version).context("no such version")?;
        let verb = ["put", "-q", "--no-send-log"];
        let mut put = self.command(&verb, "repository", Some(image), None)?;
        put.args(["--compression", "zstd:3", &format!("name={}-{version}", machine.name), "-"]);
        measure(&mut put, &[], self.cold)
    }

    fn get(&mut self, machine: &Machine, version: usize, to: &Path) -> Result<(Cost, PathBuf)> {
        self.write("repository", machine, version, to)
    }

    fn repository_mib(&self) -> Result<u64> {
        size_mib(&self.folder.join("repository"))
    }
}

impl Replicating for Bupstash {
    fn replicate(&mut self, machine: &Machine, version: usize) -> Result<Cost> {
        let ssh = self.ssh.as_ref().context("there is no ssh server")?;
        let mut sync = self.command(&["sync", "-q"], "repository", None, None)?;
        sync.env("PATH", ssh.search_path());
        sync.arg("--to").arg(format!("ssh://127.0.0.1{}", self.folder.join("there").display()));
        sync.arg(format!("name={}-{version}", machine.name));
        measure(&mut sync, &[ssh.pid()], self.cold)
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
