//! Sessions over the worst line of the requirements (E-10): it loses, delays, reorders, doubles and
//! damages packets, and is dead for a while; and either daemon is killed in the middle.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cargo::root;
use crate::cores::{self, Core};
use crate::link::{Conditions, Cut, Link};
use crate::machines::noise;

/// The target's port; its namespace has no other.
const PORT: u16 = 8443;
const VOLUME_BYTES: u64 = 2 << 20;
/// A session has so many pieces to send, of so many bytes.
const PIECES: u64 = 6;
const PIECE_BYTES: usize = 12_000;
/// A job that gives up is asked for again, so often at most: what it brought stays.
const ATTEMPTS_MAX: u32 = 8;

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) sessions: u64,
    /// Daemons that were killed: sources and targets.
    pub(super) kills: [u64; 2],
    /// Jobs that had to be asked for again.
    pub(super) asked_again: u64,
    pub(super) lost: u64,
    pub(super) cut: u64,
    pub(super) reordered: u64,
    pub(super) duplicated: u64,
    pub(super) corrupted: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [sources, targets] = self.kills;
        let Self { sessions, asked_again, lost, cut, reordered, duplicated, corrupted, .. } = self;
        write!(
            f,
            "{sessions} sessions, {sources} kills of the source and {targets} of the target, \
             {asked_again} jobs asked for again; packets: {lost} lost, {cut} in cuts, \
             {reordered} reordered, {duplicated} doubled, {corrupted} damaged"
        )
    }
}

/// The line, with a time in which it is dead.
fn conditions(seed: u64, cut: Cut) -> Conditions {
    Conditions {
        rate: 100_000_000,
        queue: Duration::from_millis(100),
        delay: Duration::from_millis(200),
        jitter: Duration::from_millis(50),
        loss: 0.05,
        reorder: 0.25,
        duplicate: 0.01,
        corrupt: 0.001,
        cuts: vec![cut],
        seed,
        ..Conditions::default()
    }
}

/// Draws numbers; the same seed draws the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 += 1;
        let bytes = noise(self.0, 8).try_into().unwrap_or_default();
        u64::from_le_bytes(bytes) % n.max(1)
    }
}

/// A pair at the ends of a line.
struct Pair {
    folder: PathBuf,
    link: Link,
    source: Core,
    target: Core,
    dice: Dice,
    tally: Tally,
}

