//! Record streams: a preamble, frames, and an END without which the stream counts as cut.
//!
//! ```text
//! preamble, 16 bytes   magic "OFST" · kind u8 · version u8 · length of preamble u16
//!                      · session, first 8 bytes
//! frame                channel u16 · opcode u16 · length u32 · payload
//!                      · crc32c u32 over all before it
//! ```
//!
//! [`Decoder`] is pushed bytes as they arrive and gives whole frames; a frame's length is compared
//! with the limit before any memory is taken for it. Payloads are slices of what was pushed, not
//! copies.
//!
//! **Absent:** meaning. Which frame may follow which is decided by `exchange`.

use bytes::{Buf, Bytes, BytesMut};
use offsite_model::SessionId;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::codec::{DecodeError, Reader, crc32c, require};
use crate::limits::FRAME_BYTES_MAX;

/// The version of the streams: of the preamble and of every frame's payload. Frozen; see
/// docs/decisions/0009-format-version-1.md.
pub const STREAM_VERSION: u8 = 1;

const MAGIC: [u8; 4] = *b"OFST";
const CHECKSUM_BYTES: usize = 4;
/// Room that is made for a frame before its bytes are there.
const AHEAD_BYTES: usize = 256 << 10;

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Row 5, request.
    Keys,
    /// Row 5, answer.
    Wanted,
    /// Row 6, request, and the answer of H2.
    Records,
    /// Row 6, answer.
    Receipt,
    /// Row 4, both ways.
    Blocks,
}

impl StreamKind {
    /// The number in the preamble.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Keys => 1,
            Self::Wanted => 2,
            Self::Records => 3,
            Self::Receipt => 4,
            Self::Blocks => 5,
        }
    }

    /// The media type of a body with such a stream.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Keys => "application/vnd.offsite.keys; version=1",
            Self::Wanted => "application/vnd.offsite.wanted; version=1",
            Self::Records => "application/vnd.offsite.records; version=1",
            Self::Receipt => "application/vnd.offsite.receipt; version=1",
            Self::Blocks => "application/vnd.offsite.o3e; version=1",
        }
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Preamble {
    magic: [u8; 4],
    kind: u8,
    version: u8,
    length: U16,
    session: [u8; 8],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FrameHeader {
    channel: U16,
    opcode: U16,
    length: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Pair {
    first: U64,
    second: U64,
}

const PREAMBLE_BYTES: usize = size_of::<Preamble>();
const HEADER_BYTES: usize = size_of::<FrameHeader>();

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A window of keys: [`crate::window::KeyWindow`].
    Keys,
    /// The answer to a window: [`crate::window::Wanted`].
    Wanted,
    /// Groups: [`crate::group::Group`], one after another.
    Records,
    /// Payload bytes granted in total: u64.
    Credit,
    /// What is durable: [`Flushed`].
    Flushed,
    /// Blocks by position.
    Blocks,
    /// Nothing; says that the speaker lives.
    Ping,
    /// An error body; ends the stream.
    Fail,
    /// The end: [`End`].
    End,
    /// One that may be skipped: 0x8000 and above.
    Other(u16),
}

impl Opcode {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Keys => 1,
            Self::Wanted => 2,
            Self::Records => 3,
            Self::Credit => 4,
            Self::Flushed => 5,
            Self::Blocks => 6,
            Self::Ping => 7,
            Self::Fail => 254,
            Self::End => 255,
            Self::Other(number) => number,
        }
    }

    fn from_number(number: u16) -> Result<Self, DecodeError> {
        match number {
            1 => Ok(Self::Keys),
            2 => Ok(Self::Wanted),
            3 => Ok(Self::Records),
            4 => Ok(Self::Credit),
            5 => Ok(Self::Flushed),
            6 => Ok(Self::Blocks),
            7 => Ok(Self::Ping),
            254 => Ok(Self::Fail),
            255 => Ok(Self::End),
            0x8000.. => Ok(Self::Other(number)),
            _ => Err(DecodeError::Unknown { what: "opcode", value: number.into() }),
        }
    }
}

/// A whole frame whose checksum matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which of several conversations in one stream.
    pub channel: u16,
    /// What it is for.
    pub opcode: Opcode,
    /// Its payload.
    pub payload: Bytes,
}

/// FLUSHED: every ordinal or block below `through` is durable, so many bytes in this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// The first ordinal that is not yet durable.
    pub through: u64,
    /// Bytes made durable in this session.
    pub bytes: u64,
}

