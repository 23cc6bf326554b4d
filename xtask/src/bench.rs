//! `cargo xtask bench`: measurements that end in one JSON document.
//!
//! Peers are other programs of the same trade. They run interleaved with ours, step by step,
//! because a shared or virtual machine changes its speed from minute to minute: only ratios of
//! neighbours mean something.

mod barriers;
mod bars;
mod compare;
mod contender;
mod floor;
mod gc;
mod index;
mod options;
mod ours;
mod page;
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
    /// All of that in one run against five peers and what the machine itself needs; writes the page
    Compare(Box<compare::Compare>),
    /// A target that takes a tenth of its space back while it receives a machine
    Gc(gc::Gc),
    /// Which keys are missing, asked of a store of many millions in little memory; needs root
    Index(index::Index),
    /// The next version over a long and bad link that is emulated here; needs root
    Wan(Box<wan::Wan>),
}

/// Runs a bench; whether its conditions were met.
pub(crate) fn run(bench: &Bench) -> Result<bool> {
    match bench {
        Bench::Store(options) => store::run(options),
        Bench::Replicate(options) => replicate::run(options),
        Bench::Compare(compare) => compare::run(compare),
        Bench::Gc(gc) => gc::run(gc),
        Bench::Index(index) => index::run(index),
        Bench::Wan(wan) => wan::run(wan),
    }
}
