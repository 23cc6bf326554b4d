//! The engine of the source: it holds the agents, pairs with targets, and keeps the pairings alive.
//!
//! **Absent:** any line of target code, real files and real time (handed down), the grammar of the
//! command line.

pub mod address;
pub mod admin;
pub mod agents;
pub mod calls;
mod causes;
mod choose;
pub mod config;
pub mod doctor;
pub mod engine;
pub mod error;
pub mod event;
mod heal;
mod held;
pub mod hooks;
pub mod install;
pub mod jobs;
pub mod keeper;
pub mod line;
pub mod memory;
pub mod names;
pub mod origin;
pub mod pairing;
pub mod paused;
pub mod points;
pub mod poll;
pub mod progress;
pub mod protect;
mod readback;
pub mod replicate;
pub mod restore;
pub mod retention;
pub mod verify;
pub mod view;
mod wayback;

#[cfg(test)]
mod tests;
