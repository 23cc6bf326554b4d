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
    /// Largest resident memory of any one process of the program, in MiB.
    pub(super) peak_mib: u64,
    /// What crossed the loopback interface meanwhile, both directions, in MiB.
    pub(super) wire_mib: f64,
}

/// Runs a command to its end and waits for the disk. `servers` are the processes that work for it;
/// without any the command works itself, and with some it is counted too.
pub(super) fn measure(command: &mut Command, servers: &[u32], cold: bool) -> Result<Cost> {
    settle(cold)?;
    let shown = format!("{command:?}");
    let before: f64 = servers.iter().map(|pid| cpu(*pid)).sum();
    let wire_before = wire();
    for pid in servers {
        // The high-water mark starts again here; where that is refused it is that of the whole
        // life.
        drop(fs::write(format!("/proc/{pid}/clear_refs"), "5"));
    }
    let begun = Instant::now();
    let mut child = command.spawn().with_context(|| format!("start {shown}"))?;
    let watched: Vec<u32> = servers.iter().copied().chain([child.id()]).collect();
    let (mut peak_kib, mut own_cpu) = (0, 0.0_f64);
    let status = loop {
        peak_kib = watched.iter().map(|pid| peak(*pid)).chain([peak_kib]).max().unwrap_or(0);
        own_cpu = own_cpu.max(cpu(child.id()));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let seconds = begun.elapsed().as_secs_f64();
    Command::new("sync").status()?;
    let durable_seconds = begun.elapsed().as_secs_f64();
    ensure!(status.success(), "{shown} ended with {status}");
    peak_kib = watched.iter().map(|pid| peak(*pid)).chain([peak_kib]).max().unwrap_or(0);
    let after: f64 = servers.iter().map(|pid| cpu(*pid)).sum();
    Ok(Cost {
        seconds,
        durable_seconds,
        cpu_seconds: own_cpu + after - before,
        peak_mib: peak_kib / 1024,
        wire_mib: wire().saturating_sub(wire_before) as f64 / f64::from(1 << 20),
    })
}

/// Bytes that the loopback interface has carried.
fn wire() -> u64 {
    let text = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Leaves no work of the step before to the next one.
pub(super) fn settle(cold: bool) -> Result<()> {
    Command::new("sync").status()?;
    if cold {
        fs::write("/proc/sys/vm/drop_caches", "3").context("drop the page cache (needs root)")?;
    }
    Ok(())
}

/// A process and those that it started, as far as they live.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(parent) = all.get(next) {
        let path = format!("/proc/{parent}/task/{parent}/children");
        let children = fs::read_to_string(path).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        next += 1;
    }
    all
}

/// The largest high-water mark among a process and its descendants, in KiB; 0 once they are gone.
fn peak(pid: u32) -> u64 {
    let of_one = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    family(pid).into_iter().map(of_one).max().unwrap_or(0)
}

/// Seconds of processor that a process and its descendants have used, in hundredths (the kernel's
/// clock ticks); 0 once they are gone. Those that have ended count where their parent has noticed.
fn cpu(pid: u32) -> f64 {
    let of_one = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything, so count from its end: user and system time
        // are 14 and 15, those of ended children 16 and 17.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let times = fields.split_whitespace().skip(11).take(4);
        times.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
    };
    family(pid).into_iter().map(of_one).sum()
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

/// Removes a file or a folder of a bench.
pub(super) fn clear(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
