//! Names that operators give: to accounts, tenants, storages.
//!
//! Stricter than names from sources: they are typed again on command lines and compared letter by
//! letter, so they hold letters, digits and a few marks only, and no two of them can look alike by
//! invisible means.

use offsite_proto::error::ErrorCode;

use crate::failure::Failure;

/// Bytes of a name that an operator gives.
pub(super) const LABEL_BYTES_MAX: usize = 64;
const MARKS: &[char] = &['.', '_', '-', '@', '+', ' ', '(', ')'];

/// Checks a name that an operator gave.
///
/// # Errors
/// `bad_request` that says what is allowed.
pub fn check_label(what: &str, label: &str) -> Result<(), Failure> {
    let refused = |why: String| Err(Failure::refused(ErrorCode::BadRequest, why));
    if label.is_empty() || label.len() > LABEL_BYTES_MAX {
        return refused(format!("the name of {what} must have 1 to {LABEL_BYTES_MAX} bytes"));
    }
    if label.trim() != label {
        return refused(format!("the name of {what} begins or ends with a space"));
    }
    if label.starts_with('-') {
        return refused(format!("the name of {what} begins like an option of the command line"));
    }
    if !label.chars().all(|letter| letter.is_alphanumeric() || MARKS.contains(&letter)) {
        return refused(format!(
            "the name of {what} may hold letters, digits, spaces and . _ - @ + ( ) only"
        ));
    }
    Ok(())
}

/// A name like this one that is allowed: what is not allowed becomes a hyphen.
#[must_use]
pub fn tamed(name: &str) -> String {
    let mut tamed = String::new();
    for letter in name.trim().trim_start_matches('-').chars() {
        let letter = if letter.is_alphanumeric() || MARKS.contains(&letter) { letter } else { '-' };
        // Room is left for a number that tells it from another one.
        if tamed.len().saturating_add(letter.len_utf8()) > LABEL_BYTES_MAX - 16 {
            break;
        }
        tamed.push(letter);
    }
    let tamed = tamed.trim().trim_start_matches('-').to_owned();
    if tamed.is_empty() { "source".to_owned() } else { tamed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_plain() {
        for good in ["a", "Anna Älv", "ops@example.org", "kunde-7 (2)", "田中"] {
            assert!(check_label("a thing", good).is_ok(), "{good:?}");
        }
        let long = "x".repeat(LABEL_BYTES_MAX + 1);
        for bad in
            ["", " a", "a ", "-rf", "a\nb", "a\u{202e}b", "a\u{200b}b", "a/b", "e\u{301}", &long]
        {
            assert!(check_label("a thing", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn whatever_is_tamed_is_a_label() {
        for name in
            ["", "--x", "\u{1b}[31mred", "a\nb", "  ", &"ü".repeat(300), "\u{202e}", "../../etc"]
        {
            assert!(check_label("a thing", &tamed(name)).is_ok(), "{name:?} → {:?}", tamed(name));
        }
        assert_eq!(tamed("Backup Host 1"), "Backup Host 1");
    }
}
