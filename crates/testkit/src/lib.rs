//! What tests stand on: seeded luck, a clock moved by hand, expectations kept in the source, and
//! the suite that every implementation of `FileSystem` must pass.
//!
//! **Absent:** anything that ships. No crate names this one except as a dev-dependency (`layers`).

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "only tests link this crate: a panic is how a test fails, and files are its fixtures"
)]

pub mod disk;
pub mod expect;
pub mod files_suite;
pub mod luck;
pub mod sim_clock;

pub use expect::Expect;
pub use luck::SeededLuck;
pub use sim_clock::SimClock;
