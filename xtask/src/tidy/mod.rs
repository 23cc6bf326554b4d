//! `cargo xtask tidy`: what no compiler checks. It also runs as a test, so `cargo test` is enough.
//!
//! Every check is a function from the tree, held in memory, to findings; so each has a test that
//! shows it fail on a bad sample. Every finding ends with what to do.

mod circles;
mod dependencies;
mod docs;
mod finding;
mod layers;
mod manifests;
mod metadata;
mod rows;
mod sizes;
mod source;
mod tree;
mod words;
mod wrap;

use anyhow::Result;

use crate::cargo::root;
use crate::codegen;

use finding::Finding;
use metadata::Metadata;
use tree::Tree;

/// Every finding of every check, in order.
fn findings(tree: &Tree, metadata: &Metadata) -> Vec<Finding> {
    let mut findings = layers::check(metadata);
    findings.extend(dependencies::check(tree, metadata));
    findings.extend(manifests::check(tree));
    findings.extend(circles::check(tree));
    findings.extend(docs::check(tree));
    findings.extend(words::check(tree));
    findings.extend(tables(tree));
    findings.extend(rows::check(tree));
    findings.sort();
    findings
}

/// The tables that are written from the code.
fn tables(tree: &Tree) -> Option<Finding> {
    let page = tree.text(codegen::PAGE)?;
    let what = match codegen::filled(page) {
        Ok(filled) if filled == page => return None,
        Ok(_) => "a table differs from the code".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    Some(Finding::new(codegen::PAGE, 0, what, "run cargo xtask codegen"))
}

/// Breaks wide comments anew.
pub(crate) fn fix() -> Result<()> {
    let n_changed = wrap::fix(&Tree::load(&root())?)?;
    println!("tidy: {n_changed} files changed");
    Ok(())
}

/// Checks the tree, prints findings and the report of sizes.
pub(crate) fn run() -> Result<bool> {
    let tree = Tree::load(&root())?;
    let findings = findings(&tree, &Metadata::load()?);
    println!("{}", sizes::report(&tree));
    findings.iter().for_each(|finding| println!("{finding}"));
    println!("tidy: {} findings in {} files", findings.len(), tree.len());
    Ok(findings.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let tree = Tree::load(&root()).unwrap();
        let findings = findings(&tree, &Metadata::load().unwrap());
        let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert!(lines.is_empty(), "\n{}", lines.join("\n"));
    }
}
