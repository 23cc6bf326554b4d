//! The service that accepts, issues, receives and keeps.
//!
//! [`Target`] is the state of a target core; [`Target::replication_router`] and
//! [`Target::operator_routes`] are its two listeners. A source's request becomes a pairing in
//! `accept`, stands in `peers`, and is judged on every call by `gate`.
//!
//! **Absent:** any line of source code; sockets (transport), certificates (pki), files (handed in).

pub mod accounts;
pub mod approvals;
pub mod audit;
pub mod authority;
pub mod config;
pub mod content;
pub mod deed;
pub mod failure;
pub mod gate;
pub mod names;
pub mod peers;
pub mod principal;
pub mod replicas;
pub mod rows;
pub mod setup;
pub mod storage_list;
pub mod tenants;
pub mod verify;

mod accept;
mod addresses;
mod adopt;
mod damage;
mod door;
mod drive;
mod housekeeping;
mod issue;
mod keeper;
mod outline;
mod readback;
mod retention;
mod routes;
mod submit;
mod target;
mod turns;

pub use routes::admin::{OperatorRouter, Operators};
pub use target::{Identity, Target, World};

#[cfg(test)]
mod tests;
