//! What every daemon needs and no backup code should see: real time, real randomness, real files.
//!
//! Both programs build these once, in `main`, and hand them down as the traits of `offsite_model`.
//!
//! **Absent:** anything about backup, peers or records (`layers`).

pub mod clock;
pub mod files;
pub mod luck;
