//! What crosses the wire between an Offsite source and an Offsite target, and its limits.
//!
//! Participants: the **source** protects machines and asks to pair; the **target** stands at
//! another site and keeps their recovery points. This crate holds the table of calls ([`rows`]),
//! their bodies ([`pairing`], [`session`], [`catalog`], [`jobs`], [`heal`], [`operator`],
//! [`admin`]), the record streams ([`stream`], [`window`], [`group`], [`bitmap`]), the errors, the
//! limits and the versions. A client needs nothing else of ours: `examples/pairing-client` is one.
//!
//! Goals: every byte from a peer is bounded before it is kept, and every layout is pinned by golden
//! bytes. Non-goals: how bytes travel (`offsite-transport`) and what they mean
//! (`offsite-exchange`).
//!
//! **Absent:** sockets, async, TLS, files, storage types; the check `layers` keeps them out.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

/// The nouns, so that a client needs to name this crate alone.
pub use offsite_model as model;

#[macro_use]
mod open_enum;

pub mod admin;
pub mod bitmap;
pub mod catalog;
pub mod codec;
pub mod endpoint;
pub mod error;
pub mod group;
pub mod heal;
pub mod jobs;
pub mod json;
pub mod limits;
pub mod operator;
pub mod page;
pub mod pairing;
pub mod rows;
pub mod session;
pub mod stream;
pub mod text;
pub mod version;
pub mod window;

#[cfg(test)]
mod tests;
