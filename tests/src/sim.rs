//! Worlds in a seed: both halves of pairing over a network that loses, delays and repeats, on
//! machines that die and whose clocks jump, under operators who change their minds.
//!
//! One seed decides everything; the digest of the trace proves it. The oracle watches each effect,
//! so a world that goes wrong stops at the first broken promise and says which.
//!
//! **Absent:** the store and replication, which join when their machines exist.

mod network;
mod oracle;
mod source_node;
mod target_node;
mod workload;
mod world;

pub use network::Hazards;
pub use world::{Outcome, Plan, World};
