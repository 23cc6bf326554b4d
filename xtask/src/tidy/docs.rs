//! Documents: every source file says what it is for, links lead somewhere, the map names what
//! exists.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::tree::Tree;

const MAP: &str = "ARCHITECTURE.md";
const INDEX: &str = "docs/README.md";
const MAP_LINES_MAX: usize = 400;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts_of(".rs") {
        if !text.starts_with("//! ") {
            let what = "does not say in its first line what it is for";
            findings.push(Finding::new(path, 1, what, "begin it with a sentence after //!"));
        }
    }
    for (path, text) in tree.texts_of(".md") {
        // Templates become part of somebody's text and have no title of their own.
        if !path.starts_with(".github/") {
            check_title(path, text, &mut findings);
        }
        check_links(tree, path, text, &mut findings);
        check_verbs(tree, path, text, &mut findings);
    }
    if let Some(index) = tree.text(INDEX) {
        for path in tree.paths().filter(|path| path.ends_with(".md") && *path != INDEX) {
            let page = path.strip_prefix("docs/").filter(|page| !page.starts_with("notes/"));
            if page.is_some_and(|page| !index.contains(&format!("]({page})"))) {
                let remedy = "add a line for it there, or take the page out";
                findings.push(Finding::new(path, 0, format!("{INDEX} does not list it"), remedy));
            }
        }
    }
    match tree.text(MAP) {
        Some(text) => check_map(tree, text, &mut findings),
        None => findings.push(Finding::new(MAP, 0, "is absent", "write the map of the crates")),
    }
    findings
}

/// Lines outside fenced blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
            return None;
        }
        (!is_fenced).then_some((index + 1, line))
    })
}

fn check_title(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let titles: Vec<usize> =
        prose(text).filter(|(_, line)| line.starts_with("# ")).map(|(number, _)| number).collect();
    if titles.len() != 1 {
        let what = format!("has {} titles", titles.len());
        let line = titles.get(1).copied().unwrap_or(1);
        findings.push(Finding::new(path, line, what, "give it one line that begins with one #"));
    }
}

fn check_links(tree: &Tree, path: &str, text: &str, findings: &mut Vec<Finding>) {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    for (number, line) in prose(text) {
        for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let place = link.split(['#', ' ']).next().unwrap_or_default();
            if place.is_empty() || place.contains("://") || place.starts_with("mailto:") {
                continue;
            }
            if joined(folder, place).is_none_or(|place| !tree.has(&place)) {
                let what = format!("the link {link} leads nowhere");
                findings.push(Finding::new(path, number, what, "point it at a file of the tree"));
            }
        }
    }
}

