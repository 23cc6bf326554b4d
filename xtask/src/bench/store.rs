//! `cargo xtask bench store`: first protect, next versions, restore and size, ours against peers.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::contender::Contender;
use super::options::Options;
use super::ours::Ours;
use super::peers::{Bupstash, Rustic};
use super::report::Report;
use super::step::{clear, is_same};
use crate::machines::Machine;

/// Measures and prints; false when a peer is missing that has to be there.
pub(super) fn run(options: &Options) -> Result<bool> {
    if !options.has_all(&["bupstash", "rustic"]) {
        return Ok(false);
    }
    let machines = options.common.machines()?;
    let mut report = Report::default();
    for run in 1..=options.common.runs {
        let place = |name: &str| options.common.place(name, run);
        for name in ["offsite", "bupstash", "rustic"] {
            clear(&place(name))?;
        }
        let mut all: Vec<Box<dyn Contender>> =
            vec![Box::new(Ours::start(&place("offsite"), options.common.cold)?)];
        if let Some(program) = options.peer("bupstash") {
            all.push(Box::new(Bupstash::start(program, &place("bupstash"), options.common.cold)?));
        }
        if let Some(program) = options.peer("rustic") {
            all.push(Box::new(Rustic::start(program, &place("rustic"), options.common.cold)?));
        }
        for machine in &machines {
            one_machine(machine, &mut all, run, options, &mut report)?;
        }
        drop(all);
        for name in ["offsite", "bupstash", "rustic"] {
            clear(&place(name))?;
        }
    }
    report.print("store", options.common.cold, &machines)?;
    Ok(true)
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
