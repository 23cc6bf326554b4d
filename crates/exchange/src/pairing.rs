//! Pairing by request: a source asks, a person at the target decides, the source polls, installs
//! its certificate and goes on under mutual TLS.
//!
//! Two machines, [`source::Source`] and [`target::Target`], one instance per pairing each. A
//! machine is kept as a value: every stage can be stored, and a program that starts again hands the
//! stored value the input `Start`, which begins anew whatever that stage waits for. Every effect
//! may therefore happen twice, and losing any answer leads to the same place.
//!
//! Steps borrow the machine instead of consuming it: what is refused, or could not be kept, has
//! changed nothing, and a pairing is not lost to one mistaken call.
//!
//! **Absent:** what may be called by whom is decided by the target's gate, with
//! [`target::Target::standing`] as its source; certificates are opaque texts here, judged by the
//! facts that the driver read out of them.

pub(crate) mod form;
mod nouns;
pub mod source;
pub mod target;

pub use nouns::{
    AgentDecision, Asked, EnrolmentCode, IllegalMove, Moment, PublicKey, Rules, Wish, WishedAgent,
};
