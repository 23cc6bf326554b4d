//! The engine of the source: it holds the agents, pairs with targets, and keeps the pairings alive.
//!
//! **Absent:** any line of target code, real files and real time (handed down), the grammar of the command line.

pub mod admin;
pub mod event;
pub mod engine;
pub mod pairing;
pub mod view;
pub mod doctor;
pub mod line;
pub mod calls;
pub mod install;
pub mod poll;
pub mod agents;
pub mod address;
pub mod names;
pub mod memory;
pub mod config;
pub mod error;
