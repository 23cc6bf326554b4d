//! `cargo xtask demo`: the product's main job on real input, in one command.
//!
//! Two throw-away cores on loopback pair, a machine is protected and replicated in every version,
//! the source is thrown away, and the target gives everything back; `sha256sum`, which we did not
//! write, says whether it is the same.

mod image;
mod show;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use self::show::{Bar, number, say, size, title};
use crate::cargo::root;
use crate::cores::{self, Core};
use crate::machines::{Machine, by_machine};
use crate::tools;

#[derive(Args, Default)]
pub(crate) struct Demo {
    /// Disk images or block devices; those of one machine share the name before `-rp` and are its
    /// versions, in this order [default: an ext4 image of this machine's files, and a second
    /// version of it]
    images: Vec<PathBuf>,
    /// Where to work; needs room for the stores and one image [default: target/demo]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Leave the work folder in place, with both cores' data
    #[arg(long)]
    keep: bool,
}

/// A version of a machine that has crossed.
struct Crossed {
    machine: usize,
    version: usize,
    point: String,
}

/// Shows everything; false when something came back different.
pub(crate) fn run(demo: &Demo) -> Result<bool> {
    let work = demo.work.clone().unwrap_or_else(|| root().join("target/demo"));
    // Only a folder of its own making is emptied.
    let cores = work.join("cores");
    remove(&cores)?;
    fs::create_dir_all(&cores).with_context(|| cores.display().to_string())?;
    let outcome = show(demo, &work, &cores);
    if demo.keep {
        say(&format!("everything is left in {}", work.display()));
    } else {
        remove(&cores)?;
    }
    outcome
}

fn show(demo: &Demo, work: &Path, folder: &Path) -> Result<bool> {
    title("Build the programs");
    let programs = cores::build()?;
    let images = match demo.images.as_slice() {
        [] => {
            title("Make a disk image of this machine's own files, and a second version of it");
            tools::install(&["mkfs.ext4", "debugfs"])?;
            image::make(&work.join("images"))?
        }
        images => images.to_vec(),
    };
    let machines = by_machine(&images)?;

    title("Two cores on loopback");
    let mut target = Core::target(&programs, folder, "vault")?;
    target.serve()?;
    let mut source = Core::source(&programs, folder, "office")?;
    source.serve()?;
    for machine in &machines {
        attach(folder, machine, 0)?;
        let volume = format!("disk={}", link(folder, machine).display());
        source.json(&["agents", "add", &machine.name, "--volume", &volume])?;
    }

    title("Pair: the source asks, two people compare a code, the target accepts");
    let names: Vec<&str> = machines.iter().map(|machine| machine.name.as_str()).collect();
    let codes = cores::pair(&source, &target, &names)?;
    say(&format!("on the source's console  {}", codes.at_source));
    say(&format!("on the target's console  {}", codes.at_target));
    say("equal, accepted; from here on both speak mutual TLS");

    let mut crossed = Vec::new();
    let (mut n_logical, mut n_sent) = (0, 0);
    for (index, machine) in machines.iter().enumerate() {
        for version in 0..machine.versions.len() {
            title(&format!("{}, version {}: protect and replicate", machine.name, version + 1));
            attach(folder, machine, version)?;
            let point = protect(&source, &machine.name)?;
            let replicated = replicate(&source, &machine.name)?;
            n_logical += number(&point, "logical_bytes");
            n_sent += number(&replicated, "wire_bytes_out");
            let point = point["point"].as_str().context("protect names no point")?.to_owned();
            crossed.push(Crossed { machine: index, version, point });
        }
    }

    title("The source's building burns down");
    drop(source);
    remove(&folder.join("office"))?;
    say("the source and its store are gone");

    title("The target gives everything back");
    target.stop()?;
    let mut n_different = 0;
    for one in &crossed {
        let machine = machines.get(one.machine).context("a machine")?;
        let image = machine.versions.get(one.version).context("a version")?;
        if !comes_back(&target, folder, machine, one, image)? {
            n_different += 1;
        }
    }

    title("In all");
    let share = 100.0 * n_sent as f64 / n_logical.max(1) as f64;
    say(&format!(
        "{} recovery points, {} logical; {} sent ({share:.1} %), keys and all",
        crossed.len(),
        size(n_logical),
        size(n_sent)
    ));
    if n_different > 0 {
        say(&format!("{n_different} came back DIFFERENT"));
    }
    Ok(n_different == 0)
}

/// Where a machine's volume is found: a link, so that each version is the next state of one disk.
fn link(folder: &Path, machine: &Machine) -> PathBuf {
    folder.join(format!("{}.volume", machine.name))
}

fn attach(folder: &Path, machine: &Machine, version: usize) -> Result<()> {
    let (link, next) = (link(folder, machine), folder.join("next.volume"));
    std::os::unix::fs::symlink(machine.versions.get(version).context("a version")?, &next)?;
    fs::rename(next, link)?;
    Ok(())
}

fn protect(source: &Core, name: &str) -> Result<Value> {
    let bar = Bar::new();
    let done = source.follow(&["protect", name], |line| bar.show(line))?;
    bar.end();
    say(&format!(
        "protected   {} logical, {} read, {} new, {} stored, {:.1} s",
        size(number(&done, "logical_bytes")),
        size(number(&done, "read_bytes")),
        size(number(&done, "new_bytes")),
        size(number(&done, "stored_bytes")),
        done["seconds"].as_f64().unwrap_or_default()
    ));
    Ok(done)
}

fn replicate(source: &Core, name: &str) -> Result<Value> {
    let bar = Bar::new();
    let done = source.follow(&["replicate", name, "--wait"], |line| bar.show(line))?;
    bar.end();
    ensure!(number(&done, "points") > 0, "nothing was replicated: {done}");
    say(&format!(
        "replicated  {} records offered, {} sent, {} out, {} in, {:.1} s",
        number(&done, "records_offered"),
        number(&done, "records_sent"),
        size(number(&done, "wire_bytes_out")),
        size(number(&done, "wire_bytes_in")),
        done["seconds"].as_f64().unwrap_or_default()
    ));
    Ok(done)
}

/// Restores a version at the target; whether it is what was protected.
fn comes_back(
    target: &Core,
    folder: &Path,
    machine: &Machine,
    one: &Crossed,
    image: &Path,
) -> Result<bool> {
    let back = folder.join("restored.img");
    let place = back.to_str().context("the work folder's name is not UTF-8")?;
    let restore =
        ["restore", &machine.name, "disk", "--to", place, "--point", &one.point, "--offline"];
    let bar = Bar::new();
    let done = target.follow(&restore, |line| bar.show(line))?;
    bar.end();
    let (was, is) = (sha256(image)?, sha256(&back)?);
    fs::remove_file(&back)?;
    let word = if was == is { "the same" } else { "DIFFERENT" };
    say(&format!(
        "{}, version {}: {} in {:.1} s, sha256 {} {word}",
        machine.name,
        one.version + 1,
        size(number(&done, "bytes")),
        done["seconds"].as_f64().unwrap_or_default(),
        is.get(..16).unwrap_or(&is)
    ));
    Ok(was == is)
}

/// SHA-256 by a program that is not ours.
fn sha256(path: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(path).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let digest = text.split_whitespace().next().map(str::to_owned);
    digest.filter(|_| output.status.success()).context("sha256sum failed")
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
