//! `cargo xtask ci`: everything that CI runs, as one ordered list with a ledger of seconds.
//!
//! A step that fails does not stop the ones after it, so that one run tells all. A tool that is not
//! installed is named in the ledger as skipped; what must hold everywhere is checked by `tidy`
//! itself.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::cargo::{cargo, root};
use crate::demo::{self, Demo};
use crate::link;
use crate::test::{self, Tally};
use crate::tidy;
use crate::tools;

/// What the whole run may take on two cores (reliability requirements, section 0).
const BUDGET_SECS: u64 = 40 * 60;

enum Outcome {
    Passed,
    Failed,
    Skipped(&'static str),
}

struct Step {
    name: &'static str,
    /// The share of the budget that this step should keep to; going over it is told, not punished.
    budget_secs: u64,
    run: fn(&mut Tally) -> Result<Outcome>,
}

const STEPS: &[Step] = &[
    Step {
        name: "tools",
        budget_secs: 30,
        run: |_| tools::install(tools::OF_TESTS).map(|()| Outcome::Passed),
    },
    Step { name: "fmt", budget_secs: 15, run: |_| fmt() },
    Step { name: "tidy", budget_secs: 15, run: |_| tidy::run().map(outcome) },
    Step { name: "clippy", budget_secs: 300, run: |_| clippy() },
    Step { name: "build", budget_secs: 240, run: |_| build() },
    Step { name: "test", budget_secs: 900, run: run_tests },
    Step { name: "demo", budget_secs: 420, run: |_| demo() },
    Step { name: "bench", budget_secs: 180, run: |_| benches() },
    Step { name: "wan", budget_secs: 30, run: |_| wan() },
    Step { name: "doc", budget_secs: 60, run: |_| doc() },
    Step { name: "examples", budget_secs: 180, run: |_| examples() },
    Step { name: "deny", budget_secs: 30, run: |_| deny() },
];

/// Runs every step, prints the ledger, and ends with the line that counts the tests.
pub(crate) fn run() -> Result<bool> {
    let begun = Instant::now();
    let mut tally = Tally::default();
    let mut ledger = Vec::new();
    let mut is_good = true;
    for step in STEPS {
        println!("── {}", step.name);
        let step_begun = Instant::now();
        let outcome = (step.run)(&mut tally).unwrap_or_else(|error| {
            eprintln!("{}: {error:#}", step.name);
            Outcome::Failed
        });
        let secs = step_begun.elapsed().as_secs();
        let word = match outcome {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Failed => "FAILED".to_owned(),
            Outcome::Skipped(why) => format!("skipped: {why}"),
        };
        is_good &= !matches!(outcome, Outcome::Failed);
        ledger.push(ledger_line(step.name, secs, step.budget_secs, &word));
    }
    println!("\n{:10} {:>7} {:>7}  outcome", "step", "seconds", "budget");
    ledger.iter().for_each(|line| println!("{line}"));
    let secs = begun.elapsed().as_secs();
    let word = if is_good { "passed" } else { "FAILED" };
    println!("{}", ledger_line("all", secs, BUDGET_SECS, word));
    if tally == Tally::default() {
        println!("no test ran");
    }
    println!("{tally}");
    Ok(is_good)
}

fn ledger_line(name: &str, secs: u64, budget_secs: u64, word: &str) -> String {
    let over = if secs > budget_secs { ", over budget" } else { "" };
    format!("{name:10} {secs:>7} {budget_secs:>7}  {word}{over}")
}

fn outcome(is_good: bool) -> Outcome {
    if is_good { Outcome::Passed } else { Outcome::Failed }
}

fn succeeds(command: &mut Command) -> Result<Outcome> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    Ok(outcome(status.success()))
}

fn is_installed(subcommand: &str) -> bool {
    let mut probe = cargo();
    probe.args([subcommand, "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

fn fmt() -> Result<Outcome> {
    if !is_installed("fmt") {
        return Ok(Outcome::Skipped("rustfmt is not installed"));
    }
    succeeds(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<Outcome> {
    if !is_installed("clippy") {
        return Ok(Outcome::Skipped("clippy is not installed"));
    }
    let mut command = cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--locked", "--quiet"]);
    succeeds(command.args(["--", "-D", "warnings"]))
}

fn build() -> Result<Outcome> {
    // Before the tests, since some of them start the programs.
    succeeds(cargo().args(["build", "--workspace", "--locked"]))
}

fn run_tests(tally: &mut Tally) -> Result<Outcome> {
    let (is_good, counted) = test::counted(&[])?;
    *tally = counted;
    Ok(outcome(is_good))
}

/// The README's first command, which builds the programs as they are released.
fn demo() -> Result<Outcome> {
    demo::run(&Demo::default()).map(outcome)
}

/// Every bench at its small size: that it works, not how fast.
fn benches() -> Result<Outcome> {
    for name in ["compare", "gc", "index", "replicate", "store"] {
        if matches!(small_bench(name)?, Outcome::Failed) {
            return Ok(Outcome::Failed);
        }
    }
    Ok(Outcome::Passed)
}

fn small_bench(name: &str) -> Result<Outcome> {
    succeeds(cargo().args(["xtask", "bench", name, "--size", "small"]).stdout(Stdio::null()))
}

/// Replication over a link that loses, doubles, delays and damages packets, with real daemons.
fn wan() -> Result<Outcome> {
    link::obstacle().map_or_else(|| small_bench("wan"), |why| Ok(Outcome::Skipped(why)))
}

fn doc() -> Result<Outcome> {
    let mut command = cargo();
    command.env("RUSTDOCFLAGS", "-D warnings");
    succeeds(command.args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"]))
}

/// Clients outside the workspace, which must build from what we publish alone.
fn examples() -> Result<Outcome> {
    let Ok(entries) = fs::read_dir(root().join("examples")) else {
        return Ok(Outcome::Skipped("there is no examples folder"));
    };
    let mut n_examples = 0;
    for entry in entries {
        let manifest = entry.context("cannot list the examples")?.path().join("Cargo.toml");
        if !manifest.is_file() {
            continue;
        }
        n_examples += 1;
        let mut command = cargo();
        command.args(["test", "--locked", "--manifest-path"]).arg(&manifest);
        command.arg("--target-dir").arg(root().join("target").join("examples-outside"));
        if matches!(succeeds(&mut command)?, Outcome::Failed) {
            return Ok(Outcome::Failed);
        }
    }
    Ok(if n_examples == 0 {
        Outcome::Skipped("no example has a manifest")
    } else {
        Outcome::Passed
    })
}

fn deny() -> Result<Outcome> {
    if !is_installed("deny") {
        // Layers, licences, sources and floors are checked by tidy; advisories need the tool's
        // database.
        return Ok(Outcome::Skipped("cargo-deny is not installed; advisories were not checked"));
    }
    succeeds(cargo().args(["deny", "--offline", "check", "bans", "licenses", "sources"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_fit_into_the_budget() {
        assert!(STEPS.iter().map(|step| step.budget_secs).sum::<u64>() <= BUDGET_SECS);
    }

    #[test]
    fn the_ledger_tells_who_took_too_long() {
        assert_eq!(ledger_line("fmt", 3, 30, "passed"), "fmt              3      30  passed");
        assert!(ledger_line("fmt", 31, 30, "passed").ends_with("passed, over budget"));
    }
}
