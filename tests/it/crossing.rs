//! A first replication of a large image that is disturbed on its way.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use offsite_model::Luck as _;
use offsite_testkit::SeededLuck;
use offsite_tests::pairing::Pair;
use offsite_tests::{Program, Scene, eventually};
use rustix::process::Signal;

const MIB: usize = 1 << 20;

/// SHA-256 by a program that is not ours.
#[track_caller]
fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap().to_owned()
}

#[track_caller]
fn restore(scene: &Scene, target: &Program, name: &str) -> PathBuf {
    let to = scene.path().join(name);
    target.json(&["restore", "web", "root", "--to", to.to_str().unwrap(), "--offline"]);
    to
}

/// Bytes of the records that the target has received so far.
fn stored_bytes(target: &Program) -> u64 {
    let segments = target.data().join("store/segments");
    let files = std::fs::read_dir(segments).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

const BARRIER_MIB: usize = 16;
const IMAGE_MIB: usize = 192;
/// A disturbance comes when so much has arrived.
const MOST_MIB: usize = 150;
/// So much crosses in a second: on a fast machine, too, a disturbance comes before the end.
const SPEED: &str = "32 MiB";

/// A first replication of an image that is partly across.
pub(crate) struct Crossing {
    pub(crate) scene: Scene,
    pub(crate) pair: Pair,
    volume: PathBuf,
    job: Child,
}

impl Crossing {
    /// More than so many MiB of it have arrived; the settings are the target's.
    pub(crate) fn under_way(seed: u64, arrived_mib: usize, settings: &[&str]) -> Self {
        let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(seed));
        let pair = Pair::paired_that_stays(&scene, |target, source| {
            let barrier = format!("barrier = \"{BARRIER_MIB} MiB\"");
            settings.iter().for_each(|setting| target.configure("[replication]", setting));
            target.configure("[replication]", &barrier);
            source.configure("[replication]", &format!("maxTransferSpeed = \"{SPEED}\""));
        });
        let volume = scene.path().join("web.img");
        let mut bytes = vec![0; IMAGE_MIB * MIB];
        luck.fill(&mut bytes);
        std::fs::write(&volume, &bytes).unwrap();
        pair.source.json(&["protect", "web"]);
        let job = pair
            .source
            .command(&["replicate", "web", "--wait", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("that much of the image has arrived", || {
            (stored_bytes(&pair.target) > (arrived_mib * MIB) as u64).then_some(())
        });
        Self { scene, pair, volume, job }
    }

    /// Ends the target's daemon and starts it again.
    pub(crate) fn end_target(&mut self, signal: Signal) {
        let pair = &mut self.pair;
        pair.target_daemon.signal(signal);
        eventually("the daemon ends", || (!pair.target_daemon.is_alive()).then_some(()));
        pair.target_daemon = pair.target.serve();
    }

    /// Stops the source's daemon, which must end soon; starts it again and has the rest sent, most
    /// of which has crossed already.
    #[track_caller]
    fn stop_source_and_go_on(self) {
        let Self { scene, mut pair, volume, job } = self;
        let began = Instant::now();
        pair.source_daemon.signal(Signal::TERM);
        eventually("the daemon ends", || (!pair.source_daemon.is_alive()).then_some(()));
        assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
        let cut = job.wait_with_output().unwrap();
        pair.source_daemon = pair.source.serve();
        let went_on = pair.source.json(&["replicate", "web", "--wait"]);
        let sent = went_on["wire_bytes_out"].as_u64().unwrap();
        // A job that was whole before the stop leaves nothing to send.
        let bound = (IMAGE_MIB - MOST_MIB + BARRIER_MIB + 64) * MIB;
        assert!(sent <= bound as u64, "{sent} bytes crossed, bound {bound}: {went_on}; {cut:?}");
        pair.target_daemon.stop();
        pair.source_daemon.stop();
        assert_eq!(sha256(&restore(&scene, &pair.target, "back.img")), sha256(&volume));
    }

    /// The job that was disturbed ends well, and the point comes back; how many bytes crossed.
    #[track_caller]
    pub(crate) fn comes_to_its_end(self) -> u64 {
        let Self { scene, pair, volume, job } = self;
        let ended = job.wait_with_output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        let stdout = String::from_utf8(ended.stdout).unwrap();
        let said: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
        pair.target_daemon.stop();
        pair.source_daemon.stop();
        assert_eq!(sha256(&restore(&scene, &pair.target, "back.img")), sha256(&volume));
        said["wire_bytes_out"].as_u64().unwrap()
    }

    /// The same, and a barrier and 64 MiB were sent again, at most.
    #[track_caller]
    pub(crate) fn ends_within_the_bound(self) {
        let sent = self.comes_to_its_end();
        let bound = (IMAGE_MIB + BARRIER_MIB + 64) * MIB + IMAGE_MIB * MIB / 100;
        assert!(sent >= (IMAGE_MIB * MIB) as u64, "not all of it crossed: {sent} bytes");
        assert!(sent <= bound as u64, "{sent} bytes crossed, bound {bound}");
    }
}

#[test]
fn e_09_kill_9_of_the_target_costs_a_barrier_and_what_was_under_way() {
    let mut crossing = Crossing::under_way(4, MOST_MIB, &[]);
    crossing.end_target(Signal::KILL);
    crossing.ends_within_the_bound();
}

#[test]
fn e_16_a_target_that_is_stopped_under_load_ends_soon_and_is_gone_on_with() {
    for seed in 6..9 {
        let mut crossing = Crossing::under_way(seed, MOST_MIB, &[]);
        let began = Instant::now();
        crossing.end_target(Signal::TERM);
        assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
        crossing.ends_within_the_bound();
    }
}

#[test]
fn e_16_a_source_that_is_stopped_under_load_ends_soon_and_is_gone_on_with() {
    for seed in 11..14 {
        Crossing::under_way(seed, MOST_MIB, &[]).stop_source_and_go_on();
    }
}
