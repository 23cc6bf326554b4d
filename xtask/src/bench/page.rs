//! The part of the page of benchmarks that a comparison writes: bars, plot and table.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::bars::Bar;
use super::options::Common;
use super::report::{Median, table};

const BEGIN: &str = "<!-- compare: begin -->";
const END: &str = "<!-- compare: end -->";

/// Width of the longest line of a plot, in characters.
const PLOT_WIDTH: f64 = 60.0;

/// Writes that part anew and leaves the rest of the page as it is.
pub(super) fn write(path: &Path, medians: &[Median], bars: &[Bar], common: &Common) -> Result<()> {
    let page = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let name = path.display();
    let (before, rest) =
        page.split_once(BEGIN).with_context(|| format!("no line {BEGIN} in {name}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line {END} in {name}"))?;
    let part = part(medians, bars, &common.shown("compare"));
    fs::write(path, format!("{before}{BEGIN}\n{part}{END}{after}"))?;
    Ok(())
}

fn part(medians: &[Median], bars: &[Bar], command: &str) -> String {
    let mut text =
        format!("\n`{command}`, medians:\n\n| bar | at most | measured | |\n|---|---|---|---|\n");
    for bar in bars {
        let word = if bar.is_met { "met" } else { "**missed**" };
        let Bar { bar, at_most, measured, .. } = bar;
        text.push_str(&format!("| {bar} | {at_most} | {measured:.2} | {word} |\n"));
    }
    text.push_str("\n```text\n");
    text.push_str(&plot(medians));
    text.push_str("```\n\n");
    text.push_str(&table(medians));
    text.push('\n');
    text
}

/// Durable seconds as bars, each step on a scale of its own.
fn plot(medians: &[Median]) -> String {
    let mut text = String::new();
    let mut shown = "";
    for first in medians {
        if first.step == shown {
            continue;
        }
        shown = &first.step;
        let same = || medians.iter().filter(|one| one.step == first.step);
        let longest = same().map(|one| one.durable_seconds).fold(0.0, f64::max);
        text.push_str(&format!("{shown}\n"));
        for one in same() {
            let n = (one.durable_seconds / longest * PLOT_WIDTH).ceil() as usize;
            let (name, seconds) = (one.contender, one.durable_seconds);
            text.push_str(&format!("  {name:9} {} {seconds:.2} s\n", "█".repeat(n)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median(step: &str, contender: &'static str, durable_seconds: f64) -> Median {
        Median {
            step: step.to_owned(),
            contender,
            durable_seconds,
            cpu_seconds: 0.0,
            wire_mib: 0.0,
            peak_mib: 0,
            repository_mib: 0,
            ours_to_this: None,
        }
    }

    #[test]
    fn each_step_has_a_scale_of_its_own() {
        let medians =
            [median("a", "ours", 1.0), median("a", "theirs", 2.0), median("b", "ours", 30.0)];
        let lines: Vec<usize> =
            plot(&medians).lines().map(|line| line.matches('█').count()).collect();
        assert_eq!(lines, [0, 30, 60, 0, 60]);
    }
}
