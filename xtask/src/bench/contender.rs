//! What every measured program can do.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::step::Cost;
use crate::machines::Machine;

/// A program that keeps images.
pub(super) trait Contender {
    /// What it is called.
    fn name(&self) -> &'static str;
    /// Keeps a version of a machine, the versions before it being kept already.
    fn put(&mut self, machine: &Machine, version: usize) -> Result<Cost>;
    /// Writes the newest kept version; the file it wrote.
    fn get(&mut self, machine: &Machine, version: usize, to: &Path) -> Result<(Cost, PathBuf)>;
    /// What everything takes on the disk.
    fn repository_mib(&self) -> Result<u64>;
    /// What the records take that the last version brought, in bytes, where the program tells.
    fn stored_bytes(&self) -> Option<u64> {
        None
    }
}

/// A program that keeps images at a second place too.
pub(super) trait Replicating: Contender {
    /// Brings a version, which is kept here, to the second place.
    fn replicate(&mut self, machine: &Machine, version: usize) -> Result<Cost>;
    /// Writes the newest version from the second place.
    fn get_there(
        &mut self,
        machine: &Machine,
        version: usize,
        to: &Path,
    ) -> Result<(Cost, PathBuf)>;
    /// What everything takes on the disk of the second place.
    fn there_mib(&self) -> Result<u64>;
}
