//! The request and the operator's decision on it: rows 44 and 60, and what comes of signing.

use offsite_model::RequestId;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::pairing::{CheckCode, Resolution};
use offsite_proto::text::Time;

use super::stages::{
    Acceptance, AwaitIssued, Certificate, Paired, Pending, Rejected, Renewal, Stage,
};
use super::turn::Turn;
use super::words::{Audit, Decision, Issued, Order, Reply, TypedCode, Verdict};
use crate::pairing::{Asked, Moment, PublicKey, Rules};

impl Pending {
    pub(super) fn filed(request: RequestId, asked: Asked, at: Moment, rules: &Rules) -> Self {
        Self {
            request,
            asked,
            created_at: at.now,
            expires_at: at.now + rules.request_life,
            n_wrong_codes: 0,
            is_locked: false,
        }
    }

    pub(super) fn submitted(&self, rules: &Rules) -> Reply {
        let poll_after_secs = whole_secs(rules.poll_pause_min);
        Reply::Submitted { request: self.request, expires_at: self.expires_at, poll_after_secs }
    }
}

/// Seconds for a header; a span beyond its range does not occur in any setting.
pub(super) fn whole_secs(span: offsite_model::Span) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}

impl Turn<'_> {
    /// Row 44 by the key of the row. What has been decided is not asked again with the same key.
    pub(super) fn submit(&mut self, stage: Stage, asked: Asked, fresh: RequestId) -> Stage {
        match stage {
            Stage::Pending(pending) if pending.is_locked => {
                self.audit(Audit::Unlocked);
                let pending = Pending::filed(fresh, asked, self.at, self.rules);
                self.reply(Ok(pending.submitted(self.rules)));
                Stage::Pending(pending)
            }
            Stage::Pending(mut pending) => {
                if pending.asked != asked {
                    self.audit(Audit::Changed { is_approval_void: false });
                    pending.asked = asked;
                }
                self.reply(Ok(pending.submitted(self.rules)));
                Stage::Pending(pending)
            }
            Stage::AwaitIssued(waiting) if waiting.pending.asked != asked => {
                self.audit(Audit::Changed { is_approval_void: true });
                let pending = Pending { asked, ..waiting.pending };
                self.reply(Ok(pending.submitted(self.rules)));
                Stage::Pending(pending)
            }
            Stage::AwaitIssued(AwaitIssued { ref pending, .. }) => {
                self.reply(Ok(pending.submitted(self.rules)));
                stage
            }
            Stage::AwaitFirstUse(Paired { ref pending, .. }) if pending.asked == asked => {
                self.reply(Ok(pending.submitted(self.rules)));
                stage
            }
            stage => {
                let message = "this key is used by a request that is resolved; ask with a new one";
                self.refuse(ErrorCode::AlreadyExists, message);
                stage
            }
        }
    }

    /// Row 60: exactly once.
    pub(super) fn decide(&mut self, key: &PublicKey, stage: Stage, decision: Decision) -> Stage {
        if decision.request != stage.pending().request {
            self.refuse(ErrorCode::RequestUnknown, "no such pairing request");
            return stage;
        }
        let mut pending = match stage {
            Stage::Pending(pending) => pending,
            stage => {
                self.reply(Err(resolved_before(&stage)));
                return stage;
            }
        };
        if decision.seen.is_some_and(|seen| seen != pending.asked.digest(key, &decision.policy)) {
            let message = "the request changed after it was shown; look at it again";
            self.refuse(ErrorCode::RequestChanged, message);
            return Stage::Pending(pending);
        }
        match decision.verdict {
            Verdict::Reject { message } if message.trim().is_empty() => {
                let message = "a rejection needs a message for the source's operator";
                self.refuse(ErrorCode::MessageRequired, message);
                Stage::Pending(pending)
            }
            Verdict::Reject { message } => {
                self.audit(Audit::Rejected { by: decision.by.clone() });
                let resolution = Resolution::Rejected;
                self.reply(Ok(Reply::Decided { request: pending.request, resolution }));
                Stage::Rejected(Rejected { pending, by: decision.by, at: self.at.now, message })
            }
            Verdict::Accept { code, grants, message, subject, serial } => {
                let expected =
                    CheckCode::of(decision.target_key.as_der(), key.as_der(), pending.request);
                if !self.compare(&mut pending, code, expected, &decision.by) {
                    return Stage::Pending(pending);
                }
                let by = decision.by;
                let with_code = matches!(code, TypedCode::Code(_));
                self.audit(Audit::Accepted { by: by.clone(), with_code });
                let order = self.order(pending.request, key.clone(), subject, serial);
                self.issue(&order);
                let resolution = Resolution::Accepted;
                self.reply(Ok(Reply::Decided { request: pending.request, resolution }));
                let acceptance = Acceptance { by, at: self.at.now, grants, message };
                Stage::AwaitIssued(AwaitIssued { pending, acceptance, order })
            }
        }
    }

    /// Compares the code; says whether it may go on, and has refused where not.
    fn compare(
        &mut self,
        pending: &mut Pending,
        typed: TypedCode,
        expected: CheckCode,
        by: &str,
    ) -> bool {
        let message = if pending.is_locked {
            "wrong check codes have locked this request; the source must submit it again"
        } else {
            match typed {
                TypedCode::None => return true,
                TypedCode::Code(code) if code == expected => return true,
                TypedCode::Missing => "the settings of this target demand the check code",
                TypedCode::Code(_) | TypedCode::Malformed => {
                    pending.n_wrong_codes = pending.n_wrong_codes.saturating_add(1);
                    pending.is_locked = pending.n_wrong_codes >= self.rules.wrong_codes_max;
                    let is_locked = pending.is_locked;
                    self.audit(Audit::WrongCode { by: by.to_owned(), is_locked });
                    "the check code is wrong; compare it with the source's operator again"
                }
            }
        };
        self.refuse(ErrorCode::CheckCodeMismatch, message);
        false
    }

    /// The order for a certificate of the fixed profile, dated back a little.
    pub(super) fn order(
        &self,
        request: RequestId,
        key: PublicKey,
        subject: offsite_model::CoreId,
        serial: [u8; 16],
    ) -> Order {
        let not_before = self.at.now - self.rules.backdate;
        let not_after = self.at.now + self.rules.certificate_life;
        Order { request, key, subject, serial, not_before, not_after }
    }

    /// A certificate was signed. One that nobody waits for any more is dropped unseen.
    pub(super) fn issued(&mut self, stage: Stage, issued: Issued) -> Stage {
        match stage {
            Stage::AwaitIssued(waiting) if waiting.order.serial == issued.serial => {
                self.audit(Audit::Published);
                Stage::AwaitFirstUse(Paired {
                    pending: waiting.pending,
                    acceptance: waiting.acceptance,
                    live: Certificate { order: waiting.order, issued },
                    renewal: None,
                    retired: Vec::new(),
                })
            }
            Stage::Active(mut paired) => {
                match paired.renewal.take() {
                    Some(Renewal::AwaitIssued(order)) if order.serial == issued.serial => {
                        self.audit(Audit::RenewalGranted);
                        let certificate = Certificate { order, issued };
                        let published_at = self.at.now;
                        paired.renewal = Some(Renewal::AwaitFirstUse { certificate, published_at });
                    }
                    renewal => paired.renewal = renewal,
                }
                Stage::Active(paired)
            }
            stage => stage,
        }
    }

    /// Signing or configuring failed: a first request waits for the operator again, a renewal for
    /// the source.
    pub(super) fn issue_failed(&mut self, stage: Stage, serial: [u8; 16], reason: String) -> Stage {
        match stage {
            Stage::AwaitIssued(waiting) if waiting.order.serial == serial => {
                self.audit(Audit::IssueFailed { reason });
                Stage::Pending(waiting.pending)
            }
            Stage::Active(mut paired) => {
                match paired.renewal.take() {
                    Some(Renewal::AwaitIssued(order)) if order.serial == serial => {
                        self.audit(Audit::IssueFailed { reason });
                    }
                    renewal => paired.renewal = renewal,
                }
                Stage::Active(paired)
            }
            stage => stage,
        }
    }
}

/// What a second decision is told: the first one.
fn resolved_before(stage: &Stage) -> Refusal {
    let (status, at) = match stage {
        Stage::Expired(_) => {
            let message = "the request lapsed before it was decided";
            return Refusal::new(ErrorCode::RequestExpired, message);
        }
        Stage::Pending(_) | Stage::Withdrawn(_) => {
            return Refusal::new(ErrorCode::RequestUnknown, "no such pairing request");
        }
        Stage::Rejected(rejected) => ("rejected", rejected.at),
        Stage::AwaitIssued(waiting) => ("accepted", waiting.acceptance.at),
        Stage::AwaitFirstUse(paired) | Stage::Active(paired) => ("accepted", paired.acceptance.at),
        Stage::Ended(ended) => ("accepted", ended.acceptance.at),
    };
    Refusal::new(ErrorCode::AlreadyResolved, "this request has been decided before")
        .with("status", status)
        .with("resolved_at", Time(at).to_string())
}
