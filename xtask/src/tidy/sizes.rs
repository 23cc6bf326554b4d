//! A report, not a check: the longest files and functions, where a reader may want a cut.

use super::tree::Tree;

const N_SHOWN: usize = 5;

/// The longest files and functions of the tree, a line each.
pub(crate) fn report(tree: &Tree) -> String {
    let mut files = Vec::new();
    let mut functions = Vec::new();
    for (path, text) in tree.texts_of(".rs") {
        files.push((text.lines().count(), path.to_owned()));
        functions.extend(functions_of(text).map(|(n, line)| (n, format!("{path}:{line}"))));
    }
    let mut lines = vec!["longest files and functions, in lines".to_owned()];
    for mut longest in [files, functions] {
        longest.sort_by(|a, b| b.cmp(a));
        lines.extend(longest.iter().take(N_SHOWN).map(|(n, place)| format!("{n:>6}  {place}")));
    }
    lines.join("\n")
}

/// The length of each function and the line where it begins, as the formatter lays them out: from
/// the line with `fn` to the closing brace under it.
fn functions_of(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let starts = lines.clone().into_iter().enumerate().filter(|(_, line)| {
        let words = line.trim_start();
        words.starts_with("fn ") || (words.starts_with("pub") && words.contains(" fn "))
    });
    let lengths = starts.filter_map(move |(start, line)| {
        let indent = line.len() - line.trim_start().len();
        let close = format!("{}}}", &line[..indent]);
        let end = lines.iter().skip(start).position(|line| *line == close)?;
        Some((end + 1, start + 1))
    });
    lengths.collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_come_first() {
        let short = "fn a() {\n}\n";
        let long = "impl X {\n    pub(crate) fn b() {\n        c();\n        d();\n    }\n}\n";
        let report = report(&Tree::of(&[("a.rs", short), ("b.rs", long)]));
        let lines: Vec<&str> = report.lines().skip(1).map(str::trim).collect();
        assert_eq!(lines, ["6  b.rs", "2  a.rs", "4  b.rs:2", "2  a.rs:1"]);
    }
}
