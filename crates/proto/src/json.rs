//! JSON bodies: bounded in depth and strings, free of duplicate fields, then typed.
//!
//! Two readers of the same text that disagree are how checks are slipped past, so what serde would
//! let through in silence (a duplicate field inside an unknown one, nesting of any depth) is
//! refused here first.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize};

use crate::endpoint::{Body, Media};
use crate::error::{ErrorCode, Refusal};
use crate::limits::{JSON_DEPTH_MAX, JSON_STRING_BYTES_MAX};

/// A body of JSON with this content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Serialize + DeserializeOwned + Send + 'static> Body for Json<T> {
    const MEDIA: Media = Media::Json;

    fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        from_slice(bytes).map(Self)
    }

    fn encode(&self) -> Vec<u8> {
        // Our own types have text keys and serialise without fail; an empty body would be refused
        // by the peer.
        serde_json::to_vec(&self.0).unwrap_or_default()
    }
}

/// No body.
impl Body for () {
    const MEDIA: Media = Media::Empty;

    fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        match bytes {
            [] => Ok(()),
            _ => Err(Refusal::new(ErrorCode::BadRequest, "this call takes no body")),
        }
    }

    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// A body of PEM blocks (RFC 7468).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pem(pub String);

/// A body of plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainText(pub String);

macro_rules! text_bodies {
    ($($name:ident $media:ident;)*) => {$(
        impl Body for $name {
            const MEDIA: Media = Media::$media;

            fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
                match std::str::from_utf8(bytes) {
                    Ok(text) => Ok(Self(text.to_owned())),
                    Err(_) => Err(Refusal::new(ErrorCode::BadRequest, "the body is not UTF-8")),
                }
            }

            fn encode(&self) -> Vec<u8> {
                self.0.clone().into_bytes()
            }
        }
    )*};
}

text_bodies! { Pem Pem; PlainText Text; }

/// Reads one JSON document under the rules of this module.
///
/// # Errors
/// `bad_request` that says what is wrong and where.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let malformed = |error: serde_json::Error| {
        Refusal::new(ErrorCode::BadRequest, format!("the body is not the JSON asked for: {error}"))
    };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Bounded { depth: 1 }.deserialize(&mut reader).map_err(malformed)?;
    reader.end().map_err(malformed)?;
    serde_json::from_slice(bytes).map_err(malformed)
}

/// Walks a document without keeping it and refuses what is out of bounds.
#[derive(Clone, Copy)]
struct Bounded {
    depth: usize,
}

impl Bounded {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth > JSON_DEPTH_MAX {
            return Err(E::custom(format_args!("nested deeper than {JSON_DEPTH_MAX}")));
        }
        Ok(Self { depth: self.depth.saturating_add(1) })
    }
}

fn bounded_text<E: de::Error>(text: &str) -> Result<(), E> {
    if text.len() > JSON_STRING_BYTES_MAX {
        return Err(E::custom(format_args!(
            "a string is longer than {JSON_STRING_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}

impl<'de> DeserializeSeed<'de> for Bounded {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        bounded_text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut seen = HashSet::new();
        while let Some(name) = fields.next_key::<String>()? {
            bounded_text(&name)?;
            if let Some(name) = seen.replace(name) {
                return Err(de::Error::custom(format_args!("the field {name:?} stands twice")));
            }
            fields.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Sample {
        #[serde(default)]
        #[expect(dead_code, reason = "only whether it parses matters")]
        name: String,
    }

    fn refused(text: &str) -> bool {
        from_slice::<Sample>(text.as_bytes()).is_err()
    }

    #[test]
    fn depth_duplicates_long_strings_and_rests_are_refused() {
        let nested = |n: usize| format!("{{\"x\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(!refused(&nested(JSON_DEPTH_MAX - 1)));
        assert!(refused(&nested(JSON_DEPTH_MAX)));
        assert!(refused(&nested(100_000)));
        assert!(refused(r#"{"name":"a","name":"b"}"#));
        assert!(refused(r#"{"x":{"y":1,"y":1}}"#));
        assert!(refused(r#"{"x":{"y":1,"\u0079":1}}"#));
        assert!(refused(&format!("{{\"x\":\"{}\"}}", "a".repeat(JSON_STRING_BYTES_MAX + 1))));
        assert!(refused(r#"{"name":"a"} x"#));
        assert!(refused("\u{feff}{}"));
        assert!(refused(r#"{"x":NaN}"#));
        assert!(refused(r#"{"x":1e999}"#));
        assert!(!refused(r#"{"unknown":[{}],"name":"a"}"#));
    }
}
