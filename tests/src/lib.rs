//! Real daemons in temporary folders, for tests from outside: programs as they ship, sockets, signals, files.
//!
//! A [`Scene`] holds one folder; in it live [`Program`]s, each a data directory with its command line and, once
//! [`Program::serve`] was called, its daemon. Nothing here knows the inside of a core: what a test can do, a script
//! of an administrator can do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "only tests link this crate: a panic here is how a test fails, and files are its fixtures"
)]

pub mod pairing;
mod program;
mod scene;
mod strace;
mod tools;


pub use program::{Daemon, Program, Ran};
pub use scene::{Scene, eventually};
pub use strace::Kill;
pub use tools::{curl, openssl, require};
