//! Versions, licences and sources of what we build on, checked without a network.
//!
//! **Absent:** advisories. Their database has to be fetched; `cargo deny` does that where it can.

use serde::Deserialize;

use super::finding::Finding;
use super::metadata::Metadata;
use super::tree::Tree;

/// The lowest version of a crate that may be locked, and what is wrong below it (F-11).
const FLOORS: &[(&str, [u64; 3], &str)] = &[
    ("h2", [0, 4, 16], "RUSTSEC-2026-0258"),
    ("rustls", [0, 23, 18], "a panic that a peer can cause"),
    ("rustls-webpki", [0, 103, 13], "errors in checking names and revocation"),
    ("hyper", [1, 5, 2], "fixes released after November 2024"),
    ("tracing-subscriber", [0, 3, 20], "RUSTSEC-2025-0055"),
    ("time", [0, 3, 47], "RUSTSEC-2026-0009"),
    ("redb", [4, 5, 0], "commits that were not safe in a crash"),
    ("bytes", [1, 11, 1], "RUSTSEC-2026-0007"),
    ("anyhow", [1, 0, 103], "RUSTSEC-2026-0190"),
];

/// Crates that may not even be locked.
const NEVER: &[(&str, &str)] = &[("rsa", "it leaks keys by timing")];

/// Licences under which we take code.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

const LOCK: &str = "Cargo.lock";

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
}

pub(crate) fn check(tree: &Tree, metadata: &Metadata) -> Vec<Finding> {
    let mut findings = match tree.text(LOCK).map(toml::from_str::<Lock>) {
        Some(Ok(lock)) => check_lock(&lock),
        _ => {
            vec![Finding::new(LOCK, 0, "absent or not understood", "run cargo build and commit it")]
        }
    };
    for linked in &metadata.linked {
        let package = metadata
            .packages
            .iter()
            .find(|package| package.name == linked.name && package.version == linked.version);
        let licence = package.and_then(|package| package.license.as_deref()).unwrap_or("not told");
        if !is_allowed(licence) {
            findings.push(Finding::new(
                linked.way.join(" → "),
                0,
                format!("its licence is {licence}"),
                "take another crate, or add the licence to dependencies.rs with a reason",
            ));
        }
    }
    findings
}

fn check_lock(lock: &Lock) -> Vec<Finding> {
    let mut findings = Vec::new();
    for locked in &lock.package {
        let place = format!("{LOCK}: {} {}", locked.name, locked.version);
        for (_, floor, why) in FLOORS.iter().filter(|floor| floor.0 == locked.name) {
            if version(&locked.version).is_none_or(|version| version < *floor) {
                let [major, minor, patch] = floor;
                findings.push(Finding::new(
                    &place,
                    0,
                    format!("below the floor {major}.{minor}.{patch} ({why})"),
                    format!("run cargo update -p {}", locked.name),
                ));
            }
        }
        for (_, why) in NEVER.iter().filter(|never| never.0 == locked.name) {
            findings.push(Finding::new(&place, 0, *why, "leave out the crate that brings it in"));
        }
        // A package without a source is one of ours.
        if locked.source.as_ref().is_some_and(|source| !source.starts_with("registry+")) {
            findings.push(Finding::new(
                &place,
                0,
                "does not come from the registry",
                "use a published version",
            ));
        }
    }
    findings
}

fn version(text: &str) -> Option<[u64; 3]> {
    let number = text.split(['-', '+']).next()?;
    let mut parts = number.split('.').map(str::parse);
    Some([parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?])
}

/// Whether one of the ways to read a licence expression is on the list.
fn is_allowed(licence: &str) -> bool {
    // The slash is how "or" was written before there were expressions.
    let spaced = licence.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let answer = any_of(&words, &mut at);
    answer && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize) -> bool {
    let mut answer = all_of(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        answer |= all_of(words, at);
    }
    answer
}

fn all_of(words: &[&str], at: &mut usize) -> bool {
    let mut answer = one(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        answer &= one(words, at);
    }
    answer
}

fn one(words: &[&str], at: &mut usize) -> bool {
    let Some(&word) = words.get(*at) else { return false };
    *at += 1;
    if word == "(" {
        let answer = any_of(words, at);
        let is_closed = words.get(*at) == Some(&")");
        *at += 1;
        return answer && is_closed;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        return LICENCES.contains(&&*format!("{word} WITH {exception}"));
    }
    LICENCES.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::super::metadata::{Linked, Package};
    use super::*;

    fn said(lock: &str) -> Vec<String> {
        let tree = Tree::of(&[(LOCK, lock)]);
        check(&tree, &Metadata::default()).iter().map(Finding::to_string).collect()
    }

    fn locked(name: &str, version: &str, source: &str) -> String {
        format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{source}\"\n")
    }

    #[test]
    fn f_11_a_crate_below_its_floor_is_found() {
        for (name, [major, minor, patch], _) in FLOORS {
            let at = |version: &str| said(&locked(name, version, "registry+x"));
            assert_eq!(at(&format!("{major}.{minor}.{patch}")), Vec::<String>::new());
            let below = match (minor, patch) {
                (0, 0) => format!("{}.99.99", major - 1),
                (minor, 0) => format!("{major}.{}.99", minor - 1),
                (minor, patch) => format!("{major}.{minor}.{}", patch - 1),
            };
            assert!(at(&below)[0].contains("below the floor"), "{name} {below}");
            assert!(at("garbage")[0].contains("below the floor"), "{name}");
        }
    }

    #[test]
    fn f_11_foreign_sources_and_never_crates_are_found() {
        assert!(said(&locked("x", "1.0.0", "git+https://example.org/x"))[0].contains("registry"));
        assert!(said(&locked("rsa", "1.0.0", "registry+x"))[0].contains("timing"));
        assert!(said("nonsense")[0].contains("not understood"));
    }

    #[test]
    fn licences_are_read_as_expressions() {
        for licence in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-2.0) AND Unicode-3.0",
            "GPL-2.0 OR Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(is_allowed(licence), "{licence}");
        }
        for licence in ["", "none", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT WITH x", "MIT MIT"] {
            assert!(!is_allowed(licence), "{licence}");
        }
    }

    #[test]
    fn a_crate_with_another_licence_is_found() {
        for (licence, n) in [(Some("MIT"), 0), (Some("GPL-3.0"), 1), (None, 1)] {
            let (name, version) = ("x".to_owned(), "1.0.0".to_owned());
            let package = Package {
                name: name.clone(),
                version: version.clone(),
                license: licence.map(str::to_owned),
                ..Package::default()
            };
            let way = vec![name.clone()];
            let metadata = Metadata {
                packages: vec![package],
                linked: vec![Linked { name, version, way }],
                ..Metadata::default()
            };
            let tree = Tree::of(&[(LOCK, "package = []")]);
            assert_eq!(check(&tree, &metadata).len(), n, "{licence:?}");
        }
    }
}
