//! The layer law: a crate names only crates of a strictly lower layer, and only the outside crates
//! that its line below allows. This table is the one place where that can be changed.

use super::finding::Finding;
use super::metadata::{Metadata, Package};

struct Line {
    name: &'static str,
    layer: u8,
    /// Crates from outside that it may name. A new one needs a sentence in the commit on what it
    /// replaces.
    outside: &'static [&'static str],
}

const fn line(name: &'static str, layer: u8, outside: &'static [&'static str]) -> Line {
    Line { name, layer, outside }
}

#[rustfmt::skip]
const TABLE: &[Line] = &[
    line("offsite-model", 0, &["blake3"]),
    line("offsite-proto", 1, &[
        "blake3", "bytes", "crc-fast", "jiff", "serde", "serde_json", "sha2", "thiserror",
        "unicode-normalization", "zerocopy", "zstd",
    ]),
    line("offsite-testkit", 1, &[]),
    // serde_json: the facts of a refusal are JSON values (proto::error), and the sender reads some.
    line("offsite-exchange", 2, &["serde", "serde_json", "thiserror"]),
    line("offsite-store", 2, &[
        "aws-lc-rs", "blake3", "crc-fast", "postcard", "redb", "serde", "thiserror", "xorf", "zerocopy",
        "zstd",
    ]),
    line("offsite-pki", 2, &[
        "aws-lc-rs", "rcgen", "rustls", "rustls-pki-types", "thiserror", "x509-parser", "zeroize",
    ]),
    line("offsite-volume", 2, &["thiserror"]),
    line("offsite-nbd", 2, &["thiserror"]),
    line("offsite-ntlm", 2, &["aws-lc-rs", "hmac", "md-5", "md4", "thiserror", "zeroize"]),
    line("offsite-content", 3, &["thiserror"]),
    line("offsite-upkeep", 3, &["serde"]),
    line("offsite-transport", 3, &[
        "bytes", "futures-util", "http", "http-body-util", "hyper", "hyper-util", "libc", "nix",
        "rustix", "rustls", "serde", "serde_json", "thiserror", "tokio", "tokio-rustls", "tokio-util",
        "tower", "tracing",
    ]),
    line("offsite-daemon", 3, &[
        "aws-lc-rs", "jiff", "rustix", "sd-notify", "serde", "thiserror", "tokio", "tokio-util", "toml",
        "tracing", "tracing-subscriber", "zeroize",
    ]),
    line("offsite-terminal", 3, &["comfy-table", "indicatif", "serde", "serde_json"]),
    line("offsite-jobs", 3, &["croner", "jiff", "thiserror", "tokio", "tokio-util", "tracing"]),
    line("offsite-console", 3, &["http", "http-body-util", "thiserror"]),
    line("offsite-source-core", 4, &[
        "bytes", "http", "jiff", "serde", "thiserror", "tokio", "tokio-util", "tracing", "zeroize",
    ]),
    line("offsite-target-core", 4, &[
        "argon2", "aws-lc-rs", "bytes", "http", "serde", "thiserror", "tokio", "tokio-util", "tracing",
        "unicode-normalization", "zeroize",
    ]),
    line("offsite-source", 5, PROGRAM),
    line("offsite-target", 5, PROGRAM),
    line("offsite-tests", 5, &[
        "anyhow", "http", "postcard", "proptest", "rcgen", "rustix", "rustls", "serde_json", "tempfile",
        "tokio", "tokio-rustls", "tokio-util", "x509-parser",
    ]),
    line("xtask", 5, &[
        "anyhow", "clap", "indicatif", "rustix", "serde", "serde_json", "tappers", "toml",
    ]),
];

const PROGRAM: &[&str] =
    &["anyhow", "clap", "http", "serde", "serde_json", "tokio", "tokio-util", "tracing", "zeroize"];

/// What any crate may use for its tests, wherever it is at home otherwise: none of these waits,
/// opens sockets or holds keys. postcard is here because a machine that is kept as a value must
/// come back from the encoding that keeps it.
const FOR_TESTS: &[&str] = &["postcard", "proptest", "serde_json", "tempfile"];

/// Families of crates with a home: the lowest layer that may name them, or the crates that may.
enum Home {
    From(u8),
    Only(&'static [&'static str]),
}

