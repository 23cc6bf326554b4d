//! The example client, compiled outside the workspace with `offsite-proto` as its only crate of
//! ours.

use std::process::{Command, Stdio};

use offsite_tests::pairing::{id_of, pending};
use offsite_tests::{Scene, eventually};

const MANIFEST: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/pairing-client/Cargo.toml");

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).args(["--locked", "--manifest-path", MANIFEST]);
    command
}

#[test]
fn the_example_client_pairs() {
    let scene = Scene::new();
    let target = scene.target("target");
    let _daemon = target.serve();
    let status = cargo(&["build", "--quiet"]).status().unwrap();
    assert!(status.success(), "the example client does not build");
    let directory = scene.path().join("client");
    let address = target.address("replication");
    let mut client = cargo(&["run", "--quiet"])
        .args(["--", &address, "foreign"])
        .arg(&directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let row = pending(&target);
    let code = row["check_code"].as_str().unwrap().to_owned();
    target.json(&["requests", "accept", &id_of(&row), "--code", &code]);
    let ended = eventually("the client ends", || client.try_wait().unwrap());
    assert!(ended.success());
    let said = std::io::read_to_string(client.stdout.take().unwrap()).unwrap();
    assert!(said.contains(&format!("check code {code}")), "{said}");
    assert!(said.contains("pairing Active"), "{said}");
    assert!(directory.join("certificate.pem").is_file());
}

#[test]
fn no_runtime_and_no_tls_stand_under_the_protocol_crate() {
    let output =
        cargo(&["tree", "--edges", "normal", "--package", "offsite-proto", "--prefix", "none"])
            .output()
            .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(tree.contains("offsite-model"), "{tree}");
    for crate_name in ["tokio", "hyper", "rustls", "redb", "offsite-store"] {
        let named = tree.lines().any(|line| line.starts_with(&format!("{crate_name} ")));
        assert!(!named, "{crate_name} under offsite-proto:\n{tree}");
    }
}
