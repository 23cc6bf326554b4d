//! `cargo xtask bench store`: first protect, next versions, restore and size, ours against peers.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::contender::Contender;
use super::images::{Machine, by_machine, small};
use super::options::{Size, Store};
use super::ours::Ours;
use super::peers::{Bupstash, Rustic, find};
use super::step::{Cost, is_same};
use crate::cargo::root;

#[derive(Serialize)]
struct Measured {
    contender: &'static str,
    step: String,
    run: u32,
    #[serde(flatten)]
    cost: Cost,
    repository_mib: u64,
}

#[derive(Serialize)]
struct Document {
    bench: &'static str,
    cold: bool,
    images: Vec<String>,
    contenders: Vec<&'static str>,
    steps: Vec<Measured>,
    /// Durable seconds of ours divided by a peer's, of the same step and run.
    ratios: Vec<Ratio>,
}

#[derive(Serialize)]
struct Ratio {
    step: String,
    peer: &'static str,
    run: u32,
    ratio: f64,
}

/// Measures and prints; false when a peer is missing that has to be there.
pub(super) fn run(options: &Store) -> Result<bool> {
    let work = options.work.clone().unwrap_or_else(|| root().join("target/bench"));
    ensure!(
        options.size == Size::Small || !options.images.is_empty(),
        "name images, or say --size small"
    );
    let found = ["bupstash", "rustic"].map(|name| find(name, options.peers.as_deref()));
    if options.size == Size::Full && found.iter().any(Option::is_none) {
        eprintln!(
            "bupstash and rustic have to be there: install them, or name their folder with --peers"
        );
        return Ok(false);
    }
    fs::create_dir_all(&work)?;
    let images = match options.images.as_slice() {
        [] => small(&work.join("images"))?,
        images => images.to_vec(),
    };
    let machines = by_machine(&images)?;
    let (mut steps, mut contenders) = (Vec::new(), Vec::new());
    for run in 1..=options.runs {
        let place = |name: &str| work.join(format!("{name}-{run}"));
        for name in ["offsite", "bupstash", "rustic"] {
            clear(&place(name))?;
        }
        let mut all: Vec<Box<dyn Contender>> =
            vec![Box::new(Ours::start(&place("offsite"), options.cold)?)];
        let [bupstash, rustic] = found.clone();
        if let Some(program) = bupstash {
            all.push(Box::new(Bupstash::start(program, &place("bupstash"), options.cold)?));
        }
        if let Some(program) = rustic {
            all.push(Box::new(Rustic::start(program, &place("rustic"), options.cold)?));
        }
        contenders = all.iter().map(|contender| contender.name()).collect();
        for machine in &machines {
            measure_machine(machine, &mut all, run, &work, &mut steps)?;
        }
        drop(all);
        for name in ["offsite", "bupstash", "rustic"] {
            clear(&place(name))?;
        }
    }
    let ratios = ratios(&steps);
    let names = machines.iter().flat_map(|machine| &machine.versions);
    let images =
        names.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
    let document =
        Document { bench: "store", cold: options.cold, images, contenders, steps, ratios };
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(true)
}

fn measure_machine(
    machine: &Machine,
    all: &mut [Box<dyn Contender>],
    run: u32,
    work: &Path,
    steps: &mut Vec<Measured>,
) -> Result<()> {
    let newest = machine.versions.len().saturating_sub(1);
    for version in 0..=newest {
        let word = if version == 0 { "first" } else { "next" };
        for contender in all.iter_mut() {
            let cost = contender.put(machine, version)?;
            let step = format!("{word} {}-{version}", machine.name);
            note(contender.as_ref(), step, run, cost, steps)?;
        }
    }
    let image = machine.versions.get(newest).context("a machine without versions")?;
    for contender in all.iter_mut() {
        let to = work.join(format!("restored-{}", contender.name()));
        clear(&to)?;
        let (cost, file) = contender.get(machine, newest, &to)?;
        ensure!(is_same(&file, image)?, "{} restored something else", contender.name());
        note(contender.as_ref(), format!("restore {}-{newest}", machine.name), run, cost, steps)?;
        clear(&file)?;
    }
    Ok(())
}

fn note(
    contender: &dyn Contender,
    step: String,
    run: u32,
    cost: Cost,
    steps: &mut Vec<Measured>,
) -> Result<()> {
    let repository_mib = contender.repository_mib()?;
    let measured = Measured { contender: contender.name(), step, run, cost, repository_mib };
    eprintln!(
        "{:9} {:16} {:7.2} s durable {:7.2} s cpu {:6} MiB peak {:6} MiB kept",
        measured.contender,
        measured.step,
        measured.cost.durable_seconds,
        measured.cost.cpu_seconds,
        measured.cost.peak_mib,
        repository_mib
    );
    steps.push(measured);
    Ok(())
}

fn ratios(steps: &[Measured]) -> Vec<Ratio> {
    let is_ours = |measured: &&Measured| measured.contender == "offsite";
    let pairs = steps.iter().filter(is_ours).flat_map(|ours| {
        let is_pair = move |theirs: &&Measured| {
            theirs.step == ours.step && theirs.run == ours.run && theirs.contender != ours.contender
        };
        steps.iter().filter(is_pair).map(move |theirs| Ratio {
            step: ours.step.clone(),
            peer: theirs.contender,
            run: ours.run,
            ratio: ours.cost.durable_seconds / theirs.cost.durable_seconds,
        })
    });
    pairs.collect()
}

/// Removes a file or a folder of a bench.
fn clear(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
