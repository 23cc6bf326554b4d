//! What a source is told: rows 45 and 46, P1 to P3. Each answer goes to the key it belongs to, and
//! to no other.

use offsite_model::RequestId;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::pairing::PairingState;

use super::decide::whole_secs;
use super::stages::{Certificate, Ended, Paired, Renewal, Stage};
use super::turn::Turn;
use super::words::{Audit, EndedBy, Reply};
use crate::pairing::PublicKey;

/// What a key may ask about.
enum Sight<'a> {
    /// A decision is not taken, or its certificate not ready.
    Waiting { request: RequestId },
    /// A certificate of this key can be fetched.
    Ready(&'a Certificate),
    /// The request of this key was rejected.
    Rejected { request: RequestId },
    /// Nothing: a stranger, as far as this row can tell.
    Nothing,
}

fn sight<'a>(row_key: &PublicKey, stage: &'a Stage, key: &PublicKey) -> Sight<'a> {
    match stage {
        Stage::AwaitFirstUse(paired) | Stage::Active(paired) => {
            if paired.live.order.key == *key {
                return Sight::Ready(&paired.live);
            }
            match &paired.renewal {
                Some(Renewal::AwaitIssued(order)) if order.key == *key => {
                    Sight::Waiting { request: order.request }
                }
                Some(Renewal::AwaitFirstUse { certificate, .. })
                    if certificate.order.key == *key =>
                {
                    Sight::Ready(certificate)
                }
                _ => Sight::Nothing,
            }
        }
        _ if row_key != key => Sight::Nothing,
        Stage::Pending(pending) => Sight::Waiting { request: pending.request },
        Stage::AwaitIssued(waiting) => Sight::Waiting { request: waiting.pending.request },
        Stage::Rejected(rejected) => Sight::Rejected { request: rejected.pending.request },
        Stage::Expired(_) | Stage::Withdrawn(_) | Stage::Ended(_) => Sight::Nothing,
    }
}

fn request_unknown() -> Refusal {
    Refusal::new(ErrorCode::RequestUnknown, "no such pairing request")
}

