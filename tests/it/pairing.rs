//! Pairing by request, as two people and their command lines live it.

use offsite_tests::pairing::{self, Pair, id_of, pending, request, state};
use offsite_tests::{Scene, eventually};

#[test]
fn two_people_compare_codes_and_the_pair_is_active() {
    let scene = Scene::new();
    let pair = Pair::serving(&scene);
    assert_eq!(pair.state(), "unpaired");
    let listed = pairing::request_and_accept(&pair.target, &pair.source, &[]);
    assert_eq!(listed["name"], "source");
    assert_eq!(listed["role"], "non-managed replication source");
    let status = pair.source.json(&["pair", "status"]);
    assert_eq!(status["connection"], "online", "{status}");
    let agents = pair.target.json(&["agents", "list"]);
    assert_eq!(agents[0]["name"], "web", "{agents}");
    assert!(pair.source_daemon.stop().success());
    assert!(pair.target_daemon.stop().success());
}

#[test]
fn a_rejection_shows_its_message_at_the_source() {
    let scene = Scene::new();
    let pair = Pair::serving(&scene);
    request(&pair.target, &pair.source);
    let id = id_of(&pending(&pair.target));
    let (code, _) = pair.target.refused(&["requests", "reject", &id, "--message", ""], 2);
    assert_eq!(code, "message_required");
    let message = "Call us first: +49 30 1234, and ask for \u{201c}Jana\u{201d}.";
    pair.target.json(&["requests", "reject", &id, "--message", message]);
    let waited = pair.source.run(&["pair", "wait", "--json"]).expect_code(3).json();
    assert!(waited.to_string().contains("Jana"), "{waited}");
    let status = pair.source.json(&["pair", "status"]);
    assert_eq!((&status["state"], &status["message"]), (&"rejected".into(), &message.into()));
    let (code, _) = pair.target.refused(&["requests", "accept", &id, "--without-code"], 3);
    assert_eq!(code, "already_resolved");
}

#[test]
fn a_04_wrong_codes_lock_the_request_until_it_is_filed_again() {
    let scene = Scene::new();
    let pair = Pair::serving(&scene);
    request(&pair.target, &pair.source);
    let first = pending(&pair.target);
    let accept = |id: &str, code: &str, exit| {
        pair.target.refused(&["requests", "accept", id, "--code", code], exit).0
    };
    for _ in 0..5 {
        assert_eq!(accept(&id_of(&first), "0000-0000-0000-0000", 3), "check_code_mismatch");
    }
    // The sixth entry is the right one, and comes too late.
    let right = first["check_code"].as_str().unwrap();
    assert_eq!(accept(&id_of(&first), right, 3), "check_code_mismatch");
    request(&pair.target, &pair.source);
    let second = pending(&pair.target);
    assert_ne!(second["check_code"], first["check_code"], "a new id makes a new code");
    let code = second["check_code"].as_str().unwrap();
    pair.target.json(&["requests", "accept", &id_of(&second), "--code", code]);
    eventually("active under the new code", || (pair.state() == "active").then_some(()));
}

#[test]
fn a_05_another_target_at_the_same_address_raises_an_alarm() {
    let scene = Scene::new();
    let Pair { target, target_daemon, source, source_daemon: _alive } = Pair::serving(&scene);
    request(&target, &source);
    let address = target.address("replication");
    target_daemon.stop();
    let impostor = scene.target_at("impostor", &address);
    let impostor_daemon = impostor.serve();
    let status = eventually("the source notices", || {
        let status = source.json(&["pair", "status"]);
        (status["alarm"] == true).then_some(status)
    });
    assert!(status["message"].as_str().unwrap().contains("another key"), "{status}");
    assert_eq!(status["connection"], "authentication_error");
    let log = impostor_daemon.log();
    assert!(!log.contains("request{"), "something was asked of the impostor:\n{log}");
}

#[test]
fn a_15_a_revoked_source_is_refused_at_once_and_deletes_nothing() {
    let scene = Scene::new();
    let pair = Pair::paired(&scene);
    let sources = pair.target.json(&["sources", "list"]);
    let id = sources[0]["source_id"].as_str().unwrap();
    pair.target.json(&["sources", "revoke", id]);
    eventually("the source learns of it", || (pair.state() == "ended").then_some(()));
    let agents = pair.source.json(&["agents", "list"]);
    assert_eq!(agents[0]["name"], "web", "nothing was deleted at the source");
    let agents = pair.target.json(&["agents", "list"]);
    assert_eq!(agents[0]["name"], "web", "nor at the target");
}

#[test]
fn a_13_a_renewed_certificate_takes_over() {
    let scene = Scene::new();
    let pair = Pair::paired(&scene);
    let key = pair.source.json(&["pair", "status"])["fingerprint"].clone();
    assert!(key.is_string());
    pair.source.json(&["pair", "renew"]);
    eventually("another key is in use", || {
        let status = pair.source.json(&["pair", "status"]);
        (status["fingerprint"] != key && status["state"] == "active").then_some(())
    });
    eventually("still online", || {
        (pair.source.json(&["pair", "status"])["connection"] == "online").then_some(())
    });
}

#[test]
fn unpairing_ends_both_sides_and_keeps_what_is_there() {
    let scene = Scene::new();
    let pair = Pair::paired(&scene);
    let name = pair.source.json(&["pair", "status"])["target"].as_str().unwrap().to_owned();
    pair.source.json(&["unpair", &name]);
    eventually("the source is unpaired", || {
        matches!(pair.state().as_str(), "unpaired" | "ended").then_some(())
    });
    eventually("the target knows", || {
        let sources = pair.target.json(&["sources", "list"]);
        sources.as_array()?.iter().all(|row| row["state"] != "active").then_some(())
    });
}

#[test]
fn a_withdrawn_request_is_no_longer_pending() {
    let scene = Scene::new();
    let pair = Pair::serving(&scene);
    request(&pair.target, &pair.source);
    let listed = pending(&pair.target);
    pair.source.json(&["pair", "withdraw"]);
    eventually("nothing is pending", || {
        let list = pair.target.json(&["requests", "list"]);
        list.as_array()?.iter().all(|row| row["status"] != "pending").then_some(())
    });
    let id = id_of(&listed);
    let (code, _) = pair.target.refused(&["requests", "accept", &id, "--without-code"], 4);
    assert_eq!(code, "request_unknown");
}

#[test]
fn a_restart_of_either_side_loses_nothing() {
    let scene = Scene::new();
    let Pair { target, target_daemon, source, source_daemon } = Pair::paired(&scene);
    let fingerprint = target.json(&["fingerprint"]);
    source_daemon.kill_9();
    target_daemon.kill_9();
    let _target = target.serve();
    let _source = source.serve();
    assert_eq!(target.json(&["fingerprint"]), fingerprint);
    assert_eq!(state(&source), "active");
}
