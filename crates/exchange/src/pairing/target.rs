//! Target half of one pairing: one row of the register, from the request to its end.
//!
//! ```text
//!            ┌─ same key, other content (the approval is void) ─┐
//!            ▼                                                  │
//!  submit ► Pending ──────────────── accept ──────────────► AwaitIssued ── issued ──► AwaitFirstUse
//!            │  ▲ │                                             │                        │
//!            │  └─┘ same key: same request;                     │                first use of the key
//!            │      locked by wrong codes: new id               │                        ▼
//!            │                                                  │        ┌─► Active ──────────────┐
//!            ├─ reject ───► Rejected                            │        │   renewal: AwaitIssued │
//!            ├─ time ─────► Expired                             │        │   then AwaitFirstUse   │
//!            └─ leave ────► Withdrawn                           │        └── new key used, or ◄───┘
//!                                                               │            overlap over
//!                                     leave · revoke            ▼                │
//!                                                             Ended ◄────────────┘
//! ```
//!
//! A decision is taken by one [`Effect::Persist`] and by nothing else; the certificate is ordered by that same write, so
//! whatever crashes afterwards can only repeat the order. `AwaitFirstUse` is entered with the signed certificate
//! in the row: that write is the publication.
//!
//! **Absent:** this module cannot wait, read a clock, sign, or answer a connection; it does not know other rows.

mod stages;
mod words;

pub use stages::{
    Acceptance, AwaitIssued, Certificate, Ended, Paired, Pending, Rejected, Renewal, Stage,
};
pub use words::{
    Audit, Decision, Effect, EndedBy, Grants, Input, Issued, Order, Reply, Standing, TypedCode,
    Verdict,
};

use offsite_model::{Digest, RequestId};
use serde::{Deserialize, Serialize};

use super::{Asked, IllegalMove, Moment, PublicKey, Rules};

/// One row of the register of pairings. To be kept as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    key: PublicKey,
    stage: Stage,
}

/// What a step leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The row from now on; to be taken once its first effect is done.
    pub row: Target,
    /// What must be done, in this order.
    pub effects: Vec<Effect>,
}
