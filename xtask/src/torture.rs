//! `cargo xtask torture`: what is too long for every change, by the same tests that CI runs small.

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::cargo::cargo;

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
}

pub(crate) fn run(torture: &Torture) -> Result<bool> {
    let Torture::Kills { cycles, seed } = torture;
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
