//! bupstash and rustic as contenders, called as their users call them for a disk image.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::contender::Contender;
use super::images::Machine;
use super::step::{Cost, measure, piped, size_mib};

/// A program in this folder, or in the search path.
pub(super) fn find(name: &str, folder: Option<&Path>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = match folder {
        Some(folder) => vec![folder.to_owned()],
        None => std::env::split_paths(&path).collect(),
    };
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn done(command: &mut Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

pub(super) struct Bupstash {
    program: PathBuf,
    folder: PathBuf,
    cold: bool,
}

impl Bupstash {
    pub(super) fn start(program: PathBuf, folder: &Path, cold: bool) -> Result<Self> {
        fs::create_dir_all(folder)?;
        done(Command::new(&program).arg("init").arg("-r").arg(folder.join("repository")))?;
        done(Command::new(&program).arg("new-key").arg("-o").arg(folder.join("key")))?;
        Ok(Self { program, folder: folder.to_owned(), cold })
    }

    fn command(&self, verb: &[&str], from: Option<&Path>, to: Option<&Path>) -> Result<Command> {
        let mut command = piped(&self.program, from, to)?;
        command.args(verb).arg("-r").arg(self.folder.join("repository"));
        command.env("BUPSTASH_KEY", self.folder.join("key"));
        Ok(command)
    }
}

impl Contender for Bupstash {
    fn name(&self) -> &'static str {
        "bupstash"
    }

    fn put(&mut self, machine: &Machine, version: usize) -> Result<Cost> {
        let image = machine.versions.get(version).context("no such version")?;
        let mut put = self.command(&["put", "-q", "--no-send-log"], Some(image), None)?;
        put.args(["--compression", "zstd:3", &format!("name={}-{version}", machine.name), "-"]);
        measure(&mut put, None, self.cold)
    }

    fn get(&mut self, machine: &Machine, version: usize, to: &Path) -> Result<(Cost, PathBuf)> {
        let mut get = self.command(&["get", "-q"], None, Some(to))?;
        get.arg(format!("name={}-{version}", machine.name));
        Ok((measure(&mut get, None, self.cold)?, to.to_owned()))
    }

    fn repository_mib(&self) -> Result<u64> {
        size_mib(&self.folder.join("repository"))
    }
}

pub(super) struct Rustic {
    program: PathBuf,
    folder: PathBuf,
    cold: bool,
}

impl Rustic {
    pub(super) fn start(program: PathBuf, folder: &Path, cold: bool) -> Result<Self> {
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
        measure(&mut backup, None, self.cold)
    }

    fn get(&mut self, machine: &Machine, _: usize, to: &Path) -> Result<(Cost, PathBuf)> {
        let mut folder: OsString = to.into();
        folder.push(".folder");
        let folder = PathBuf::from(folder);
        let mut restore = self.command(None)?;
        restore.args(["restore", "--filter-host", &machine.name, "latest"]).arg(&folder);
        Ok((measure(&mut restore, None, self.cold)?, folder.join(Self::file(machine))))
    }

    fn repository_mib(&self) -> Result<u64> {
        size_mib(&self.folder.join("repository"))
    }
}
