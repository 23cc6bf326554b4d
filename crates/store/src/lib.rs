//! The record store: durable records and recovery points, the same on a source and on a target.
//!
//! **What is promised.** When [`Session::commit`] has returned `Ok`, the point survives every crash
//! and power cut, byte for byte; when it has not, the point is there whole or not at all, and
//! [`Store::outcome`] says which. Nothing is stored under a key that is not its hash. A tenant
//! never learns of another's records. What is on disk, and why each step is safe:
//! docs/store-format.md.
//!
//! **Writing.** [`Store::session`] begins one writer's work. Per volume: [`Session::image`] names
//! the parent, [`ImageWriter::parent_key`] tells the parent's key at a position, [`Session::find`]
//! whether a record is stored ([`Session::find_many`] a window of them),
//! [`group::CheckedGroup::encode`] (or `check`, for what came from a peer) makes groups on as many
//! threads as there are, [`Session::append`] stores them, [`ImageWriter::push`] takes the list in
//! order. [`Session::commit`] makes all images one point.
//!
//! **Receiving.** [`Store::draft`] begins a session that survives a crash: [`Draft::find_many`],
//! [`Draft::list`], then [`Draft::promise`] before "have" is answered; [`Draft::append`] and
//! [`Draft::barrier`]; [`Draft::commit`], [`Store::end_draft`]. [`Store::resume`] goes on with it.
//!
//! **Sending.** [`Store::changes`] is the list of an image against its parent, [`Store::plan`] says
//! where its records lie, [`Store::group_as_stored`] is a group as it crosses.
//!
//! **Reading.** [`Store::image`] opens a volume of a point; [`Image::list`] is its ordered list;
//! [`Store::plan`] says which groups hold a window of it; [`Fetch::read`] reads, decodes and checks
//! one, holding no lock, so windows are read ahead on several threads within the memory the caller
//! allows. [`Store::group_as_stored`] is a group as it lies, for sending.
//!
//! **Reading only.** [`Store::open_read_only`] opens a store without writing a byte, after a crash
//! as well: what recovery changes stays in memory ([`Overlay`]). It shares the lock with other
//! readers and is refused while a writer has it.
//!
//! **Rebuilding.** [`Store::rebuild`] makes the catalog and the index of a store again that lost
//! them.
//!
//! **Who may do what beside whom.** All operations may run at once from any thread; what each pair
//! sees of the other:
//!
//! | | find, plan, read | append | commit | delete mark | verify | runs written |
//! |---|---|---|---|---|---|---|
//! | **find, plan, read** | free | a group is found once it is written whole | a point is seen once it is durable | the mark, once durable; reading goes on | free | the same answers throughout |
//! | **append** | | sessions write segments of their own; the first place of a key stays | a commit may make another session's segment durable | free | only committed bytes are read | only closed, committed segments are taken |
//! | **commit** | | | one pass at a time; those that wait share the next | one pass at a time | sees it wholly or not | after the answer, outside the order |
//! | **session dropped** | its records go unless committed, or told to a session that is open, or promised by a draft | as before | as before | free | free | free |
//! | **poisoned** | goes on | refused | refused | refused | goes on | not begun |
//!
//! **Taking space back.** [`Store::purge`] removes points that were marked as deleted,
//! [`Store::collect`] takes the space of what nothing refers to, beside all of the above:
//!
//! | beside collection | |
//! |---|---|
//! | find, plan, read | the same answers; a place is readable while a [`Reading`] is kept |
//! | session | what it was told it finds at its commit |
//! | draft | what it was told up to its promise, then what it names |
//! | image, its writer | its pages and records stay while it is open |
//! | commit | waits for nothing; a collection that begins waits for it |
//! | verify | passes over what has gone meanwhile |
//! | collection | refused |
//!
//! **Damage** is found by whoever reads, by [`Store::verify`] at once and by [`Store::scrub`]
//! slowly, is put aside, and is healed by the next session that brings a good copy. A segment that
//! is emptied because of it lies in quarantine until [`Store::clear_quarantine`].
//!
//! **Errors of the disk** in a commit poison the store: nothing is written or acknowledged until it
//! has been opened again; nothing is synced twice in hope. A full disk is [`StoreError::NoSpace`];
//! ingest stops before it eats the reserve.
//!
//! **Absent:** HTTP, async, peers, wire types, threads of its own, clocks and randomness: times and
//! ids are handed in, files are reached through `offsite_model::FileSystem`.

mod accounting;
mod aside;
pub mod catalog;
mod collect;
mod commit;
mod draft;
mod error;
mod format;
pub mod group;
mod group_cache;
mod hash;
mod holds;
mod index;
mod journal;
mod layout;
mod locks;
mod lookup;
mod manifest;
mod overlay;
mod passed_over;
mod quarantine;
mod quarantined;
mod readers;
mod rebuild;
mod recover;
mod removal;
mod reserve;
mod restore;
mod rows;
mod scrub;
mod segment;
mod session;
mod store;
#[cfg(test)]
mod tests;
mod upkeep;
mod usage;
mod verify;

pub use accounting::{AgentSpace, TenantSpace};
pub use collect::{CollectOptions, CollectProgress, CollectReport, Kept, Share, Stage};
pub use draft::{Barrier, Draft, DraftSummary, OPENING_BYTES_MAX, Synced};
pub use error::StoreError;
pub use format::FORMAT_VERSION;
pub use group_cache::GroupCache;
pub use holds::Reading;
pub use locks::Lock;
pub use manifest::{Changes, Image, ImageSpec, ImageWriter, ListEntry, RECORD_BYTES_RANGE};
pub use overlay::Overlay;
pub use quarantined::Quarantined;
pub use rebuild::{InDoubt, RebuildAsked, Rebuilt, Replayed};
pub use restore::{Fetch, Room};
pub use rows::{IMAGES_MAX, NOTE_BYTES_MAX};
pub use scrub::{ScrubPass, ScrubProgress, ScrubState};
pub use segment::RecordPlace;
pub use session::{PointSpec, Session};
pub use store::{Alarm, Committed, ImageSummary, Point, Settings, Store};
pub use verify::{Damage, VerifyReport};
