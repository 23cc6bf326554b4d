//! A source and a target on their way to being paired, by command line alone.

use std::path::Path;

use serde_json::Value;

use crate::program::{Daemon, Program};
use crate::scene::{Scene, eventually};

/// A source and a target with their daemons.
pub struct Pair {
    /// The target.
    pub target: Program,
    /// Its daemon.
    pub target_daemon: Daemon,
    /// The source, with one agent named `web`.
    pub source: Program,
    /// Its daemon.
    pub source_daemon: Daemon,
}

impl Pair {
    /// Both set up and serving; nothing asked yet.
    #[must_use]
    pub fn serving(scene: &Scene) -> Self {
        let target = scene.target("target");
        let target_daemon = target.serve();
        let source = scene.source("source");
        let source_daemon = source.serve();
        add_agent(&source, scene.path(), "web");
        Self { target, target_daemon, source, source_daemon }
    }

    /// Both set up, given settings of one's own (the target's come first), serving and paired; the
    /// target keeps its port when it is started again.
    #[must_use]
    pub fn paired_that_stays(scene: &Scene, settings: impl FnOnce(&Program, &Program)) -> Self {
        let target = scene.target_that_stays("target");
        let source = scene.source("source");
        settings(&target, &source);
        let target_daemon = target.serve();
        let source_daemon = source.serve();
        add_agent(&source, scene.path(), "web");
        request_and_accept(&target, &source, &[]);
        Self { target, target_daemon, source, source_daemon }
    }

    /// Both set up, serving and paired.
    #[must_use]
    pub fn paired(scene: &Scene) -> Self {
        let pair = Self::serving(scene);
        request_and_accept(&pair.target, &pair.source, &[]);
        pair
    }

    /// The pairing's state as the source tells it.
    #[must_use]
    pub fn state(&self) -> String {
        state(&self.source)
    }
}

/// Adds an agent with one small volume.
pub fn add_agent(source: &Program, folder: &Path, name: &str) {
    let image = folder.join(format!("{name}.img"));
    std::fs::write(&image, vec![7; 1 << 20]).unwrap();
    let volume = format!("root={}", image.display());
    source.json(&["agents", "add", name, "--volume", &volume]);
}

/// The pairing's state as the source tells it.
#[must_use]
pub fn state(source: &Program) -> String {
    source.json(&["pair", "status"])["state"].as_str().unwrap_or_default().to_owned()
}

/// Files the request for the agent `web`; returns what the command said.
#[track_caller]
pub fn request(target: &Program, source: &Program) -> Value {
    request_at(source, &target.address("replication"))
}

fn request_at(source: &Program, address: &str) -> Value {
    let url = format!("https://{address}");
    source.json(&["pair", "request", &url, "--agent", "web"])
}

/// The one pending request as the target lists it.
#[track_caller]
#[must_use]
pub fn pending(target: &Program) -> Value {
    eventually("the request is pending", || {
        let list = target.json(&["requests", "list"]);
        list.as_array()?.iter().find(|row| row["status"] == "pending").cloned()
    })
}

/// The id of a listed request, as a command takes it.
#[must_use]
pub fn id_of(request: &Value) -> String {
    match &request["request_id"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Requests, compares the codes as two people would, accepts, and waits until both sides are
/// active.
#[track_caller]
pub fn request_and_accept(target: &Program, source: &Program, options: &[&str]) -> Value {
    request(target, source);
    accept(target, source, options)
}

/// The same, where the source reaches the target at another address than the target listens at.
#[track_caller]
pub fn request_and_accept_at(target: &Program, source: &Program, address: &str) -> Value {
    request_at(source, address);
    accept(target, source, &[])
}

#[track_caller]
fn accept(target: &Program, source: &Program, options: &[&str]) -> Value {
    let listed = pending(target);
    let read_out = source.json(&["pair", "code"])["check_code"].as_str().unwrap().to_owned();
    assert_eq!(listed["check_code"], read_out.as_str(), "both consoles show one code");
    let id = id_of(&listed);
    target.json(&[&["requests", "accept", &id, "--code", &read_out], options].concat());
    eventually("the source is active", || (state(source) == "active").then_some(()));
    eventually("the target has an active source", || {
        let list = target.json(&["sources", "list"]);
        list.as_array()?.iter().find(|row| row["state"] == "active").cloned()
    })
}
