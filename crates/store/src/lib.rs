//! Durable records and the catalog.
//!
//! **Absent:** HTTP, async, peers, wire types, clocks and randomness: times and ids are handed in,
//! files are reached through `offsite_model::FileSystem`.

pub mod catalog;
mod commit;
mod error;
mod format;
pub mod group;
mod hash;
mod index;
mod journal;
mod layout;
mod manifest;
mod recover;
mod restore;
mod rows;
mod segment;
mod session;
mod store;
#[cfg(test)]
mod tests;
mod upkeep;
mod verify;

pub use error::StoreError;
pub use format::FORMAT_VERSION;
pub use manifest::{Image, ImageSpec, ImageWriter, ListEntry, RECORD_BYTES_RANGE};
pub use restore::{Fetch, Fetched};
pub use rows::{IMAGES_MAX, NOTE_BYTES_MAX};
pub use segment::RecordPlace;
pub use session::{PointSpec, Session};
pub use store::{Alarm, Committed, ImageSummary, Point, Settings, Store};
pub use verify::{Damage, VerifyReport};
