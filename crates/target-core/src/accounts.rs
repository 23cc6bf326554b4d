//! Operators' accounts: who they are, how they prove it, what they hand out.
//!
//! **Absent:** what they may do (`authority`), the calls (`routes::admin`).

pub mod enrolment;
pub mod login;
pub mod passwords;
pub mod tokens;
pub mod users;

mod code;
mod label;
mod throttle;

pub use label::{check_label, tamed as tamed_label};
pub use throttle::{Network, Throttle};

#[cfg(test)]
mod tests;
