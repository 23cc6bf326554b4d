//! A value that must not be seen: passwords, tokens, keys.
//!
//! **Absent:** `Display`, `Serialize`, `Clone`, and any content in `Debug`. It is wiped when
//! dropped, and whoever wants to see it has to write [`Secret::expose`].

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// A wrapper that keeps a value out of logs, errors and documents, and wipes it at the end.
///
/// ```compile_fail
/// fn serialize(_: impl serde::Serialize) {}
/// serialize(offsite_daemon::Secret::new(String::from("hidden")));
/// ```
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes charge of a secret. Copies that were made before are the caller's to wipe.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The secret itself, for the one call that needs it.
    #[must_use]
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + AsRef<[u8]>> Secret<T> {
    /// Whether this is the offered value. How long the answer takes tells the length at most.
    #[must_use]
    pub fn matches(&self, offered: &[u8]) -> bool {
        let own = (*self.0).as_ref();
        aws_lc_rs::constant_time::verify_slices_are_equal(own, offered).is_ok()
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g_07_a_secret_does_not_print() {
        #[derive(Debug)]
        struct Login {
            _password: Secret<String>,
            _raw: Option<Secret<Vec<u8>>>,
        }
        let login = Login {
            _password: Secret::new("canary-password".to_owned()),
            _raw: Some(Secret::new(b"canary-bytes".to_vec())),
        };
        for printed in [format!("{login:?}"), format!("{login:#?}")] {
            assert!(!printed.contains("canary") && !printed.contains("99"), "{printed}");
        }
    }

    #[test]
    fn only_the_same_bytes_match() {
        let secret = Secret::new("token".to_owned());
        assert!(secret.matches(b"token"));
        assert!(!secret.matches(b"tokem") && !secret.matches(b"toke") && !secret.matches(b""));
        assert_eq!(secret.expose(), "token");
    }
}
