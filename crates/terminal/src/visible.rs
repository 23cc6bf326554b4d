//! Text from elsewhere, made safe for a terminal.
//!
//! A letter is plain, or it is written as its number: `\u{202e}`. Nothing is left out and nothing
//! is replaced by something that looks alike, so an operator sees that there was something.

use std::fmt::Write;

use offsite_model::is_plain;

/// One line of text in which every letter can be seen.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_plain(letter) {
            visible.push(letter);
        } else {
            visible.extend(letter.escape_unicode());
        }
    }
    visible
}

/// Text of our own lines: the ends of lines stay, everything else is as [`visible`] has it.
///
/// Whoever lays text out makes each part visible before it is joined; this is for the part that was
/// forgotten.
pub(crate) fn visible_lines(text: &str) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n")
}

/// A JSON document that means the same and can be shown: in JSON, letters that are not plain stand
/// within strings only, where they may be written as numbers.
pub(crate) fn visible_json(document: &str) -> String {
    let mut visible = String::with_capacity(document.len());
    for letter in document.chars() {
        if is_plain(letter) {
            visible.push(letter);
        } else {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                write!(visible, "\\u{unit:04x}").ok();
            }
        }
    }
    visible
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a hostile peer may say.
    pub(crate) fn payloads() -> Vec<String> {
        let mut payloads: Vec<String> =
            (0..0x20_u8).map(|byte| format!("a{}b", byte as char)).collect();
        payloads.extend(
            [
                "\u{1b}[2J\u{1b}[H",
                "\u{1b}]0;title\u{7}",
                "\u{1b}]8;;http://example.org\u{1b}\\click\u{1b}]8;;\u{1b}\\",
                "\u{1b}]52;c;ZXZpbA==\u{7}",
                "\u{1b}P$q\u{1b}\\",
                "\u{9b}31mred",
                "\u{9d}0;x\u{9c}",
                "\u{90}q\u{9c}",
                "\u{7f}\u{7f}\u{7f}",
                "\u{85}next line",
                "a\r\nb",
                "a\nFORGED 1 accepted",
                "\u{2028}x\u{2029}y",
                "\u{202e}gnp.exe",
                "\u{2066}\u{2067}\u{2068}\u{2069}",
                "\u{200f}\u{200e}",
                "\u{61c}x",
                "zero\u{200b}width",
                "\u{feff}bom",
                "\u{e0041}tag",
                "soft\u{ad}hyphen",
                "var\u{fe0f}",
                "\u{fff9}a\u{fffa}b\u{fffb}",
                "\u{8}\u{8}\u{8}\u{8}accepted",
                "\t\t\ttabs",
                "\u{b}\u{c}",
                "\u{e}\u{f}",
                "\u{0}nul",
                "\u{2060}joiner",
                "\u{180e}mongolian",
                "hangul\u{3164}filler\u{115f}\u{ffa0}",
                "beam\u{1d173}\u{1d17a}",
            ]
            .map(str::to_owned),
        );
        payloads
    }

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in ["Büro-Server 3", "田中", "Ελλάδα", "x @ y (z)", "🖥", "C:\\Backup"]
        {
            assert_eq!(visible(name), name);
        }
    }

    #[test]
    fn a_document_is_plain_and_means_the_same() {
        for payload in payloads() {
            let document = serde_json::to_string(&[&payload]).unwrap();
            let shown = visible_json(&document);
            assert!(shown.chars().all(is_plain), "{payload:?}: {shown:?}");
            assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap(), [payload]);
        }
    }

    #[test]
    fn lines_of_ours_stay_lines() {
        assert_eq!(visible_lines("a\n\u{202e}b\n"), "a\n\\u{202e}b\n");
    }
}
