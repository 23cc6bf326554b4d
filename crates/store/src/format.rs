//! Fixed layouts of everything on disk but catalog values; see docs/store-format.md.
//!
//! The structs are the tables of that page. Magic, version and checksum of each are written and
//! checked here and nowhere else.

use std::io;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Version of the store as a whole. It goes up with that of any file or row in it, so that a
/// program which does not know all of a store touches none of it.
pub const FORMAT_VERSION: u32 = 1;
/// Version of every file in it; frozen, see docs/decisions/0009-format-version-1.md.
pub(crate) const FILE_VERSION: u8 = 1;

/// Groups begin at multiples of this many bytes.
pub(crate) const PLACE_BYTES: u64 = 16;
pub(crate) const STORE_MAGIC: [u8; 8] = *b"OFSTORE\0";
pub(crate) const SEGMENT_MAGIC: [u8; 4] = *b"OFSG";
pub(crate) const GROUP_MAGIC: [u8; 4] = *b"OFGR";
pub(crate) const FOOTER_MAGIC: [u8; 4] = *b"OFSF";
pub(crate) const PAGE_MAGIC: [u8; 4] = *b"OFPG";
pub(crate) const ROOT_MAGIC: [u8; 4] = *b"OFRT";
pub(crate) const TRAILER_MAGIC: [u8; 4] = *b"OFMT";
pub(crate) const RUN_MAGIC: [u8; 4] = *b"OFKR";
pub(crate) const DRAFT_MAGIC: [u8; 4] = *b"OFDR";
pub(crate) const JOURNAL_MAGIC: [u8; 4] = *b"OFJL";

/// CRC-32C of some parts, one after another.
pub(crate) fn crc(parts: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    // The register is 64 bits wide for every algorithm; CRC-32C fills the lower half.
    u32::try_from(digest.finalize()).unwrap_or(u32::MAX)
}

/// Something whole, its checksum good, that another version of this program wrote.
#[derive(Debug, thiserror::Error)]
#[error("{what} has format version {found}, this program knows {known}")]
pub(crate) struct OtherVersion {
    pub(crate) what: &'static str,
    pub(crate) found: u8,
    pub(crate) known: u8,
}

/// Refuses a version that is not ours. Asked after the checksum: rot in the place of the version is
/// damage, and not a message from the future.
pub(crate) fn check_version(what: &'static str, found: u8) -> io::Result<()> {
    let other = OtherVersion { what, found, known: FILE_VERSION };
    match found {
        FILE_VERSION => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, other)),
    }
}

/// Whether reserved bytes are what every version so far writes. Others are refused, so that a later
/// version can give them a meaning that nobody overlooks.
pub(crate) fn are_zero(parts: &[&[u8]]) -> bool {
    parts.iter().all(|part| part.iter().all(|byte| *byte == 0))
}

/// The fixed part of a layout and what follows it; none when the bytes end before.
pub(crate) fn split<T: FromBytes + KnownLayout + Immutable + Unaligned>(
    bytes: &[u8],
) -> Option<(&T, &[u8])> {
    T::ref_from_prefix(bytes).ok()
}

macro_rules! layouts {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub(crate) struct $name { $(pub(crate) $field: $type,)* }
    )*};
}