const POWERS: &[(&[&str], Home)] = &[
    // Rules do not wait; what waits is above them.
    (
        &["tokio", "tokio-util", "tokio-rustls", "hyper", "hyper-util", "http-body-util", "tower"],
        Home::From(3),
    ),
    // Libraries return errors that can be matched; only programs merely print them.
    (&["clap", "anyhow"], Home::From(5)),
    // offsite-tests plays hostile peers, which needs certificates and handshakes that ours refuse
    // to make.
    (
        &["rustls", "rustls-pki-types", "rcgen", "x509-parser", "tokio-rustls"],
        Home::Only(&["offsite-pki", "offsite-transport", "offsite-tests"]),
    ),
    // Everybody else sees rows, so that another catalog can stand in.
    (&["redb"], Home::Only(&["offsite-store"])),
    // Bytes on disk are the store's; offsite-tests reads them back to tell what was written.
    (&["postcard"], Home::Only(&["offsite-store", "offsite-tests"])),
];

/// Crates that must not be linked, with the reason.
const FORBIDDEN: &[(&str, &str)] = &[
    ("ring", "one cryptographic provider is linked, aws-lc-rs"),
    ("openssl", "TLS is rustls"),
    ("openssl-sys", "TLS is rustls"),
    ("native-tls", "TLS is rustls"),
    ("rustls-pemfile", "it is not kept up; rustls-pki-types reads PEM"),
    ("bincode", "it is given up; the catalog uses postcard"),
    ("sled", "it is given up; the catalog is redb"),
    ("rsa", "it leaks keys by timing"),
    ("memmap2", "a mapped file that shrinks kills the process"),
];

pub(crate) fn check(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in metadata.members() {
        check_member(package, &mut findings);
    }
    for (name, why) in FORBIDDEN {
        for linked in metadata.linked.iter().filter(|linked| linked.name == *name) {
            findings.push(Finding::new(
                linked.way.join(" → "),
                0,
                format!("{name} must not be linked: {why}"),
                "switch off the feature that brings it in, or leave out the crate",
            ));
        }
    }
    findings
}

fn check_member(package: &Package, findings: &mut Vec<Finding>) {
    let name = &*package.name;
    let Some(own) = TABLE.iter().find(|line| line.name == name) else {
        findings.push(Finding::new(
            name,
            0,
            "has no layer",
            "add a line for it in xtask/src/tidy/layers.rs",
        ));
        return;
    };
    for dependency in &package.dependencies {
        let edge = format!("{name} → {}", dependency.name);
        let is_dev = dependency.kind.as_deref() == Some("dev");
        let inside = TABLE.iter().find(|line| line.name == dependency.name);
        let broken = match inside {
            Some(other) if other.name == "offsite-testkit" && !is_dev && own.layer < 5 => {
                Some("testkit is for tests only".to_owned())
            }
            Some(other) if other.layer >= own.layer => Some(format!(
                "layer {} may name lower layers only, and this is layer {}",
                own.layer, other.layer
            )),
            Some(_) => None,
            None => broken_outside(own, &dependency.name, is_dev),
        };
        if let Some(what) = broken {
            let remedy =
                "move what is needed to a lower layer, return it as a value, or take another crate";
            findings.push(Finding::new(edge, 0, what, remedy));
        }
    }
}

