//! Durable records and the catalog.
//!
//! **Absent:** HTTP, async, peers, wire types, clocks and randomness: times and ids are handed in,
//! files are reached through `offsite_model::FileSystem`.

pub mod catalog;
mod error;
mod format;
pub mod group;
mod hash;
mod index;
mod journal;
mod layout;
mod manifest;
mod rows;
mod segment;
