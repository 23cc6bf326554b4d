//! borg 1: `create`, and for the second place another `create` over ssh, since it has no transfer
//! between repositories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::done;
use super::ssh::Sshd;
use crate::bench::contender::{Contender, Replicating};
use crate::bench::step::{Cost, measure, piped, size_mib};
use crate::machines::Machine;

/// A repository, and another one behind an ssh server.
pub(crate) struct Borg {
    program: PathBuf,
    folder: PathBuf,
    ssh: Sshd,
    cold: bool,
}

impl Borg {
    /// Two empty repositories.
    pub(crate) fn start_pair(program: PathBuf, folder: &Path, cold: bool) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let ssh = Sshd::start(folder, &program)?;
        let borg = Self { program, folder: folder.to_owned(), ssh, cold };
        for place in [borg.here(), borg.there()] {
            let mut init = borg.command(None, None)?;
            done(init.args(["init", "--encryption", "repokey-blake2", &place]))?;
        }
        Ok(borg)
    }

    fn here(&self) -> String {
        self.folder.join("repository").display().to_string()
    }

    fn there(&self) -> String {
        format!("ssh://127.0.0.1{}", self.folder.join("there").display())
    }

    fn command(&self, from: Option<&Path>, to: Option<&Path>) -> Result<Command> {
        let mut command = piped(&self.program, from, to)?;
        // The caller's own caches and keys are left alone.
        command.env("HOME", &self.folder).env("BORG_BASE_DIR", &self.folder);
        command.env("BORG_PASSPHRASE", "x").env("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes");
        command.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
        command.env("PATH", self.ssh.search_path()).env("BORG_REMOTE_PATH", &self.program);
        Ok(command)
    }

    fn create(&self, place: &str, machine: &Machine, version: usize) -> Result<Cost> {
        let image = machine.versions.get(version).context("no such version")?;
        let mut create = self.command(Some(image), None)?;
        create.args(["create", "--compression", "zstd,3"]);
        create.arg(format!("{place}::{}-{version}", machine.name)).arg("-");
        measure(&mut create, &[self.ssh.pid()], self.cold)
    }

    fn extract(
        &self,
        place: &Path,
        machine: &Machine,
        version: usize,
        to: &Path,
    ) -> Result<(Cost, PathBuf)> {
        let mut extract = self.command(None, Some(to))?;
        extract.args(["extract", "--stdout"]);
        extract.arg(format!("{}::{}-{version}", place.display(), machine.name));
        Ok((measure(&mut extract, &[], self.cold)?, to.to_owned()))
    }
}

impl Contender for Borg {
    fn name(&self) -> &'static str {
        "borg"
    }

    fn put(&mut self, machine: &Machine, version: usize) -> Result<Cost> {
        self.create(&self.here(), machine, version)
    }

    fn get(&mut self, machine: &Machine, version: usize, to: &Path) -> Result<(Cost, PathBuf)> {
        self.extract(&self.folder.join("repository"), machine, version, to)
    }

    fn repository_mib(&self) -> Result<u64> {
        size_mib(&self.folder.join("repository"))
    }
}

impl Replicating for Borg {
    fn replicate(&mut self, machine: &Machine, version: usize) -> Result<Cost> {
        self.create(&self.there(), machine, version)
    }

    fn get_there(
        &mut self,
        machine: &Machine,
        version: usize,
        to: &Path,
    ) -> Result<(Cost, PathBuf)> {
        self.extract(&self.folder.join("there"), machine, version, to)
    }

    fn there_mib(&self) -> Result<u64> {
        size_mib(&self.folder.join("there"))
    }
}
