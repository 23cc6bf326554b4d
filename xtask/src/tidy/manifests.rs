//! Manifests: what the workspace promises holds for every crate in it.

use super::finding::Finding;
use super::tree::Tree;

const ROOT: &str = "Cargo.toml";

/// Lines that the root must have: the section, the line, and what it is for.
const PROMISES: &[(&str, &str, &str)] = &[
    ("[workspace.lints.rust]", "unsafe_code = \"forbid\"", "no unsafe code (F-08)"),
    ("[workspace.lints.rust]", "missing_docs = \"warn\"", "every public item has its sentence"),
    ("[workspace.lints.clippy]", "unwrap_used = \"warn\"", "no panics on what peers send (F-08)"),
    ("[workspace.lints.clippy]", "expect_used = \"warn\"", "no panics on what peers send (F-08)"),
    ("[workspace.lints.clippy]", "panic = \"warn\"", "no panics on what peers send (F-08)"),
    (
        "[workspace.lints.clippy]",
        "let_underscore_must_use = \"warn\"",
        "no result is dropped on the write path (D-19)",
    ),
    ("[workspace.lints.clippy]", "disallowed_methods = \"warn\"", "files and time (D-19)"),
    ("[profile.release]", "overflow-checks = true", "no number wraps in what we ship (F-06)"),
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let root = tree.text(ROOT).unwrap_or_default();
    for (section, line, what_for) in PROMISES {
        if !section_of(root, section).any(|known| known == *line) {
            let what = format!("{section} does not say {line}: {what_for}");
            findings.push(Finding::new(ROOT, 0, what, "put the line back"));
        }
    }
    for (path, text) in tree.texts_of("/Cargo.toml") {
        // What is built outside the workspace is not ours to ship.
        if path.starts_with("examples/") || path.starts_with("fuzz/") {
            continue;
        }
        if !section_of(text, "[lints]").any(|line| line == "workspace = true") {
            let remedy = "write [lints] and workspace = true under it";
            findings.push(Finding::new(path, 0, "does not take the workspace's lints", remedy));
        }
    }
    findings
}

fn section_of<'a>(manifest: &'a str, section: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = manifest.lines().map(str::trim).skip_while(move |line| *line != section);
    lines.skip(1).take_while(|line| !line.starts_with('['))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> String {
        let mut sections: Vec<&str> = PROMISES.iter().map(|promise| promise.0).collect();
        sections.dedup();
        let lines_of = |section: &&str| {
            let own = PROMISES.iter().filter(|promise| promise.0 == *section);
            format!("{section}\n{}\n", own.map(|own| own.1).collect::<Vec<_>>().join("\n"))
        };
        sections.iter().map(lines_of).collect()
    }

    fn said(root: &str, member: &str) -> Vec<String> {
        let tree = Tree::of(&[(ROOT, root), ("crates/x/Cargo.toml", member)]);
        check(&tree).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn f_08_every_crate_takes_the_lints_of_the_workspace() {
        let member = "[package]\nname = \"x\"\n[lints]\nworkspace = true\n";
        assert_eq!(said(&root(), member), Vec::<String>::new());
        for (_, line, _) in PROMISES {
            let without = root().replace(line, "");
            assert_eq!(said(&without, member).len(), 1, "{line}");
        }
        for member in ["", "[lints]\n[dependencies]\nworkspace = true\n", "[lints]\n"] {
            assert_eq!(said(&root(), member).len(), 1, "{member}");
        }
    }
}
