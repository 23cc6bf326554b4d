//! `cargo xtask bench replicate`: first replication, next versions, another machine and the way
//! back, ours over mutual TLS on loopback against peers over theirs.

use anyhow::{Context, Result, ensure};

use super::contender::Replicating;
use super::options::Options;
use super::ours::Ours;
use super::peers::{Bupstash, Restic};
use super::report::Report;
use super::step::{clear, is_same};
use crate::machines::Machine;

/// Measures and prints; false when a peer is missing that has to be there.
pub(super) fn run(options: &Options) -> Result<bool> {
    if !options.has_all(&["bupstash", "restic"]) {
        return Ok(false);
    }
    let machines = options.common.machines()?;
    let mut report = Report::default();
    for run in 1..=options.common.runs {
        let place = |name: &str| options.common.place(name, run);
        for name in ["offsite", "bupstash", "restic"] {
            clear(&place(name))?;
        }
        let ours = Ours::start_pair(&place("offsite"), &machines, options.common.cold)?;
        let mut all: Vec<Box<dyn Replicating>> = vec![Box::new(ours)];
        if let Some(program) = options.peer("bupstash") {
            all.push(Box::new(Bupstash::start_pair(
                program,
                &place("bupstash"),
                options.common.cold,
            )?));
        }
        if let Some(program) = options.peer("restic") {
            all.push(Box::new(Restic::start_pair(program, &place("restic"), options.common.cold)?));
        }
        for machine in &machines {
            one_machine(machine, &mut all, run, options, &mut report)?;
        }
        drop(all);
        for name in ["offsite", "bupstash", "restic"] {
            clear(&place(name))?;
        }
    }
    report.print("replicate", options.common.cold, &machines)?;
    Ok(true)
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
