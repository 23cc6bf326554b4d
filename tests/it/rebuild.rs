//! Stores that lost their catalogs and indexes are rebuilt, and both programs go on (C-08).

use std::fs;
use std::path::{Path, PathBuf};

use offsite_model::Luck as _;
use offsite_testkit::SeededLuck;
use offsite_tests::pairing::Pair;
use offsite_tests::{Program, Scene};

/// The volume of the agent `web`, changed from here on.
fn change(volume: &Path, luck: &SeededLuck, at: usize) {
    let mut bytes = fs::read(volume).unwrap();
    bytes.resize(6 << 20, 0);
    luck.fill(&mut bytes[at << 20..(at + 2) << 20]);
    fs::write(volume, bytes).unwrap();
}

fn protect(source: &Program) -> String {
    source.json(&["protect", "web"])["point"].as_str().unwrap().to_owned()
}

/// Takes the catalog and the key runs of a store away.
fn lose(program: &Program) {
    let store = program.data().join("store");
    fs::remove_file(store.join("catalog")).unwrap();
    for run in fs::read_dir(store.join("runs")).unwrap() {
        fs::remove_file(run.unwrap().path()).unwrap();
    }
}

fn restored(program: &Program, scene: &Scene, point: &str) -> Vec<u8> {
    let path: PathBuf = scene.path().join(format!("{point}.img"));
    let to = path.to_str().unwrap();
    program.json(&["restore", "web", "root", "--point", point, "--to", to]);
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    bytes
}

#[test]
fn c_08_both_programs_rebuild_a_store_without_its_catalog_and_go_on() {
    let scene = Scene::new();
    let Pair { target, target_daemon, source, source_daemon } =
        Pair::paired_that_stays(&scene, |_, _| {});
    let (volume, luck) = (scene.path().join("web.img"), SeededLuck::from_env_or(8));
    change(&volume, &luck, 0);
    let first = protect(&source);
    let bytes = fs::read(&volume).unwrap();
    change(&volume, &luck, 3);
    let second = protect(&source);
    source.json(&["replicate", "web", "--wait"]);
    // Removed for good at the source, which never gives its number to another.
    source.json(&["points", "delete", &second, "--yes"]);
    source.json(&["gc"]);
    for program in [&target, &source] {
        let ran = program.run(&["rebuild", "--json"]).expect_code(1);
        assert!(ran.json()["error"].to_string().contains("in use"), "{:?}", ran.json());
    }
    assert!(target_daemon.stop().success() && source_daemon.stop().success());
    for (program, points, purged) in [(&target, 2, 0), (&source, 1, 1)] {
        lose(program);
        let why = program.refuses_to_serve();
        assert!(why.contains("rebuild makes it again"), "{why}");
        let rebuilt = program.json(&["rebuild"]);
        assert_eq!(rebuilt["catalog_made"], true, "{rebuilt}");
        assert_eq!(
            (&rebuilt["points"], &rebuilt["points_purged"]),
            (&points.into(), &purged.into())
        );
        assert_eq!(
            (&rebuilt["in_doubt"], &rebuilt["missing"]),
            (&serde_json::json!([]), &0.into())
        );
        let again = program.json(&["rebuild"]);
        assert_eq!(again["catalog_made"], false, "{again}");
    }
    let _daemons = (target.serve(), source.serve());
    assert!(restored(&target, &scene, &first) == bytes);
    assert!(restored(&target, &scene, &second) == fs::read(&volume).unwrap());
    assert!(restored(&source, &scene, &first) == bytes);
    change(&volume, &luck, 1);
    let third = protect(&source);
    source.json(&["replicate", "web", "--wait"]);
    assert!(restored(&target, &scene, &third) == fs::read(&volume).unwrap());
    assert_eq!(target.json(&["verify"])["damaged"], 0);
}
