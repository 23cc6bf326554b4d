//! What names and messages may hold: one corpus for both directions.

use super::*;

/// Texts for messages and names: (text, is it a good message, is it a good name, is the name
/// flagged).
pub(crate) const CORPUS: &[(&str, bool, bool, bool)] = &[
    ("plain", true, true, false),
    ("Filiale M\u{fc}nchen", true, true, false),
    ("M\u{75}\u{308}nchen", false, true, true),
    ("\u{6771}\u{4eac}", true, true, false),
    ("\u{39f}\u{39b}\u{39b}", true, true, false),
    ("\u{41c}\u{43e}\u{441}\u{43a}\u{432}\u{430}", true, true, false),
    ("p\u{430}ypal", true, true, true),
    ("\u{391}cme", true, true, true),
    ("\u{13a0}cme", true, true, true),
    ("\u{531}cme", true, true, true),
    ("\u{ff41}cme", true, true, true),
    ("\u{1d400}cme", true, true, true),
    ("\u{24b6}cme", true, true, true),
    ("\u{2115}ame", true, true, true),
    ("caf\u{e9}", true, true, false),
    ("cafe\u{301}", false, true, true),
    ("\u{212b}ngstrom", false, true, true),
    ("a\nb", false, false, false),
    ("a\rb", false, false, false),
    ("a\tb", false, false, false),
    ("a\0b", false, false, false),
    ("\u{1b}[31mred", false, false, false),
    ("\u{1b}]0;title\u{7}", false, false, false),
    ("\u{9b}31m", false, false, false),
    ("\u{7f}", false, false, false),
    ("\u{85}", false, false, false),
    ("a\u{2028}b", false, false, false),
    ("a\u{2029}b", false, false, false),
    ("a\u{8}b", false, false, false),
    ("a\u{b}b", false, false, false),
    ("a\u{c}b", false, false, false),
    ("\u{90}dcs", false, false, false),
    ("\u{202e}gpj.exe", false, true, true),
    ("\u{202a}x", false, true, true),
    ("\u{202b}x", false, true, true),
    ("\u{202c}x", false, true, true),
    ("\u{202d}x", false, true, true),
    ("\u{2066}x", false, true, true),
    ("\u{2067}x", false, true, true),
    ("\u{2068}x", false, true, true),
    ("\u{2069}x", false, true, true),
    ("\u{200e}x", false, true, true),
    ("\u{200f}x", false, true, true),
    ("\u{61c}x", false, true, true),
    ("a\u{200b}b", true, true, true),
    ("a\u{feff}b", true, true, true),
    ("a\u{ad}b", true, true, true),
    ("a\u{2060}b", true, true, true),
    ("a\u{e0041}b", true, true, true),
    ("a\u{fe0f}b", true, true, true),
    ("<script>alert(1)</script>", true, true, false),
    ("\"><img src=x onerror=alert(1)>", true, true, false),
    ("'; DROP TABLE peers; --", true, true, false),
    ("../../etc/passwd", true, true, false),
    ("..\\..\\windows", true, true, false),
    ("${jndi:ldap://x}", true, true, false),
    ("%00%0a%0d", true, true, false),
    ("{{7*7}}", true, true, false),
    ("\u{1f600} hello", true, true, false),
    ("", true, false, false),
];

#[test]
fn a_10_messages_are_kept_as_typed_or_refused() {
    assert_eq!(CORPUS.len(), 60);
    for (text, is_good, ..) in CORPUS {
        assert_eq!(check_message(text).is_ok(), *is_good, "{text:?}");
    }
    assert!(check_message(&"x".repeat(MESSAGE_BYTES_MAX)).is_ok());
    assert!(check_message(&"x".repeat(MESSAGE_BYTES_MAX + 1)).is_err());
    assert!(check_message(&"\u{e9}".repeat(MESSAGE_BYTES_MAX / 2 + 1)).is_err());
}

#[test]
fn a_11_names_are_refused_or_flagged() {
    for (text, _, is_good, is_flagged) in CORPUS {
        assert_eq!(check_name("a name", text).is_ok(), *is_good, "{text:?}");
        if *is_good {
            assert_eq!(!warnings("a name", text).is_empty(), *is_flagged, "{text:?}");
        }
    }
    assert!(check_name("a name", &"x".repeat(NAME_BYTES_MAX)).is_ok());
    assert!(check_name("a name", &"x".repeat(NAME_BYTES_MAX + 1)).is_err());
    // A refusal must not carry the text that was refused into a log.
    let refusal = check_name("a name", "\u{1b}[2J").unwrap_err();
    assert!(!refusal.message.contains('\u{1b}'));
}
