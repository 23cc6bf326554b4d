//! `cargo xtask bench index`: which keys are missing, asked of a store of many millions in little
//! memory on one processor, and how long it takes to serve after a kill.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Map, Value, json};

use super::options::Size;
use super::step::clear;
use crate::cargo::{cargo, root, target};
use crate::memory::MemoryGroup;

/// Keys at the small size.
const SMALL_KEYS: u64 = 300_000;

/// What the bench is told.
#[derive(Args)]
pub(crate) struct Index {
    /// Records that the store has
    #[arg(long, default_value_t = 100_000_000)]
    keys: u64,
    /// MiB that the asking process may use, the page cache included; needs root
    #[arg(long, default_value_t = 256)]
    memory_mib: u64,
    /// What to measure
    #[arg(long, value_enum, default_value = "full")]
    size: Size,
    /// How often is asked
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// Where to work; 100 million keys take 20 GiB there [default: target/bench]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
}

/// Makes, kills, asks and prints.
pub(super) fn run(index: &Index) -> Result<bool> {
    let n_keys = if index.size == Size::Small { SMALL_KEYS } else { index.keys };
    let program = build()?;
    let work = index.work.clone().unwrap_or_else(|| root().join("target/bench"));
    std::fs::create_dir_all(&work)?;
    let place = work.join("index");
    clear(&place)?;
    make(&program, &place, n_keys)?;
    let mut runs = Vec::new();
    for _ in 0..index.runs {
        let asked = ask(&program, &place, n_keys, index.memory_mib << 20)?;
        eprintln!("{}", Value::Object(asked.clone()));
        runs.push(Value::Object(asked));
    }
    clear(&place)?;
    let document =
        json!({ "bench": "index", "keys": n_keys, "memory_mib": index.memory_mib, "runs": runs });
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(true)
}

fn build() -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--release", "-p", "offsite-target-core"]);
    build.args(["--example", "missing_keys"]);
    ensure!(build.status()?.success(), "the asking program does not build");
    Ok(target().join("release/examples/missing_keys"))
}

/// Fills a store and kills its writer at work.
fn make(program: &Path, place: &Path, n_keys: u64) -> Result<()> {
    let mut make = Command::new(program);
    make.arg("make").arg(place).arg(n_keys.to_string()).stdout(Stdio::piped());
    let mut maker = make.spawn().context("start the maker")?;
    let mut said = String::new();
    BufReader::new(maker.stdout.take().context("a pipe")?).read_line(&mut said)?;
    maker.kill()?;
    maker.wait()?;
    ensure!(said.trim() == "made", "the store was not made");
    // What the maker left in the page cache is not the asker's.
    ensure!(Command::new("sync").status()?.success(), "sync failed");
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("drop the page cache (needs root)")
}

/// Asks in a memory group and on one processor; what was said, in one object.
fn ask(program: &Path, place: &Path, n_keys: u64, bytes: u64) -> Result<Map<String, Value>> {
    let group = MemoryGroup::new("offsite-bench", bytes)?;
    let mut ask = group.command("taskset");
    ask.args(["-c", "0"]).arg(program).arg("ask").arg(place).arg(n_keys.to_string());
    let output = ask.stderr(Stdio::inherit()).output().context("start the asker")?;
    ensure!(output.status.success(), "the asker ended with {}", output.status);
    let mut asked = Map::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let Value::Object(said) = serde_json::from_str(line)? else { continue };
        match (said.get("keys").and_then(Value::as_str), said.get("keys_per_second")) {
            (Some(kind), Some(rate)) => drop(asked.insert(kind.to_owned(), rate.clone())),
            _ => asked.extend(said),
        }
    }
    asked.insert("peak_mib".to_owned(), json!(group.peak_bytes()? >> 20));
    Ok(asked)
}
