//! What `bench store` is told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Args)]
pub(crate) struct Store {
    /// Images; those of one machine share the name before `-rp` and are its versions, in this order
    pub(super) images: Vec<PathBuf>,
    /// What to measure where no images are given
    #[arg(long, value_enum, default_value = "full")]
    pub(super) size: Size,
    /// Where bupstash and rustic lie [default: the search path]
    #[arg(long, value_name = "DIR")]
    pub(super) peers: Option<PathBuf>,
    /// How often everything is repeated
    #[arg(long, default_value_t = 1)]
    pub(super) runs: u32,
    /// Drop the page cache before each step; needs root, and slows everybody on the machine down
    #[arg(long)]
    pub(super) cold: bool,
    /// Where to work; needs room for all repositories and one image
    #[arg(long, value_name = "DIR")]
    pub(super) work: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Size {
    /// Images are given, and peers are there
    Full,
    /// Small images are made, and peers may be missing: that it works, not how fast
    Small,
}
