//! The rows of the reliability requirements and the tests that show them, as `docs/security.md`
//! lists them.
//!
//! A test that carries a row's id in its name belongs on the page, with the break that turned it
//! red; and a test on the page exists. So nobody reads a claim that no test makes.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use super::source;
use super::tree::Tree;

const PAGE: &str = "docs/security.md";
const HEADER: [&str; 4] = ["id", "test", "break", "what turned red"];

struct Row {
    line: usize,
    cells: Vec<String>,
}

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.text(PAGE) else {
        return vec![Finding::new(PAGE, 0, "is absent", "write the page with its table")];
    };
    let Some(rows) = rows(page) else {
        let remedy = format!("begin it with | {} |", HEADER.join(" | "));
        return vec![Finding::new(PAGE, 0, "has no table of rows", remedy)];
    };
    let tests = tests(tree);
    let mut findings = Vec::new();
    let mut listed = BTreeSet::new();
    for row in &rows {
        check_row(row, &tests, &mut listed, &mut findings);
    }
    for (name, (path, line)) in tests.iter().filter(|(name, _)| !listed.contains(**name)) {
        let what = format!("the test {name} is not on {PAGE}");
        let remedy = "break what it guards, see it turn red, and add its row there";
        findings.push(Finding::new(*path, *line, what, remedy));
    }
    findings
}

fn check_row<'a>(
    row: &Row,
    tests: &BTreeMap<&'a str, (&str, usize)>,
    listed: &mut BTreeSet<&'a str>,
    findings: &mut Vec<Finding>,
) {
    let mut say =
        |what: String, remedy: &str| findings.push(Finding::new(PAGE, row.line, what, remedy));
    let [id, test, broken, red] = &*row.cells else {
        say(format!("a row of {} cells", row.cells.len()), "give it the four of the header");
        return;
    };
    let name = test.trim_matches('`');
    match tests.get_key_value(name) {
        Some((name, _)) => {
            listed.insert(name);
        }
        None => say(format!("there is no test {name}"), "write it, or take the row out"),
    }
    if id_of(name).as_deref() != Some(id) {
        say(format!("the name of {name} does not begin with {id}"), "rename one of them");
    }
    if broken.is_empty() || red.is_empty() {
        say(format!("nothing shows that {name} can fail"), "break it, see it turn red, say how");
    }
}

/// The rows of the page's table; none when the table is absent.
fn rows(page: &str) -> Option<Vec<Row>> {
    let cells = |line: &str| -> Option<Vec<String>> {
        let inside = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        // A bar within a cell is written with a backslash before it.
        let hidden = inside.replace("\\|", "\u{0}");
        Some(hidden.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect())
    };
    let mut lines = page.lines().enumerate();
    lines.find(|(_, line)| cells(line).is_some_and(|cells| cells == HEADER))?;
    let rows = lines
        .skip(1)
        .map_while(|(index, line)| Some(Row { line: index + 1, cells: cells(line)? }))
        .collect();
    Some(rows)
}

/// Every test whose name begins with the id of a row, and where it stands.
fn tests(tree: &Tree) -> BTreeMap<&str, (&str, usize)> {
    let mut tests = BTreeMap::new();
    for (path, text) in tree.texts_of(".rs") {
        let code = source::code(text);
        for (index, (line, code)) in text.lines().zip(code.lines()).enumerate() {
            let Some(at) = code.find("fn ") else { continue };
            // A comment or a text may hold the word; the blanked code tells.
            let Some(rest) = line.get(at + 3..).filter(|_| line.is_char_boundary(at)) else {
                continue;
            };
            let name = rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next();
            if let Some(name) = name.filter(|name| id_of(name).is_some()) {
                tests.insert(name, (path, index + 1));
            }
        }
    }
    tests
}

/// `A-18` for `a_18_another_user_reads_nothing`.
fn id_of(name: &str) -> Option<String> {
    let mut parts = name.split('_');
    let (letter, number) = (parts.next()?, parts.next()?);
    let is_area = matches!(letter, "a" | "b" | "c" | "d" | "e" | "f" | "g");
    let is_number = number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
    let says_more = parts.next().is_some_and(|rest| !rest.is_empty());
    (is_area && is_number && says_more).then(|| format!("{}-{number}", letter.to_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: (&str, &str) = (
        "crates/x/src/lib.rs",
        "//! X.\n// fn a_01_in_a_comment() {}\n#[test]\nfn a_18_keys_are_private() {}\n\
         fn a_b() {}\n",
    );
    const ROW: &str = "| A-18 | `a_18_keys_are_private` | mode 0644 | assertion \\| failed |\n";

    fn said(rows: &str) -> Vec<String> {
        let page =
            format!("# Page\n\n| {} |\n|---|---|---|---|\n{rows}\nmore\n", HEADER.join(" | "));
        check(&Tree::of(&[TESTS, (PAGE, &page)])).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_page_that_agrees_with_the_tests_is_fine() {
        assert_eq!(said(ROW), Vec::<String>::new());
    }

    #[test]
    fn each_disagreement_is_found() {
        for (rows, expected) in [
            (String::new(), "lib.rs:4: the test a_18_keys_are_private is not on"),
            (format!("{ROW}| A-19 | `a_19_gone` | x | y |\n"), "there is no test a_19_gone"),
            (ROW.replace("| A-18 |", "| A-17 |"), "does not begin with A-17"),
            (ROW.replace("mode 0644", ""), "nothing shows that"),
            (ROW.replace("assertion \\| failed", ""), "nothing shows that"),
            (format!("{ROW}| A-18 | x |\n"), "a row of 2 cells"),
        ] {
            let said = said(&rows);
            assert_eq!(said.len(), 1, "{rows}: {said:?}");
            assert!(said[0].contains(expected), "{said:?}");
        }
    }

    #[test]
    fn a_page_without_its_table_is_found() {
        let said = |page: &[(&str, &str)]| check(&Tree::of(page))[0].to_string();
        assert!(said(&[(PAGE, "# Page\n")]).contains("has no table"));
        assert!(said(&[]).contains("is absent"));
    }
}
