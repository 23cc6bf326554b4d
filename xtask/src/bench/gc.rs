//! `cargo xtask bench gc`: a target takes a tenth of its space back while it receives a machine.
//!
//! What is compared is the same replication to the same target with and without a collection
//! beside it, in turns, and the collection with a `cp` of as many bytes as it moved.
//!
//! **Absent:** peers. Of those that we know, the ones that collect lock their repository meanwhile.

mod ground;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use self::ground::Ground;
use super::options::{Common, Size};
use super::report::{OURS, Report, median};
use super::step::{Cost, clear, is_same, measure, settle};
use crate::cores::{self, Core};
use crate::machines::Machine;

/// The same without the other beside it.
const ALONE: &str = "alone";
/// What copies as many bytes as were moved.
const CP: &str = "cp";
/// A replication takes at most so many times what it takes without a collection beside it.
const SLOWER_MAX: f64 = 1.3;
/// A collection takes at most so many times what `cp` takes.
const CP_TIMES_MAX: f64 = 3.0;
/// So often is collected at most until nothing is left.
const COLLECTIONS_MAX: u32 = 100;

#[derive(Args)]
pub(crate) struct Gc {
    #[command(flatten)]
    common: Common,
    /// How large the pieces are that are garbage
    #[arg(long, value_name = "KIB", default_value_t = 1024)]
    extent_kib: u32,
}

/// What a collection beside a replication came to.
struct Beside {
    replicated: Cost,
    /// From its start to its end.
    collect_seconds: f64,
    report: Value,
    /// Bytes of the segments' files, before and after.
    bytes: [u64; 2],
}

/// Measures and prints.
pub(super) fn run(gc: &Gc) -> Result<bool> {
    let common = &gc.common;
    let machines = common.machines()?;
    let [kept, coming, ..] = machines.as_slice() else {
        anyhow::bail!("name images of two machines: one that is kept, and one that is sent");
    };
    let place = common.place("offsite-gc", 0);
    clear(&place)?;
    let ground = Ground::make(&cores::build()?, &place, kept, coming, gc.extent_kib)?;
    let mut report = Report::default();
    let mut ratios = [Vec::new(), Vec::new()];
    for run in 1..=common.runs {
        let [slower, cp_times] = one_run(gc, &ground, &machines, run, &mut report)?;
        ratios[0].push(slower);
        ratios[1].push(cp_times);
    }
    clear(&place)?;
    let [slower, cp_times] = ratios.map(|all| median(all).unwrap_or(0.0));
    if common.size == Size::Full {
        eprintln!("\nreplicate, with / without: {slower:.2} (at most {SLOWER_MAX})");
        eprintln!("collect / cp: {cp_times:.2} (at most {CP_TIMES_MAX})");
    }
    report.print("gc", common.cold, &machines)?;
    Ok(true)
}

/// One pair of replications, a collection by itself, and the copy; both ratios.
fn one_run(
    gc: &Gc,
    ground: &Ground,
    machines: &[Machine],
    run: u32,
    report: &mut Report,
) -> Result<[f64; 2]> {
    let coming = machines.get(1).context("a second machine")?;
    let step = format!("replicate {}", coming.name);
    let is_alone_first = run % 2 == 1;
    let mut alone = None;
    if is_alone_first {
        alone = Some(replicate_alone(gc, ground, coming, &step, run, report)?);
    }
    let beside = replicate_beside(gc, ground, machines)?;
    report.note(OURS, step.clone(), run, beside.replicated.clone(), beside.bytes[1] >> 20);
    let collected = timed(beside.collect_seconds);
    report.note(OURS, "collect".to_owned(), run, collected, beside.bytes[1] >> 20);
    let alone = match alone {
        Some(alone) => alone,
        None => replicate_alone(gc, ground, coming, &step, run, report)?,
    };
    collect_alone(gc, ground, run, report)?;
    let bytes_moved = beside.report["bytes_moved"].as_u64().context("bytes that were moved")?;
    let copied = copy_as_much(gc, ground, bytes_moved)?;
    report.note(CP, "collect".to_owned(), run, copied.clone(), bytes_moved >> 20);
    let (alone, bytes_without) = alone;
    let [before, after] = beside.bytes;
    check_freed(&beside.report, after, bytes_without)?;
    let slower = beside.replicated.seconds / alone.seconds;
    let cp_times = beside.collect_seconds / copied.durable_seconds;
    report.note_fact(json!({
        "run": run,
        "replicate_with_to_without": slower, "at_most": SLOWER_MAX,
        "collect_to_cp": cp_times, "collect_at_most": CP_TIMES_MAX,
        "segment_bytes_before": before, "segment_bytes_after": after,
        "segment_bytes_without": bytes_without,
        "collected": beside.report,
        "share_of_the_replication_beside": (beside.collect_seconds / beside.replicated.seconds)
            .min(1.0),
    }));
    Ok([slower, cp_times])
}

