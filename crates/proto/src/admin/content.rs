//! The content of a volume on its way from the daemon to the command that writes it.
//!
//! Frames in order of offsets, without gap or overlap: a head, then records' bytes and runs of
//! zeros, then the end or a refusal. A stream that stops without its end is a cut and nothing else.
//! Integers are little-endian.
//!
//! | bytes | |
//! |---|---|
//! | 0 | kind: 1 head, 2 bytes, 3 zeros, 4 end, 5 failed |
//! | 1 to 7 | zero |
//! | 8 to 15 | length u64: of the payload; of the run for zeros, which have no payload |
//!
//! The payload of head, end and failed is JSON.

use offsite_model::PointId;
use serde::{Deserialize, Serialize};

use crate::endpoint::Body as _;
use crate::error::{ErrorCode, Refusal};
use crate::json::{Json, from_slice};
use crate::text::{Big, Text};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 16;
/// Most bytes of a payload of JSON.
const JSON_BYTES_MAX: u64 = 64 << 10;

/// What comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The recovery point.
    pub point: Text<PointId>,
    /// The volume's size.
    pub bytes: Big,
    /// Bytes that are not zeros: what has to be written.
    pub data_bytes: Big,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Bytes of all frames, zeros included: the volume's size.
    pub bytes: Big,
}

/// The header of a frame of bytes, zeros or JSON.
#[must_use]
fn header(kind: u8, length: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[0] = kind;
    bytes[8..].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// The header before this many bytes of records.
#[must_use]
pub fn bytes_header(length: u64) -> [u8; HEADER_BYTES] {
    header(2, length)
}

/// A run of zeros.
#[must_use]
pub fn zeros(length: u64) -> [u8; HEADER_BYTES] {
    header(3, length)
}

fn json<T: Serialize + serde::de::DeserializeOwned + Send + 'static>(
    kind: u8,
    value: T,
) -> Vec<u8> {
    let payload = Json(value).encode();
    let mut frame = header(kind, payload.len() as u64).to_vec();
    frame.extend_from_slice(&payload);
    frame
}

/// The first frame.
#[must_use]
pub fn head(head: Head) -> Vec<u8> {
    json(1, head)
}

/// The last frame.
#[must_use]
pub fn end(end: End) -> Vec<u8> {
    json(4, end)
}

/// The last frame of a restore that failed.
#[must_use]
pub fn failed(refusal: Refusal) -> Vec<u8> {
    json(5, refusal)
}

/// What a reader finds next.
#[derive(Clone, Debug, PartialEq)]
pub enum Part<B> {
    /// The head.
    Head(Head),
    /// Bytes of the volume, in order.
    Bytes(B),
    /// So many zeros.
    Zeros(u64),
    /// The end.
    End(End),
}

/// Something that can be cut in two without copying.
pub trait Piece: AsRef<[u8]> + Sized {
    /// The first `n` bytes; the rest stays. `n` is at most the length.
    fn take_front(&mut self, n: usize) -> Self;
}

impl Piece for bytes::Bytes {
    fn take_front(&mut self, n: usize) -> Self {
        self.split_to(n)
    }
}

/// Takes frames apart as they come. Refusals that the stream carries are its errors.
#[derive(Debug, Default)]
pub struct Reader {
    /// A header or a payload of JSON that has not come whole.
    pending: Vec<u8>,
    state: State,
    is_ended: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Header,
    Json(u8, usize),
    Bytes(u64),
}