/// END: how many items and bytes the stream carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Windows, answers, records or blocks.
    pub items: u64,
    /// Payload bytes.
    pub bytes: u64,
}

macro_rules! pairs {
    ($($name:ident { $first:ident, $second:ident } = $what:literal;)*) => {$(
        impl $name {
            /// Reads the payload.
            ///
            /// # Errors
            /// Where it is longer or shorter than two numbers.
            pub fn read(payload: &[u8]) -> Result<Self, DecodeError> {
                let mut reader = Reader::new($what, payload);
                let pair: &Pair = reader.part()?;
                reader.finish()?;
                Ok(Self { $first: pair.first.get(), $second: pair.second.get() })
            }

            /// Writes the payload.
            #[must_use]
            pub fn write(&self) -> Vec<u8> {
                let pair = Pair { first: U64::new(self.$first), second: U64::new(self.$second) };
                pair.as_bytes().to_vec()
            }
        }
    )*};
}

pairs! {
    Flushed { through, bytes } = "a FLUSHED frame";
    End { items, bytes } = "an END frame";
}

/// Reads the payload of a CREDIT frame: payload bytes granted to the session in total.
///
/// # Errors
/// Where it is longer or shorter than one number.
pub fn read_credit(payload: &[u8]) -> Result<u64, DecodeError> {
    let mut reader = Reader::new("a CREDIT frame", payload);
    let credit: &U64 = reader.part()?;
    reader.finish()?;
    Ok(credit.get())
}

/// Writes a stream into buffers for the line.
#[derive(Debug)]
pub struct Encoder {
    out: BytesMut,
}

impl Encoder {
    /// A stream of this kind for this session; the preamble is written at once.
    #[must_use]
    pub fn new(kind: StreamKind, session: SessionId) -> Self {
        let mut out = BytesMut::with_capacity(PREAMBLE_BYTES);
        let preamble = Preamble {
            magic: MAGIC,
            kind: kind.number(),
            version: STREAM_VERSION,
            length: U16::new(PREAMBLE_BYTES as u16),
            session: session_prefix(session),
        };
        out.extend_from_slice(preamble.as_bytes());
        Self { out }
    }

    /// Appends a frame. The payload's parts are written one after another, so that nobody has to
    /// join them first.
    ///
    /// # Errors
    /// [`DecodeError::OutOfBounds`] where the payload is longer than a frame may be: our own
    /// mistake, refused here instead of by the peer.
    pub fn frame(
        &mut self,
        channel: u16,
        opcode: Opcode,
        parts: &[&[u8]],
    ) -> Result<(), DecodeError> {
        let n_bytes = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        let header = header(channel, opcode, n_bytes)?;
        self.out.extend_from_slice(header.as_bytes());
        parts.iter().for_each(|part| self.out.extend_from_slice(part));
        let covered: Vec<&[u8]> = [&[header.as_bytes()], parts].concat();
        self.out.extend_from_slice(&crc32c(&covered).to_le_bytes());
        Ok(())
    }

    /// How many bytes wait to be taken.
    #[must_use]
    pub fn n_waiting(&self) -> usize {
        self.out.len()
    }

    /// Takes everything written so far.
    pub fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }
}

