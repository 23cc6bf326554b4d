//! The engine of the source: it holds the agents, pairs with targets, and keeps the pairings alive.
//!
//! **Absent:** any line of target code, real files and real time (handed down), the grammar of the command line.

pub mod agents;
pub mod config;
pub mod error;
pub mod memory;
pub mod names;
pub mod poll;
