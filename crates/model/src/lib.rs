//! The nouns of Offsite, in reading order, and the traits through which everything else is reached.
//!
//! A newcomer who has read this crate knows every word that the others use. The vocabulary is that
//! of `docs/protocol.md`; one word per thing, the same in code, logs and on both consoles.
//!
//! **Absent:** sockets, serialisation, async, and any real clock, file or randomness: those are
//! traits here ([`Clock`], [`FileSystem`], [`Luck`]) and are implemented by `daemon` for programs
//! and by `testkit` for worlds in a seed.

mod aligned;
mod files;
mod id;
mod key;
mod key_hash;
mod lanes;
mod letters;
mod luck;
pub mod policy;
pub mod retention;
mod time;

pub use aligned::Aligned;
pub use files::{BLOCK_BYTES, Extent, File, FileSystem, Kind, Metadata, OpenMode};
pub use id::{
    AgentId, CoreId, IdError, ImageId, JobId, PointId, RepositoryId, RequestId, SessionId,
    TenantId, TokenId, UserId, VolumeId,
};
pub use key::{Digest, DigestError, Key, ListDigest};
pub use key_hash::{KeyHasher, KeyMap, KeySet, KeyState};
pub use lanes::{LANES_MAX, Lanes, LanesDigest};
pub use letters::is_plain;
pub use luck::Luck;
pub use policy::Policy;
pub use time::{Clock, Span, Timestamp};
