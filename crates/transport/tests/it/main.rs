//! The transport between real sockets: what honest callers get, and what everybody else does not.

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
