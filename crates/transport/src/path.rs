//! Path and query of a request: split first, decoded once per segment, then never again.
//!
//! Decoding before splitting would let `%2f` make new segments, and decoding twice would let
//! `%252f`; both have served to walk around checks. What a decoded segment may not hold is refused
//! here, so that nothing behind the router ever meets a slash, a NUL or a dot segment in a value.

use offsite_proto::endpoint::{Row, Segment, Values};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::limits::URI_BYTES_MAX;

fn malformed(what: &str) -> Refusal {
    Refusal::new(ErrorCode::BadRequest, what)
}

/// The decoded segments of a path.
///
/// # Errors
/// `bad_request` for an empty inner segment, a dot segment, an encoded or plain separator, a
/// control character, a broken percent sign and anything that is not UTF-8; `too_large` above the
/// limit.
pub(crate) fn segments(path: &str) -> Result<Vec<String>, Refusal> {
    if path.len() > URI_BYTES_MAX {
        return Err(Refusal::new(ErrorCode::TooLarge, "the path is too long"));
    }
    let inner = path.strip_prefix('/').ok_or_else(|| malformed("the path must start with /"))?;
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() {
        // `//` is an empty inner segment, `/` is the root.
        return if path.len() <= 1 {
            Ok(Vec::new())
        } else {
            Err(malformed("the path has an empty part"))
        };
    }
    inner.split('/').map(segment).collect()
}

fn segment(raw: &str) -> Result<String, Refusal> {
    let text = decode(raw)?;
    match text.as_str() {
        "" => Err(malformed("the path has an empty part")),
        "." | ".." => Err(malformed("the path has a dot part")),
        text if text.contains(['/', '\\']) => Err(malformed("the path has an encoded separator")),
        _ => Ok(text),
    }
}

/// Undoes percent-encoding once; refuses what no value of ours may hold.
fn decode(raw: &str) -> Result<String, Refusal> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(malformed("a percent sign is not followed by two digits"));
        };
        bytes.push(u8::try_from(high << 4 | low).unwrap_or(u8::MAX));
    }
    let text = String::from_utf8(bytes).map_err(|_| malformed("a part is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(malformed("a part holds a control character"));
    }
    Ok(text)
}

/// Adds the values of a query that the row knows; others are ignored.
///
/// # Errors
/// `bad_request` for broken encoding, `too_large` above the limit.
pub(crate) fn read_query(query: &str, row: &Row, values: &mut Values) -> Result<(), Refusal> {
    if query.len() > URI_BYTES_MAX {
        return Err(Refusal::new(ErrorCode::TooLarge, "the query is too long"));
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name)?;
        let value = decode(value)?;
        if row.query.contains(&name.as_str()) {
            values.insert(&name, value);
        }
    }
    Ok(())
}

/// Path and query of a call with these values.
///
/// # Errors
/// `internal` when a parameter of the path has no value: a mistake of ours.
pub(crate) fn write(row: &Row, values: &Values) -> Result<String, Refusal> {
    let mut target = String::new();
    for part in row.segments() {
        target.push('/');
        match part {
            Segment::Literal(text) => target.push_str(text),
            Segment::Parameter(name) => {
                let value = values.find(name).ok_or_else(|| {
                    Refusal::new(ErrorCode::Internal, format!("the call lacks its {name}"))
                })?;
                encode(value, &mut target);
            }
        }
    }
    let mut separator = '?';
    for name in row.query {
        if let Some(value) = values.find(name) {
            target.push(separator);
            encode(name, &mut target);
            target.push('=');
            encode(value, &mut target);
            separator = '&';
        }
    }
    Ok(target)
}

fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_before_it_is_decoded() {
        assert_eq!(segments("/a/b").unwrap(), ["a", "b"]);
        assert_eq!(segments("/a/b/").unwrap(), ["a", "b"]);
        assert_eq!(segments("/a%20b/%c3%a9").unwrap(), ["a b", "\u{e9}"]);
        assert_eq!(segments("/a%252fb").unwrap(), ["a%2fb"]);
        assert_eq!(segments("/").unwrap(), [""; 0]);
        for bad in [
            "",
            "a",
            "//",
            "/a//b",
            "/a//",
            "/a/./b",
            "/a/../b",
            "/%2e%2e/b",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "/a%00b",
            "/%zz",
            "/%2",
            "/%c0%af",
            "/%ff",
            "/a%0d%0ab",
        ] {
            let refusal = segments(bad).expect_err(bad);
            assert_eq!(refusal.code, ErrorCode::BadRequest, "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let row = &offsite_proto::rows::R07;
        let mut values = Values::new();
        let id = "00112233-4455-6677-8899-aabbccddeeff";
        ["agentId", "jobId", "sessionId"].iter().for_each(|name| values.insert(name, id));
        values.insert("commit", "a&b=c/%\u{e9}");
        let target = write(row, &values).unwrap();
        let (path, query) = target.split_once('?').unwrap();
        assert_eq!(segments(path).unwrap().last().unwrap(), id);
        let mut again = Values::new();
        read_query(query, row, &mut again).unwrap();
        assert_eq!(again.find("commit"), Some("a&b=c/%\u{e9}"));
        assert!(write(row, &Values::new()).is_err());
    }
}
