//! Retention by command line, over the real programs.

use offsite_tests::pairing::Pair;
use offsite_tests::{Program, Scene};
use serde_json::Value;

/// The points of the one agent, oldest first: id and state.
fn listed(target: &Program) -> Vec<(String, String)> {
    let points = target.json(&["points", "list", "web"]);
    let word = |point: &Value, key: &str| point[key].as_str().unwrap().to_owned();
    points
        .as_array()
        .unwrap()
        .iter()
        .map(|point| (word(point, "id"), word(point, "state")))
        .collect()
}

fn states(target: &Program) -> Vec<String> {
    listed(target).into_iter().map(|(_, state)| state).collect()
}

#[test]
fn what_is_deleted_is_listed_restores_and_comes_back_and_what_is_locked_stays() {
    let scene = Scene::new();
    let pair = Pair::paired(&scene);
    let (target, source) = (&pair.target, &pair.source);
    for _ in 0..3 {
        source.json(&["protect", "web"]);
    }
    assert_eq!(source.json(&["replicate", "web", "--wait"])["points"], 3);
    let ids: Vec<String> = listed(target).into_iter().map(|(id, _)| id).collect();

    // Nothing goes until somebody says so; a preview changes nothing.
    let shown = target.json(&["retention", "show"]);
    assert_eq!((&shown["default_policy"], &shown["soft_delete_days"]), (&"all".into(), &14.into()));
    let previewed = target.json(&["retention", "preview", "web", "--policy", "last=1"]);
    let points = previewed[0]["points"].as_array().unwrap();
    let kept: Vec<bool> = points.iter().map(|point| point["keep"].as_bool().unwrap()).collect();
    assert_eq!(kept, [true, false, false], "{previewed}");
    let set = target.json(&["retention", "set", "web", "last=5", "min-age=2d"]);
    assert_eq!(set["agents"][0]["policy"], "last=5 min-age=2d", "{set}");
    let wrong = target.run(&["retention", "set", "web", "newest=5"]).expect_code(2);
    assert!(wrong.stderr.contains("last="), "{wrong:?}");
    assert_eq!(states(target), ["ok"; 3]);

    // Deleted: listed, restored by its id and not as the latest, brought back.
    let deleted = target.json(&["points", "delete", &ids[2]]);
    assert_eq!(deleted["state"], "deleted");
    assert!(deleted["purge_at"].is_string(), "{deleted}");
    assert_eq!(states(target), ["ok", "ok", "deleted"]);
    let file = |name: &str| scene.path().join(name).to_str().unwrap().to_owned();
    let by_id = file("by-id");
    target.json(&["restore", "web", "root", "--to", &by_id, "--point", &ids[2]]);
    target.json(&["restore", "web", "root", "--to", &file("latest")]);
    target.json(&["points", "undelete", &ids[2]]);
    target.refused(&["points", "undelete", &ids[2]], 3);
    assert_eq!(states(target), ["ok"; 3]);
    let all = target.json(&["agents", "delete", "web"]);
    assert_eq!(all["points"], 3, "{all}");
    // The source does not send again what it finds deleted.
    let again = source.json(&["replicate", "web", "--wait"]);
    assert_eq!((&again["points"], &again["records_sent"]), (&0.into(), &0.into()), "{again}");
    ids.iter().for_each(|id| drop(target.json(&["points", "undelete", id])));

    // Locked: refused for the person who has the machine, too.
    let tenant = target.json(&["tenants", "list"])[0]["name"].as_str().unwrap().to_owned();
    target.json(&["tenants", "set", &tenant, "--lock", "30"]);
    let (code, message) = target.refused(&["points", "delete", &ids[0]], 3);
    assert!(code == "retention_locked" && message.contains("locked until"), "{message}");
    assert_eq!(target.refused(&["agents", "delete", "web"], 3).0, "retention_locked");
    assert_eq!(
        target.refused(&["tenants", "set", &tenant, "--lock", "29"], 3).0,
        "retention_locked"
    );
    assert_eq!(states(target), ["ok"; 3]);
    let audit = target.json(&["audit", "list"]).to_string();
    for event in ["retention_set", "deletion_asked", "deletion_undone", "refused", "data_read"] {
        assert!(audit.contains(event), "{event}: {audit}");
    }
}
