//! `cargo xtask bench`: measurements that end in one JSON document.
//!
//! Peers are other programs of the same trade. They run interleaved with ours, step by step,
//! because a shared or virtual machine changes its speed from minute to minute: only ratios of
//! neighbours mean something.

mod contender;
mod options;
mod ours;
mod peers;
mod replicate;
mod report;
mod rounds;
mod step;
mod store;
mod wan;

use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// First protect, next version and restore of disk images, against bupstash and rustic
    Store(options::Options),
    /// First replication, next version, another machine and restore, against bupstash and restic
    Replicate(options::Options),
    /// The next version over a long and bad link that is emulated here; needs root
    Wan(Box<wan::Wan>),
}

/// Runs a bench; whether its conditions were met.
pub(crate) fn run(bench: &Bench) -> Result<bool> {
    match bench {
        Bench::Store(options) => store::run(options),
        Bench::Replicate(options) => replicate::run(options),
        Bench::Wan(wan) => wan::run(wan),
    }
}
