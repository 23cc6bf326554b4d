//! How often each step waits for the disk: calls of `fsync` and its kin, counted by strace in a
//! round of its own, since strace slows what it watches.
//!
//! A disk with a cache of its own makes such calls cheap; a customer's takes ten milliseconds for
//! each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::contender::{Contender, Replicating};
use super::options::Common;
use super::ours::Ours;
use super::step::clear;
use crate::machines::Machine;
use crate::tools;

/// Calls that return when something is on the disk.
const CALLS: &str = "trace=fsync,fdatasync,sync_file_range,syncfs,msync";
/// How long strace may take to hold a process.
const PATIENCE: Duration = Duration::from_secs(10);

/// The barriers of source and target in each step, as facts for the document; nothing without
/// strace.
pub(super) fn count(common: &Common, machines: &[Machine]) -> Result<Vec<Value>> {
    if tools::find("strace").is_none() {
        return Ok(Vec::new());
    }
    let place = common.place("barriers", 0);
    clear(&place)?;
    let mut ours = Ours::start_pair(&place, machines, common.cold)?;
    let mut facts = Vec::new();
    for machine in machines {
        for version in 0..machine.versions.len() {
            for verb in ["protect", "replicate"] {
                let watched = ours.daemons()?.map(|pid| Watch::start(pid, &place));
                match verb {
                    "protect" => ours.put(machine, version)?,
                    _ => ours.replicate(machine, version)?,
                };
                let [source, target] = watched.map(|watch| watch.and_then(Watch::end));
                let step = format!("{verb} {}-{version}", machine.name);
                let (source, target) = (source?, target?);
                eprintln!("{step:16} barriers: {source:4} at the source {target:4} at the target");
                facts.push(
                    json!({ "step": step, "barriers": { "source": source, "target": target } }),
                );
            }
        }
    }
    drop(ours);
    clear(&place)?;
    Ok(facts)
}

/// strace at work on a process.
struct Watch {
    strace: Child,
    file: PathBuf,
}

impl Watch {
    fn start(pid: u32, folder: &Path) -> Result<Self> {
        let file = folder.join(format!("calls-{pid}"));
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", CALLS, "-o"]).arg(&file).args(["-p", &pid.to_string()]);
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let watch = Self { strace: strace.spawn().context("start strace")?, file };
        let begun = Instant::now();
        while !is_traced(pid) {
            ensure!(begun.elapsed() < PATIENCE, "strace may not hold process {pid}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(watch)
    }

    /// Lets the process go; how many calls were made.
    fn end(mut self) -> Result<usize> {
        let told = Command::new("kill").args(["-INT", &self.strace.id().to_string()]).status()?;
        ensure!(told.success(), "strace cannot be told to end");
        self.strace.wait()?;
        let text = fs::read_to_string(&self.file)?;
        // A call that others interrupt stands there twice, the second time as resumed.
        Ok(text.lines().filter(|line| line.contains('(') && !line.contains("resumed>")).count())
    }
}

/// Whether every thread of a process is held.
fn is_traced(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    })
}
