//! Names that operators give: bounded, visible, and safe to show on any console.

use std::ops::RangeInclusive;

use offsite_proto::error::ErrorCode;

use crate::error::Trouble;

/// Bytes of a name.
pub const NAME_BYTES_MAX: usize = 128;

/// Characters that cannot be seen or change how their neighbours are shown, so that a name could
/// look like another one.
const DISGUISES: [RangeInclusive<char>; 14] = [
    '\u{ad}'..='\u{ad}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];

fn is_disguise(character: char) -> bool {
    DISGUISES.iter().any(|range| range.contains(&character))
}

/// Accepts a name or says what is wrong with it; `what` is the thing named, such as `agent`.
///
/// # Errors
/// `bad_request`, the operator's fault.
pub fn check_name(what: &str, name: &str) -> Result<(), Trouble> {
    let wrong = |why: &str| {
        let shown: String = name.chars().take(40).flat_map(char::escape_debug).collect();
        Err(Trouble::operator(
            ErrorCode::BadRequest,
            format!("the {what} name \"{shown}\" {why}"),
            format!(
                "use 1 to {NAME_BYTES_MAX} bytes of visible characters, without / and =, not \
                    beginning with -"
            ),
        ))
    };
    if name.is_empty() {
        return wrong("is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return wrong("is too long");
    }
    if name.chars().any(|character| character.is_control() || is_disguise(character)) {
        return wrong("holds a character that cannot be seen");
    }
    if name.trim() != name {
        return wrong("begins or ends with a space");
    }
    if name.starts_with('-') || name.contains(['/', '\\', '=']) || matches!(name, "." | "..") {
        return wrong("would be read as something else");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_deceive_or_break_a_console_are_refused() {
        for name in ["web-1", "Büro Süd", "日本", "a.b_c"] {
            assert_eq!(check_name("agent", name), Ok(()), "{name}");
        }
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for name in [
            "",
            " a",
            "a ",
            "-a",
            "a/b",
            "a=b",
            "a\\b",
            "..",
            "a\nb",
            "a\u{1b}[2J",
            "a\u{202e}b",
            "a\u{200b}b",
            &long,
        ] {
            let trouble = check_name("agent", name).unwrap_err();
            assert_eq!(trouble.code, ErrorCode::BadRequest, "{name:?}");
            assert!(trouble.message.chars().all(|character| !character.is_control()), "{name:?}");
        }
    }
}
