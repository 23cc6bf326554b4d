//! `cargo xtask bench`: measurements that end in one JSON document.
//!
//! Peers are other programs of the same trade. They run interleaved with ours, step by step,
//! because a shared or virtual machine changes its speed from minute to minute: only ratios of
//! neighbours mean something.

mod images;
mod ours;
mod peers;
mod step;
mod store;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

use std::path::PathBuf;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// First protect, next version and restore of disk images, against peers
    Store(Store),
}

#[derive(Args)]
pub(crate) struct Store {
    /// Images; those of one machine share the name before `-rp` and are its versions, in this order
    images: Vec<PathBuf>,
    /// What to measure where no images are given
    #[arg(long, value_enum, default_value = "full")]
    size: Size,
    /// Where bupstash and rustic lie [default: the search path]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// How often everything is repeated
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// Drop the page cache before each step; needs root, and slows everybody on the machine down
    #[arg(long)]
    cold: bool,
    /// Where to work; needs room for all repositories and one image
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Size {
    /// Images are given, and peers are there
    Full,
    /// Small images are made, and peers may be missing: that it works, not how fast
    Small,
}

/// Runs a bench; whether its conditions were met.
pub(crate) fn run(bench: &Bench) -> Result<bool> {
    match bench {
        Bench::Store(options) => store::run(options),
    }
}
