//! `cargo xtask bench compare`: everything a machine's image goes through, ours against all peers
//! and against the floors, and what comes of it as a table and a plot on the page of benchmarks.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::barriers;
use super::bars::{Wires, judge};
use super::contender::Replicating;
use super::floor::{FLOOR, Floor, PROGRAMS};
use super::options::{Common, Options, Size};
use super::ours::Ours;
use super::page;
use super::peers::{Borg, Bupstash, Casync, Restic, Rustic};
use super::report::{OURS, Report};
use super::step::{clear, is_same};
use crate::cargo::root;
use crate::machines::Machine;
use crate::tools;

/// Whom we are compared with.
const PEERS: &[&str] = &["bupstash", "restic", "rustic", "borg", "casync"];

/// What the comparison is told.
#[derive(Args)]
pub(crate) struct Compare {
    #[command(flatten)]
    options: Options,
    /// The page whose part between `compare: begin` and `compare: end` is written anew
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
}

/// Measures, prints and writes; false when a peer is missing that has to be there.
pub(super) fn run(compare: &Compare) -> Result<bool> {
    let options = &compare.options;
    let common = &options.common;
    let is_full = common.size == Size::Full;
    if is_full {
        tools::install(&[PROGRAMS, &["borg", "casync", "restic", "rsync"]].concat())?;
    }
    let peers = options.wished(PEERS)?;
    if !options.has_all(&peers) {
        return Ok(false);
    }
    let machines = common.machines()?;
    check_room(common, &machines, peers.len() + 1)?;
    let (mut report, mut wires) = (Report::default(), Wires::default());
    for run in 1..=common.runs {
        let mut round = Round::start(options, &peers, &machines, run)?;
        for machine in &machines {
            round.measure(machine, options, &mut report, &mut wires)?;
        }
        round.end(options, &peers)?;
    }
    for fact in barriers::count(common, &machines)? {
        report.note_fact(fact);
    }
    let medians = report.medians();
    let bars = judge(&medians, &machines, &wires);
    bars.iter().try_for_each(|bar| {
        report.note_fact(serde_json::to_value(bar)?);
        Ok::<_, anyhow::Error>(())
    })?;
    report.print("compare", common.cold, &machines)?;
    bars.iter().for_each(|bar| eprintln!("{bar}"));
    if is_full {
        let default = root().join("docs/benchmarks.md");
        page::write(compare.page.as_deref().unwrap_or(&default), &medians, &bars, common)?;
    }
    Ok(true)
}

/// Refuses a disk that would be full before the end: each contender keeps what was protected and
/// its replica, together about as many bytes as the first versions have, and one image is restored.
fn check_room(common: &Common, machines: &[Machine], n_contenders: usize) -> Result<()> {
    let bytes_of = |image: &PathBuf| -> Result<u64> {
        Ok(fs::metadata(image).with_context(|| image.display().to_string())?.blocks() * 512)
    };
    let firsts = machines.iter().filter_map(|machine| machine.versions.first());
    let firsts = firsts.map(bytes_of).collect::<Result<Vec<u64>>>()?;
    let largest = firsts.iter().copied().max().unwrap_or_default();
    let needed = firsts.iter().sum::<u64>() * n_contenders as u64 + largest;
    fs::create_dir_all(common.work())?;
    let disk = rustix::fs::statvfs(common.work())?;
    let free = disk.f_bavail * disk.f_frsize;
    ensure!(
        free >= needed,
        "{} has {} MiB free, and the repositories of {n_contenders} programs take about {} MiB; \
         free some, name another disk with --work, or fewer peers with --against",
        common.work().display(),
        free >> 20,
        needed >> 20,
    );
    Ok(())
}

/// One run: all contenders with nothing in them, and the floors.
struct Round {
    run: u32,
    all: Vec<Box<dyn Replicating>>,
    floor: Option<Floor>,
}

impl Round {
    fn start(options: &Options, peers: &[&str], machines: &[Machine], run: u32) -> Result<Self> {
        let cold = options.common.cold;
        let place = |name: &str| {
            let place = options.common.place(name, run);
            clear(&place)?;
            Ok::<_, anyhow::Error>(place)
        };
        let floor = Floor::start(&place(FLOOR)?, cold)?;
        let mut all: Vec<Box<dyn Replicating>> =
            vec![Box::new(Ours::start_pair(&place(OURS)?, machines, cold)?)];
        for name in peers {
            if let Some(program) = options.peer(name) {
                all.push(begin(name, program, &place(name)?, cold)?);
            }
        }
        Ok(Self { run, all, floor })
    }

    fn measure(
        &mut self,
        machine: &Machine,
        options: &Options,
        report: &mut Report,
        wires: &mut Wires,
    ) -> Result<()> {
        let run = self.run;
        let newest = machine.versions.len().saturating_sub(1);
        for version in 0..=newest {
            let step = |verb: &str| format!("{verb} {}-{version}", machine.name);
            if let Some(floor) = &self.floor {
                let cost = match version {
                    0 => floor.compress(machine)?,
                    _ => floor.read(machine, version)?,
                };
                report.note(FLOOR, step("protect"), run, cost, 0);
            }
            for contender in &mut self.all {
                let cost = contender.put(machine, version)?;
                let kept = contender.repository_mib()?;
                report.note(contender.name(), step("protect"), run, cost, kept);
            }
            if let Some(floor) = self.floor.as_ref().filter(|_| version == 0) {
                report.note(FLOOR, step("replicate"), run, floor.pass_on()?, 0);
            }
            for contender in &mut self.all {
                let cost = contender.replicate(machine, version)?;
                if let Some(stored) = contender.stored_bytes() {
                    wires.note(&step("replicate"), cost.wire_mib, stored);
                }
                let kept = contender.there_mib()?;
                report.note(contender.name(), step("replicate"), run, cost, kept);
            }
        }
        let image = machine.versions.get(newest).context("a machine without versions")?;
        for contender in &mut self.all {
            let to = options.common.work().join(format!("restored-{}", contender.name()));
            clear(&to)?;
            let (cost, file) = contender.get_there(machine, newest, &to)?;
            ensure!(is_same(&file, image)?, "{} restored something else", contender.name());
            let step = format!("restore {}-{newest}", machine.name);
            report.note(contender.name(), step, run, cost, contender.there_mib()?);
            clear(&file)?;
        }
        Ok(())
    }

    fn end(self, options: &Options, peers: &[&str]) -> Result<()> {
        let run = self.run;
        drop(self);
        let names = peers.iter().chain(&[OURS, FLOOR]);
        names.map(|name| options.common.place(name, run)).try_for_each(|place| clear(&place))
    }
}

fn begin(name: &str, program: PathBuf, place: &Path, cold: bool) -> Result<Box<dyn Replicating>> {
    Ok(match name {
        "bupstash" => Box::new(Bupstash::start_pair(program, place, cold)?),
        "restic" => Box::new(Restic::start_pair(program, place, cold)?),
        "rustic" => Box::new(Rustic::start_pair(program, place, cold)?),
        "borg" => Box::new(Borg::start_pair(program, place, cold)?),
        _ => Box::new(Casync::start_pair(program, place, cold)?),
    })
}
