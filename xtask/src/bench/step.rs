//! One measured step: a command from its start until everything it wrote is on the disk.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

/// How often the memory of a command is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a step cost.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Cost {
    /// Seconds until the command ended.
    pub(super) seconds: f64,
    /// Seconds until a `sync` after it returned.
    pub(super) durable_seconds: f64,
    /// Seconds of processor that the program used, as last seen before its end. On a machine that
    /// others use, this says more than the clock.
    pub(super) cpu_seconds: f64,
    /// Largest resident memory of the program, in MiB.
    pub(super) peak_mib: u64,
}

/// Runs a command to its end and waits for the disk. `watched` is the process whose memory counts,
/// if it is not the command itself.
pub(super) fn measure(command: &mut Command, watched: Option<u32>, cold: bool) -> Result<Cost> {
    settle(cold)?;
    let shown = format!("{command:?}");
    let cpu_before = watched.map_or(0.0, cpu);
    let begun = Instant::now();
    let mut child = command.spawn().with_context(|| format!("start {shown}"))?;
    let watched = watched.unwrap_or(child.id());
    let (mut peak_kib, mut cpu_after) = (0, cpu_before);
    let status = loop {
        peak_kib = peak_kib.max(peak(watched));
        cpu_after = cpu(watched).max(cpu_after);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let seconds = begun.elapsed().as_secs_f64();
    Command::new("sync").status()?;
    let durable_seconds = begun.elapsed().as_secs_f64();
    ensure!(status.success(), "{shown} ended with {status}");
    peak_kib = peak_kib.max(peak(watched));
    let cpu_seconds = cpu(watched).max(cpu_after) - cpu_before;
    Ok(Cost { seconds, durable_seconds, cpu_seconds, peak_mib: peak_kib / 1024 })
}

/// Leaves no work of the step before to the next one.
fn settle(cold: bool) -> Result<()> {
    Command::new("sync").status()?;
    if cold {
        fs::write("/proc/sys/vm/drop_caches", "3").context("drop the page cache (needs root)")?;
    }
    Ok(())
}

/// The high-water mark of a process, in KiB; 0 once it is gone.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Seconds of processor that a process has used, in hundredths (the kernel's clock ticks); 0 once
/// it is gone.
fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything, so count from its end: user and system time are 14
    // and 15.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// A command that reads a file and writes another, or nothing.
pub(super) fn piped(program: &Path, from: Option<&Path>, to: Option<&Path>) -> Result<Command> {
    let mut command = Command::new(program);
    command.stdin(match from {
        Some(path) => File::open(path).with_context(|| path.display().to_string())?.into(),
        None => Stdio::null(),
    });
    command.stdout(match to {
        Some(path) => File::create(path).with_context(|| path.display().to_string())?.into(),
        None => Stdio::null(),
    });
    command.stderr(Stdio::null());
    Ok(command)
}

/// Blocks of a directory, in MiB.
pub(super) fn size_mib(path: &Path) -> Result<u64> {
    let output = Command::new("du").args(["-sm"]).arg(path).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().next().and_then(|n| n.parse().ok()).context("du says no number")
}

/// Whether two files are the same, by a program that is not ours.
pub(super) fn is_same(a: &Path, b: &Path) -> Result<bool> {
    Ok(Command::new("cmp").arg("--silent").args([a, b]).status()?.success())
}
