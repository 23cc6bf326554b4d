//! The rules of both conversations as pure state machines, both halves in one crate.
//!
//! A machine is a function: state × input × time → state and effects. The driver (`source-core`,
//! `target-core`, or a simulated world) obeys the effects in order and feeds what came of them back
//! as the next input.
//!
//! **Absent:** clocks, sockets, files, tasks, randomness, certificates and locks. What a machine
//! needs of them is handed in with the input.

pub mod pace;
pub mod pairing;
pub mod replication;

#[cfg(test)]
mod tests;
