//! Scenes, seeded luck, simulated time and faulty disks.
//!
//! **Absent:** anything that ships: the programs never depend on this crate.

pub mod disk;
