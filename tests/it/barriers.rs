//! How often a real target asks its disk to be sure: counted from outside, by `strace`.

use std::path::{Path, PathBuf};

use offsite_model::Luck as _;
use offsite_testkit::SeededLuck;
use offsite_tests::pairing::Pair;
use offsite_tests::{Scene, require};

const MIB: usize = 1 << 20;
const SMALL_MIB: usize = 8;
const LARGE_MIB: usize = 96;
/// One barrier at the opening of a session and one commit, each of several files and directories.
const SYNCS_MAX: usize = 40;

/// Lines of the trace so far: one per sync.
fn n_syncs(trace: &Path) -> usize {
    let text = std::fs::read_to_string(trace).unwrap();
    text.lines().filter(|line| line.contains("sync(") && line.contains("= 0")).count()
}

#[test]
fn d_01_a_large_image_costs_no_more_syncs_than_a_small_one() {
    require("strace");
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(1));
    let mut pair = Pair::paired_that_stays(&scene, |_, _| {});
    pair.target_daemon.stop();
    let trace: PathBuf = scene.path().join("syncs");
    let calls = ["-f", "-qqq", "--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-o"];
    let strace = [&calls[..], &[trace.to_str().unwrap()]].concat();
    pair.target_daemon = pair.target.serve_by("strace", &strace).unwrap();
    let cost = |n_mib: usize| {
        let mut bytes = vec![0; n_mib * MIB];
        luck.fill(&mut bytes);
        std::fs::write(scene.path().join("web.img"), bytes).unwrap();
        pair.source.json(&["protect", "web"]);
        let before = n_syncs(&trace);
        let job = pair.source.json(&["replicate", "web", "--wait"]);
        assert_eq!(job["points"], 1, "{job}");
        n_syncs(&trace) - before
    };
    let (small, large) = (cost(SMALL_MIB), cost(LARGE_MIB));
    println!("{small} syncs for {SMALL_MIB} MiB, {large} for {LARGE_MIB} MiB");
    assert!(small > 0 && large < SYNCS_MAX, "{small} and {large} syncs");
    // Segments are longer than either; a sync per window or per record would show here.
    assert!(large <= small + 8, "{small} syncs for {SMALL_MIB} MiB, {large} for {LARGE_MIB} MiB");
}
