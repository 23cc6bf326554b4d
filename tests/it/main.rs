//! The one integration binary: worlds in a seed, later whole daemons.

#![allow(clippy::panic, reason = "a panic here is how a test fails")]

mod sim_seeds;
