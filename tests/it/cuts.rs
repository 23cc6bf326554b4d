//! A line that is cut at any byte of a conversation leaves each recovery point once.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use offsite_model::Luck as _;
use offsite_testkit::SeededLuck;
use offsite_tests::Scene;
use offsite_tests::pairing::{add_agent, request_and_accept_at};

/// SHA-256 by a program that is not ours.
#[track_caller]
fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap().to_owned()
}

/// Passes bytes on to the target, and cuts after so many of them.
pub(crate) struct Cutter {
    pub(crate) address: String,
    left: Arc<AtomicU64>,
    n_cuts: Arc<AtomicU64>,
}

impl Cutter {
    pub(crate) fn before(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (left, n_cuts) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::new(AtomicU64::new(0)));
        let (left_of, n_of) = (Arc::clone(&left), Arc::clone(&n_cuts));
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&target) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (left, n_cuts) = (Arc::clone(&left_of), Arc::clone(&n_of));
                    std::thread::spawn(move || pass(from, to, &left, &n_cuts));
                }
            }
        });
        Self { address, left, n_cuts }
    }

    /// Cuts once, after so many bytes both ways together.
    pub(crate) fn cut_after(&self, n_bytes: u64) {
        self.left.store(n_bytes, Ordering::SeqCst);
    }

    /// Lets everything through again; how many bytes were left to the cut that did not come.
    pub(crate) fn mend(&self) -> Option<u64> {
        Some(self.left.swap(u64::MAX, Ordering::SeqCst)).filter(|left| *left != u64::MAX)
    }

    /// How often it has cut.
    pub(crate) fn n_cuts(&self) -> u64 {
        self.n_cuts.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, left: &AtomicU64, n_cuts: &AtomicU64) {
    let mut piece = [0; 16 << 10];
    while let Ok(n @ 1..) = from.read(&mut piece) {
        let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            Some(if left == u64::MAX { left } else { left.saturating_sub(n as u64) })
        });
        let n_passed = usize::try_from(before.unwrap()).unwrap_or(usize::MAX).min(n);
        if to.write_all(&piece[..n_passed]).is_err() {
            break;
        }
        if n_passed < n {
            // Once; whatever is made next passes again.
            left.store(u64::MAX, Ordering::SeqCst);
            n_cuts.fetch_add(1, Ordering::SeqCst);
            break;
        }
    }
    let _closed = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// Pairs that work at once: most of a round is a pause before the next attempt.
const LANES: u64 = 5;
const ROUNDS: u64 = 52;
const CUTS_MIN: u64 = 200;

/// Protects and replicates so many times, each time over a line that is cut somewhere; how many
/// cuts there were.
fn rounds(luck: &SeededLuck) -> u64 {
    let scene = Scene::new();
    let target = scene.target_that_stays("target");
    let target_daemon = target.serve();
    let cutter = Cutter::before(target.address("replication"));
    let source = scene.source("source");
    let source_daemon = source.serve();
    add_agent(&source, scene.path(), "web");
    request_and_accept_at(&target, &source, &cutter.address);
    let volume = scene.path().join("web.img");
    let mut versions = Vec::new();
    let mut usual = 20_000;
    for round in 0..ROUNDS {
        let mut bytes = std::fs::read(&volume).unwrap();
        luck.fill(&mut bytes[..20_000]);
        std::fs::write(&volume, bytes).unwrap();
        let made = source.json(&["protect", "web"]);
        versions.push((made["point"].as_str().unwrap().to_owned(), sha256(&volume)));
        // Every eighth is let through, and tells how many bytes there are to cut at.
        let is_whole = round % 8 == 0;
        cutter.cut_after(if is_whole { u64::MAX - 1 } else { luck.below(usual) });
        let ran = source.run(&["replicate", "web", "--wait", "--json"]);
        let left = cutter.mend();
        if is_whole && let Some(left) = left {
            usual = u64::MAX - 1 - left;
        }
        if ran.code != 0 {
            source.json(&["replicate", "web", "--wait"]);
        }
    }
    let n_cuts = cutter.n_cuts();
    let again = source.json(&["replicate", "web", "--wait"]);
    assert_eq!((&again["points"], &again["records_sent"]), (&0.into(), &0.into()), "{again}");
    source_daemon.stop();
    target_daemon.stop();
    let left = std::fs::read_dir(target.data().join("store/drafts")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "drafts are left");
    for (n, (point, digest)) in versions.iter().enumerate() {
        let to = scene.path().join(format!("back-{n}.img"));
        let place = to.to_str().unwrap();
        target.json(&["restore", "web", "root", "--to", place, "--point", point, "--offline"]);
        assert_eq!(&sha256(&to), digest, "round {n}");
    }
    n_cuts
}

#[test]
fn e_14_a_line_cut_at_any_byte_leaves_each_point_once() {
    let luck = SeededLuck::from_env_or(10);
    let lanes: Vec<_> = (0..LANES).map(|lane| luck.split(&format!("lane {lane}"))).collect();
    let n_cuts: u64 = std::thread::scope(|scope| {
        let lanes: Vec<_> = lanes.iter().map(|luck| scope.spawn(|| rounds(luck))).collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).sum()
    });
    println!("{n_cuts} cuts in {} rounds", LANES * ROUNDS);
    assert!(n_cuts >= CUTS_MIN, "{n_cuts} cuts in {} rounds", LANES * ROUNDS);
}