impl Drop for Pair {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Pair {
    /// Pairs over a line without faults; the first version of the machine is there.
    fn make(seed: u64) -> Result<Self> {
        let programs = cores::build_for_tests()?;
        let folder = root().join(format!("target/torture-line-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let link = Link::up(Conditions::default())?;
        let source = Core::source_through(&link.source().inside(), &programs, &folder, "source")?;
        let listen = format!("{}:{PORT}", Link::TARGET);
        let inside = link.target().inside();
        let target = Core::target_through(&inside, &listen, &programs, &folder, "target")?;
        let (dice, tally) = (Dice(seed.wrapping_mul(1 << 20)), Tally::default());
        let mut pair = Self { folder, link, source, target, dice, tally };
        pair.target.serve()?;
        pair.source.serve()?;
        fs::write(pair.volume(), noise(seed, VOLUME_BYTES as usize))?;
        let volume = format!("disk={}", pair.volume().display());
        pair.source.json(&["agents", "add", "web", "--volume", &volume])?;
        cores::pair(&pair.source, &pair.target, &["web"])?;
        Ok(pair)
    }

    fn volume(&self) -> PathBuf {
        self.folder.join("web.img")
    }

    /// A version as it was when it was protected.
    fn kept(&self, point: &str) -> PathBuf {
        self.folder.join(format!("{point}.img"))
    }

    /// The machine goes on, and is protected; the point.
    fn protect(&mut self) -> Result<String> {
        let file = File::options().write(true).open(self.volume())?;
        for _ in 0..PIECES {
            let bytes = noise(self.dice.below(u64::MAX), PIECE_BYTES);
            file.write_all_at(&bytes, self.dice.below(VOLUME_BYTES - PIECE_BYTES as u64))?;
        }
        let made = self.source.json(&["protect", "web"])?;
        let point = made["point"].as_str().context("a point")?.to_owned();
        fs::copy(self.volume(), self.kept(&point))?;
        Ok(point)
    }

    /// One session, from the command to its good end.
    fn session(&mut self, seed: u64) -> Result<()> {
        let from = Duration::from_millis(500 + self.dice.below(4_000));
        let until = from + Duration::from_millis(500 + self.dice.below(2_500));
        let cut = Cut { from, until, way: None };
        self.link.set(conditions(seed, cut));
        let arguments = ["replicate", "web", "--wait", "--json"];
        let mut job = self.source.command(&arguments);
        let mut job = job.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let victim = self.dice.below(3);
        if victim > 0 {
            std::thread::sleep(Duration::from_millis(self.dice.below(8_000)));
            let daemon = if victim == 1 { &mut self.source } else { &mut self.target };
            daemon.kill()?;
            daemon.serve()?;
            let [sources, targets] = &mut self.tally.kills;
            *(if victim == 1 { sources } else { targets }) += 1;
        }
        let mut is_done = job.wait()?.success();
        let mut n_attempts = 0;
        while !is_done {
            n_attempts += 1;
            self.tally.asked_again += 1;
            ensure!(n_attempts <= ATTEMPTS_MAX, "a session does not come to its end");
            let mut again = self.source.command(&arguments);
            is_done = again.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success();
        }
        for way in self.link.counts() {
            self.tally.lost += way.lost;
            self.tally.cut += way.cut;
            self.tally.reordered += way.reordered;
            self.tally.duplicated += way.duplicated;
            self.tally.corrupted += way.corrupted;
        }
        self.tally.sessions += 1;
        Ok(())
    }

    /// Each point is there once and comes back as it was.
    fn judge(&mut self, points: &[String]) -> Result<()> {
        self.link.set(Conditions::default());
        let listed = self.target.json(&["points", "list", "web"])?;
        let ids = listed.as_array().context("a list")?.iter();
        let mut ids: Vec<&str> = ids.filter_map(|row| row["id"].as_str()).collect();
        let mut expected: Vec<&str> = points.iter().map(String::as_str).collect();
        ids.sort_unstable();
        expected.sort_unstable();
        ensure!(ids == expected, "other points than were sent: {listed}");
        self.source.stop()?;
        self.target.stop()?;
        for point in points {
            let to = self.folder.join("back.img");
            let place = to.to_str().context("a path that is not UTF-8")?;
            let restore = ["restore", "web", "disk", "--to", place, "--point", point, "--offline"];
            self.target.json(&restore)?;
            ensure!(is_same(&to, &self.kept(point))?, "point {point} came back as another one");
            fs::remove_file(&to)?;
        }
        Ok(())
    }
}

fn is_same(one: &Path, other: &Path) -> Result<bool> {
    Ok(fs::read(one)? == fs::read(other)?)
}

/// So many sessions one after the other, and the judgement.
pub(super) fn run(sessions: u64, seed: u64) -> Result<Tally> {
    let begun = Instant::now();
    let mut pair = Pair::make(seed)?;
    let mut points = Vec::new();
    for session in 0..sessions {
        points.push(pair.protect()?);
        pair.session(seed.wrapping_add(session))?;
        println!("{} s: {}", begun.elapsed().as_secs(), pair.tally);
    }
    pair.judge(&points)?;
    println!("{sessions} sessions in {} s, seed {seed}", begun.elapsed().as_secs());
    Ok(pair.tally)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::obstacle;

    #[test]
    fn e_10_two_sessions_over_the_worst_line_come_to_their_end_with_every_byte() {
        if let Some(why) = obstacle() {
            println!("skipped: {why}");
            return;
        }
        let tally = run(2, 1).unwrap_or_else(|error| panic!("{error:#}"));
        let Tally { lost, cut, reordered, duplicated, .. } = tally;
        assert!([lost, cut, reordered, duplicated].iter().all(|n| *n > 0), "{tally}");
    }
}
