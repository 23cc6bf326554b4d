//! Other programs of the trade, called as their users call them for a disk image.

mod borg;
mod bupstash;
mod casync;
mod certificates;
mod restic;
mod rustic;
mod ssh;

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

pub(super) use self::borg::Borg;
pub(super) use self::bupstash::Bupstash;
pub(super) use self::casync::Casync;
pub(super) use self::certificates::certificates;
pub(super) use self::restic::Restic;
pub(super) use self::rustic::Rustic;

/// Runs a command that is not measured.
fn done(command: &mut Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
