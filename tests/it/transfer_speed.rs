//! `maxTransferSpeed`: a link that others need too.

use std::time::{Duration, Instant};

use offsite_model::Luck as _;
use offsite_testkit::SeededLuck;
use offsite_tests::pairing::{add_agent, request_and_accept};
use offsite_tests::{Program, Scene};

const MIB: usize = 1 << 20;
const VOLUME_MIB: usize = 5;
/// What the speed allows for these bytes. A quarter of a second may be made up, and nothing waits
/// for what goes last: half a MiB.
const AT_LEAST: Duration = Duration::from_millis(4_200);

#[track_caller]
fn timed(source: &Program, arguments: &[&str]) -> Duration {
    let begun = Instant::now();
    source.json(arguments);
    begun.elapsed()
}

/// The bound is from below: however fast the machine is, it must not be faster.
#[test]
fn what_goes_to_a_target_and_comes_back_keeps_the_speed_that_was_set() {
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(1));
    let target = scene.target("target");
    let _target_daemon = target.serve();
    let source = scene.source("source");
    source.configure("[replication]", "maxTransferSpeed = \"1 MiB\"");
    let _source_daemon = source.serve();
    add_agent(&source, scene.path(), "web");
    request_and_accept(&target, &source, &["--allow-restore"]);
    let mut bytes = vec![0; VOLUME_MIB * MIB];
    luck.fill(&mut bytes);
    std::fs::write(scene.path().join("web.img"), &bytes).unwrap();
    source.json(&["protect", "web"]);
    let there = timed(&source, &["replicate", "web", "--wait"]);
    assert!(there >= AT_LEAST, "{VOLUME_MIB} MiB went in {there:?}");
    // The source has lost what it kept, so all of it is brought.
    for segment in std::fs::read_dir(source.data().join("store/segments")).unwrap() {
        let path = segment.unwrap().path();
        let n_bytes = std::fs::metadata(&path).unwrap().len();
        std::fs::write(&path, vec![0; usize::try_from(n_bytes).unwrap()]).unwrap();
    }
    let to = scene.path().join("back.img");
    let from = target.address("replication");
    let back = ["restore", "web", "root", "--from", &from, "--to", to.to_str().unwrap()];
    let back = timed(&source, &back);
    assert!(back >= AT_LEAST, "{VOLUME_MIB} MiB came back in {back:?}");
    assert!(std::fs::read(&to).unwrap() == bytes, "another image came back");
}
