//! kill -9 of either daemon at random moments of protecting and replicating, and an oracle outside:
//! SHA-256 by another program of every version of the machine, kept from before it was protected.
//!
//! `OFFSITE_KILL_CYCLES` says how many cycles, `OFFSITE_SEED` repeats a run: `cargo xtask torture
//! kills --cycles 1000 --seed 7`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use offsite_model::Luck as _;
use offsite_testkit::SeededLuck;
use offsite_tests::pairing::Pair;
use offsite_tests::{Daemon, Program, Scene, pause};

const VOLUME_BYTES: usize = 6 << 20;
/// Cycles on every change.
const CYCLES_CI: u64 = 200;
/// Storms at once: most of a cycle is waiting for daemons to start and for drawn moments.
const LANES: u64 = 4;

/// SHA-256 by a program that is not ours.
#[track_caller]
fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap().to_owned()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

/// What the oracle knows.
#[derive(Default)]
struct Oracle {
    /// SHA-256 of the machine as each point must show it.
    points: BTreeMap<String, String>,
    /// Points that the target has acknowledged, in order.
    acknowledged: Vec<String>,
}

#[derive(Debug, Default)]
struct Tally {
    kills: [u64; 2],
    /// Kills that ended what was under way.
    struck: u64,
    /// Commands that were not hit, or went on by themselves.
    unhurt: u64,
    restored: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        let Self { kills: [sources, targets], struck, unhurt, restored } = other;
        self.kills[0] += sources;
        self.kills[1] += targets;
        self.struck += struck;
        self.unhurt += unhurt;
        self.restored += restored;
    }
}

struct Storm {
    scene: Scene,
    luck: SeededLuck,
    target: Program,
    source: Program,
    target_daemon: Option<Daemon>,
    source_daemon: Option<Daemon>,
    volume: PathBuf,
    oracle: Oracle,
    tally: Tally,
    /// How long each kind of command takes when nobody is killed, in microseconds.
    usual: [u64; 2],
}

impl Storm {
    fn new(luck: SeededLuck) -> Self {
        let scene = Scene::new();
        let pair = Pair::paired_that_stays(&scene, |target, _| {
            // So that barriers fall within a cycle, too.
            target.configure("[replication]", "barrier = \"1 MiB\"");
        });
        let Pair { target, target_daemon, source, source_daemon } = pair;
        let volume = scene.path().join("web.img");
        let mut bytes = vec![0; VOLUME_BYTES];
        luck.fill(&mut bytes);
        std::fs::write(&volume, bytes).unwrap();
        Self {
            scene,
            luck,
            target,
            source,
            target_daemon: Some(target_daemon),
            source_daemon: Some(source_daemon),
            volume,
            oracle: Oracle::default(),
            tally: Tally::default(),
            usual: [200_000; 2],
        }
    }

    /// The machine goes on: a few pieces of its volume are written.
    fn change(&self) {
        let file: File = OpenOptions::new().write(true).open(&self.volume).unwrap();
        for _ in 0..self.luck.between(1, 8) {
            let mut piece = vec![0; self.luck.between(1, 300_000) as usize];
            if !self.luck.chance(1, 5) {
                self.luck.fill(&mut piece);
            }
            let place = self.luck.below((VOLUME_BYTES - piece.len()) as u64);
            file.write_all_at(&piece, place).unwrap();
        }
    }

    fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = self.source.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs a command of the source; kills a side at a random moment of it, if one is given.
    /// Whether the command was acknowledged.
    fn run(&mut self, kind: usize, arguments: &[&str], victim: Option<Side>) -> bool {
        let began = Instant::now();
        let mut child = self.begin(arguments);
        let Some(victim) = victim else {
            let is_good = child.wait().unwrap().success();
            let micros = u64::try_from(began.elapsed().as_micros()).unwrap();
            self.usual[kind] = (self.usual[kind] + micros) / 2;
            return is_good;
        };
        pause(std::time::Duration::from_micros(self.luck.below(self.usual[kind] * 5 / 4)));
        let was_over = child.try_wait().unwrap().is_some();
        let daemon = match victim {
            Side::Source => &mut self.source_daemon,
            Side::Target => &mut self.target_daemon,
        };
        daemon.take().unwrap().kill_9();
        self.tally.kills[usize::from(victim == Side::Target)] += 1;
        if victim == Side::Target && self.luck.chance(1, 4) {
            // The store as the kill has left it, opened by another process.
            self.bring_one_back();
        }
        // What goes on by itself finds the other side again.
        match victim {
            Side::Source => self.source_daemon = Some(self.source.serve()),
            Side::Target => self.target_daemon = Some(self.target.serve()),
        }
        let is_good = child.wait().unwrap().success();
        match is_good || was_over {
            true => self.tally.unhurt += 1,
            false => self.tally.struck += 1,
        }
        is_good
    }

