//! Durable records and the catalog.
//!
//! **Absent:** HTTP, async, peers, wire types, clocks and randomness: times and ids are handed in,
//! files are reached through `offsite_model::FileSystem`.

pub mod catalog;