layouts! {
    /// The root file.
    StoreRoot {
        magic: [u8; 8],
        version: U32,
        needs: U32,
        store: [u8; 16],
        fence: U64,
        zeros: [u8; 20],
        crc: U32,
    }
    /// The beginning of a segment.
    SegmentHead {
        magic: [u8; 4],
        version: u8,
        zero: [u8; 3],
        number: U32,
        zeros: U32,
        store: [u8; 16],
        tenant: [u8; 16],
        more_zeros: [u8; 12],
        crc: U32,
    }
    /// The beginning of a group.
    GroupHead {
        magic: [u8; 4],
        version: u8,
        codec: u8,
        flags: u8,
        zero: u8,
        n_records: U32,
        raw_bytes: U32,
        stored_bytes: U32,
        segment: U32,
        place: U32,
        payload_crc: U32,
        tenant: [u8; 16],
        zeros: [u8; 12],
        crc: U32,
    }
    /// A record in a group's table and in a footer.
    RecordRow {
        key: [u8; 32],
        raw_bytes: U32,
    }
    /// A group in a footer.
    FooterGroup {
        place: U32,
        n_records: U16,
        flags: U16,
    }
    /// The end of a closed segment.
    FooterTail {
        magic: [u8; 4],
        version: u8,
        zero: [u8; 3],
        n_groups: U32,
        n_records: U32,
        offset: U64,
        zeros: U32,
        crc: U32,
    }
    /// The beginning of a page.
    PageHead {
        magic: [u8; 4],
        version: u8,
        kind: u8,
        zero: U16,
        index: U32,
        n_entries: U32,
    }
    /// A changed position in a patch.
    PatchRow {
        position: U16,
        key: [u8; 32],
    }
    /// Where a page lies.
    PageRef {
        manifest: U32,
        bytes: U32,
        offset: U64,
        digest: [u8; 32],
    }
    /// The beginning of a root.
    RootHead {
        magic: [u8; 4],
        version: u8,
        form: u8,
        levels: u8,
        zero: u8,
        image: [u8; 16],
        volume: [u8; 16],
        bytes: U64,
        record_bytes: U32,
        n_pages: U32,
        list: [u8; 32],
        parent: [u8; 32],
    }
    /// The end of a manifest file.
    ManifestTail {
        magic: [u8; 4],
        version: u8,
        zero: [u8; 3],
        number: U32,
        root_bytes: U32,
        root_offset: U64,
        root_digest: [u8; 32],
        store: [u8; 16],
        tenant: [u8; 16],
        point: [u8; 16],
        zeros: [u8; 20],
        crc: U32,
    }
    /// The beginning of a key run.
    RunHead {
        magic: [u8; 4],
        version: u8,
        zero: [u8; 3],
        number: U32,
        zeros: U32,
        store: [u8; 16],
        tenant: [u8; 16],
        n_entries: U64,
        n_covered: U32,
        n_filter_blocks: U32,
        n_pages: U32,
        tables_crc: U32,
    }
    /// An entry of a key run.
    RunRow {
        key: [u8; 32],
        segment: U32,
        place: U32,
        slot: u8,
        size_and_form: [u8; 3],
    }
    /// The beginning of the journal.
    JournalHead {
        magic: [u8; 4],
        version: u8,
        zero: [u8; 3],
        store: [u8; 16],
        entries_before: U64,
        digest_before: [u8; 32],
        zeros: [u8; 12],
        crc: U32,
    }
    /// The beginning of a draft's log.
    DraftHead {
        magic: [u8; 4],
        version: u8,
        zero: [u8; 3],
        number: U32,
        zeros: U32,
        store: [u8; 16],
        tenant: [u8; 16],
        more_zeros: [u8; 12],
        crc: U32,
    }
    /// The beginning of a frame of a draft's log.
    DraftFrame {
        kind: u8,
        zero: [u8; 3],
        n: U32,
        first: U64,
        payload_crc: U32,
        crc: U32,
    }
    /// An entry of the list in a draft's log.
    DraftEntry {
        offset: U64,
        length: U32,
        key: [u8; 32],
    }
    /// A segment in a draft's log.
    DraftSegment {
        number: U32,
        is_closed: U32,
        bytes: U64,
    }
    /// The beginning of a journal entry.
    EntryHead {
        bytes: U32,
        crc: U32,
    }
}

// The sizes that docs/store-format.md promises.
const _: () = assert!(size_of::<StoreRoot>() == 64);
const _: () = assert!(size_of::<SegmentHead>() == 64);
const _: () = assert!(size_of::<GroupHead>() == 64);
const _: () = assert!(size_of::<RecordRow>() == 36);
const _: () = assert!(size_of::<FooterTail>() == 32);
const _: () = assert!(size_of::<PageHead>() == 16);
const _: () = assert!(size_of::<PageRef>() == 48);
const _: () = assert!(size_of::<ManifestTail>() == 128);
const _: () = assert!(size_of::<FooterGroup>() == 8);
const _: () = assert!(size_of::<PatchRow>() == 34);
const _: () = assert!(size_of::<RootHead>() == 120);
const _: () = assert!(size_of::<RunHead>() == 72);
const _: () = assert!(size_of::<EntryHead>() == 8);
const _: () = assert!(size_of::<RunRow>() == 44);
const _: () = assert!(size_of::<JournalHead>() == 80);
const _: () = assert!(size_of::<DraftHead>() == 64);
const _: () = assert!(size_of::<DraftFrame>() == 24);
const _: () = assert!(size_of::<DraftEntry>() == 44);
const _: () = assert!(size_of::<DraftSegment>() == 16);