fn broken_outside(own: &Line, name: &str, is_dev: bool) -> Option<String> {
    if is_dev && FOR_TESTS.contains(&name) {
        return None;
    }
    for (family, home) in POWERS.iter().filter(|(family, _)| family.contains(&name)) {
        let broken = match home {
            Home::From(layer) => {
                (own.layer < *layer).then(|| format!("from layer {layer} on only"))
            }
            Home::Only(homes) => {
                (!homes.contains(&own.name)).then(|| format!("only in {}", homes.join(", ")))
            }
        };
        if let Some(broken) = broken {
            return Some(format!("{} is at home {broken}", family.join(", ")));
        }
    }
    (!own.outside.contains(&name))
        .then(|| "this crate from outside is not on its line in xtask/src/tidy/layers.rs".into())
}

#[cfg(test)]
mod tests {
    use super::super::metadata::{Dependency, Linked};
    use super::*;

    fn member(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependency = |&(name, kind): &(&str, Option<&str>)| Dependency {
            name: name.to_owned(),
            kind: kind.map(str::to_owned),
        };
        let dependencies = dependencies.iter().map(dependency).collect();
        Package { id: name.to_owned(), name: name.to_owned(), dependencies, ..Package::default() }
    }

    fn said(packages: Vec<Package>) -> Vec<String> {
        let workspace_members = packages.iter().map(|package| package.id.clone()).collect();
        let metadata = Metadata { packages, workspace_members, linked: Vec::new() };
        check(&metadata).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn an_edge_that_does_not_go_down_is_spelled_out() {
        for (from, to) in [
            ("offsite-store", "offsite-pki"),
            ("offsite-model", "offsite-proto"),
            ("offsite-source-core", "offsite-target-core"),
            ("offsite-transport", "offsite-daemon"),
        ] {
            let said = said(vec![member(from, &[(to, None)])]);
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].starts_with(&format!("{from} → {to}: layer")), "{said:?}");
        }
    }

    #[test]
    fn what_goes_down_is_fine() {
        let packages = vec![
            member("offsite-store", &[("offsite-model", None), ("offsite-testkit", Some("dev"))]),
            member("offsite-tests", &[("offsite-testkit", None), ("tokio", None)]),
            member("offsite-exchange", &[("postcard", Some("dev")), ("serde_json", None)]),
        ];
        assert_eq!(said(packages), Vec::<String>::new());
    }

    #[test]
    fn powers_stay_at_home() {
        for (name, power, kind) in [
            ("offsite-exchange", "tokio", None),
            ("offsite-exchange", "postcard", None),
            ("offsite-exchange", "postcard", Some("build")),
            ("offsite-exchange", "tokio", Some("dev")),
            ("offsite-store", "tokio", Some("dev")),
            ("offsite-target-core", "rustls", None),
            ("offsite-target-core", "anyhow", None),
            ("offsite-target-core", "redb", None),
            ("offsite-daemon", "hyper-util", None),
            ("offsite-model", "serde", None),
            ("offsite-store", "offsite-testkit", None),
        ] {
            assert_eq!(said(vec![member(name, &[(power, kind)])]).len(), 1, "{name} → {power}");
        }
        assert!(said(vec![member("offsite-new", &[])])[0].contains("has no layer"));
    }

    #[test]
    fn no_line_of_the_table_allows_what_the_powers_forbid() {
        for line in TABLE {
            for name in line.outside {
                assert_eq!(broken_outside(line, name, false), None, "{} → {name}", line.name);
            }
        }
    }

    #[test]
    fn a_forbidden_crate_is_found_however_deep() {
        for (name, _) in FORBIDDEN {
            let way: Vec<String> = ["offsite-pki", "rcgen", name].map(str::to_owned).into();
            let linked = vec![Linked { name: way[2].clone(), version: "1.0.0".to_owned(), way }];
            let found = check(&Metadata { linked, ..Metadata::default() });
            let expected = format!("offsite-pki → rcgen → {name}: {name} must not be linked");
            assert!(found[0].to_string().starts_with(&expected), "{found:?}");
        }
    }
}
