//! What whole-product tests stand on: worlds in a seed, and real daemons in temporary folders.
//!
//! **Absent:** assertions about one crate; those live beside its code.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "only tests link this crate: a panic here is how a test fails"
)]

pub mod sim;
