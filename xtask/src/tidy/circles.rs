//! No circles between the modules of a crate.
//!
//! A module is drawn for every file; an edge goes from the file that names something to the file
//! that defines it. A name that a module only passes on (`pub use`) counts for the module that
//! defines it, so a crate's front page may list what is inside. Tests and examples are not looked
//! at.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use super::source;
use super::tree::Tree;

/// Circles that are tolerated, as `crate: a → b → a`. This list is sorted and may only get shorter.
const NAUGHTY: &[&str] = &[
    "crates/store: commit → store → commit",
    "crates/store: draft → store → draft",
    "crates/store: index → index::run → index",
    "crates/store: lookup → store → lookup",
    "crates/store: recover → store → recover",
    "crates/store: session → store → draft → session",
    "crates/store: upkeep → store → recover → upkeep",
    "crates/target-core: replicas → replicas::live → replicas",
    "crates/target-core: target → replicas → target",
];

type Path = Vec<String>;

#[derive(Default)]
struct Module {
    /// Names passed on: the name here, and the path where it comes from.
    passed_on: BTreeMap<String, Path>,
    /// Paths named, as they are written.
    named: Vec<Path>,
}

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    check_but(tree, NAUGHTY)
}

fn check_but(tree: &Tree, tolerated: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = BTreeSet::new();
    for (krate, modules) in crates(tree) {
        for circle in circles(&modules) {
            let names: Vec<String> = circle.iter().map(|path| shown(path)).collect();
            let circle = format!("{krate}: {}", names.join(" → "));
            found.insert(circle.clone());
            if !tolerated.contains(&&*circle) {
                findings.push(Finding::new(
                    circle,
                    0,
                    "these modules name each other in a circle",
                    "sink the type that both need into a module below, or return a value upward",
                ));
            }
        }
    }
    for naughty in tolerated.iter().filter(|naughty| !found.contains(**naughty)) {
        findings.push(Finding::new(
            *naughty,
            0,
            "this circle is gone",
            "take it off the list in xtask/src/tidy/circles.rs",
        ));
    }
    findings
}

fn shown(path: &[String]) -> String {
    if path.is_empty() { "crate".to_owned() } else { path.join("::") }
}

/// The modules of each crate, by their path within it.
fn crates(tree: &Tree) -> BTreeMap<String, BTreeMap<Path, Module>> {
    let mut crates: BTreeMap<String, BTreeMap<Path, Module>> = BTreeMap::new();
    for (file, text) in tree.texts_of(".rs") {
        let Some((krate, place)) = file.split_once("/src/") else { continue };
        let is_free = file.starts_with("tests/") || file.starts_with("examples/");
        if is_free || source::is_test_file(place) {
            continue;
        }
        let mut path: Path = place.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if path.last().is_some_and(|last| matches!(&**last, "mod" | "lib" | "main")) {
            path.pop();
        }
        let module = read(&source::shipped(text));
        crates.entry(krate.to_owned()).or_default().insert(path, module);
    }
    crates
}

fn read(code: &str) -> Module {
    let mut module = Module::default();
    let tokens = tokens(code);
    let mut at = 0;
    // How deep we are in modules written within this file: their `super` stays in the file.
    let mut inline: Vec<usize> = Vec::new();
    let mut depth = 0_usize;
    while at < tokens.len() {
        match &*tokens[at] {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if inline.last() == Some(&depth) {
                    inline.pop();
                }
            }
            "mod" if tokens.get(at + 2).is_some_and(|token| token == "{") => {
                inline.push(depth);
            }
            "use" => {
                let is_public = at > 0 && matches!(&*tokens[at - 1], "pub" | ")");
                let mut leaves = Vec::new();
                at = use_tree(&tokens, at + 1, &Vec::new(), &mut leaves);
                for (path, name) in leaves {
                    let path = shortened(path, inline.len());
                    if is_public && inline.is_empty() {
                        module.passed_on.insert(name, path);
                    } else {
                        module.named.push(path);
                    }
                }
                continue;
            }
            word if is_word(word) => {
                let mut path = vec![word.to_owned()];
                while tokens.get(at + 1).is_some_and(|token| token == "::")
                    && tokens.get(at + 2).is_some_and(|token| is_word(token))
                {
                    path.push(tokens[at + 2].clone());
                    at += 2;
                }
                if path.len() > 1 {
                    module.named.push(shortened(path, inline.len()));
                }
            }
            _ => {}
        }
        at += 1;
    }
    module
}

