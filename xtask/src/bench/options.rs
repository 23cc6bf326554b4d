//! What benches are told.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::cargo::root;
use crate::machines::{Machine, by_machine, small};

/// What a bench of ours and peers is told.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(super) common: Common,
    /// Where peers lie that the system has no package of [default: the search path]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Measure against this peer alone, once for each
    #[arg(long, value_name = "NAME")]
    against: Vec<String>,
}

/// What a bench of ours alone is told.
#[derive(Args)]
pub(crate) struct Common {
    /// Images; those of one machine share the name before `-rp` and are its versions, in this order
    images: Vec<PathBuf>,
    /// What to measure where no images are given
    #[arg(long, value_enum, default_value = "full")]
    pub(super) size: Size,
    /// How often everything is repeated
    #[arg(long, default_value_t = 1)]
    pub(super) runs: u32,
    /// Drop the page cache before each step; needs root, and slows everybody on the machine down
    #[arg(long)]
    pub(super) cold: bool,
    /// Where to work; needs room for all repositories and one image [default: target/bench]
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

impl Common {
    /// The machines to measure.
    pub(super) fn machines(&self) -> Result<Vec<Machine>> {
        ensure!(
            self.size == Size::Small || !self.images.is_empty(),
            "name images, or say --size small"
        );
        match self.images.as_slice() {
            [] => by_machine(&small(&self.work().join("images"))?),
            images => by_machine(images),
        }
    }

    /// Where to work.
    pub(super) fn work(&self) -> PathBuf {
        self.work.clone().unwrap_or_else(|| root().join("target/bench"))
    }

    /// What was asked for, as a person would ask for it again.
    pub(super) fn shown(&self, verb: &str) -> String {
        let names = self.images.iter().filter_map(|image| image.file_name());
        let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
        let cold = if self.cold { " --cold" } else { "" };
        format!("cargo xtask bench {verb} {} --runs {}{cold}", names.join(" "), self.runs)
    }

    /// Where a contender works in a run.
    pub(super) fn place(&self, name: &str, run: u32) -> PathBuf {
        self.work().join(format!("{name}-{run}"))
    }
}

impl Options {
    /// A peer's program, in the folder that was named or in the search path.
    pub(super) fn peer(&self, name: &str) -> Option<PathBuf> {
        let told = self.peers.as_deref().map(|folder: &Path| folder.join(name));
        told.filter(|path| path.is_file()).or_else(|| crate::tools::find(name))
    }

    /// Those of a bench's peers that are wished for.
    pub(super) fn wished(&self, peers: &[&'static str]) -> Result<Vec<&'static str>> {
        for name in &self.against {
            ensure!(
                peers.contains(&name.as_str()),
                "{name} is no peer of this bench: {} are",
                peers.join(" and ")
            );
        }
        let is_wished = |peer: &&&str| {
            self.against.is_empty() || self.against.iter().any(|name| name == **peer)
        };
        Ok(peers.iter().filter(is_wished).copied().collect())
    }

    /// Whether a bench may go on without these programs; says which are missing.
    pub(super) fn has_all(&self, names: &[&str]) -> bool {
        let missing: Vec<&str> =
            names.iter().copied().filter(|name| self.peer(name).is_none()).collect();
        if self.common.size == Size::Small || missing.is_empty() {
            return true;
        }
        let missing = missing.join(" and ");
        eprintln!("{missing} must be there: install them, or name their folder with --peers");
        false
    }
}
