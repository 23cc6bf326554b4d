//! `cargo xtask torture`: what is too long for every change, by the same tests that CI runs small.

mod line;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::cargo::cargo;
use crate::link;

#[derive(Subcommand)]
pub(crate) enum Torture {
    /// Kill either program at random moments of protecting and replicating, and compare every point
    Kills {
        /// How often
        #[arg(long, default_value_t = 1_000)]
        cycles: u64,
        /// What is drawn; the same seed draws the same
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Replicate over a line that loses, delays, reorders, doubles, damages and cuts; needs root
    Line {
        /// How often
        #[arg(long, default_value_t = 200)]
        sessions: u64,
        /// What is drawn; the same seed draws the same
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// Runs it; whether all was well.
pub(crate) fn run(torture: &Torture) -> Result<bool> {
    match torture {
        Torture::Kills { cycles, seed } => kills(*cycles, *seed),
        Torture::Line { sessions, seed } => {
            if let Some(why) = link::obstacle() {
                eprintln!("skipped: {why}");
                return Ok(false);
            }
            line::run(*sessions, *seed).map(|_| true)
        }
    }
}

fn kills(cycles: u64, seed: u64) -> Result<bool> {
    println!("{cycles} cycles, seed {seed}");
    let status = cargo()
        .args(["test", "--locked", "-p", "offsite-tests", "--test", "it"])
        .args(["d_02_a_storm_of_kills", "--", "--nocapture"])
        .env("OFFSITE_KILL_CYCLES", cycles.to_string())
        .env("OFFSITE_SEED", seed.to_string())
        .status()
        .context("cannot run cargo test")?;
    Ok(status.success())
}