impl Turn<'_> {
    /// P1.
    pub(super) fn poll(
        &mut self,
        row_key: &PublicKey,
        stage: Stage,
        key: &PublicKey,
        request: RequestId,
    ) -> Stage {
        let reply = match (sight(row_key, &stage, key), &stage) {
            (Sight::Waiting { request: own }, _) if own == request => {
                let waits_since = match &stage {
                    Stage::AwaitIssued(waiting) => waiting.acceptance.at,
                    Stage::Active(Paired { renewal: Some(renewal), .. }) => {
                        renewal.order().not_before + self.rules.backdate
                    }
                    stage => stage.pending().created_at,
                };
                let pause = self.rules.poll_pause(self.at.now.since(waits_since));
                Ok(Reply::Pending { retry_after_secs: whole_secs(pause) })
            }
            (Sight::Ready(certificate), Stage::AwaitFirstUse(paired) | Stage::Active(paired))
                if certificate.order.request == request =>
            {
                Ok(Reply::Accepted {
                    message: paired.acceptance.message.clone(),
                    resolved_at: paired.acceptance.at,
                    agents: paired.acceptance.grants.agents.clone(),
                    certificate_sha256: certificate.issued.certificate_sha256,
                    target_certificate_sha256: certificate.issued.target_certificate_sha256,
                })
            }
            (Sight::Rejected { request: own }, Stage::Rejected(rejected)) if own == request => {
                let message = rejected.message.clone();
                Ok(Reply::Rejected { message, resolved_at: rejected.at })
            }
            _ => Err(request_unknown()),
        };
        self.reply(reply);
        stage
    }

    /// P2 and P3.
    pub(super) fn fetch(
        &mut self,
        row_key: &PublicKey,
        stage: Stage,
        key: &PublicKey,
        request: RequestId,
    ) -> Stage {
        let reply = match sight(row_key, &stage, key) {
            Sight::Waiting { request: own } if own == request => {
                let after = whole_secs(self.rules.poll_pause_min);
                let message = "the request is not resolved, or its certificate not ready";
                Err(Refusal::new(ErrorCode::PairingPending, message).after(after))
            }
            Sight::Ready(certificate) if certificate.order.request == request => {
                Ok(Reply::Artifacts(Box::new(certificate.issued.clone())))
            }
            Sight::Rejected { request: own } if own == request => {
                let message = "the target's operator rejected the request";
                Err(Refusal::new(ErrorCode::PairingDenied, message))
            }
            _ => Err(request_unknown()),
        };
        self.reply(reply);
        stage
    }

    /// Row 45. A rejection is a success of the call.
    pub(super) fn sync(&mut self, row_key: &PublicKey, stage: Stage, key: &PublicKey) -> Stage {
        let status = |state, request, message: Option<&String>| {
            Ok(Reply::Status { state, request: Some(request), message: message.cloned() })
        };
        let reply = match (sight(row_key, &stage, key), &stage) {
            (Sight::Waiting { request }, _) => status(PairingState::Pending, request, None),
            (Sight::Ready(certificate), Stage::Active(paired))
                if certificate.order.key == paired.live.order.key =>
            {
                let request = certificate.order.request;
                status(PairingState::Active, request, paired.acceptance.message.as_ref())
            }
            (Sight::Ready(certificate), _) => {
                status(PairingState::Accepted, certificate.order.request, None)
            }
            (Sight::Rejected { request }, Stage::Rejected(rejected)) => {
                status(PairingState::Rejected, request, Some(&rejected.message))
            }
            _ => Err(Refusal::new(ErrorCode::NotPaired, "this key is bound to no pairing")),
        };
        self.reply(reply);
        stage
    }

    /// Row 46, from a source that goes, and again from one that has gone.
    pub(super) fn leave(
        &mut self,
        row_key: &PublicKey,
        stage: Stage,
        key: &PublicKey,
        delete_points: bool,
    ) -> Stage {
        let may = match &stage {
            Stage::AwaitFirstUse(paired) | Stage::Active(paired) => paired.keys().contains(&key),
            Stage::Ended(ended) => ended.keys.contains(key),
            _ => row_key == key,
        };
        if !may {
            self.refuse(ErrorCode::NotPaired, "this key is bound to no pairing");
            return stage;
        }
        self.reply(Ok(Reply::Done));
        match stage {
            Stage::Pending(pending) => {
                self.audit(Audit::Withdrawn);
                Stage::Withdrawn(pending)
            }
            stage => self.end(stage, EndedBy::Source { delete_points }),
        }
    }

    /// An operator ends the pairing; it bites on open connections.
    pub(super) fn revoke(&mut self, stage: Stage, by: String) -> Stage {
        match stage {
            Stage::Pending(_) => {
                let message = "the request is not decided yet; reject it instead";
                self.refuse(ErrorCode::WrongState, message);
                stage
            }
            stage => {
                self.reply(Ok(Reply::Done));
                self.end(stage, EndedBy::Operator(by))
            }
        }
    }

    /// An operator gives or takes the right to read back. Taking bites on open connections: what
    /// was being read ends with them.
    pub(super) fn allow_restore(
        &mut self,
        mut stage: Stage,
        by: String,
        is_allowed: bool,
    ) -> Stage {
        let (acceptance, keys) = match &mut stage {
            Stage::AwaitIssued(waiting) => (&mut waiting.acceptance, Vec::new()),
            Stage::AwaitFirstUse(paired) | Stage::Active(paired) => {
                let keys: Vec<PublicKey> = paired.keys().into_iter().cloned().collect();
                (&mut paired.acceptance, keys)
            }
            _ => {
                let message = "there is no pairing whose rights could be changed";
                self.refuse(ErrorCode::WrongState, message);
                return stage;
            }
        };
        if acceptance.grants.allow_restore != is_allowed {
            acceptance.grants.allow_restore = is_allowed;
            self.audit(Audit::RestoreAllowed { by, is_allowed });
            if !is_allowed {
                keys.iter().for_each(|key| self.close(key));
            }
        }
        self.reply(Ok(Reply::Done));
        stage
    }

    /// Ends what lives; what is over already stays as it is, with the first reason.
    fn end(&mut self, stage: Stage, by: EndedBy) -> Stage {
        let (pending, acceptance, keys) = match stage {
            Stage::AwaitIssued(waiting) => {
                (waiting.pending, waiting.acceptance, vec![waiting.order.key])
            }
            Stage::AwaitFirstUse(paired) | Stage::Active(paired) => {
                let live = paired.keys().into_iter().cloned();
                let keys = live.chain(paired.retired.iter().cloned()).collect();
                let Paired { pending, acceptance, .. } = paired;
                (pending, acceptance, keys)
            }
            stage => return stage,
        };
        self.audit(Audit::Ended(by.clone()));
        keys.iter().for_each(|key| self.close(key));
        Stage::Ended(Ended { pending, acceptance, keys, by, at: self.at.now })
    }
}
