//! Where a target listens, as an operator types it and as it is remembered.

use offsite_proto::error::ErrorCode;

use crate::error::Trouble;

const HOST_BYTES_MAX: usize = 253;
/// Where a target listens for sources unless it was told otherwise.
const PORT: u16 = 8086;

/// Reads `https://HOST[:PORT]` or `HOST:PORT` into `HOST:PORT`, the form in which a target is
/// remembered.
///
/// # Errors
/// The operator's: another scheme, a path, a user, a host that is no name or address.
pub fn read(url: &str) -> Result<String, Trouble> {
    let shown: String = url.chars().take(200).flat_map(char::escape_debug).collect();
    let wrong = |why: &str| {
        Trouble::operator(
            ErrorCode::BadRequest,
            format!("\"{shown}\" {why}"),
            "write where the target listens for sources: https://HOST:PORT",
        )
    };
    let lower = url.to_ascii_lowercase();
    if lower.starts_with("http://") {
        return Err(wrong("is plain HTTP, and a target speaks TLS only"));
    }
    let (rest, default_port) = match lower.strip_prefix("https://") {
        Some(rest) => (rest, Some(PORT)),
        None if lower.contains("://") => return Err(wrong("has a scheme that is not https")),
        None => (lower.as_str(), None),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err(wrong("has a path, and a target is named by host and port alone"));
    }
    if rest.contains('@') {
        return Err(wrong("has a user name in it, which a target does not take"));
    }
    let (host, port) = split(rest).ok_or_else(|| wrong("has brackets that do not match"))?;
    let port = match (port, default_port) {
        (Some(port), _) => port
            .parse::<u16>()
            .ok()
            .filter(|number| *number > 0 && !port.starts_with('+'))
            .ok_or_else(|| wrong("has a port that is no number from 1 to 65535"))?,
        (None, Some(port)) => port,
        (None, None) => return Err(wrong("has no port")),
    };
    let is_address = host.contains(':') || rest.starts_with('[');
    let is_sound = !host.is_empty()
        && host.len() <= HOST_BYTES_MAX
        && if is_address {
            host.parse::<std::net::Ipv6Addr>().is_ok()
        } else {
            host.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        };
    if !is_sound {
        return Err(wrong("names no host"));
    }
    Ok(if is_address { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

/// Host and port as they stand in the text; `None` where brackets do not match.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if rest.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match text.split_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_into_one_form() {
        for (typed, kept) in [
            ("https://Backup.Example:8443", "backup.example:8443"),
            ("https://backup.example/", "backup.example:8086"),
            ("127.0.0.1:9", "127.0.0.1:9"),
            ("https://[::1]:9", "[::1]:9"),
            ("https://[::1]", "[::1]:8086"),
        ] {
            assert_eq!(read(typed).unwrap(), kept, "{typed}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_in_words() {
        for (typed, word) in [
            ("http://a:1", "plain HTTP"),
            ("ftp://a:1", "scheme"),
            ("a", "no port"),
            ("", "no port"),
            ("https://", "no host"),
            ("https://a:0", "port"),
            ("https://a:65536", "port"),
            ("https://a:+1", "port"),
            ("https://a:1/x", "path"),
            ("https://u@a:1", "user name"),
            ("https://a b:1", "no host"),
            ("https://::1", "port"),
            ("https://[::1:9", "brackets"),
            ("https://[zz]:9", "no host"),
        ] {
            let trouble = read(typed).unwrap_err();
            assert!(trouble.message.contains(word), "{typed}: {}", trouble.message);
            assert_eq!(trouble.code, ErrorCode::BadRequest);
        }
    }
}
