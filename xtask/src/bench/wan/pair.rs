//! A source and a target at the two ends of a link, and copies of them: every measurement begins
//! with the same state.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::bench::step::{Cost, clear, measure};
use crate::cores::{self, Core};
use crate::link::{Conditions, Link};
use crate::machines::Machine;

/// The target's port; its namespace has no other.
const PORT: u16 = 8443;

pub(super) struct Pair {
    folder: PathBuf,
    source: Core,
    target: Core,
}

impl Pair {
    /// Pairs and replicates all versions but the newest, over a link without any faults; the newest
    /// is kept at the source. The daemons do not run afterwards.
    pub(super) fn make(
        programs: &Path,
        folder: &Path,
        machines: &[Machine],
        congestion: &str,
    ) -> Result<Self> {
        let link = Link::up(Conditions::default())?;
        let folder = folder.join("begun");
        fs::create_dir_all(&folder)?;
        let inside = link.source().inside();
        let source = Core::source_through(&inside, programs, &folder, "source")?;
        source.configure("[replication]", &format!("tcp_congestion = {congestion:?}"))?;
        let listen = format!("{}:{PORT}", Link::TARGET);
        let inside = link.target().inside();
        let target = Core::target_through(&inside, &listen, programs, &folder, "target")?;
        let mut pair = Self { folder, source, target };
        pair.serve()?;
        for machine in machines {
            pair.source.attach(machine, 0, &pair.folder)?;
        }
        let names: Vec<&str> = machines.iter().map(|machine| machine.name.as_str()).collect();
        cores::pair(&pair.source, &pair.target, &names)?;
        for machine in machines {
            for version in 0..machine.versions.len() {
                if version > 0 {
                    pair.source.json(&["replicate", &machine.name, "--wait"])?;
                }
                pair.source.attach(machine, version, &pair.folder)?;
                pair.source.json(&["protect", &machine.name])?;
            }
        }
        pair.stop()?;
        Ok(pair)
    }

    /// A copy whose daemons run at the ends of a link.
    pub(super) fn copy(&self, link: &Link) -> Result<Self> {
        let folder = self.folder.with_file_name("now");
        clear(&folder)?;
        fs::create_dir_all(&folder)?;
        let source = self.source.copy(&link.source().inside(), &folder.join("source"))?;
        let target = self.target.copy(&link.target().inside(), &folder.join("target"))?;
        let mut pair = Self { folder, source, target };
        pair.serve()?;
        Ok(pair)
    }

    fn serve(&mut self) -> Result<()> {
        self.target.serve()?;
        self.source.serve()
    }

    /// Ends both daemons.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.source.stop()?;
        self.target.stop()
    }

    /// From the command until it ends.
    pub(super) fn replicate(&self, machine: &Machine, cold: bool) -> Result<Cost> {
        let mut command = self.source.command(&["replicate", &machine.name, "--wait", "--json"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let servers: Vec<u32> = self.source.pid().into_iter().chain(self.target.pid()).collect();
        measure(&mut command, &servers, cold)
    }

    /// Writes what the target holds, while its daemon does not run; the image it has to be.
    pub(super) fn restore(&self, machine: &Machine, to: &Path) -> Result<PathBuf> {
        let place = to.to_str().context("a path that is not UTF-8")?;
        let command = ["restore", &machine.name, "disk", "--to", place, "--offline"];
        self.target.json(&command)?;
        machine.versions.last().cloned().context("a machine without versions")
    }

    /// Where the target's records lie.
    pub(super) fn target_store(&self) -> PathBuf {
        self.target.data().join("store")
    }

    /// Removes everything.
    pub(super) fn clear(&self) -> Result<()> {
        clear(&self.folder)
    }
}
