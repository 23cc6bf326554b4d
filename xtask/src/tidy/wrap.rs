//! `cargo xtask tidy --fix`: comments that are too wide are broken anew; the formatter leaves them
//! alone.

use std::fs;

use anyhow::{Context, Result};

use super::tree::Tree;
use super::words::COLUMNS_MAX;
use crate::cargo::root;

/// Breaks every paragraph of comment that has a line too wide, and tells how many files changed.
pub(crate) fn fix(tree: &Tree) -> Result<usize> {
    let mut n_changed = 0;
    for (path, text) in tree.texts_of(".rs") {
        let fixed = fixed(text);
        if fixed != text {
            fs::write(root().join(path), fixed).with_context(|| format!("cannot write {path}"))?;
            n_changed += 1;
        }
    }
    Ok(n_changed)
}

fn fixed(text: &str) -> String {
    let mut fixed = String::new();
    let mut is_fenced = false;
    // Lines of one paragraph, without their mark; and the mark with its indent.
    let mut paragraph: Vec<&str> = Vec::new();
    let mut mark = "";
    for line in text.lines() {
        let (own_mark, words) = split(line);
        if words.starts_with("```") {
            is_fenced = !is_fenced;
        }
        // Lists, tables, titles and drawings keep their lines.
        let is_prose = !own_mark.is_empty()
            && !is_fenced
            && words.strip_prefix(' ').is_some_and(|words| {
                words.starts_with(|first: char| {
                    first.is_alphanumeric() || "`[*\"(‘“".contains(first)
                }) && !words.starts_with("* ")
            });
        if !is_prose || own_mark != mark {
            flush(&mut fixed, mark, &mut paragraph);
        }
        if is_prose {
            mark = own_mark;
            paragraph.push(words);
        } else {
            fixed.push_str(line);
            fixed.push('\n');
        }
    }
    flush(&mut fixed, mark, &mut paragraph);
    fixed
}

/// The indent and mark of a line that is all comment, and the rest; no mark for any other line.
fn split(line: &str) -> (&str, &str) {
    let words = line.trim_start();
    let n_mark =
        ["//!", "///", "//"].iter().find(|mark| words.starts_with(**mark)).map_or(0, |m| m.len());
    match n_mark {
        0 => ("", line),
        n_mark => line.split_at(line.len() - words.len() + n_mark),
    }
}

fn flush(fixed: &mut String, mark: &str, paragraph: &mut Vec<&str>) {
    let lines: Vec<&str> = std::mem::take(paragraph);
    let width = |line: &str| mark.chars().count() + line.chars().count();
    if lines.iter().all(|line| width(line) <= COLUMNS_MAX) {
        lines.iter().for_each(|line| fixed.push_str(&format!("{mark}{line}\n")));
        return;
    }
    let mut line = String::new();
    for word in lines.iter().flat_map(|line| line.split_whitespace()) {
        if width(&line) + 1 + word.chars().count() > COLUMNS_MAX && !line.is_empty() {
            fixed.push_str(&format!("{mark}{line}\n"));
            line.clear();
        }
        line.push(' ');
        line.push_str(word);
    }
    fixed.push_str(&format!("{mark}{line}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_paragraph_is_broken_and_nothing_else_changes() {
        let word = "x".repeat(30);
        let wide = format!(
            "    /// {word} {word} {word} {word}\n    /// tail\n    ///\n    /// * {word}\n"
        );
        let text =
            format!("//! Short.\n{wide}let a = 1; // {word}\n/// ```text\n/// {word}\n/// ```\n");
        let fixed = fixed(&text);
        let broken = wide.replace(
            &format!("{word} {word}\n    /// tail"),
            &format!("{word}\n    /// {word} tail"),
        );
        assert_eq!(fixed, text.replace(&wide, &broken));
        assert_ne!(fixed, text);
        assert_eq!(super::fixed(&fixed), fixed);
    }
}
