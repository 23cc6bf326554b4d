//! `cargo xtask bench replicate`: first replication, next versions, another machine and the way
//! back, ours over mutual TLS on loopback against peers over theirs.

use anyhow::{Context, Result, ensure};

use super::contender::Replicating;
use super::options::Options;
use super::ours::Ours;
use super::peers::{Bupstash, Restic};
use super::report::Report;
use super::rounds::{Start, rounds};
use super::step::{clear, is_same};
use crate::machines::Machine;

/// Measures and prints; false when a peer is missing that has to be there.
pub(super) fn run(options: &Options) -> Result<bool> {
    let measure =
        |machine: &Machine, all: &mut [Box<dyn Replicating>], run, report: &mut Report| {
            one_machine(machine, all, run, options, report)
        };
    rounds("replicate", options, &["bupstash", "restic"], begin, measure)
}

fn begin(start: &Start<'_>) -> Result<Box<dyn Replicating>> {
    let Start { name, program, place, machines, is_cold } = start;
    Ok(match *name {
        "bupstash" => Box::new(Bupstash::start_pair(program.clone(), place, *is_cold)?),
        "restic" => Box::new(Restic::start_pair(program.clone(), place, *is_cold)?),
        _ => Box::new(Ours::start_pair(place, machines, *is_cold)?),
    })
}

fn one_machine(
    machine: &Machine,
    all: &mut [Box<dyn Replicating>],
    run: u32,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let newest = machine.versions.len().saturating_sub(1);
    for version in 0..=newest {
        let word = if version == 0 { "first" } else { "next" };
        for contender in all.iter_mut() {
            // What keeps it here is measured by the other bench.
            contender.put(machine, version)?;
        }
        for contender in all.iter_mut() {
            let cost = contender.replicate(machine, version)?;
            let step = format!("{word} {}-{version}", machine.name);
            report.note(contender.name(), step, run, cost, contender.there_mib()?);
        }
    }
    let image = machine.versions.get(newest).context("a machine without versions")?;
    for contender in all.iter_mut() {
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