fn shortened(mut path: Path, n_inline: usize) -> Path {
    for _ in 0..n_inline {
        if path.first().is_some_and(|first| first == "super") {
            path[0] = "self".to_owned();
        }
    }
    path
}

fn is_word(token: &str) -> bool {
    token.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    for line in code.lines() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let n = if is_word(rest) {
                rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_')
                    .unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                tokens.push(rest[..n].to_owned());
            }
            rest = &rest[n..];
        }
    }
    tokens
}

/// Reads one tree of a `use`; gives back the token after it.
fn use_tree(
    tokens: &[String],
    mut at: usize,
    before: &Path,
    leaves: &mut Vec<(Path, String)>,
) -> usize {
    let mut path = before.clone();
    while let Some(token) = tokens.get(at) {
        at += 1;
        match &**token {
            "::" => {}
            "{" => {
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = use_tree(tokens, at, &path, leaves);
                    if tokens.get(at).is_some_and(|token| token == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "as" => {
                let name = tokens.get(at).cloned().unwrap_or_default();
                leaves.push((path, name));
                return at + 1;
            }
            "," | "}" | ";" => {
                at -= 1;
                break;
            }
            "self" if !path.is_empty() => {}
            word => path.push(word.to_owned()),
        }
    }
    let name = path.last().cloned().unwrap_or_default();
    leaves.push((path, name));
    at
}

/// The module that defines what a path names, if it is one of this crate.
fn home(
    modules: &BTreeMap<Path, Module>,
    from: &Path,
    path: &[String],
    n_steps: usize,
) -> Option<Path> {
    // A name that is passed on in a ring has no home; the compiler says so better than we could.
    if n_steps > 16 {
        return None;
    }
    let (first, mut rest) = path.split_first()?;
    let here = match &**first {
        "crate" => Vec::new(),
        "self" => from.clone(),
        "super" => {
            let mut here = from.clone();
            here.pop()?;
            while let Some((_, after)) = rest.split_first().filter(|(next, _)| *next == "super") {
                here.pop()?;
                rest = after;
            }
            here
        }
        child => {
            let mut here = from.clone();
            here.push(child.to_owned());
            return modules.contains_key(&here).then(|| descend(modules, here, rest, n_steps))?;
        }
    };
    descend(modules, here, rest, n_steps)
}

fn descend(
    modules: &BTreeMap<Path, Module>,
    mut here: Path,
    mut rest: &[String],
    n_steps: usize,
) -> Option<Path> {
    while let Some((next, after)) = rest.split_first() {
        let mut below = here.clone();
        below.push(next.clone());
        if modules.contains_key(&below) {
            here = below;
            rest = after;
            continue;
        }
        if let Some(source) = modules.get(&here).and_then(|module| module.passed_on.get(next)) {
            let mut path = source.clone();
            path.extend_from_slice(after);
            // Passed on from another crate: then nothing of ours defines it.
            return home(modules, &here, &path, n_steps + 1);
        }
        break;
    }
    Some(here)
}

/// Each circle once, beginning at its first module by name.
fn circles(modules: &BTreeMap<Path, Module>) -> Vec<Vec<Path>> {
    let mut edges: BTreeMap<&Path, BTreeSet<Path>> = BTreeMap::new();
    for (path, module) in modules {
        let named = module.named.iter();
        let homes = named.filter_map(|named| home(modules, path, named, 0));
        let others = homes.filter(|home| home != path && modules.contains_key(home));
        edges.insert(path, others.collect());
    }
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for start in modules.keys() {
        if let Some(circle) = way_back(&edges, start) {
            let mut members = circle.clone();
            members.sort();
            members.dedup();
            if seen.insert(members) {
                circles.push(circle);
            }
        }
    }
    circles
}

/// The shortest way from a module back to itself.
fn way_back(edges: &BTreeMap<&Path, BTreeSet<Path>>, start: &Path) -> Option<Vec<Path>> {
    let mut ways = vec![vec![start.clone()]];
    let mut reached = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in way.last().and_then(|last| edges.get(last)).into_iter().flatten() {
                let mut way = way.clone();
                way.push(next.clone());
                if next == start {
                    return Some(way);
                }
                if reached.insert(next.clone()) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(files: &[(&str, &str)]) -> Vec<String> {
        check_but(&Tree::of(files), &[]).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_tolerated_circle_that_is_gone_must_leave_the_list() {
        let tree = Tree::of(&[
            ("crates/x/src/lib.rs", "mod a;\nmod b;\n"),
            ("crates/x/src/a.rs", "use crate::b::B;"),
            ("crates/x/src/b.rs", "use crate::a::A;"),
        ]);
        assert!(check_but(&tree, &["crates/x: a → b → a"]).is_empty());
        let said = check_but(&tree, &["crates/x: a → b → a", "crates/x: c → d → c"]);
        assert_eq!(said.len(), 1);
        assert!(said[0].to_string().contains("is gone; take it off"), "{said:?}");
        assert!(NAUGHTY.is_sorted());
    }

    #[test]
    fn two_modules_that_name_each_other_are_a_circle() {
        let said = said(&[
            ("crates/x/src/lib.rs", "mod a;\nmod b;\n"),
            ("crates/x/src/a.rs", "use crate::b::B;\n"),
            ("crates/x/src/b.rs", "fn f() { super::a::g(); }\n"),
        ]);
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("crates/x: a → b → a: "), "{said:?}");
    }

    #[test]
    fn a_longer_circle_and_one_with_the_front_page_are_found() {
        let three = said(&[
            ("crates/x/src/lib.rs", "mod a;"),
            ("crates/x/src/a.rs", "use crate::{b::{self, B}, other};"),
            ("crates/x/src/b.rs", "use crate::c::*;"),
            ("crates/x/src/c/mod.rs", "use super::a as alpha;"),
        ]);
        assert!(three[0].starts_with("crates/x: a → b → c → a"), "{three:?}");
        let front = said(&[
            ("crates/x/src/lib.rs", "mod a;\nstruct Top;\nfn f() { a::g() }"),
            ("crates/x/src/a.rs", "use crate::Top;"),
        ]);
        assert!(front[0].starts_with("crates/x: crate → a → crate"), "{front:?}");
    }

    #[test]
    fn passing_names_on_is_no_circle() {
        let plain = said(&[
            ("crates/x/src/lib.rs", "mod a;\nmod b;\npub use a::A;\npub use b::{B, C as D};\n"),
            ("crates/x/src/a.rs", "use crate::{B, D};\nuse std::fmt;"),
            ("crates/x/src/b.rs", "mod inner { use super::B; }\npub struct B;"),
        ]);
        assert_eq!(plain, Vec::<String>::new());
        let through = said(&[
            ("crates/x/src/lib.rs", "mod a;\nmod b;\npub use a::A;\n"),
            ("crates/x/src/a.rs", "use crate::b::B;"),
            ("crates/x/src/b.rs", "use crate::A;"),
        ]);
        assert_eq!(through.len(), 1, "a name that was passed on leads home: {through:?}");
    }

    #[test]
    fn tests_and_comments_do_not_count() {
        let said = said(&[
            ("crates/x/src/lib.rs", "mod a;\nmod b;\n"),
            ("crates/x/src/a.rs", "use crate::b::B;"),
            ("crates/x/src/b.rs", "// crate::a::A\n#[cfg(test)]\nmod tests { use crate::a::A; }\n"),
            ("crates/x/src/tests/c.rs", "use crate::a; use crate::tests::d;"),
        ]);
        assert_eq!(said, Vec::<String>::new());
    }
}
