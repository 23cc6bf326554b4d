//! Retention at the target: what goes when, and what nobody can make go.
//!
//! ```text
//!            policy, an operator, a source's wish
//!  committed ───────────────────────────────────► deleted softly ──────────────► purged
//!      ▲                                                │     soft deletion is over
//!      └──────────────── an operator undeletes ─────────┘     or two persons agreed
//! ```
//!
//! No arrow leaves a point that is locked. Everything that is "when" here is the retention clock's
//! ([`clock`]), and every step is an entry of the store's journal. What is purged gives its space
//! back with the next collection.
//!
//! **Absent:** which points a policy keeps (`offsite_model::retention`), collection (the store's).

mod acts;
pub(crate) mod clock;
mod locks;
mod round;
pub(crate) mod rules;
pub(crate) mod state;
pub(crate) mod time;
mod waiting;

pub(crate) use self::acts::Removal;

#[cfg(test)]
mod tests;
