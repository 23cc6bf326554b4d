//! One writer for one store: a second one is refused or shuts the first out, and a source that was
//! held up loses its lease and not its data.

use std::process::Command;

use offsite_tests::{Program, Scene, eventually};
use rustix::process::Signal;

use crate::crossing::Crossing;

/// Another target that has been set up and has taken the store of the first for its own.
fn second_over_the_store_of(scene: &Scene, first: &Program) -> Program {
    let second = scene.target("second");
    let store = second.data().join("store");
    std::fs::remove_dir_all(&store).unwrap();
    std::os::unix::fs::symlink(first.data().join("store"), store).unwrap();
    second
}

#[test]
fn d_12_a_second_daemon_over_one_store_is_refused() {
    let scene = Scene::new();
    let first = scene.target("target");
    let daemon = first.serve();
    let said = first.refuses_to_serve();
    assert!(said.contains("is in use by process"), "{said}");
    let second = second_over_the_store_of(&scene, &first);
    let said = second.refuses_to_serve();
    assert!(said.contains("in use"), "{said}");
    // Whoever comes after the end of the first is let in.
    assert!(daemon.stop().success());
    assert!(second.serve().stop().success());
}

/// Whether this machine lets us make a mount namespace.
fn can_mount() -> bool {
    Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|ended| ended.success())
}

#[test]
fn d_12_a_second_daemon_through_a_bind_mount_is_refused() {
    if !can_mount() {
        println!("skipped: no mount namespace can be made here");
        return;
    }
    let scene = Scene::new();
    let first = scene.target("target");
    let _daemon = first.serve();
    let other = scene.path().join("elsewhere");
    std::fs::create_dir(&other).unwrap();
    let line = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    let (here, there) = (first.data().to_str().unwrap(), other.to_str().unwrap());
    let second = first.seen_at(other.clone());
    let said = second.serve_by("unshare", &["-m", "sh", "-c", line, "sh", here, there]).err();
    assert!(said.as_ref().is_some_and(|said| said.contains("in use")), "{said:?}");
}

#[test]
fn d_12_an_old_writer_that_goes_on_after_a_takeover_is_shut_out() {
    let mut crossing = Crossing::under_way(21, &[]);
    crossing.pair.target_daemon.signal(Signal::STOP);
    let target = &crossing.pair.target;
    let second = second_over_the_store_of(&crossing.scene, target);
    // A disk whose locks hold nobody, such as one that two machines reach over a network.
    let strace = ["-f", "-qqq", "-o", "/dev/null", "-e", "trace=flock", "-e"];
    let taken_over =
        second.serve_by("strace", &[&strace[..], &["inject=flock:retval=0"]].concat()).unwrap();
    crossing.pair.target_daemon.signal(Signal::CONT);
    let daemon = &crossing.pair.target_daemon;
    eventually("the old writer is shut out", || {
        daemon.log().contains("taken over by a later opening").then_some(())
    });
    let points = target.json(&["points", "list", "web"]);
    assert_eq!(points, serde_json::json!([]), "the old writer has committed");
    assert!(taken_over.stop().success());
    // Started again it is the newest writer, and what was cut goes on.
    crossing.end_target(Signal::TERM);
    crossing.comes_to_its_end();
}

#[test]
fn d_12_a_source_that_is_held_up_loses_its_lease_and_not_what_it_sent() {
    let crossing = Crossing::under_way(9, &["lease = \"2s\""]);
    let (source, target) = (&crossing.pair.source_daemon, &crossing.pair.target_daemon);
    source.signal(Signal::STOP);
    eventually("the lease is over", || target.log().contains("its lease is").then_some(()));
    source.signal(Signal::CONT);
    crossing.ends_within_the_bound();
}
