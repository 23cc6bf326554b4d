//! What operators may ask of either daemon: the typed calls of the two local sockets (and of the
//! consoles).
//!
//! Fields are snake_case. Bodies sent by people and scripts refuse unknown fields, so that a typing
//! error never passes for "not given"; answers may grow.

pub mod content;
pub mod jobs;
pub mod keeping;
pub mod protection;
pub mod replication;
pub mod report;
pub mod source;
pub mod target;
pub mod upkeep;
