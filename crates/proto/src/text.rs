//! How single values look in JSON: ids and digests as text, times as RFC 3339, large numbers as
//! strings.

use std::fmt::Display;
use std::str::FromStr;

use offsite_model::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A value that travels as its text form: an id, a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<T>(pub T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

impl<T> From<T> for Text<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment that travels in the form of RFC 3339, in UTC with `Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Timestamp);

impl Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Our range is wider than that of a calendar; beyond it the nearest moment is written.
        let moment = jiff::Timestamp::from_microsecond(self.0.as_micros()).unwrap_or(
            if self.0.as_micros() < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX },
        );
        write!(f, "{moment}")
    }
}

impl FromStr for Time {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        let moment: jiff::Timestamp = text.parse()?;
        Ok(Self(Timestamp::from_micros(moment.as_microsecond())))
    }
}

impl Time {
    /// Reads the date of an HTTP answer (RFC 9110, section 5.6.7), which counts whole seconds.
    #[must_use]
    pub fn from_http_date(text: &str) -> Option<Self> {
        let moment = jiff::fmt::rfc2822::parse(text).ok()?;
        Some(Self(Timestamp::from_secs(moment.timestamp().as_second())))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|_| de::Error::custom("not a time of RFC 3339"))
    }
}

impl From<Timestamp> for Time {
    fn from(moment: Timestamp) -> Self {
        Self(moment)
    }
}

/// A whole number of 64 bits: a JSON number up to 2^53 - 1, a decimal string above; read in both
/// forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Big(pub u64);

const EXACT_MAX: u64 = (1 << 53) - 1;

impl Serialize for Big {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 <= EXACT_MAX {
            serializer.serialize_u64(self.0)
        } else {
            serializer.collect_str(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Big {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Big;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a whole number, or one as a decimal string")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Big, E> {
                Ok(Big(value))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Big, E> {
                if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(E::custom("not a decimal number"));
                }
                text.parse().map(Big).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_with_z() {
        let time = Time(Timestamp::from_micros(1_700_000_000_250_000));
        assert_eq!(time.to_string(), "2023-11-14T22:13:20.25Z");
        assert_eq!(time.to_string().parse::<Time>().unwrap(), time);
        assert!(Time(Timestamp::from_micros(i64::MAX)).to_string().ends_with('Z'));
    }

    #[test]
    fn numbers_beyond_double_precision_travel_as_strings() {
        let json = |n| serde_json::to_string(&Big(n)).unwrap();
        assert_eq!(json(EXACT_MAX), "9007199254740991");
        assert_eq!(json(EXACT_MAX + 1), "\"9007199254740992\"");
        for text in ["18446744073709551615", "\"18446744073709551615\""] {
            assert_eq!(serde_json::from_str::<Big>(text).unwrap(), Big(u64::MAX));
        }
        for text in ["-1", "1.5", "\"\"", "\"+1\"", "\"18446744073709551616\"", "1e3"] {
            assert!(serde_json::from_str::<Big>(text).is_err(), "{text}");
        }
    }
}
