//! Both halves of replication against each other: scenes one can read, and worlds in a seed.

mod images;
mod long_line;
mod scenes;
mod seeds;
mod storm;
mod table;
mod target_node;
mod world;
