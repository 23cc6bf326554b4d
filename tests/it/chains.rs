//! Chains of recovery points: oldest first, and gaps filled, between real programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use offsite_model::Luck as _;
use offsite_testkit::SeededLuck;
use offsite_tests::pairing::Pair;
use offsite_tests::{Program, Scene};

const MIB: usize = 1 << 20;

/// SHA-256 by a program that is not ours.
#[track_caller]
fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap().to_owned()
}

/// The volume of the agent `web` over time: its points and the SHA-256 at each.
struct History {
    volume: PathBuf,
    luck: SeededLuck,
    points: Vec<(String, String)>,
}

impl History {
    fn begun(scene: &Scene, luck: SeededLuck) -> Self {
        let volume = scene.path().join("web.img");
        let mut bytes = vec![0; 6 * MIB + 5_000];
        luck.fill(&mut bytes[MIB..5 * MIB]);
        std::fs::write(&volume, bytes).unwrap();
        Self { volume, luck, points: Vec::new() }
    }

    /// Changes some of the volume, grows or shrinks it now and then, and makes a point.
    fn protect(&mut self, source: &Program) {
        let mut bytes = std::fs::read(&self.volume).unwrap();
        for _ in 0..3 {
            let at = self.luck.below(5 * MIB as u64) as usize;
            let n = self.luck.between(1, 100_000) as usize;
            if self.luck.chance(1, 3) {
                bytes[at..at + n].fill(0);
            } else {
                self.luck.fill(&mut bytes[at..at + n]);
            }
        }
        if self.luck.chance(1, 2) {
            bytes.resize(5 * MIB + self.luck.below(2 * MIB as u64) as usize + 100_000, 0);
        }
        std::fs::write(&self.volume, bytes).unwrap();
        let made = source.json(&["protect", "web"]);
        self.points.push((made["point"].as_str().unwrap().to_owned(), sha256(&self.volume)));
    }
}

/// Ids of the points that the target lists, oldest first.
#[track_caller]
fn listed(target: &Program) -> Vec<String> {
    let points = target.json(&["points", "list", "web"]);
    let point = |point: &serde_json::Value| {
        assert_eq!(point["state"], "ok", "{points}");
        point["id"].as_str().unwrap().to_owned()
    };
    points.as_array().unwrap().iter().map(point).collect()
}

/// Points in the order in which this target committed them, by its log.
fn committed(log: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| line.contains("image committed"));
    let point = |line: &str| {
        let at = line.find("point")? + "point".len();
        let id = line[at..].trim_start_matches(['=', '"', ':', ' ']);
        id.get(..36).map(str::to_owned)
    };
    lines.filter_map(point).collect()
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_chain_crosses_oldest_first_and_its_gaps_are_filled() {
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(1));
    let Pair { target, target_daemon, source, source_daemon: _daemon } =
        Pair::paired_that_stays(&scene, |_, _| {});
    let mut history = History::begun(&scene, luck);
    // Two arrive, and the target is kept as it was then.
    history.protect(&source);
    history.protect(&source);
    let first = source.json(&["replicate", "web", "--wait"]);
    assert_eq!(first["points"], 2, "{first}");
    target_daemon.stop();
    let before = scene.path().join("before");
    copy(target.data(), &before);
    // Three more, of which the middle one is announced, never sent, and deleted.
    for _ in 0..3 {
        history.protect(&source);
    }
    let cut = source.run(&["replicate", "web", "--wait", "--json"]);
    assert_ne!(cut.code, 0, "nobody was there");
    let (gone, _) = history.points.remove(3);
    source.json(&["points", "delete", &gone, "--yes"]);
    history.protect(&source);
    let target_daemon = target.serve();
    let second = source.json(&["replicate", "web", "--wait"]);
    assert_eq!(second["points"], 3, "{second}");
    let expected: Vec<String> = history.points.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(listed(&target), expected);
    assert_eq!(committed(&target_daemon.log()), expected[2..], "oldest first");
    // The target loses what came since the copy: the gap is filled before what is new is sent.
    target_daemon.stop();
    std::fs::remove_dir_all(target.data()).unwrap();
    copy(&before, target.data());
    history.protect(&source);
    let target_daemon = target.serve();
    let third = source.json(&["replicate", "web", "--wait"]);
    assert_eq!(third["points"], 4, "{third}");
    let expected: Vec<String> = history.points.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(listed(&target), expected);
    assert_eq!(committed(&target_daemon.log()), expected[2..], "oldest first");
    let again = source.json(&["replicate", "web", "--wait"]);
    assert_eq!((&again["points"], &again["records_sent"]), (&0.into(), &0.into()), "{again}");
    target_daemon.stop();
    for (n, (point, digest)) in history.points.iter().enumerate() {
        let to = scene.path().join(format!("back-{n}.img"));
        let place = to.to_str().unwrap();
        target.json(&["restore", "web", "root", "--to", place, "--point", point, "--offline"]);
        assert_eq!(&sha256(&to), digest, "point {n}");
    }
}
