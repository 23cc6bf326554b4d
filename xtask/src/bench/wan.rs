//! `cargo xtask bench wan`: the next version of a machine over a long and bad link, from the
//! command to its result, on a pairing that was idle.
//!
//! **Absent:** peers. What they take over such links depends on their servers' congestion control,
//! and some do not come to an end where packets get lost.

mod options;
mod pair;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use self::options::Profile;
pub(crate) use self::options::Wan;
use self::pair::Pair;
use super::report::{OURS, Report};
use super::step::{clear, is_same, size_mib};
use crate::cores;
use crate::link::{Conditions, Link, obstacle};
use crate::machines::Machine;

/// How long nothing may be sent for a pairing to count as idle.
const QUIET: Duration = Duration::from_secs(2);
/// How long that may take to come.
const QUIET_WITHIN: Duration = Duration::from_secs(60);

/// Measures and prints; false where there can be no link.
pub(super) fn run(wan: &Wan) -> Result<bool> {
    if let Some(why) = obstacle() {
        eprintln!("skipped: {why}");
        return Ok(false);
    }
    let common = &wan.common;
    let machines = common.machines()?;
    let programs = cores::build()?;
    let mut report = Report::default();
    for run in 1..=common.runs {
        let place = common.place("offsite-wan", run);
        clear(&place)?;
        let begun = Pair::make(&programs, &place, &machines, wan.congestion())?;
        for profile in wan.profiles() {
            one_profile(wan, &profile, &begun, &machines, run, &mut report)?;
        }
        clear(&place)?;
    }
    report.print("wan", common.cold, &machines)?;
    Ok(true)
}

/// Each profile has a link of its own: kernels remember what they saw of one.
fn one_profile(
    wan: &Wan,
    profile: &Profile,
    begun: &Pair,
    machines: &[Machine],
    run: u32,
    report: &mut Report,
) -> Result<()> {
    let link = Link::up(profile.conditions.clone())?;
    link.set_congestion(wan.congestion())?;
    let mut pair = begun.copy(&link)?;
    for machine in machines {
        wait_until_idle(&link)?;
        link.set(profile.conditions.clone());
        let mut cost = pair.replicate(machine, wan.common.cold)?;
        let [up, down] = link.counts();
        cost.wire_mib = (up.bytes + down.bytes) as f64 / f64::from(1 << 20);
        let newest = machine.versions.len().saturating_sub(1);
        let step = format!("{}-{newest}, {}", machine.name, profile.name);
        report.note_fact(json!({
            "step": step, "run": run, "bar_seconds": profile.bar_seconds,
            "within_bar": profile.bar_seconds.map(|bar| cost.seconds <= bar),
            "congestion": wan.congestion(), "conditions": profile.conditions,
            "up": up, "down": down,
        }));
        report.note(OURS, step, run, cost, size_mib(&pair.target_store())?);
    }
    // Nothing of what follows goes over the link.
    link.set(Conditions::default());
    pair.stop()?;
    for machine in machines {
        let restored = wan.common.work().join("restored-wan");
        clear(&restored)?;
        let image = pair.restore(machine, &restored)?;
        ensure!(is_same(&restored, &image)?, "{} came back as something else", machine.name);
        clear(&restored)?;
    }
    pair.clear()
}

/// Waits until both daemons have nothing to say to each other.
fn wait_until_idle(link: &Link) -> Result<()> {
    let begun = Instant::now();
    let n_sent = || link.counts().iter().map(|way| way.offered).sum::<u64>();
    let (mut seen, mut since) = (n_sent(), Instant::now());
    while since.elapsed() < QUIET {
        ensure!(begun.elapsed() < QUIET_WITHIN, "the daemons never stop talking");
        std::thread::sleep(QUIET / 20);
        let now = n_sent();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    Ok(())
}
