//! Amounts as people write them in a configuration: `"64 GiB"` and `"90 s"`.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use offsite_model::Span;
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer};

/// A size: a whole number of bytes, written as a number or with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

/// What [`Size`] accepts, for complaints.
pub const SIZE_FORM: &str =
    "a size such as 1048576, \"64 KiB\", \"1 GiB\" or \"500 GB\" (B, KB, MB, GB, TB, KiB … TiB)";

/// What [`Length`] accepts, for complaints.
pub const LENGTH_FORM: &str =
    "a length of time such as \"90s\", \"5 min\", \"1h 30m\", \"14 days\" or \"PT24H\"";

const UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
];
const TIB: (&str, u64) = ("tib", 1 << 40);

/// A text that is no amount of the wanted kind; says which forms are accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {form}")]
pub struct QuantityError {
    text: String,
    form: &'static str,
}

impl Size {
    /// So many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError { text: text.to_owned(), form: SIZE_FORM };
        let trimmed = text.trim();
        let n_digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, unit) = trimmed.split_at(n_digits);
        let unit = unit.trim_start().to_ascii_lowercase();
        let (_, factor) =
            UNITS.iter().chain([&TIB]).find(|known| known.0 == unit).ok_or_else(error)?;
        let number: u64 = digits.parse().map_err(|_| error())?;
        number.checked_mul(*factor).map(Self).ok_or_else(error)
    }
}

/// A length of time, in friendly words or in the form of ISO 8601.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Length(Span);

impl Length {
    /// This long.
    #[must_use]
    pub const fn from_span(span: Span) -> Self {
        Self(span)
    }

    /// The length itself.
    #[must_use]
    pub const fn span(self) -> Span {
        self.0
    }
}

impl FromStr for Length {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError { text: text.to_owned(), form: LENGTH_FORM };
        let trimmed = text.trim();
        let found = match days(trimmed) {
            // A day here is always of 24 hours, which the parser of exact lengths leaves open.
            Some(n) => i64::from(n).checked_mul(86_400_000_000),
            None => {
                let length: SignedDuration = trimmed.parse().map_err(|_| error())?;
                i64::try_from(length.as_micros()).ok()
            }
        };
        let micros = found.and_then(|micros| u64::try_from(micros).ok()).ok_or_else(error)?;
        Ok(Self(Span::from_micros(micros)))
    }
}

fn days(text: &str) -> Option<u32> {
    let n_digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(n_digits);
    matches!(unit.trim_start(), "d" | "day" | "days").then(|| digits.parse().ok()).flatten()
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SIZE_FORM)
    }

    fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Size, E> {
        u64::try_from(bytes).map(Size).map_err(|_| E::custom(format!("{bytes} is not {SIZE_FORM}")))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("64KiB", 64 << 10),
            ("64 kib", 64 << 10),
            (" 1 GiB ", 1 << 30),
            ("500 GB", 500_000_000_000),
            ("2 TiB", 2 << 40),
        ] {
            assert_eq!(text.parse::<Size>().map(Size::bytes), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "1.5 GiB", "-1", "1 XB", "99999999999 TiB", "1 GiB x"] {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(error.contains("1 GiB"), "{error}");
        }
    }

    #[test]
    fn lengths_are_read_in_both_forms() {
        for (text, secs) in [
            ("90s", 90),
            ("5 min", 300),
            ("1h 30m", 5_400),
            ("PT24H", 86_400),
            ("PT1M", 60),
            ("14 days", 14 * 86_400),
            ("1d", 86_400),
        ] {
            let length = text.parse::<Length>().map(|length| length.span().as_secs());
            assert_eq!(length, Ok(secs), "{text}");
        }
        for text in ["", "90", "-5s", "soon", "5 parsecs"] {
            assert!(text.parse::<Length>().is_err(), "{text}");
        }
    }
}
