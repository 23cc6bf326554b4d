//! Replication: volume images cross from a source to a target, whole or not at all, and whatever is
//! cut goes on.
//!
//! [`plan`] says what is to be sent. [`source::Job`] asks the target what it has and drives one
//! [`source::Transfer`] per image; [`target::Session`] is its other half. Keys travel in windows,
//! wanted records in groups, and neither waits for a round trip of the other.
//!
//! These machines hold large ledgers, so a step changes them in place; what a crash takes away is
//! told to them anew by what is durable: the target's draft, the source's own list.
//!
//! **Absent:** payloads. A machine sees ordinals, keys and lengths; the bytes stay with the driver.

pub mod plan;
mod runs;
pub mod source;
pub mod target;

pub use runs::Runs;

#[cfg(test)]
mod tests;
