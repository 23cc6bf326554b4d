//! One writer for one store: a second one is refused or shuts the first out, and a source that was
//! held up loses its lease and not its data.

use std::process::Command;

use offsite_testkit::SeededLuck;
use offsite_tests::{Daemon, Program, Scene, eventually};
use rustix::process::Signal;

use crate::commit_again::{Image, Life};
use crate::crossing::Crossing;

/// What has arrived when the target is held up: as much as fills a segment, so that the old writer
/// closes one that was cut under it.
const SEGMENT_MIB: usize = 64;
/// What has arrived when the source is held up: so little that a test on a busy machine may be late
/// by seconds and still comes before the commit, and so much that to send it again breaks the
/// bound.
const SOME_MIB: usize = 112;

/// Another target that has been set up and has taken the store of the first for its own.
fn second_over_the_store_of(scene: &Scene, first: &Program) -> Program {
    let second = scene.target("second");
    let store = second.data().join("store");
    std::fs::remove_dir_all(&store).unwrap();
    std::os::unix::fs::symlink(first.data().join("store"), store).unwrap();
    second
}

/// On a disk whose locks hold nobody, such as one that two machines reach over a network.
#[track_caller]
fn serve_without_locks(program: &Program) -> Daemon {
    let strace = ["-f", "-qqq", "-o", "/dev/null", "-e", "trace=flock", "-e"];
    program.serve_by("strace", &[&strace[..], &["inject=flock:retval=0"]].concat()).unwrap()
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
    let mut crossing = Crossing::under_way(21, SEGMENT_MIB, &[]);
    crossing.pair.target_daemon.signal(Signal::STOP);
    let target = &crossing.pair.target;
    let second = second_over_the_store_of(&crossing.scene, target);
    let taken_over = serve_without_locks(&second);
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
fn d_12_a_commit_behind_a_takeover_is_answered_lease_lost_and_goes_on_afterwards() {
    for round in 0..5 {
        let mut life = Life::begin(SeededLuck::from_env_or(40 + round));
        let image = Image::new(&life.scene, &life.source, 1);
        let (session, _) = life.open(&image);
        life.offer(&image, &session);
        let stopped = life.daemon.take().unwrap();
        stopped.signal(Signal::STOP);
        let taken_over = serve_without_locks(&second_over_the_store_of(&life.scene, &life.target));
        stopped.signal(Signal::CONT);
        let (status, said) = life.ask(&image, &session);
        let error = &said["error"];
        assert_eq!((status, &error["code"]), (409, &"lease_lost".into()), "{said}");
        assert_eq!(error["retryable"], true, "{said}");
        assert!(taken_over.stop().success());
        // Started again it is the newest writer, and the image is gone on with.
        life.daemon = Some(stopped);
        life.restart();
        let (session, state) = life.open(&image);
        assert_ne!(state, "Committed", "an old writer has committed");
        life.offer(&image, &session);
        assert_eq!(life.ask_session(&image, &session), Some(true));
        let points = life.target.json(&["points", "list", "files"]);
        assert_eq!(points.as_array().unwrap().len(), 1, "{points}");
    }
}

#[test]
fn d_12_a_source_that_is_held_up_loses_its_lease_and_not_what_it_sent() {
    let crossing = Crossing::under_way(9, SOME_MIB, &["lease = \"2s\""]);
    let (source, target) = (&crossing.pair.source_daemon, &crossing.pair.target_daemon);
    source.signal(Signal::STOP);
    eventually("the lease is over", || target.log().contains("its lease is").then_some(()));
    source.signal(Signal::CONT);
    // What expires is the session; its promises wait for whoever opens the image again.
    eventually("the source hears of it", || source.log().contains("session_expired").then_some(()));
    crossing.ends_within_the_bound();
}
