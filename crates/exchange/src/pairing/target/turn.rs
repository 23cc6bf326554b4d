//! One step being taken: what is gathered for the driver, and the rules that time alone applies.

use offsite_proto::error::{ErrorCode, Refusal};

use super::stages::{Pending, Renewal, Stage};
use super::words::{Audit, Effect, Order, Reply};
use crate::pairing::{Moment, PublicKey, Rules};

/// The effects of one step, sorted into the order in which they are safe: keep, then act, then
/// answer.
pub(super) struct Turn<'a> {
    pub(super) at: Moment,
    pub(super) rules: &'a Rules,
    is_changed: bool,
    audits: Vec<Audit>,
    acts: Vec<Effect>,
    reply: Option<Result<Reply, Refusal>>,
}

impl<'a> Turn<'a> {
    pub(super) const fn new(at: Moment, rules: &'a Rules) -> Self {
        Self { at, rules, is_changed: false, audits: Vec::new(), acts: Vec::new(), reply: None }
    }

    /// Notes a change together with its entry in the audit log.
    pub(super) fn audit(&mut self, audit: Audit) {
        self.is_changed = true;
        self.audits.push(audit);
    }

    /// Orders a certificate; the order is part of the stage that is kept first.
    pub(super) fn issue(&mut self, order: &Order) {
        self.acts.push(Effect::Issue(order.clone()));
    }

    /// Cuts off every connection of a key.
    pub(super) fn close(&mut self, key: &PublicKey) {
        self.acts.push(Effect::Close(key.clone()));
    }

    pub(super) fn reply(&mut self, reply: Result<Reply, Refusal>) {
        self.reply = Some(reply);
    }

    pub(super) fn refuse(&mut self, code: ErrorCode, message: &str) {
        self.reply = Some(Err(Refusal::new(code, message)));
    }

    /// What time alone does: a request lapses, an old key dies. Done before each input, so that a
    /// late timer cannot keep alive what is over.
    pub(super) fn settle(&mut self, stage: Stage) -> Stage {
        match stage {
            Stage::Pending(pending) if self.at.now >= pending.expires_at => {
                self.audit(Audit::Expired);
                Stage::Expired(pending)
            }
            Stage::Active(mut paired) => {
                match paired.renewal.take() {
                    Some(Renewal::AwaitFirstUse { certificate, published_at })
                        if self.at.now >= published_at + self.rules.overlap =>
                    {
                        self.audit(Audit::KeyRetired { is_new_key_used: false });
                        self.retire(&mut paired, certificate);
                    }
                    renewal => paired.renewal = renewal,
                }
                Stage::Active(paired)
            }
            stage => stage,
        }
    }

    /// Begins anew what the program was doing when it ended.
    pub(super) fn start(&mut self, stage: Stage) -> Stage {
        match &stage {
            Stage::AwaitIssued(waiting) => self.issue(&waiting.order),
            Stage::Active(paired) => {
                if let Some(Renewal::AwaitIssued(order)) = &paired.renewal {
                    self.issue(order);
                }
            }
            _ => {}
        }
        stage
    }

    /// What the driver must do, in order, where this is the stage from now on.
    pub(super) fn finish(self, stage: &Stage) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.is_changed {
            effects.push(Effect::Persist(self.audits));
        }
        effects.extend(self.acts);
        effects.extend(self.reply.map(Effect::Reply));
        let deadline = match stage {
            Stage::Pending(Pending { expires_at, .. }) => Some(*expires_at),
            Stage::Active(paired) => match &paired.renewal {
                Some(Renewal::AwaitFirstUse { published_at, .. }) => {
                    Some(*published_at + self.rules.overlap)
                }
                _ => None,
            },
            _ => None,
        };
        // Asked for with every step, because a jump of the clock moves it.
        effects.extend(deadline.map(|deadline| Effect::WakeAfter(deadline.since(self.at.now))));
        effects
    }
}
