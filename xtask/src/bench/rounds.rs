//! What all benches do: contenders that begin from nothing in every run, one after the other at
//! each step.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::options::Options;
use super::report::{OURS, Report};
use super::step::clear;
use crate::machines::Machine;

/// A contender to be started.
pub(super) struct Start<'a> {
    /// Which.
    pub(super) name: &'a str,
    /// A peer's program; ours is built.
    pub(super) program: PathBuf,
    /// Where it works.
    pub(super) place: PathBuf,
    /// What it will be given.
    pub(super) machines: &'a [Machine],
    /// Whether the page cache is dropped before each step.
    pub(super) is_cold: bool,
}

/// Measures ours against those peers that are there and wished for, and prints; false where one is
/// missing that has to be there.
pub(super) fn rounds<C: ?Sized>(
    bench: &'static str,
    options: &Options,
    peers: &[&'static str],
    start: impl Fn(&Start<'_>) -> Result<Box<C>>,
    measure: impl Fn(&Machine, &mut [Box<C>], u32, &mut Report) -> Result<()>,
) -> Result<bool> {
    let peers = options.wished(peers)?;
    if !options.has_all(&peers) {
        return Ok(false);
    }
    let machines = options.common.machines()?;
    let mut report = Report::default();
    for run in 1..=options.common.runs {
        let places: Vec<PathBuf> =
            [OURS].iter().chain(&peers).map(|name| options.common.place(name, run)).collect();
        places.iter().try_for_each(|place| clear(place))?;
        let programs = peers.iter().map(|name| options.peer(name));
        let programs = std::iter::once(Some(PathBuf::new())).chain(programs);
        let mut all: Vec<Box<C>> = Vec::new();
        for ((name, program), place) in [OURS].iter().chain(&peers).zip(programs).zip(&places) {
            let (place, is_cold) = (place.clone(), options.common.cold);
            if let Some(program) = program {
                all.push(start(&Start { name, program, place, machines: &machines, is_cold })?);
            }
        }
        for machine in &machines {
            measure(machine, &mut all, run, &mut report)?;
        }
        drop(all);
        places.iter().try_for_each(|place: &PathBuf| clear(Path::new(place)))?;
    }
    report.print(bench, options.common.cold, &machines)?;
    Ok(true)
}