fn joined(folder: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn in_backticks(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// A verb that is named in a document has a file.
fn check_verbs(tree: &Tree, path: &str, text: &str, findings: &mut Vec<Finding>) {
    if !tree.has("xtask/src/main.rs") {
        return;
    }
    for (number, line) in prose(text) {
        let verbs = in_backticks(line).filter_map(|words| words.strip_prefix("cargo xtask "));
        for verb in verbs.filter_map(|rest| rest.split_whitespace().next()) {
            let file = format!("xtask/src/{verb}");
            if !tree.has(&format!("{file}.rs")) && !tree.has(&file) {
                let what = format!("there is no verb {verb}");
                findings.push(Finding::new(path, number, what, "name a verb that exists"));
            }
        }
    }
}

fn check_map(tree: &Tree, text: &str, findings: &mut Vec<Finding>) {
    let n_lines = text.lines().count();
    if n_lines >= MAP_LINES_MAX {
        let what = format!("has {n_lines} lines");
        findings.push(Finding::new(MAP, 0, what, "move detail to a page under docs/"));
    }
    let words = words_of(tree);
    for (number, line) in prose(text) {
        for name in in_backticks(line) {
            if !exists(tree, &words, name) {
                let what = format!("`{name}` does not exist in the tree");
                findings.push(Finding::new(MAP, number, what, "name what is there"));
            }
        }
        if let Some((_, absence)) = line.split_once("**Absent:**")
            && !in_backticks(absence.rsplit_once('(').map_or("", |(_, keeper)| keeper))
                .any(|keeper| is_keeper(tree, keeper))
        {
            findings.push(Finding::new(
                MAP,
                number,
                "an absence that nothing keeps",
                "end the line with the name of its check in brackets, such as (`layers`)",
            ));
        }
    }
}

/// A check of tidy, or a file that a tool reads.
fn is_keeper(tree: &Tree, name: &str) -> bool {
    tree.has(&format!("xtask/src/tidy/{name}.rs")) || (name.contains('.') && tree.has(name))
}

/// Every word of every source and manifest, and every name of a file or folder.
fn words_of(tree: &Tree) -> BTreeSet<&str> {
    let mut words = BTreeSet::new();
    let is_letter = |letter: char| letter.is_alphanumeric() || letter == '_';
    for (path, text) in tree.texts() {
        if path.ends_with(".rs") || path.ends_with(".toml") {
            words.extend(text.split(|letter| !is_letter(letter)));
        }
    }
    for path in tree.paths() {
        words.extend(path.split('/').map(|part| part.split('.').next().unwrap_or(part)));
    }
    words
}

fn exists(tree: &Tree, words: &BTreeSet<&str>, name: &str) -> bool {
    // What has a blank in it is a command or a piece of code, not a name.
    if name.contains(' ') {
        return true;
    }
    if name.contains('/') || name.contains(".md") || name.contains(".toml") || name.contains(".rs")
    {
        let end = format!("/{}", name.trim_start_matches('/'));
        return tree.has(name) || tree.paths().any(|path| path.ends_with(&end));
    }
    name.split("::").all(|part| {
        let part = part.trim_end_matches("()").trim_end_matches('!');
        part.split('-').all(|part| part.is_empty() || words.contains(part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD_MAP: &str = "# Map\n\n`thing::Engine` in `src/thing.rs`\n";
    const SOURCE: (&str, &str) = ("crates/x/src/thing.rs", "//! A thing.\npub struct Engine;\n");
    const LAYERS: (&str, &str) = ("xtask/src/tidy/layers.rs", "//! Layers.\n");

    fn said(files: &[(&str, &str)]) -> Vec<String> {
        let mut files = files.to_vec();
        if files.iter().all(|(path, _)| *path != MAP) {
            files.push((MAP, GOOD_MAP));
        }
        files.extend([SOURCE, LAYERS]);
        check(&Tree::of(&files)).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_sound_tree_has_no_findings() {
        let page = "# Page\n\n[map](../ARCHITECTURE.md#top) [far](https://example.org) [up](..)\n\
                    ```\n# no title\n[no](link)\n```\n";
        assert_eq!(said(&[("docs/page.md", page)]), Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_found() {
        for (path, text, expected) in [
            ("crates/x/src/lib.rs", "pub fn f() {}\n", "lib.rs:1: does not say"),
            ("crates/x/src/lib.rs", "// A.\n//! B.\n", "lib.rs:1: does not say"),
            ("docs/page.md", "no title\n", "page.md:1: has 0 titles"),
            ("docs/page.md", "# One\n# Two\n", "page.md:2: has 2 titles"),
            ("docs/page.md", "# One\n[a](b.md)\n", "page.md:2: the link b.md leads nowhere"),
            ("docs/page.md", "# One\n[a](../../x)\n", "leads nowhere"),
            ("ARCHITECTURE.md", "# Map\n`Motor`\n", "ARCHITECTURE.md:2: `Motor` does not exist"),
            ("ARCHITECTURE.md", "# Map\n`src/gone.rs`\n", "does not exist"),
            ("ARCHITECTURE.md", "# Map\n**Absent:** x\n", "an absence that nothing keeps"),
            (
                "ARCHITECTURE.md",
                "# Map\n**Absent:** x (`thing`)\n",
                "an absence that nothing keeps",
            ),
        ] {
            let said = said(&[(path, text)]);
            assert_eq!(said.len(), 1, "{text:?}: {said:?}");
            assert!(said[0].contains(expected), "{said:?}");
        }
        let kept = said(&[("ARCHITECTURE.md", "# Map\n**Absent:** sockets (`layers`)\n")]);
        assert_eq!(kept, Vec::<String>::new());
        let long = format!("# Map\n{}", "x\n".repeat(MAP_LINES_MAX));
        assert!(said(&[("ARCHITECTURE.md", &long)])[0].contains("has 401 lines"));
    }

    #[test]
    fn a_page_that_nobody_leads_to_is_found() {
        let index = ("docs/README.md", "# Pages\n[a](a.md)\n");
        let files = [index, ("docs/a.md", "# A\n"), ("docs/notes/n.md", "# N\n")];
        assert_eq!(said(&files), Vec::<String>::new());
        let said = said(&[index, ("docs/a.md", "# A\n"), ("docs/b.md", "# B\n")]);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("docs/b.md: docs/README.md does not list it"));
    }

    #[test]
    fn a_verb_without_a_file_is_found() {
        let main = ("xtask/src/main.rs", "//! Verbs.\n");
        let page = "# Page\nRun `cargo xtask fly --high` or `cargo xtask tidy`.\n";
        let said = said(&[main, ("docs/page.md", page)]);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("no verb fly"));
    }
}
