//! What a command shows to people and to scripts, and how it ends: the same for both programs.
//!
//! Names, comments and messages come from peers that nobody approved. Whatever goes out passes
//! [`visible`], which leaves nothing in it that could move a cursor, begin a line, hide letters or
//! turn the direction of the text (A-11). Help and wrong usage apart, which hold what the caller
//! typed himself, the two programs have no other way to a terminal.
//!
//! ```text
//! a command  ──► Result<Exit, Failure>
//!                   │          └──► Output::failure   error: …            {"error": {…}}
//!                   └── Output::result, made of table, facts, size …       a JSON document
//!                       Output::bar, Output::spinner                       nothing
//!                                                     for people           for scripts
//! ```
//!
//! **Absent:** what a refusal of the core means for the exit code; each program maps its own.

mod exit;
mod layout;
mod output;
mod progress;
mod units;
mod visible;

pub use exit::{Exit, Failure};
pub use layout::{facts, or_dash, table};
pub use output::Output;
pub use progress::Bar;
pub use units::{seconds, size};
pub use visible::visible;
