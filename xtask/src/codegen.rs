//! `cargo xtask codegen`: the tables of `docs/protocol.md`, written from the types that serve them.
//!
//! Each table stands between two markers, and everything else on the page is left as it is. Checked
//! by `tidy`, so a call or an error that changes cannot leave its page behind.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail};
use offsite_proto::admin;
use offsite_proto::endpoint::{Listener, Row};
use offsite_proto::error::ErrorCode;
use offsite_proto::rows;

use crate::cargo::root;

pub(crate) const PAGE: &str = "docs/protocol.md";

/// Writes the tables anew.
pub(crate) fn write() -> Result<bool> {
    let path = root().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    let fresh = filled(&page)?;
    let is_new = fresh != page;
    if is_new {
        fs::write(&path, fresh).with_context(|| format!("cannot write {PAGE}"))?;
    }
    println!("codegen: {PAGE} {}", if is_new { "changed" } else { "is as it should be" });
    Ok(true)
}

/// Tells whether the tables are as the types say, and writes nothing.
pub(crate) fn check() -> Result<bool> {
    let page =
        fs::read_to_string(root().join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let is_good = filled(&page)? == page;
    if !is_good {
        println!("{PAGE}: a table differs from the code; run cargo xtask codegen");
    }
    Ok(is_good)
}

/// The page with both tables as they should be.
pub(crate) fn filled(page: &str) -> Result<String> {
    let page = between(page, "calls", &calls())?;
    between(&page, "errors", &errors())
}

/// Puts a text between the two markers of a name, which must stand there once each and in order.
fn between(page: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let parts = page.split_once(&begin).and_then(|(head, rest)| {
        let (_, tail) = rest.split_once(&end)?;
        (!tail.contains(&begin) && !tail.contains(&end)).then_some((head, tail))
    });
    let Some((head, tail)) = parts else {
        bail!("{PAGE} has not one pair of markers for {name}: {} … {end}", begin.trim_end());
    };
    Ok(format!("{head}{begin}{text}{end}{tail}"))
}

/// The calls of each listener, under the title of their table.
fn tables() -> [(&'static str, Vec<Row>); 3] {
    [
        ("The published operations and their additions", rows::ALL.to_vec()),
        (
            "The target's admin API",
            [admin::target::ROWS, admin::upkeep::TARGET_ROWS, admin::report::ROWS].concat(),
        ),
        ("The source's local socket", [admin::source::ROWS, admin::upkeep::SOURCE_ROWS].concat()),
    ]
}

fn calls() -> String {
    let mut text = String::new();
    for (title, rows) in tables() {
        let _infallible = write!(
            text,
            "\n### {title}\n\n| row | method | path | access | action | listener | request bytes \
                |\n\
             |---|---|---|---|---|---|---|\n"
        );
        rows.iter().for_each(|row| text.push_str(&call(row)));
    }
    text.push('\n');
    text
}

fn call(row: &Row) -> String {
    let mut path = row.path.to_owned();
    for (index, name) in row.query.iter().enumerate() {
        path.push(if index == 0 { '?' } else { '&' });
        path.push_str(name);
    }
    let listener = match row.listener {
        Listener::Replication => "replication",
        Listener::Operator => "operator",
        Listener::Both => "both",
        Listener::Source => "source",
    };
    let access = row.access.to_string().replace('|', ", ").replace('?', " or ");
    format!(
        "| {} | {} | `{path}` | {access} | {:?} | {listener} | {} |\n",
        row.id,
        row.method.as_str(),
        row.action,
        bytes(row.request_bytes_max),
    )
}

/// A bound, in the unit that makes it short.
fn bytes(n: u64) -> String {
    match n {
        0 => "none".to_owned(),
        n if n.is_multiple_of(1 << 20) => format!("{} MiB", n >> 20),
        n if n.is_multiple_of(1 << 10) => format!("{} KiB", n >> 10),
        n => n.to_string(),
    }
}

fn errors() -> String {
    let mut text = "\n| code | HTTP | tried again | meaning |\n|---|---|---|---|\n".to_owned();
    for code in ErrorCode::ALL {
        let again = if code.is_retryable() { "yes" } else { "no" };
        let _infallible =
            writeln!(text, "| `{code}` | {} | {again} | {} |", code.status(), code.meaning());
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &str = "# T\n<!-- calls: begin -->\nold\n<!-- calls: end -->\nprose\n\
                        <!-- errors: begin -->\n<!-- errors: end -->\n";

    #[test]
    fn both_tables_are_filled_and_the_prose_stays() {
        let page = filled(BARE).unwrap();
        assert!(!page.contains("old") && page.contains("-->\nprose\n<!--"), "{page}");
        let row = "| 46 | DELETE | `/replicationcomms/slave/pairing?deleteRecoveryPoints` |";
        assert!(page.contains(row), "{page}");
        let error = "| `busy` | 503 | yes | Concurrency limit or maintenance. |";
        assert!(page.contains(error), "{page}");
        let n_rows: usize = tables().iter().map(|(_, rows)| rows.len()).sum();
        let n_lines = page.lines().filter(|line| line.starts_with("| ")).count();
        // Four heads of tables come on top.
        assert_eq!(n_lines, n_rows + ErrorCode::ALL.len() + 4);
        assert_eq!(filled(&page).unwrap(), page);
    }

    #[test]
    fn markers_that_are_not_one_pair_are_refused() {
        for page in [
            BARE.replace("<!-- calls: end -->", ""),
            BARE.replace("errors: begin", "errors: ende"),
            format!("{BARE}{BARE}"),
        ] {
            assert!(filled(&page).is_err(), "{page}");
        }
    }
}
