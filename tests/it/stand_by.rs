//! A connection to a target stands by before a job needs it.

use offsite_tests::pairing::{add_agent, request_and_accept_at};
use offsite_tests::{Relay, Scene};

#[test]
fn a_job_finds_the_connection_it_calls_over() {
    let scene = Scene::new();
    let target = scene.target("target");
    let _target_daemon = target.serve();
    let wire = Relay::to(&target.address("replication"));
    let source = scene.source("source");
    let source_daemon = source.serve();
    add_agent(&source, scene.path(), "web");
    request_and_accept_at(&target, &source, &wire.address());
    let is_at_hand = (0..20).any(|_| {
        // One that breaks is made again without anybody's asking.
        wire.cut();
        wire.wait_until_open(0);
        let n_carried = wire.wait_until_open(1);
        source.json(&["protect", "web"]);
        source.json(&["replicate", "web", "--wait"]);
        // What was open may have been a call of the pairing, which has a connection of its own.
        wire.n_carried() == n_carried
    });
    assert!(is_at_hand, "the job dialled, each time");
    source_daemon.stop();
    wire.wait_until_open(0);
}
