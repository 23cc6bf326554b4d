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
//! A decision is taken by one [`Effect::Persist`] and by nothing else; the certificate is ordered
//! by that same write, so whatever crashes afterwards can only repeat the order. `AwaitFirstUse` is
//! entered with the signed certificate in the row: that write is the publication.
//!
//! **Absent:** this module cannot wait, read a clock, sign, or answer a connection; it does not
//! know other rows.

mod answer;
mod decide;
mod key;
mod stages;
mod turn;
mod words;

pub use stages::{
    Acceptance, AwaitIssued, Certificate, Ended, Paired, Pending, Rejected, Renewal, Stage,
};
pub use words::{
    Audit, Decision, Effect, EndedBy, Grants, Input, Issued, Order, Reply, Standing, TypedCode,
    Verdict,
};

use offsite_model::{Digest, RequestId};
use offsite_proto::pairing::CheckCode;
use serde::{Deserialize, Serialize};

use self::turn::Turn;
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

impl Target {
    /// The row of a key that was never seen before and files its first request (row 44).
    #[must_use]
    pub fn submitted(
        key: PublicKey,
        asked: Asked,
        fresh: RequestId,
        at: Moment,
        rules: &Rules,
    ) -> Step {
        let pending = Pending::filed(fresh, asked, at, rules);
        let mut turn = Turn::new(at, rules);
        turn.audit(Audit::Filed);
        turn.reply(Ok(pending.submitted(rules)));
        let stage = Stage::Pending(pending);
        Step { effects: turn.finish(&stage), row: Self { key, stage } }
    }

    /// Takes one thing that happened; says what must be done about it.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] where the driver told something that cannot have happened; peers and
    /// operators are answered by [`Effect::Reply`] instead.
    pub fn step(&self, input: Input, at: Moment, rules: &Rules) -> Result<Step, IllegalMove> {
        let mut turn = Turn::new(at, rules);
        let stage = turn.settle(self.stage.clone());
        let stage = match input {
            Input::Start => turn.start(stage),
            Input::Woken => stage,
            Input::Submit { asked, fresh } => turn.submit(stage, asked, fresh),
            Input::Decide(decision) => turn.decide(&self.key, stage, decision),
            Input::Issued(issued) => turn.issued(stage, issued),
            Input::IssueFailed { serial, reason } => turn.issue_failed(stage, serial, reason),
            Input::Poll { key, request } => turn.poll(&self.key, stage, &key, request),
            Input::Fetch { key, request } => turn.fetch(&self.key, stage, &key, request),
            Input::Used { key } => turn.used(stage, &key)?,
            Input::Sync { key } => turn.sync(&self.key, stage, &key),
            Input::Renew { by, key, fresh, serial } => turn.renew(stage, &by, key, fresh, serial),
            Input::Leave { key, delete_points } => {
                turn.leave(&self.key, stage, &key, delete_points)
            }
            Input::Revoke { by } => turn.revoke(stage, by),
            Input::AllowRestore { by, is_allowed } => turn.allow_restore(stage, by, is_allowed),
        };
        Ok(Step { effects: turn.finish(&stage), row: Self { key: self.key.clone(), stage } })
    }

    /// Where it stands.
    #[must_use]
    pub const fn stage(&self) -> &Stage {
        &self.stage
    }

    /// The key that filed the request: the row's name in the register.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Every key that must lead to this row, dead ones included, so that none is ever taken again.
    #[must_use]
    pub fn keys(&self) -> Vec<&PublicKey> {
        let more = match &self.stage {
            Stage::AwaitFirstUse(paired) | Stage::Active(paired) => {
                paired.keys().into_iter().chain(&paired.retired).collect()
            }
            Stage::Ended(ended) => ended.keys.iter().collect(),
            _ => Vec::new(),
        };
        std::iter::once(&self.key).chain(more.into_iter().filter(|key| **key != self.key)).collect()
    }

    /// The digest of what an operator is shown now, to be sent with his decision.
    #[must_use]
    pub fn digest(&self, policy: &Digest) -> Digest {
        self.stage.pending().asked.digest(&self.key, policy)
    }

    /// The check code of the request.
    #[must_use]
    pub fn check_code(&self, target_key: &PublicKey) -> CheckCode {
        CheckCode::of(target_key.as_der(), self.key.as_der(), self.stage.pending().request)
    }
}
