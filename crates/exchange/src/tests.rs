//! Both halves talking in memory: scenes, the allowed moves, and the rows that need no world.

mod cast;
mod matrix;
mod rows;
mod scenes;
