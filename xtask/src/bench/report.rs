//! What a bench says: a line for each step as it ends, a table of medians, and one JSON document.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use super::step::Cost;
use crate::machines::Machine;

/// Ours, among the contenders.
pub(super) const OURS: &str = "offsite";

#[derive(Serialize)]
struct Measured {
    contender: &'static str,
    step: String,
    run: u32,
    #[serde(flatten)]
    cost: Cost,
    repository_mib: u64,
}

/// Durable seconds of ours divided by a peer's, of the same step and run.
#[derive(Serialize)]
struct Ratio {
    step: String,
    peer: &'static str,
    run: u32,
    ratio: f64,
}

/// A contender's medians of a step over all runs.
#[derive(Serialize)]
pub(super) struct Median {
    pub(super) step: String,
    pub(super) contender: &'static str,
    pub(super) durable_seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) wire_mib: f64,
    /// The largest of all runs.
    pub(super) peak_mib: u64,
    pub(super) repository_mib: u64,
    /// Median of the ratios to ours in the same run; below 1, ours took less time.
    pub(super) ours_to_this: Option<f64>,
}

#[derive(Serialize)]
struct Document<'a> {
    bench: &'static str,
    cold: bool,
    runs: u32,
    images: Vec<String>,
    medians: &'a [Median],
    steps: &'a [Measured],
    ratios: &'a [Ratio],
    /// What else a bench tells of its steps.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    facts: &'a [Value],
}

/// What was measured so far.
#[derive(Default)]
pub(super) struct Report(Vec<Measured>, Vec<Value>);

impl Report {
    /// Notes a step, and shows it.
    pub(super) fn note(
        &mut self,
        contender: &'static str,
        step: String,
        run: u32,
        cost: Cost,
        repository_mib: u64,
    ) {
        eprintln!(
            "{run} {contender:9} {step:16} {:7.2} s durable {:7.2} s cpu {:8.1} MiB wire \
             {:6} MiB peak {:6} MiB kept",
            cost.durable_seconds, cost.cpu_seconds, cost.wire_mib, cost.peak_mib, repository_mib
        );
        self.0.push(Measured { contender, step, run, cost, repository_mib });
    }

    /// Notes what stands in the document and not in the table.
    pub(super) fn note_fact(&mut self, fact: Value) {
        self.1.push(fact);
    }

    /// Prints the table to standard error and the document to standard output.
    pub(super) fn print(
        &self,
        bench: &'static str,
        cold: bool,
        machines: &[Machine],
    ) -> Result<()> {
        let medians = self.medians();
        show(&medians);
        let images = machines.iter().flat_map(|machine| &machine.versions);
        let name = |path: &std::path::PathBuf| {
            let path: &Path = path;
            Some(path.file_name()?.to_string_lossy().into_owned())
        };
        let document = Document {
            bench,
            cold,
            runs: self.0.iter().map(|step| step.run).max().unwrap_or(0),
            images: images.filter_map(name).collect(),
            medians: &medians,
            steps: &self.0,
            ratios: &self.ratios(),
            facts: &self.1,
        };
        println!("{}", serde_json::to_string_pretty(&document)?);
        Ok(())
    }

    fn ratios(&self) -> Vec<Ratio> {
        let ours = self.0.iter().filter(|step| step.contender == OURS);
        let pairs = ours.flat_map(|ours| {
            let is_pair = move |theirs: &&Measured| {
                theirs.step == ours.step && theirs.run == ours.run && theirs.contender != OURS
            };
            self.0.iter().filter(is_pair).map(move |theirs| Ratio {
                step: ours.step.clone(),
                peer: theirs.contender,
                run: ours.run,
                ratio: ours.cost.durable_seconds / theirs.cost.durable_seconds,
            })
        });
        pairs.collect()
    }

    /// Medians over all runs, in the order in which the steps were first measured.
    pub(super) fn medians(&self) -> Vec<Median> {
        let ratios = self.ratios();
        let mut seen = BTreeSet::new();
        let firsts = self.0.iter().filter(|step| seen.insert((&step.step, step.contender)));
        let medians = firsts.map(|first| {
            let of = |value: fn(&Measured) -> f64| {
                let same =
                    |step: &&Measured| step.step == first.step && step.contender == first.contender;
                median(self.0.iter().filter(same).map(value).collect()).unwrap_or(0.0)
            };
            let largest = self
                .0
                .iter()
                .filter(|step| step.step == first.step && step.contender == first.contender);
            let pairs =
                ratios.iter().filter(|one| one.step == first.step && one.peer == first.contender);
            Median {
                step: first.step.clone(),
                contender: first.contender,
                durable_seconds: of(|step| step.cost.durable_seconds),
                cpu_seconds: of(|step| step.cost.cpu_seconds),
                wire_mib: of(|step| step.cost.wire_mib),
                peak_mib: largest.map(|step| step.cost.peak_mib).max().unwrap_or(0),
                repository_mib: of(|step| step.repository_mib as f64) as u64,
                ours_to_this: median(pairs.map(|one| one.ratio).collect()),
            }
        });
        medians.collect()
    }
}

/// The middle one; of an even number the upper of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn show(medians: &[Median]) {
    eprintln!("\n{}", table(medians));
}

/// Medians as a table of a page.
pub(super) fn table(medians: &[Median]) -> String {
    let mut text = String::from(
        "| step | program | s, durable | s of CPU | MiB wire | MiB peak | MiB kept | ours/this |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for one in medians {
        let ratio = one.ours_to_this.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let row = format!(
            "| {} | {} | {:.2} | {:.2} | {:.1} | {} | {} | {ratio} |\n",
            one.step,
            one.contender,
            one.durable_seconds,
            one.cpu_seconds,
            one.wire_mib,
            one.peak_mib,
            one.repository_mib
        );
        text.push_str(&row);
    }
    text
}
