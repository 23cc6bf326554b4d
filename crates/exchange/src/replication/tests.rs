//! Both halves of replication against each other: scenes one can read, and worlds in a seed.

mod scenes;
mod seeds;
mod table;
mod world;
