//! The programs from outside and worlds in a seed: one binary, so that it links once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests: a panic here is how they fail, and files are their fixtures"
)]

mod approvals;
mod barriers;
mod chains;
mod commit_again;
mod crossing;
mod cut_calls;
mod cuts;
mod foreign_client;
mod hostile;
mod kill_storm;
mod kills;
mod lease;
mod matrix;
mod offline;
mod pairing;
mod protect;
mod python_client;
mod rebuild;
mod replicate;
mod retention;
mod sim_seeds;
mod space;
mod stand_by;
mod strangers;
mod swap;
mod terminal;
mod transfer_speed;
mod wayback;
