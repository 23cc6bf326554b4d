//! rustic: `backup`, and `copy` to a second repository beside the first, since it knows no client
//! certificates.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::done;
use crate::bench::contender::{Contender, Replicating};
use crate::bench::step::{Cost, measure, piped, size_mib};
use crate::machines::Machine;

/// The profile of the repository.
const HERE: &str = "here";
/// The profile of its copy.
const THERE: &str = "there";

/// A repository, and a second one where it is replicated.
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
        for (profile, place) in [(HERE, &repository), (THERE, &folder.join("there"))] {
            let text = format!(
                "[repository]\nrepository = \"{}\"\npassword = \"x\"\nno-cache = true\n\
                 [copy]\ntargets = [\"{THERE}\"]\n",
                place.display()
            );
            fs::write(folder.join(format!("{profile}.toml")), text)?;
        }
        let rustic = Self { program, folder: folder.to_owned(), cold };
        done(rustic.command(HERE, None)?.arg("init"))?;
        Ok(rustic)
    }

    /// Two empty repositories.
    pub(crate) fn start_pair(program: PathBuf, folder: &Path, cold: bool) -> Result<Self> {
        let rustic = Self::start(program, folder, cold)?;
        // Nothing is there to be copied; what is made is cut as the first is.
        done(rustic.command(HERE, None)?.args(["copy", "--init"]))?;
        Ok(rustic)
    }

    fn command(&self, profile: &str, from: Option<&Path>) -> Result<Command> {
        let mut command = piped(&self.program, from, None)?;
        command.args(["-P", profile]).current_dir(&self.folder);
        Ok(command)
    }

    fn write(&self, profile: &str, machine: &Machine, to: &Path) -> Result<(Cost, PathBuf)> {
        let mut folder: OsString = to.into();
        folder.push(".folder");
        let folder = PathBuf::from(folder);
        let mut restore = self.command(profile, None)?;
        restore.args(["restore", "--filter-host", &machine.name, "latest"]).arg(&folder);
        Ok((measure(&mut restore, &[], self.cold)?, folder.join(Self::file(machine))))
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
        let mut backup = self.command(HERE, Some(image))?;
        // Without `--force` a stream is taken as unchanged and not backed up.
        let file = Self::file(machine);
        backup.args(["--log-level", "error", "backup", "--force", "--stdin-filename", &file]);
        backup.args(["--host", &machine.name, "-"]);
        measure(&mut backup, &[], self.cold)
    }

    fn get(&mut self, machine: &Machine, _: usize, to: &Path) -> Result<(Cost, PathBuf)> {
        self.write(HERE, machine, to)
    }

    fn repository_mib(&self) -> Result<u64> {
        size_mib(&self.folder.join("repository"))
    }
}

impl Replicating for Rustic {
    fn replicate(&mut self, _: &Machine, _: usize) -> Result<Cost> {
        measure(self.command(HERE, None)?.arg("copy"), &[], self.cold)
    }

    fn get_there(&mut self, machine: &Machine, _: usize, to: &Path) -> Result<(Cost, PathBuf)> {
        self.write(THERE, machine, to)
    }

    fn there_mib(&self) -> Result<u64> {
        size_mib(&self.folder.join("there"))
    }
}
