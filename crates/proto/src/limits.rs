//! Every maximum of the wire, and the assertions that relate them.
//!
//! Defaults and hard maxima of settings that an operator may change live with the settings; what
//! stands here bounds what a peer may ever make us allocate.

/// Bytes of an ordinary JSON body.
pub const JSON_BYTES_MAX: u64 = 256 << 10;
/// Bytes of a JSON body from a caller nobody knows.
pub const ANON_JSON_BYTES_MAX: u64 = 16 << 10;
/// Bytes of a submitted pairing request.
pub const SUBMIT_BYTES_MAX: u64 = 192 << 10;
/// Depth of nesting of a JSON body.
pub const JSON_DEPTH_MAX: usize = 32;
/// Bytes of one string of a JSON body.
pub const JSON_STRING_BYTES_MAX: usize = 16 << 10;
/// Bytes of a certificate request in PEM.
pub const CSR_BYTES_MAX: usize = 8 << 10;
/// Agents of one request.
pub const REQUEST_AGENTS_MAX: usize = 500;
/// Bytes of a name, of whatever thing.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of an operator's message.
pub const MESSAGE_BYTES_MAX: usize = 1 << 10;
/// Items in one answer; longer lists carry `next`.
pub const PAGE_ITEMS_MAX: usize = 10_000;

/// Bytes of the head of a request.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request.
pub const HEADERS_MAX: usize = 64;
/// Bytes of a path with its query.
pub const URI_BYTES_MAX: usize = 4 << 10;

/// Bytes of a record: the unit of identity.
pub const RECORD_BYTES_MAX: u32 = 1 << 20;
/// Records of a group: the unit of compression, storage and transfer.
pub const GROUP_RECORDS_MAX: u32 = 256;
/// Bytes of a group before compression.
pub const GROUP_BYTES_MAX: u32 = 1 << 20;
/// Bytes of a frame's payload.
pub const FRAME_BYTES_MAX: u32 = (1 << 20) + (64 << 10);
/// Keys of one window.
pub const WINDOW_KEYS_MAX: u32 = 8_192;
/// Bytes of one body that carries a stream.
pub const TRANSFER_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a bitmap's payload.
pub const BITMAP_BYTES_MAX: u64 = 128 << 20;

/// Bytes of a group's header.
pub const GROUP_HEADER_BYTES: u32 = 16;
/// Bytes of a record's entry in a group's table.
pub const GROUP_ENTRY_BYTES: u32 = 48;
/// Bytes of a window's header in a KEYS frame.
pub const WINDOW_HEADER_BYTES: u32 = 16;
/// Bytes of a key's entry in a KEYS frame.
pub const WINDOW_ENTRY_BYTES: u32 = 48;

// The largest group and the largest window each fit one frame.
const _: () = assert!(
    GROUP_HEADER_BYTES + GROUP_RECORDS_MAX * GROUP_ENTRY_BYTES + GROUP_BYTES_MAX <= FRAME_BYTES_MAX
);
const _: () =
    assert!(WINDOW_HEADER_BYTES + WINDOW_KEYS_MAX * WINDOW_ENTRY_BYTES <= FRAME_BYTES_MAX);
// A record fits a group.
const _: () = assert!(RECORD_BYTES_MAX <= GROUP_BYTES_MAX);
// Who is unknown may never send more than who is known.
const _: () =
    assert!(ANON_JSON_BYTES_MAX <= SUBMIT_BYTES_MAX && SUBMIT_BYTES_MAX <= JSON_BYTES_MAX);
// A request with the most agents under the longest names fits its body, four times over for JSON.
const _: () = assert!((REQUEST_AGENTS_MAX * NAME_BYTES_MAX) as u64 <= SUBMIT_BYTES_MAX);
