//! The transport between real sockets: what honest callers get, and what everybody else does not.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::let_underscore_must_use,
    reason = "a test fails by panicking, and a peer that hangs up early is what many tests want"
)]

mod calls;
mod confusion;
mod dialling;
mod local;
mod paths;
mod revocation;
mod silence;
mod stalls;
mod strangers;
mod support;
