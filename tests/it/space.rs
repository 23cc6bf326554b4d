//! Space comes back and damage is found, by command, with the real programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use offsite_model::Luck as _;
use offsite_testkit::SeededLuck;
use offsite_tests::pairing::{Pair, request_and_accept};
use offsite_tests::{Program, Scene};
use serde_json::Value;

const MIB: usize = 1 << 20;

/// SHA-256 by a program that is not ours.
#[track_caller]
fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap().to_owned()
}

/// Bytes of all files under a directory.
fn bytes_under(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_under(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}

fn segments(program: &Program) -> u64 {
    bytes_under(&program.data().join("store/segments"))
}

/// The volume of the agent `web`, of which some is written anew for each point.
struct Volume {
    path: PathBuf,
    luck: SeededLuck,
    points: Vec<(String, String)>,
}

impl Volume {
    fn new(scene: &Scene, seed: u64, n_mib: usize) -> Self {
        let (path, luck) = (scene.path().join("web.img"), SeededLuck::from_env_or(seed));
        let mut bytes = vec![0; n_mib * MIB];
        luck.fill(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        Self { path, luck, points: Vec::new() }
    }

    /// Writes so many MiB anew, from that one on, and makes a point.
    fn protect(&mut self, source: &Program, first: usize, n_mib: usize) {
        let mut bytes = std::fs::read(&self.path).unwrap();
        self.luck.fill(&mut bytes[first * MIB..(first + n_mib) * MIB]);
        std::fs::write(&self.path, bytes).unwrap();
        let made = source.json(&["protect", "web"]);
        self.points.push((made["point"].as_str().unwrap().to_owned(), sha256(&self.path)));
    }

    fn id(&self, n: usize) -> &str {
        &self.points[n].0
    }

    /// Restores some of the points, and compares.
    #[track_caller]
    fn check(&self, scene: &Scene, program: &Program, which: &[usize]) {
        for n in which {
            let to = scene.path().join("back.img");
            let (id, expected) = &self.points[*n];
            let place = to.to_str().unwrap();
            program.json(&["restore", "web", "root", "--to", place, "--point", id]);
            assert_eq!(sha256(&to), *expected, "point {n}");
            std::fs::remove_file(&to).unwrap();
        }
    }
}

fn ids(points: &Value) -> Vec<&str> {
    points.as_array().unwrap().iter().map(|point| point["id"].as_str().unwrap()).collect()
}

#[test]
fn a_deleted_point_gives_its_space_back_with_gc() {
    let scene = Scene::new();
    let source = scene.source("source");
    let _daemon = source.serve();
    let mut volume = Volume::new(&scene, 1, 24);
    let path = volume.path.to_str().unwrap().to_owned();
    source.json(&["agents", "add", "web", "--volume", &format!("root={path}")]);
    assert_eq!(source.json(&["gc"])["bytes_freed"], 0);
    volume.protect(&source, 0, 1);
    // All but a third is written anew.
    volume.protect(&source, 8, 16);
    let full = segments(&source);
    assert!(full > 39 * MIB as u64, "{full}");
    // No target is to have it, so nobody is asked.
    source.json(&["points", "delete", volume.id(0)]);
    let freed = source.json(&["gc", "--all"]);
    assert_eq!(freed["points_purged"], 1, "{freed}");
    assert!(freed["bytes_freed"].as_u64().unwrap() >= 15 * MIB as u64, "{freed}");
    assert_eq!(freed["doubts"].as_array().unwrap().len(), 0, "{freed}");
    let left = segments(&source);
    assert!(left < 25 * MIB as u64, "{left} of {full} bytes are left");
    assert_eq!(source.refused(&["points", "show", volume.id(0)], 4).0, "point_unknown");
    volume.check(&scene, &source, &[1]);
    assert_eq!(source.json(&["verify"])["damaged"], 0);
    // It is told where one looks.
    let status = source.json(&["status"]);
    assert!(status["upkeep"]["collected"]["bytes_freed"].as_u64().unwrap() > 0, "{status}");
    let jobs = source.json(&["jobs", "list"]);
    assert_eq!((&jobs[0]["kind"], &jobs[0]["state"]), (&"gc".into(), &"succeeded".into()));
    let told = source.run(&["gc"]).expect_code(0);
    assert!(told.stdout.contains("nothing to free"), "{}", told.stdout);
    let scrubbed = source.json(&["scrub"]);
    assert_eq!((&scrubbed["damaged"], &scrubbed["points"]), (&0.into(), &1.into()), "{scrubbed}");
    let status = source.run(&["status"]).expect_code(0).stdout;
    assert!(status.contains("no damage"), "{status}");
}

#[test]
fn what_a_target_lacks_is_deleted_only_by_who_says_so_and_numbers_are_never_used_again() {
    let scene = Scene::new();
    let Pair { target, target_daemon: _target_daemon, source, source_daemon: _daemon } =
        Pair::serving(&scene);
    let mut volume = Volume::new(&scene, 2, 8);
    request_and_accept(&target, &source, &[]);
    volume.protect(&source, 0, 1);
    let (code, message) = source.refused(&["points", "delete", volume.id(0)], 3);
    assert_eq!(code, "not_replicated", "{message}");
    let shown = source.json(&["points", "show", volume.id(0)]);
    assert_eq!(shown["lacking"].as_array().unwrap().len(), 1, "{shown}");
    source.json(&["replicate", "web", "--wait"]);
    let shown = source.json(&["points", "show", volume.id(0)]);
    assert_eq!(shown.get("lacking"), None, "{shown}");
    volume.protect(&source, 2, 1);
    source.json(&["replicate", "web", "--wait"]);
    // The newest point goes, with everything that remembers its number.
    source.json(&["points", "delete", volume.id(1)]);
    assert_eq!(source.json(&["gc", "--all"])["points_purged"], 1);
    volume.protect(&source, 4, 1);
    let sent = source.json(&["replicate", "web", "--wait"]);
    assert_eq!(sent["points"], 1, "{sent}");
    let listed = target.json(&["points", "list", "web"]);
    assert_eq!(ids(&listed), [volume.id(0), volume.id(1), volume.id(2)], "{listed}");
    volume.check(&scene, &target, &[0, 1, 2]);
    volume.check(&scene, &source, &[0, 2]);
    // Whose space it is adds up to what is there.
    let report = target.json(&["storage", "report"]);
    let tenant = &report["tenants"][0];
    let bytes = |of: &Value| of.as_u64().unwrap();
    let agent = &tenant["agents"][0];
    assert_eq!((&agent["agent"], &agent["points"]), (&"web".into(), &3.into()), "{report}");
    let rest: u64 =
        ["shared_bytes", "list_bytes", "other_bytes"].map(|part| bytes(&tenant[part])).iter().sum();
    assert_eq!(bytes(&agent["exclusive_bytes"]) + rest, bytes(&tenant["bytes"]), "{report}");
    let there = segments(&target) + bytes_under(&target.data().join("store/manifests"));
    assert_eq!((bytes(&tenant["bytes"]), bytes(&report["store"]["bytes"])), (there, there));
    let csv = target.run(&["storage", "report", "--csv"]).expect_code(0).stdout;
    let summed = csv.lines().skip(1).map(|line| line.split(',').nth(5).unwrap());
    let summed: u64 = summed.map(|cell| cell.parse::<u64>().unwrap()).sum();
    assert_eq!(summed, there, "{csv}");
}

#[test]
fn what_builds_on_a_point_that_is_gone_for_good_is_sent_all_the_same() {
    let scene = Scene::new();
    let Pair { target, target_daemon, source, source_daemon: _daemon } =
        Pair::paired_that_stays(&scene, |_, _| {});
    let mut volume = Volume::new(&scene, 3, 8);
    volume.protect(&source, 0, 1);
    source.json(&["replicate", "web", "--wait"]);
    for first in [2, 4, 6] {
        volume.protect(&source, first, 1);
    }
    // The target is away, so that the points are announced and not sent.
    target_daemon.stop();
    assert_ne!(source.run(&["replicate", "web", "--wait"]).code, 0);
    // What the target has, and what it has not.
    source.json(&["points", "delete", volume.id(0)]);
    source.json(&["points", "delete", volume.id(1), "--yes"]);
    assert_eq!(source.json(&["gc", "--all"])["points_purged"], 2);
    let _target_daemon = target.serve();
    let sent = source.json(&["replicate", "web", "--wait"]);
    assert_eq!(sent["points"], 2, "{sent}");
    let listed = target.json(&["points", "list", "web"]);
    assert_eq!(ids(&listed), [volume.id(0), volume.id(2), volume.id(3)], "{listed}");
    volume.check(&scene, &target, &[0, 2, 3]);
    let again = source.json(&["replicate", "web", "--wait"]);
    assert_eq!((&again["points"], &again["records_sent"]), (&0.into(), &0.into()), "{again}");
}

/// Flips a byte in the middle of some groups of a store's segments; how many bytes.
fn flip(data: &Path, every: usize) -> usize {
    let mut n_flipped = 0;
    for segment in std::fs::read_dir(data.join("store/segments")).unwrap().flatten() {
        let mut bytes = std::fs::read(segment.path()).unwrap();
        for at in (every..bytes.len().saturating_sub(every)).step_by(every) {
            bytes[at] ^= 0x55;
            n_flipped += 1;
        }
        std::fs::write(segment.path(), bytes).unwrap();
    }
    n_flipped
}

#[test]
fn d_08_a_scrub_of_the_target_finds_twenty_corruptions_and_the_source_heals_them() {
    let scene = Scene::new();
    let Pair { target, target_daemon, source, source_daemon: _daemon } =
        Pair::paired_that_stays(&scene, |_, _| {});
    let mut volume = Volume::new(&scene, 4, 24);
    volume.protect(&source, 0, 1);
    source.json(&["replicate", "web", "--wait"]);
    let well = target.json(&["scrub"]);
    assert_eq!((&well["damaged"], &well["points"]), (&0.into(), &1.into()), "{well}");
    target_daemon.stop();
    assert!(flip(target.data(), MIB) >= 20);
    let _target_daemon = target.serve();
    // A point that came since is readable throughout.
    let found = target.run(&["scrub", "--json"]).expect_code(6).json();
    let n_damaged = found["damaged"].as_u64().unwrap();
    assert!((20..30).contains(&n_damaged), "{found}");
    let hurt = &found["damage"][0]["points"][0];
    assert_eq!(*hurt, volume.id(0), "{found}");
    let status = target.json(&["status"]);
    assert_eq!(status["upkeep"]["scrubbed"]["damaged"], n_damaged, "{status}");
    let doctor = target.run(&["doctor"]).expect_code(1).stdout;
    assert!(doctor.contains("damaged parts since"), "{doctor}");
    // Nobody asks for it: the next job heals what was found.
    let healed = source.json(&["replicate", "web", "--wait"]);
    assert!(healed["records_healed"].as_u64().unwrap() >= n_damaged, "{healed}");
    volume.check(&scene, &target, &[0]);
    assert_eq!(target.json(&["scrub"])["damaged"], 0);
    // What is damaged is emptied, and kept where nobody reads it.
    let collected = target.json(&["gc"]);
    assert!(collected["bytes_quarantined"].as_u64().unwrap() > 0, "{collected}");
    assert!(bytes_under(&target.data().join("store/quarantine")) > 0);
    volume.check(&scene, &target, &[0]);
    assert_eq!(target.json(&["verify"])["damaged"], 0);
}

/// The reasons for which points stay, a point each.
fn whys(preview: &Value) -> Vec<String> {
    let why = |point: &Value| {
        let words = point["why"].as_array().unwrap().iter();
        words.map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join("+")
    };
    preview.as_array().unwrap().iter().map(why).collect()
}

#[test]
fn a_policy_takes_what_it_does_not_keep_and_waits_for_the_target() {
    let scene = Scene::new();
    let Pair { target, target_daemon: _target_daemon, source, source_daemon: _daemon } =
        Pair::serving(&scene);
    let mut volume = Volume::new(&scene, 5, 8);
    request_and_accept(&target, &source, &[]);
    let shown = source.json(&["retention", "show", "web"]);
    assert_eq!((&shown["policy"], &shown["inherited"]), (&"all".into(), &true.into()), "{shown}");
    for first in [0, 2, 4] {
        volume.protect(&source, first, 1);
    }
    assert_eq!(
        source.refused(&["retention", "set", "web", "--policy", "last"], 2).0,
        "bad_request"
    );
    source.json(&["retention", "set", "--policy", "last=2 min-age=1h"]);
    source.json(&["retention", "set", "web", "--policy", "last=1"]);
    assert_eq!(source.json(&["retention", "show"])["policy"], "last=2 min-age=1h");
    let preview = source.json(&["retention", "preview", "web"]);
    let awaited = "awaited by a target";
    let newest = format!("newest+{awaited}+last 1");
    assert_eq!(whys(&preview), [awaited, awaited, &*newest], "{preview}");
    assert_eq!(source.json(&["retention", "apply"]).as_array().unwrap().len(), 0);
    source.json(&["replicate", "web", "--wait"]);
    let preview = source.json(&["retention", "preview", "web"]);
    assert_eq!(whys(&preview), ["", "", "newest+last 1"], "{preview}");
    let other = source.json(&["retention", "preview", "web", "--policy", "last=2"]);
    assert_eq!(whys(&other), ["", "last 2", "newest+last 1"], "{other}");
    let gone = source.json(&["retention", "apply", "web"]);
    assert_eq!(gone.as_array().unwrap().len(), 2, "{gone}");
    assert_eq!(source.json(&["gc", "--all"])["points_purged"], 2);
    assert_eq!(ids(&source.json(&["points", "list", "web"])), [volume.id(2)]);
    // The target's points are the target's.
    assert_eq!(ids(&target.json(&["points", "list", "web"])).len(), 3);
    volume.check(&scene, &source, &[2]);
    volume.check(&scene, &target, &[0, 1, 2]);
    source.json(&["retention", "set", "web", "--inherit"]);
    assert_eq!(source.json(&["retention", "show", "web"])["policy"], "last=2 min-age=1h");
}