/// A frame alone, its payload written where it is sent from: for large ones, which one thread makes
/// while another sends. It goes out in the place of what [`Encoder::frame`] would have made.
///
/// # Errors
/// As [`Encoder::frame`], or what `payload` says.
pub fn frame_of<E: From<DecodeError>>(
    channel: u16,
    opcode: Opcode,
    payload: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Bytes, E> {
    let mut frame = vec![0; HEADER_BYTES];
    payload(&mut frame)?;
    let header = header(channel, opcode, frame.len().saturating_sub(HEADER_BYTES))?;
    frame.iter_mut().zip(header.as_bytes()).for_each(|(to, from)| *to = *from);
    let checksum = crc32c(&[&frame]);
    frame.extend_from_slice(&checksum.to_le_bytes());
    Ok(frame.into())
}

fn header(channel: u16, opcode: Opcode, n_bytes: usize) -> Result<FrameHeader, DecodeError> {
    let length = u32::try_from(n_bytes).unwrap_or(u32::MAX);
    require(length <= FRAME_BYTES_MAX, "the length of a frame", length, "1 MiB + 64 KiB")?;
    Ok(FrameHeader {
        channel: U16::new(channel),
        opcode: U16::new(opcode.number()),
        length: U32::new(length),
    })
}

/// Reads a stream: push bytes, pull frames.
#[derive(Debug)]
pub struct Decoder {
    kind: StreamKind,
    session: [u8; 8],
    state: DecoderState,
    waiting: BytesMut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecoderState {
    AwaitPreamble,
    AwaitFrame,
    Ended,
}

impl Decoder {
    /// A reader of a stream of this kind for this session.
    #[must_use]
    pub fn new(kind: StreamKind, session: SessionId) -> Self {
        Self {
            kind,
            session: session_prefix(session),
            state: DecoderState::AwaitPreamble,
            waiting: BytesMut::new(),
        }
    }

    /// Adds bytes that arrived. The caller pulls all frames before it pushes more, so what waits is
    /// bounded by one frame and one piece of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next whole frame, or nothing yet.
    ///
    /// # Errors
    /// What broke the stream; nothing after it can be believed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, DecodeError> {
        if self.state == DecoderState::AwaitPreamble {
            if self.waiting.len() < PREAMBLE_BYTES {
                return Ok(None);
            }
            let preamble = self.waiting.split_to(PREAMBLE_BYTES);
            self.check_preamble(&preamble)?;
            self.state = DecoderState::AwaitFrame;
        }
        if self.state == DecoderState::Ended {
            return match self.waiting.len() {
                0 => Ok(None),
                n_bytes => Err(DecodeError::Trailing { what: "a stream", n_bytes }),
            };
        }
        let Ok((header, _)) = FrameHeader::ref_from_prefix(&self.waiting) else {
            return Ok(None);
        };
        let length = header.length.get();
        if length > FRAME_BYTES_MAX {
            let (what, rule) = ("a frame", "1 MiB + 64 KiB");
            return Err(DecodeError::TooLarge { what, n_bytes: length.into(), rule });
        }
        let opcode = Opcode::from_number(header.opcode.get())?;
        let channel = header.channel.get();
        let n_covered = HEADER_BYTES.saturating_add(length as usize);
        let n_missing = n_covered.saturating_add(CHECKSUM_BYTES).saturating_sub(self.waiting.len());
        if n_missing > 0 {
            // Not the whole length at once: that is the peer's word.
            self.waiting.reserve(n_missing.min(AHEAD_BYTES));
            return Ok(None);
        }
        let mut covered = self.waiting.split_to(n_covered).freeze();
        if self.waiting.get_u32_le() != crc32c(&[&covered]) {
            return Err(DecodeError::Checksum { what: "a frame" });
        }
        covered.advance(HEADER_BYTES);
        if matches!(opcode, Opcode::End | Opcode::Fail) {
            self.state = DecoderState::Ended;
        }
        Ok(Some(Frame { channel, opcode, payload: covered }))
    }

    /// The body is over: was the stream?
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] where neither END nor FAIL came: frames given out so far are
    /// whole, nothing else is.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match (self.state, self.waiting.len()) {
            (DecoderState::Ended, 0) => Ok(()),
            (DecoderState::Ended, n_bytes) => {
                Err(DecodeError::Trailing { what: "a stream", n_bytes })
            }
            _ => Err(DecodeError::Truncated { what: "a stream" }),
        }
    }

    fn check_preamble(&self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new("a preamble", bytes);
        let preamble: &Preamble = reader.part()?;
        reader.finish()?;
        if preamble.magic != MAGIC {
            let value = u32::from_le_bytes(preamble.magic).into();
            return Err(DecodeError::Unknown { what: "magic of a stream", value });
        }
        if preamble.version != STREAM_VERSION {
            return Err(DecodeError::Version {
                what: "a stream",
                found: preamble.version,
                known: STREAM_VERSION,
            });
        }
        if preamble.kind != self.kind.number() {
            let value = preamble.kind.into();
            return Err(DecodeError::OutOfBounds {
                field: "the kind of a stream",
                value,
                rule: "that of the call",
            });
        }
        require(
            usize::from(preamble.length.get()) == PREAMBLE_BYTES,
            "the length of a preamble",
            preamble.length.get(),
            "16",
        )?;
        if preamble.session != self.session {
            return Err(DecodeError::Disagree {
                left: "the session of a stream",
                right: "its path",
            });
        }
        Ok(())
    }
}

fn session_prefix(session: SessionId) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = session.to_bytes();
    [a, b, c, d, e, f, g, h]
}