    /// Points that are new belong to the version that was protected since the last look.
    fn note_points(&mut self, version: &str) -> Vec<String> {
        let listed = self.source.json(&["points", "list", "web"]);
        let ids = listed.as_array().unwrap().iter();
        let ids: Vec<String> = ids.map(|row| row["id"].as_str().unwrap().to_owned()).collect();
        let is_new = |id: &&String| !self.oracle.points.contains_key(*id);
        let new: Vec<String> = ids.iter().filter(is_new).cloned().collect();
        assert!(new.len() <= 1, "one protection made two points: {new:?}");
        for id in new {
            self.oracle.points.insert(id, version.to_owned());
        }
        for known in self.oracle.points.keys() {
            assert!(ids.contains(known), "point {known} is lost at the source");
        }
        ids
    }

    fn restore(&mut self, point: &str) -> String {
        let to = self.scene.path().join("back.img");
        let place = to.to_str().unwrap();
        let arguments = ["restore", "web", "root", "--to", place, "--point", point, "--offline"];
        self.target.json(&arguments);
        let digest = sha256(&to);
        std::fs::remove_file(&to).unwrap();
        self.tally.restored += 1;
        digest
    }

    /// Brings a random acknowledged point back while no daemon has the store.
    fn bring_one_back(&mut self) {
        let n = self.oracle.acknowledged.len() as u64;
        if n == 0 {
            return;
        }
        let point = self.oracle.acknowledged[self.luck.below(n) as usize].clone();
        let digest = self.restore(&point);
        assert_eq!(digest, self.oracle.points[&point], "point {point} is not what it was");
    }

    fn cycle(&mut self) {
        self.change();
        let version = sha256(&self.volume);
        let n_before = self.oracle.points.len();
        let victim = self.luck.chance(1, 4).then_some(Side::Source);
        let was_made = self.run(0, &["protect", "web", "--json"], victim);
        self.note_points(&version);
        let is_there = self.oracle.points.len() > n_before;
        assert!(is_there || !was_made, "an acknowledged point is lost at the source");
        let victim = match self.luck.below(8) {
            0..=3 => Some(Side::Target),
            4..=6 => Some(Side::Source),
            _ => None,
        };
        let points = self.note_points(&version);
        if self.run(1, &["replicate", "web", "--wait", "--json"], victim) {
            self.oracle.acknowledged = points;
        }
    }

    /// Everything crosses, and every point comes back from the target bit for bit.
    fn judge(&mut self) {
        let version = sha256(&self.volume);
        let points = self.note_points(&version);
        self.source.json(&["replicate", "web", "--wait"]);
        assert!(self.source_daemon.take().unwrap().stop().success());
        assert!(self.target_daemon.take().unwrap().stop().success());
        for point in points {
            let digest = self.restore(&point);
            assert_eq!(digest, self.oracle.points[&point], "point {point} is not what it was");
        }
        let drafts = self.target.data().join("store/drafts");
        let n_left = std::fs::read_dir(drafts).map_or(0, Iterator::count);
        assert_eq!(n_left, 0, "drafts are left of images that are committed");
    }
}

/// A storm of so many cycles; what happened in it.
fn storm(luck: SeededLuck, n_cycles: u64) -> Tally {
    let mut storm = Storm::new(luck);
    (0..n_cycles).for_each(|_| storm.cycle());
    storm.judge();
    storm.tally
}

#[test]
fn d_02_a_storm_of_kills_loses_no_point_that_was_acknowledged() {
    let n_cycles: u64 =
        std::env::var("OFFSITE_KILL_CYCLES").map_or(CYCLES_CI, |n| n.parse().unwrap());
    let luck = SeededLuck::from_env_or(1);
    let began = Instant::now();
    let mut sum = Tally::default();
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let luck = luck.split(&format!("lane {lane}"));
                scope.spawn(move || storm(luck, n_cycles.div_ceil(LANES)))
            })
            .collect();
        lanes.into_iter().for_each(|lane| sum.add(&lane.join().unwrap()));
    });
    eprintln!("{n_cycles} cycles, {} s: {sum:?}", began.elapsed().as_secs());
    let [sources, targets] = sum.kills;
    assert!(sources * 5 > n_cycles && targets * 4 > n_cycles, "too few kills: {sum:?}");
    assert!(sum.struck * 10 > n_cycles, "kills hit too little: {sum:?}");
}
