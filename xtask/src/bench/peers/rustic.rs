//! rustic with a local repository.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::done;
use crate::bench::contender::Contender;
use crate::bench::step::{Cost, measure, piped, size_mib};
use crate::machines::Machine;

/// A repository.
pub(crate) struct Rustic {
    program: PathBuf,
    folder: PathBuf,
    cold: bool,
}

impl Rustic {
    /// An empty repository.
    pub(crate) fn start(program: PathBuf, folder: &Path, cold: bool) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let repository = folder.join("repository");
        let profile = format!(
            "[repository]\nrepository = \"{}\"\npassword = \"x\"\nno-cache = true\n",
            repository.display()
        );
        fs::write(folder.join("bench.toml"), profile)?;
        let rustic = Self { program, folder: folder.to_owned(), cold };
        done(rustic.command(None)?.arg("init"))?;
        Ok(rustic)
    }

    fn command(&self, from: Option<&Path>) -> Result<Command> {
        let mut command = piped(&self.program, from, None)?;
        command.args(["-P", "bench"]).current_dir(&self.folder);
        Ok(command)
    }

    fn file(machine: &Machine) -> String {
        format!("volume-{}", machine.name)
    }
}

impl Contender for Rustic {
    fn name(&self) -> &'static str {
        "rustic"
    }

    fn put(&mut self, machine: &Machine, version: usize) -> Result<Cost> {
        let image = machine.versions.get(version).context("no such version")?;
        let mut backup = self.command(Some(image))?;
        // Without `--force` a stream is taken as unchanged and not backed up.
        let file = Self::file(machine);
        backup.args(["--log-level", "error", "backup", "--force", "--stdin-filename", &file]);
        backup.args(["--host", &machine.name, "-"]);
        measure(&mut backup, &[], self.cold)
    }

    fn get(&mut self, machine: &Machine, _: usize, to: &Path) -> Result<(Cost, PathBuf)> {
        let mut folder: OsString = to.into();
        folder.push(".folder");
        let folder = PathBuf::from(folder);
        let mut restore = self.command(None)?;
        restore.args(["restore", "--filter-host", &machine.name, "latest"]).arg(&folder);
        Ok((measure(&mut restore, &[], self.cold)?, folder.join(Self::file(machine))))
    }

    fn repository_mib(&self) -> Result<u64> {
        size_mib(&self.folder.join("repository"))
    }
}