impl Reader {
    /// Whether the last frame has been seen.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// The next part in a piece; none when it is used up.
    ///
    /// # Errors
    /// What the daemon refused; `bad_request` where the stream is malformed.
    pub fn next<B: Piece>(&mut self, piece: &mut B) -> Result<Option<Part<B>>, Refusal> {
        loop {
            let n = piece.as_ref().len();
            if n == 0 {
                return Ok(None);
            }
            if self.is_ended {
                return Err(malformed("bytes after its end"));
            }
            match self.state {
                State::Bytes(left) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(n);
                    let left = left.saturating_sub(n as u64);
                    self.state = if left == 0 { State::Header } else { State::Bytes(left) };
                    return Ok(Some(Part::Bytes(piece.take_front(n))));
                }
                State::Header => {
                    if let Some(header) = self.gather(piece, HEADER_BYTES)
                        && let Some(length) = self.begin(&header)?
                    {
                        return Ok(Some(Part::Zeros(length)));
                    }
                }
                State::Json(kind, length) => {
                    if let Some(payload) = self.gather(piece, length) {
                        self.state = State::Header;
                        return self.json(kind, &payload).map(Some);
                    }
                }
            }
        }
    }

    /// Collects so many bytes; none until they are whole.
    fn gather<B: Piece>(&mut self, piece: &mut B, length: usize) -> Option<Vec<u8>> {
        let n = length.saturating_sub(self.pending.len()).min(piece.as_ref().len());
        self.pending.extend_from_slice(piece.take_front(n).as_ref());
        (self.pending.len() >= length).then(|| std::mem::take(&mut self.pending))
    }

    /// Reads a header; the length of a run of zeros, which is whole with it.
    fn begin(&mut self, header: &[u8]) -> Result<Option<u64>, Refusal> {
        let (Some(kind), Some(length)) = (header.first(), header.last_chunk::<8>()) else {
            return Err(malformed("a short header"));
        };
        let length = u64::from_le_bytes(*length);
        match kind {
            2 if length > 0 => self.state = State::Bytes(length),
            3 if length > 0 => return Ok(Some(length)),
            1 | 4 | 5 if (1..=JSON_BYTES_MAX).contains(&length) => {
                self.state = State::Json(*kind, usize::try_from(length).unwrap_or(usize::MAX));
            }
            _ => return Err(malformed("an unknown frame")),
        }
        Ok(None)
    }

    fn json<B>(&mut self, kind: u8, payload: &[u8]) -> Result<Part<B>, Refusal> {
        match kind {
            1 => from_slice(payload).map(Part::Head),
            4 => {
                self.is_ended = true;
                from_slice(payload).map(Part::End)
            }
            _ => Err(from_slice::<Refusal>(payload)?),
        }
    }
}

fn malformed(what: &str) -> Refusal {
    Refusal::new(ErrorCode::BadRequest, format!("the volume's content is malformed: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Piece for Vec<u8> {
        fn take_front(&mut self, n: usize) -> Self {
            let rest = self.split_off(n);
            std::mem::replace(self, rest)
        }
    }

    fn read(stream: &[u8], step: usize) -> Result<(Vec<u8>, bool), Refusal> {
        let (mut reader, mut volume) = (Reader::default(), Vec::new());
        for piece in stream.chunks(step) {
            let mut piece = piece.to_vec();
            while let Some(part) = reader.next(&mut piece)? {
                match part {
                    Part::Bytes(bytes) => volume.extend_from_slice(&bytes),
                    Part::Zeros(n) => volume.resize(volume.len() + n as usize, 0),
                    Part::Head(head) => assert_eq!(head.bytes, Big(12)),
                    Part::End(end) => assert_eq!(end.bytes, Big(12)),
                }
            }
        }
        Ok((volume, reader.is_ended()))
    }

    fn stream() -> Vec<u8> {
        let point = Text(PointId::from_bytes([1; 16]));
        let first = head(Head { point, bytes: Big(12), data_bytes: Big(7) });
        let last = end(End { bytes: Big(12) });
        [&first[..], &bytes_header(3), b"abc", &zeros(5), &bytes_header(4), b"defg", &last].concat()
    }

    #[test]
    fn a_stream_reads_the_same_however_it_is_cut() {
        for step in [1, 2, 7, 15, 16, 17, 1_000] {
            assert_eq!(read(&stream(), step), Ok((b"abc\0\0\0\0\0defg".to_vec(), true)), "{step}");
        }
        let cut = read(&stream()[..stream().len() - 1], 1_000).unwrap();
        assert!(!cut.1, "a cut is no end");
    }

    #[test]
    fn f_06_hostile_lengths_are_refused() {
        for kind in [0, 1, 4, 5, 6, 255] {
            for length in [0, JSON_BYTES_MAX + 1, u64::MAX - 1, u64::MAX] {
                assert!(read(&header(kind, length), 16).is_err(), "{kind} {length}");
            }
        }
        assert!(read(&header(2, 0), 16).is_err() && read(&header(3, 0), 16).is_err());
        let refusal = Refusal::new(ErrorCode::NoSpace, "full");
        assert_eq!(read(&failed(refusal.clone()), 5).unwrap_err().code, refusal.code);
    }
}
