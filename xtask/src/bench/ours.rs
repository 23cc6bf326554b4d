//! Our own programs as contenders: real daemons in directories of their own, called by their
//! command lines.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use super::contender::{Contender, Replicating};
use super::report::OURS;
use super::step::{Cost, measure, size_mib};
use crate::cores::{self, Core};
use crate::machines::Machine;

/// A source, alone or paired with a target.
pub(super) struct Ours {
    folder: PathBuf,
    source: Core,
    target: Option<Core>,
    cold: bool,
    /// What the last protect said that it stored.
    stored_bytes: Option<u64>,
}

impl Ours {
    /// Builds the released programs and starts a source.
    pub(super) fn start(folder: &Path, cold: bool) -> Result<Self> {
        let programs = cores::build()?;
        fs::create_dir_all(folder)?;
        let mut source = Core::source(&programs, folder, "source")?;
        source.serve()?;
        Ok(Self { folder: folder.to_owned(), source, target: None, cold, stored_bytes: None })
    }

    /// The same with a target, paired for these machines.
    pub(super) fn start_pair(folder: &Path, machines: &[Machine], cold: bool) -> Result<Self> {
        let mut ours = Self::start(folder, cold)?;
        let mut target = Core::target(&cores::build()?, folder, "target")?;
        target.serve()?;
        for machine in machines {
            ours.source.attach(machine, 0, &ours.folder)?;
        }
        let names: Vec<&str> = machines.iter().map(|machine| machine.name.as_str()).collect();
        cores::pair(&ours.source, &target, &names)?;
        ours.target = Some(target);
        Ok(ours)
    }

    fn measure(&self, mut command: Command) -> Result<Cost> {
        command.arg("--json").stderr(Stdio::null());
        command.stdout(File::create(self.said())?);
        let target = self.target.as_ref().and_then(Core::pid);
        let servers: Vec<u32> = self.source.pid().into_iter().chain(target).collect();
        measure(&mut command, &servers, self.cold)
    }

    /// The daemons of source and target.
    pub(super) fn daemons(&self) -> Result<[u32; 2]> {
        let target = self.target.as_ref().and_then(Core::pid).context("no target runs")?;
        Ok([self.source.pid().context("no source runs")?, target])
    }

    /// What the last command said.
    fn said(&self) -> PathBuf {
        self.folder.join("said.json")
    }

    fn target(&mut self) -> Result<&mut Core> {
        self.target.as_mut().context("there is no target")
    }
}

fn restore<'a>(machine: &'a Machine, to: &'a Path) -> Result<[&'a str; 5]> {
    let place = to.to_str().context("a path that is not UTF-8")?;
    Ok(["restore", &machine.name, "disk", "--to", place])
}

impl Contender for Ours {
    fn name(&self) -> &'static str {
        OURS
    }

    fn put(&mut self, machine: &Machine, version: usize) -> Result<Cost> {
        self.source.attach(machine, version, &self.folder)?;
        let cost = self.measure(self.source.command(&["protect", &machine.name]))?;
        let said = fs::read_to_string(self.said())?;
        let last: Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
        self.stored_bytes = last["stored_bytes"].as_u64();
        Ok(cost)
    }

    fn get(&mut self, machine: &Machine, _: usize, to: &Path) -> Result<(Cost, PathBuf)> {
        let cost = self.measure(self.source.command(&restore(machine, to)?))?;
        Ok((cost, to.to_owned()))
    }

    fn repository_mib(&self) -> Result<u64> {
        size_mib(&self.source.data().join("store"))
    }

    fn stored_bytes(&self) -> Option<u64> {
        self.stored_bytes
    }
}

impl Replicating for Ours {
    fn replicate(&mut self, machine: &Machine, _: usize) -> Result<Cost> {
        self.measure(self.source.command(&["replicate", &machine.name, "--wait"]))
    }

    fn get_there(&mut self, machine: &Machine, _: usize, to: &Path) -> Result<(Cost, PathBuf)> {
        self.target()?.stop()?;
        let command = [&restore(machine, to)?[..], &["--offline"]].concat();
        let command = self.target()?.command(&command);
        let cost = self.measure(command)?;
        self.target()?.serve()?;
        Ok((cost, to.to_owned()))
    }

    fn there_mib(&self) -> Result<u64> {
        size_mib(&self.target.as_ref().context("there is no target")?.data().join("store"))
    }
}
