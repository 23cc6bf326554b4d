//! casync: a store of chunks and an index for each version; the second place gets the chunks, which
//! never change, by rsync over ssh.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::ssh::Sshd;
use crate::bench::contender::{Contender, Replicating};
use crate::bench::step::{Cost, measure, size_mib};
use crate::machines::Machine;
use crate::tools;

/// A store, and another one behind an ssh server.
pub(crate) struct Casync {
    program: PathBuf,
    folder: PathBuf,
    ssh: Sshd,
    cold: bool,
}

impl Casync {
    /// Two empty stores.
    pub(crate) fn start_pair(program: PathBuf, folder: &Path, cold: bool) -> Result<Self> {
        tools::install(&["rsync"])?;
        for store in ["repository.castr", "there.castr"] {
            fs::create_dir_all(folder.join(store))?;
        }
        let ssh = Sshd::start(folder, &program)?;
        Ok(Self { program, folder: folder.to_owned(), ssh, cold })
    }

    fn command(&self, verb: &str, store: &str, machine: &Machine, version: usize) -> Command {
        let mut command = Command::new(&self.program);
        command.args([verb, "--what=blob-index"]).env("HOME", &self.folder);
        command.arg(format!("--store={}", self.folder.join(store).display()));
        command.arg(self.folder.join(format!("{}-{version}.caibx", machine.name)));
        quiet(&mut command);
        command
    }

    fn extract(
        &self,
        store: &str,
        machine: &Machine,
        version: usize,
        to: &Path,
    ) -> Result<(Cost, PathBuf)> {
        let mut extract = self.command("extract", store, machine, version);
        Ok((measure(extract.arg(to), &[], self.cold)?, to.to_owned()))
    }
}

fn quiet(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
}

impl Contender for Casync {
    fn name(&self) -> &'static str {
        "casync"
    }

    fn put(&mut self, machine: &Machine, version: usize) -> Result<Cost> {
        let image = machine.versions.get(version).context("no such version")?;
        let mut make = self.command("make", "repository.castr", machine, version);
        measure(make.arg("--compression=zstd").arg(image), &[], self.cold)
    }

    fn get(&mut self, machine: &Machine, version: usize, to: &Path) -> Result<(Cost, PathBuf)> {
        self.extract("repository.castr", machine, version, to)
    }

    fn repository_mib(&self) -> Result<u64> {
        size_mib(&self.folder.join("repository.castr"))
    }
}

impl Replicating for Casync {
    fn replicate(&mut self, _: &Machine, _: usize) -> Result<Cost> {
        let mut rsync = Command::new("rsync");
        rsync.args(["-a", "--ignore-existing", "-e", "ssh"]).env("PATH", self.ssh.search_path());
        rsync.arg(format!("{}/", self.folder.join("repository.castr").display()));
        rsync.arg(format!("127.0.0.1:{}/", self.folder.join("there.castr").display()));
        quiet(&mut rsync);
        measure(&mut rsync, &[self.ssh.pid()], self.cold)
    }

    fn get_there(
        &mut self,
        machine: &Machine,
        version: usize,
        to: &Path,
    ) -> Result<(Cost, PathBuf)> {
        self.extract("there.castr", machine, version, to)
    }

    fn there_mib(&self) -> Result<u64> {
        size_mib(&self.folder.join("there.castr"))
    }
}
