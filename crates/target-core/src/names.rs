//! Texts that people typed at the other end: what is refused, what is flagged, what is kept as it
//! came.
//!
//! A name from a source nobody approved is shown on consoles, in logs and in terminals.
//! Control characters can move a cursor or begin a second log line, so they are refused. Characters
//! that turn the direction of a text or look like others are kept, because real names need them,
//! and flagged wherever the name is shown to be decided upon. An operator's message goes the other
//! way and is held to a stricter rule: what is typed is returned exactly, so it must mean
//! one thing only.
//!
//! **Absent:** escaping for HTML, terminals and logs; whoever prints a text does that.

use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::limits::{MESSAGE_BYTES_MAX, NAME_BYTES_MAX};
use unicode_normalization::UnicodeNormalization;

/// Bytes of the comment of a request.
pub const COMMENT_BYTES_MAX: usize = 1 << 10;

/// Checks a name that a source sent: 1 to 256 bytes without control characters.
///
/// # Errors
/// `bad_request` that says which field breaks which rule.
pub fn check_name(field: &str, name: &str) -> Result<(), Refusal> {
    if name.trim().is_empty() {
        return Err(Refusal::new(ErrorCode::BadRequest, format!("{field} is empty")));
    }
    check_text(field, name, NAME_BYTES_MAX)
}

/// Checks a text that a source sent and that may be empty.
///
/// # Errors
/// `bad_request` that says which field breaks which rule.
pub fn check_text(field: &str, text: &str, bytes_max: usize) -> Result<(), Refusal> {
    if text.len() > bytes_max {
        return Err(Refusal::new(
            ErrorCode::BadRequest,
            format!("{field} is longer than {bytes_max} bytes"),
        ));
    }
    if text.chars().any(breaks_lines) {
        return Err(Refusal::new(
            ErrorCode::BadRequest,
            format!("{field} holds a control character"),
        ));
    }
    Ok(())
}

/// Checks an operator's message to a source.
///
/// # Errors
/// `bad_request` that says which rule it breaks.
pub fn check_message(message: &str) -> Result<(), Refusal> {
    let refused =
        |why: &str| Err(Refusal::new(ErrorCode::BadRequest, format!("the message {why}")));
    if message.len() > MESSAGE_BYTES_MAX {
        return refused("is longer than 1 KiB");
    }
    if message.chars().any(breaks_lines) {
        return refused("holds a control character");
    }
    if message.chars().any(turns_direction) {
        return refused("holds a character that turns the direction of the text");
    }
    if !message.nfc().eq(message.chars()) {
        return refused("is not in the composed form of Unicode (NFC)");
    }
    Ok(())
}

/// What a person should know before believing a name; empty for ordinary ones.
#[must_use]
pub fn warnings(field: &str, name: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |what: &str| warnings.push(format!("{field} {what}"));
    if name.chars().any(turns_direction) {
        warn("holds characters that turn the direction of the text");
    }
    if name.chars().any(is_invisible) {
        warn("holds invisible characters");
    }
    if !name.nfc().eq(name.chars()) {
        warn("is not in the composed form of Unicode and may look like another name");
    }
    if is_mixed(name) {
        warn("mixes letters of several scripts and may look like another name");
    }
    if name.chars().any(is_dressed_up) {
        warn("holds letters that are drawn like ordinary ones");
    }
    warnings
}

/// Control characters of both sets, and the two separators that terminals and log readers take for
/// a line's end.
fn breaks_lines(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// The explicit marks, embeddings, overrides and isolates of the bidirectional algorithm (UAX #9).
const fn turns_direction(character: char) -> bool {
    matches!(
        character,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Characters without a shape of their own.
const fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{00ad}'
            | '\u{034f}'
            | '\u{115f}' | '\u{1160}'
            | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200d}'
            | '\u{2060}'..='\u{2065}'
            | '\u{206a}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Full-width, mathematical, circled and letter-like forms, which no keyboard of a person types by
/// accident.
const fn is_dressed_up(character: char) -> bool {
    matches!(
        character,
        '\u{2100}'..='\u{214f}'
            | '\u{2460}'..='\u{24ff}'
            | '\u{ff01}'..='\u{ff5e}'
            | '\u{1d400}'..='\u{1d7ff}'
            | '\u{1f100}'..='\u{1f1e5}'
    )
}

/// Whether letters of two scripts that share shapes stand in one name: Latin, Greek, Cyrillic,
/// Armenian, Cherokee.
fn is_mixed(name: &str) -> bool {
    let mut scripts = name.chars().filter(|character| character.is_alphabetic()).filter_map(script);
    let first = scripts.next();
    scripts.any(|script| Some(script) != first)
}

const fn script(letter: char) -> Option<u8> {
    match letter {
        'a'..='z' | 'A'..='Z' | '\u{00c0}'..='\u{024f}' | '\u{1e00}'..='\u{1eff}' => Some(0),
        '\u{0370}'..='\u{03ff}' | '\u{1f00}'..='\u{1fff}' => Some(1),
        '\u{0400}'..='\u{052f}' | '\u{1c80}'..='\u{1c8f}' => Some(2),
        '\u{0530}'..='\u{058f}' => Some(3),
        '\u{13a0}'..='\u{13ff}' | '\u{ab70}'..='\u{abbf}' => Some(4),
        _ => None,
    }
}

#[cfg(test)]
#[path = "tests/names.rs"]
pub(crate) mod tests;
