//! Watches the framing of HTTP/1.1 as it arrives and ends the connection at the first doubt.
//!
//! The library below reads what RFC 9112 lets a lenient server read: bare line feeds, two lengths
//! that agree, a length beside a chunked body. Whatever stands before us may read the same bytes
//! differently, and then one request hides inside another. So nothing doubtful reaches the library:
//! heads of exactly one reading, one length without ornaments or `chunked` alone, chunk sizes
//! without extensions.
//!
//! **Absent:** any change to the bytes. This only ever says no.

use offsite_proto::limits::HEAD_BYTES_MAX;

/// Digits of a chunk's size: 4 GiB is more than any piece that anybody sends.
const CHUNK_SIZE_DIGITS_MAX: usize = 8;
/// Digits of a length: below 2^63 with room to spare, above every limit of a row.
const LENGTH_DIGITS_MAX: usize = 15;

/// What was wrong, for the log.
pub(crate) type Doubt = &'static str;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
}

/// The state of one connection's incoming bytes.
#[derive(Debug)]
pub(crate) struct Framing {
    phase: Phase,
    line: Vec<u8>,
    head_bytes: usize,
    n_lines: usize,
    length: Option<u64>,
    chunked: bool,
}

impl Framing {
    pub(crate) const fn new() -> Self {
        Self {
            phase: Phase::Head,
            line: Vec::new(),
            head_bytes: 0,
            n_lines: 0,
            length: None,
            chunked: false,
        }
    }

    /// Looks at the bytes that came next.
    ///
    /// # Errors
    /// The doubt; the connection must end without an answer to anything in these bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Doubt> {
        while !bytes.is_empty() {
            bytes = match self.phase {
                Phase::Body(left) => {
                    let (rest, left) = skip(bytes, left);
                    self.phase = if left == 0 { self.next_head() } else { Phase::Body(left) };
                    rest
                }
                Phase::Chunk(left) => {
                    let (rest, left) = skip(bytes, left);
                    self.phase = if left == 0 { Phase::ChunkEnd } else { Phase::Chunk(left) };
                    rest
                }
                Phase::Head | Phase::ChunkSize | Phase::ChunkEnd | Phase::Trailers => {
                    self.until_line_end(bytes)?
                }
            };
        }
        Ok(())
    }

    fn until_line_end<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Doubt> {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end.saturating_add(1)));
        self.head_bytes = self.head_bytes.saturating_add(part.len());
        if self.head_bytes > HEAD_BYTES_MAX {
            return Err("the head is too large");
        }
        self.line.extend_from_slice(part);
        if end.is_none() {
            return Ok(rest);
        }
        let line = std::mem::take(&mut self.line);
        let Some(text) = line.strip_suffix(b"\r\n") else {
            return Err("a line ends without a carriage return");
        };
        if text.iter().any(|&byte| matches!(byte, 0 | b'\r')) {
            return Err("a line holds a carriage return or a NUL");
        }
        self.phase = self.line(text)?;
        Ok(rest)
    }

    fn line(&mut self, text: &[u8]) -> Result<Phase, Doubt> {
        match self.phase {
            Phase::Head if text.is_empty() => self.head_end(),
            Phase::Head => {
                if self.n_lines == 0 {
                    request_line(text)?;
                } else {
                    self.field(text)?;
                }
                self.n_lines = self.n_lines.saturating_add(1);
                Ok(Phase::Head)
            }
            Phase::ChunkSize => {
                // Each size starts a new budget: a body of many chunks is not a large head.
                self.head_bytes = 0;
                Ok(match chunk_size(text)? {
                    0 => Phase::Trailers,
                    size => Phase::Chunk(size),
                })
            }
            Phase::ChunkEnd if text.is_empty() => Ok(Phase::ChunkSize),
            Phase::ChunkEnd => Err("a chunk is longer than its size"),
            Phase::Trailers if text.is_empty() => Ok(self.next_head()),
            Phase::Trailers => field_name(text).map(|_| Phase::Trailers),
            // Bodies have no lines.
            Phase::Body(_) | Phase::Chunk(_) => Err("a line stands where there is none"),
        }
    }

    fn head_end(&mut self) -> Result<Phase, Doubt> {
        match (self.n_lines, self.chunked, self.length) {
            (0, ..) => Err("an empty line stands before the request"),
            (_, true, Some(_)) => Err("the body has a length and is chunked"),
            (_, true, None) => {
                self.next_head();
                Ok(Phase::ChunkSize)
            }
            (_, false, None | Some(0)) => Ok(self.next_head()),
            (_, false, Some(length)) => {
                self.next_head();
                Ok(Phase::Body(length))
            }
        }
    }

    fn next_head(&mut self) -> Phase {
        *self = Self::new();
        Phase::Head
    }

    fn field(&mut self, text: &[u8]) -> Result<(), Doubt> {
        let name = field_name(text)?;
        let value = text.get(name.len().saturating_add(1)..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.replace(length(value)?).is_some() {
                return Err("the length is given twice");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") || self.chunked {
                return Err("the transfer encoding is not plainly chunked");
            }
            self.chunked = true;
        }
        Ok(())
    }
}

fn skip(bytes: &[u8], left: u64) -> (&[u8], u64) {
    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (bytes.get(here..).unwrap_or_default(), left.saturating_sub(here as u64))
}

fn request_line(text: &[u8]) -> Result<(), Doubt> {
    let mut words = text.split(|&byte| byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let plain = method.is_some_and(|word| !word.is_empty() && word.iter().all(|&byte| token(byte)))
        && target.is_some_and(|word| !word.is_empty() && !word.contains(&b'\t'))
        && version.is_some_and(|word| matches!(word, b"HTTP/1.1" | b"HTTP/1.0"))
        && words.next().is_none();
    if plain { Ok(()) } else { Err("the request line is malformed") }
}

/// The name of a field: no space before the colon, no folded line.
fn field_name(text: &[u8]) -> Result<&[u8], Doubt> {
    let name = text.split(|&byte| byte == b':').next().unwrap_or_default();
    let whole = name.len() < text.len() && !name.is_empty();
    if whole && name.iter().all(|&byte| token(byte)) {
        Ok(name)
    } else {
        Err("a field's name is malformed or its line is folded")
    }
}

const fn token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

fn length(value: &[u8]) -> Result<u64, Doubt> {
    let plain = !value.is_empty()
        && value.len() <= LENGTH_DIGITS_MAX
        && value.iter().all(u8::is_ascii_digit)
        && (value.len() == 1 || value.first() != Some(&b'0'));
    let text = std::str::from_utf8(value).unwrap_or_default();
    match text.parse() {
        Ok(length) if plain => Ok(length),
        _ => Err("the length is not a plain number"),
    }
}

fn chunk_size(text: &[u8]) -> Result<u64, Doubt> {
    let plain = !text.is_empty()
        && text.len() <= CHUNK_SIZE_DIGITS_MAX
        && text.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(text).unwrap_or_default();
    match u64::from_str_radix(digits, 16) {
        Ok(size) if plain => Ok(size),
        _ => Err("a chunk's size is not a plain number"),
    }
}

#[cfg(test)]
#[path = "tests/doubtful.rs"]
mod doubtful;
#[cfg(test)]
#[path = "tests/framing.rs"]
mod tests;
