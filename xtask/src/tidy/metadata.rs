//! What cargo knows of our crates and of those beneath, for Linux.
//!
//! What is linked is asked of `cargo tree`: `cargo metadata` also names crates that a weak feature
//! could have switched on and did not.

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cargo::cargo;

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
    /// Every package that our crates link or build with, ours included.
    #[serde(skip)]
    pub(crate) linked: Vec<Linked>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `dev`, `build`, or absent for a normal one.
    pub(crate) kind: Option<String>,
}

/// A package that ends up in a program, and one way that leads to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Linked {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The names from one of our crates down to this one.
    pub(crate) way: Vec<String>,
}

impl Metadata {
    pub(crate) fn load() -> Result<Self> {
        let mut command = cargo();
        command.args(["metadata", "--format-version", "1", "--locked"]);
        command.args(["--filter-platform", PLATFORM]);
        let mut metadata: Self =
            serde_json::from_str(&output(command)?).context("cannot read cargo metadata")?;
        let mut command = cargo();
        command.args(["tree", "--workspace", "--locked", "--target", PLATFORM]);
        command.args(["--edges", "normal,build", "--prefix", "depth", "--format", " {p}"]);
        metadata.linked = linked(&output(command)?);
        Ok(metadata)
    }

    /// Our own crates.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }
}

const PLATFORM: &str = "x86_64-unknown-linux-gnu";

fn output(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("cargo printed no text")
}

/// Reads lines such as `2 rustls v0.23.46`, where the number is the depth below one of our crates.
fn linked(text: &str) -> Vec<Linked> {
    let mut linked: Vec<Linked> = Vec::new();
    let mut way: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(depth), Some(name), Some(version)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(depth) = depth.parse() else { continue };
        let version = version.trim_start_matches('v');
        way.truncate(depth);
        way.push(name.to_owned());
        if linked.iter().all(|known| known.name != name || known.version != version) {
            let (name, version) = (name.to_owned(), version.to_owned());
            linked.push(Linked { name, version, way: way.clone() });
        }
    }
    linked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_each_package_is_kept() {
        let text = "0 offsite-pki v0.1.0 (somewhere)\n1 rcgen v0.14.10\n2 time v0.3.55\n\
                    1 x509-parser v0.18.1\n2 time v0.3.55 (*)\n\n0 offsite-model v0.1.0 (there)\n\
                    1 blake3 v1.8.7\n";
        let ways: Vec<String> = linked(text).iter().map(|one| one.way.join(" ")).collect();
        let expected = [
            "offsite-pki",
            "offsite-pki rcgen",
            "offsite-pki rcgen time",
            "offsite-pki x509-parser",
            "offsite-model",
            "offsite-model blake3",
        ];
        assert_eq!(ways, expected);
    }
}
