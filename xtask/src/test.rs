//! `cargo xtask test`: `cargo test` over the workspace, and one line that sums it up.
//!
//! Always `cargo test`, also where another runner is installed: a test that passes in a process of
//! its own and fails beside others should fail the same way for everybody.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::cargo::cargo;

/// What all test programs of a run said together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Tally {
    /// Adds the summary of one test program; other lines count nothing.
    fn add(&mut self, line: &str) {
        let Some(summary) = line.strip_prefix("test result: ") else { return };
        for part in summary.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(word)) = (words.next(), words.next()) else { continue };
            let Ok(n) = number.parse::<u64>() else { continue };
            match word {
                "passed" => self.passed += n,
                "failed" => self.failed += n,
                "ignored" => self.ignored += n,
                _ => {}
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} ignored", self.passed, self.failed, self.ignored)
    }
}

/// Runs the tests of the workspace, or what the arguments name.
pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    let (is_good, tally) = counted(arguments)?;
    println!("{tally}");
    Ok(is_good)
}

/// Runs the tests and counts. A run without a single test is no success.
pub(crate) fn counted(arguments: &[String]) -> Result<(bool, Tally)> {
    let mut command = cargo();
    command.args(["test", "--locked", "--no-fail-fast"]);
    if arguments.is_empty() {
        command.arg("--workspace");
    }
    let mut child =
        command.args(arguments).stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut tally = Tally::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read what cargo test prints")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tally.add(&line);
    }
    let is_good = child.wait().context("cannot wait for cargo test")?.success();
    Ok((is_good && tally.failed == 0 && tally.passed > 0, tally))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_add_up() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; took 0.1s",
            "test result: FAILED. 5 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            "test a::b ... ok",
        ] {
            tally.add(line);
        }
        assert_eq!(tally, Tally { passed: 7, failed: 1, ignored: 1 });
        assert_eq!(tally.to_string(), "7 passed, 1 failed, 1 ignored");
    }
}
