//! `cargo xtask bench store`: first protect, next versions, restore and size, ours against peers.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::contender::Contender;
use super::options::Options;
use super::ours::Ours;
use super::peers::{Bupstash, Rustic};
use super::report::Report;
use super::rounds::{Start, rounds};
use super::step::{clear, is_same};
use crate::machines::Machine;

/// Measures and prints; false when a peer is missing that has to be there.
pub(super) fn run(options: &Options) -> Result<bool> {
    let measure = |machine: &Machine, all: &mut [Box<dyn Contender>], run, report: &mut Report| {
        one_machine(machine, all, run, options, report)
    };
    rounds("store", options, &["bupstash", "rustic"], begin, measure)
}

fn begin(start: &Start<'_>) -> Result<Box<dyn Contender>> {
    let Start { name, program, place, is_cold, .. } = start;
    Ok(match *name {
        "bupstash" => Box::new(Bupstash::start(program.clone(), place, *is_cold)?),
        "rustic" => Box::new(Rustic::start(program.clone(), place, *is_cold)?),
        _ => Box::new(Ours::start(place, *is_cold)?),
    })
}

fn one_machine(
    machine: &Machine,
    all: &mut [Box<dyn Contender>],
    run: u32,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let newest = machine.versions.len().saturating_sub(1);
    for version in 0..=newest {
        let word = if version == 0 { "first" } else { "next" };
        for contender in all.iter_mut() {
            let cost = contender.put(machine, version)?;
            let step = format!("{word} {}-{version}", machine.name);
            report.note(contender.name(), step, run, cost, contender.repository_mib()?);
        }
    }
    let image = machine.versions.get(newest).context("a machine without versions")?;
    for contender in all.iter_mut() {
        let to = options.common.work().join(format!("restored-{}", contender.name()));
        clear(&to)?;
        fs::create_dir_all(options.common.work())?;
        let (cost, file) = contender.get(machine, newest, &to)?;
        ensure!(is_same(&file, image)?, "{} restored something else", contender.name());
        let step = format!("restore {}-{newest}", machine.name);
        report.note(contender.name(), step, run, cost, contender.repository_mib()?);
        clear(&file)?;
    }
    Ok(())
}
