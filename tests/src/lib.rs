//! What whole-product tests stand on: real daemons in temporary folders, and worlds in a seed.
//!
//! A [`Scene`] holds one folder; in it live [`Program`]s, each a data directory with its command
//! line and, once [`Program::serve`] was called, its daemon. Nothing there knows the inside of a
//! core: what a test can do, a script of an administrator can do. A world of [`sim`] is the
//! opposite: both halves of a conversation in one thread.
//!
//! **Absent:** assertions about one crate; those live beside its code.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "only tests link this crate: a panic here is how a test fails, and files are its \
        fixtures"
)]

pub mod pairing;
mod program;
mod relay;
mod scene;
pub mod sim;
mod strace;
mod tools;

pub use program::{Daemon, Program, Ran};
pub use relay::Relay;
pub use scene::{Scene, eventually, pause};
pub use strace::Kill;
pub use tools::{curl, curl_by, openssl, python, require};