/// The replication with nothing beside it, and the bytes of segments after it.
fn replicate_alone(
    gc: &Gc,
    ground: &Ground,
    coming: &Machine,
    step: &str,
    run: u32,
    report: &mut Report,
) -> Result<(Cost, u64)> {
    let mut pair = ground.copy()?;
    let mut command = pair.source.command(&["replicate", &coming.name, "--wait", "--json"]);
    silence(&mut command);
    settle(gc.common.cold)?;
    let cost = measure(&mut command, &pair.daemons(), false)?;
    let bytes = pair.segment_bytes()?;
    report.note(ALONE, step.to_owned(), run, cost.clone(), bytes >> 20);
    pair.stop()?;
    pair.clear()?;
    Ok((cost, bytes))
}

/// The replication while space is collected, both begun at once; what is left must be right.
fn replicate_beside(gc: &Gc, ground: &Ground, machines: &[Machine]) -> Result<Beside> {
    let mut pair = ground.copy()?;
    let coming = machines.get(1).context("a second machine")?;
    let before = pair.segment_bytes()?;
    let mut command = pair.source.command(&["replicate", &coming.name, "--wait", "--json"]);
    silence(&mut command);
    settle(gc.common.cold)?;
    let begun = Instant::now();
    let (replicated, collected) = std::thread::scope(|scope| {
        let target = &pair.target;
        let collecting = scope.spawn(move || {
            let report = collect_until_done(target);
            report.map(|report| (report, begun.elapsed().as_secs_f64()))
        });
        let replicated = measure(&mut command, &pair.daemons(), false);
        (replicated, collecting.join())
    });
    let replicated = replicated?;
    let (report, collect_seconds) =
        collected.map_err(|_| anyhow::anyhow!("the thread that collects ended early"))??;
    let after = pair.segment_bytes()?;
    pair.stop()?;
    for machine in machines.iter().take(2) {
        let restored = gc.common.work().join("restored-gc");
        clear(&restored)?;
        let image = pair.restore(machine, &restored)?;
        ensure!(is_same(&restored, image)?, "{} came back as something else", machine.name);
        clear(&restored)?;
    }
    pair.clear()?;
    Ok(Beside { replicated, collect_seconds, report, bytes: [before, after] })
}

/// Collects, and again while something stays because the replication was told of it; what came of
/// all together.
fn collect_until_done(target: &Core) -> Result<Value> {
    let mut all = target.json(&["gc", "--all"])?;
    let is_left = |report: &Value| report["left"].to_string().contains("in_use");
    let mut n_runs = 1;
    let mut last = all.clone();
    while is_left(&last) && n_runs < COLLECTIONS_MAX {
        last = target.json(&["gc", "--all"])?;
        for name in ["bytes_freed", "bytes_moved", "segments"] {
            all[name] = (all[name].as_u64().unwrap_or(0) + last[name].as_u64().unwrap_or(0)).into();
        }
        all["left"] = last["left"].clone();
        n_runs += 1;
    }
    all["runs"] = n_runs.into();
    Ok(all)
}

/// That the files are smaller than those of the same target that did not collect, by what the
/// report says: heads and footers, which are in no count, take at most a tenth of that.
fn check_freed(report: &Value, with: u64, without: u64) -> Result<()> {
    let of = |name: &str| report[name].as_u64().with_context(|| format!("no {name}: {report}"));
    let freed = of("bytes_freed")?.saturating_sub(of("bytes_moved")?);
    ensure!(freed > 0, "nothing came back: {report}");
    ensure!(with + freed / 10 * 9 <= without, "{with} of {without} bytes stay: {report}");
    Ok(())
}

/// A collection with nothing beside it.
fn collect_alone(gc: &Gc, ground: &Ground, run: u32, report: &mut Report) -> Result<()> {
    let mut pair = ground.copy()?;
    let mut command = pair.target.command(&["gc", "--all", "--json"]);
    silence(&mut command);
    let cost = measure(&mut command, &pair.daemons(), gc.common.cold)?;
    report.note(ALONE, "collect".to_owned(), run, cost, pair.segment_bytes()? >> 20);
    pair.stop()?;
    pair.clear()
}

/// `cp` of as many bytes of segments, until they are on the disk.
fn copy_as_much(gc: &Gc, ground: &Ground, n_bytes: u64) -> Result<Cost> {
    let from = gc.common.work().join("gc-copied-from");
    let to = gc.common.work().join("gc-copied-to");
    [&from, &to].into_iter().try_for_each(|path| clear(path))?;
    ground.write_segments(&from, n_bytes)?;
    let mut cp = Command::new("cp");
    cp.args([&from, &to] as [&Path; 2]);
    let cost = measure(&mut cp, &[], gc.common.cold)?;
    [&from, &to].into_iter().try_for_each(|path| clear(path))?;
    Ok(cost)
}

fn silence(command: &mut Command) {
    command.stdout(Stdio::null()).stderr(Stdio::null());
}

/// Of what ran beside something else, the time alone is its own.
const fn timed(seconds: f64) -> Cost {
    Cost { seconds, durable_seconds: seconds, cpu_seconds: 0.0, peak_mib: 0, wire_mib: 0.0 }
}
