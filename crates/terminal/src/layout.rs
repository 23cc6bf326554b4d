//! Lists and single things for people; every cell and every value is made visible.

use comfy_table::{Table, presets};

use crate::visible::visible;

/// A table of rows under these headings; one line each, and `none` where there is none.
pub fn table<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headings);
    let mut n_rows = 0;
    for row in rows {
        table.add_row(row.map(|cell| visible(&cell)));
        n_rows += 1;
    }
    if n_rows == 0 {
        return "none".to_owned();
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Lines of `name  value`, aligned; absent values are left out.
#[must_use]
pub fn facts(facts: &[(&str, Option<String>)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = facts.iter().filter_map(|(name, value)| {
        value.as_ref().map(|value| format!("{name:width$}  {}", visible(value)))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Something that may be absent, for a cell.
pub fn or_dash<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "–".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visible::tests::payloads;
    use offsite_model::is_plain;

    #[test]
    fn a_11_lists_hold_no_control_characters_and_one_line_per_row() {
        let payloads = payloads();
        assert!(payloads.len() >= 60, "{}", payloads.len());
        for payload in &payloads {
            let shown = table(["NAME", "STATE"], [[payload.clone(), "pending".to_owned()]]);
            assert_eq!(shown.lines().count(), 2, "{payload:?}: {shown:?}");
            let listed = facts(&[("name", Some(payload.clone())), ("state", Some("x".to_owned()))]);
            assert_eq!(listed.lines().count(), 2, "{payload:?}: {listed:?}");
            for text in [shown, listed] {
                for letter in text.chars().filter(|letter| *letter != '\n') {
                    assert!(is_plain(letter), "{payload:?} left {letter:?}");
                    assert!(!letter.is_control(), "{payload:?} left {letter:?}");
                }
                assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
            }
        }
    }

    #[test]
    fn nothing_is_said_of_an_empty_list_but_that() {
        assert_eq!(table(["NAME"], []), "none");
    }
}
