//! A-05 between real programs: another target, with a key of its own, answers at the address of the
//! one that was asked. The wire between them is laid anew at a chosen step.
//!
//! A source makes a connection for every step: a poll (P1) that learns of the decision, a
//! comparison of the clocks (45), the download of the certificates (P2 and P3), and the first call
//! that shows the issued one (45 again). So the number of connections that reach the true target
//! after its operator has accepted says which step meets the other one, whatever the pace. Before a
//! poll: `pairing`. At every step, against a target in the same process: `source-core`.

use offsite_tests::pairing::{add_agent, id_of, pending};
use offsite_tests::{Relay, Scene, eventually};

/// Pairs over a wire that carries so many connections to the true target once its operator has
/// accepted, and all later ones to another; returns the rows that the true one was asked then.
fn swapped_after(n_connections: usize) -> Vec<&'static str> {
    let scene = Scene::new();
    let (target, impostor) = (scene.target("target"), scene.target("impostor"));
    let (target_daemon, impostor_daemon) = (target.serve(), impostor.serve());
    let (truth, swapped) = (target.address("replication"), impostor.address("replication"));
    let source = scene.source("source");
    let source_daemon = source.serve();
    add_agent(&source, scene.path(), "web");
    let relay = Relay::to(&truth);
    let url = format!("https://{}", relay.address());
    source.json(&["pair", "request", &url, "--agent", "web"]);
    let request = pending(&target);
    let before = source.json(&["pair", "status"]);

    relay.hold();
    let told = target_daemon.log().len();
    let code = request["check_code"].as_str().unwrap();
    target.json(&["requests", "accept", &id_of(&request), "--code", code]);
    relay.carry(n_connections, &truth, &swapped);

    let alarm = eventually("the source raises the alarm", || {
        let status = source.json(&["pair", "status"]);
        (status["alarm"] == true).then_some(status)
    });
    let message = alarm["message"].as_str().unwrap();
    assert!(message.contains("another key") && message.contains("nothing was sent"), "{alarm}");
    assert_eq!(alarm["connection"], "authentication_error", "{alarm}");
    assert_eq!(alarm["target_fingerprint"], before["target_fingerprint"], "{alarm}");
    // The other target shook hands, saw them broken off, and was asked nothing.
    let log = impostor_daemon.log();
    assert!(log.contains("handshake failed"), "{log}");
    assert!(!log.contains("request{"), "something was asked of the impostor:\n{log}");
    let sources = target.json(&["sources", "list"]);
    let is_active = |row: &serde_json::Value| row["state"] == "active";
    assert!(!sources.as_array().unwrap().iter().any(is_active), "{sources}");

    // An alarm is for a person: neither time nor a new start goes on by itself.
    let n_carried = relay.n_carried();
    source_daemon.stop();
    let _source_daemon = source.serve();
    assert_eq!(source.json(&["pair", "status"])["alarm"], true);
    let (code, _) = source.refused(&["pair", "request", &url, "--agent", "web"], 1);
    assert_eq!(code, "wrong_state");
    assert_eq!(relay.n_carried(), n_carried, "something was sent after the alarm");

    let log = target_daemon.log();
    let asked = log[told..].lines().filter(|line| line.contains("answered"));
    let rows = ["P1", "P2", "P3", "45"];
    let row = |line: &str| rows.into_iter().find(|row| line.contains(&format!("row=\"{row}\"")));
    let mut asked: Vec<_> = asked.filter_map(row).collect();
    asked.sort_unstable();
    asked
}

#[test]
fn a_05_a_target_swapped_after_the_decision_gets_nothing() {
    assert_eq!(swapped_after(1), ["P1"]);
}

#[test]
fn a_05_a_target_swapped_before_the_download_gets_nothing() {
    assert_eq!(swapped_after(2), ["45", "P1"]);
}

#[test]
fn a_05_a_target_swapped_before_the_certificate_is_first_shown_gets_nothing() {
    assert_eq!(swapped_after(3), ["45", "P1", "P2", "P3"]);
}
