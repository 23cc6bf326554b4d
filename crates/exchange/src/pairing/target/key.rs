//! Which key is good for what: the gate's question, first use, renewal.

use offsite_model::{RequestId, Timestamp};
use offsite_proto::error::ErrorCode;

use super::Target;
use super::stages::{Certificate, Paired, Renewal, Stage};
use super::turn::Turn;
use super::words::{Audit, Reply, Standing};
use crate::pairing::{IllegalMove, PublicKey, Rules};

/// Retired keys that are remembered: two years of renewals, and an end to what a hostile source can
/// pile up.
const RETIRED_KEYS_MAX: usize = 8;

impl Target {
    /// What this key may do now, asked by the gate for every single call (never remembered from an
    /// earlier one). `serial` is the serial number of the certificate that was shown, if this
    /// target's authority issued it; `None` for a self-signed one.
    #[must_use]
    pub fn standing(
        &self,
        key: &PublicKey,
        serial: Option<&[u8; 16]>,
        now: Timestamp,
        rules: &Rules,
    ) -> Standing {
        let of_certificate = |certificate: &Certificate, is_first_use: bool| {
            let order = &certificate.order;
            if serial != Some(&order.serial) {
                return Standing::Enrolling { is_rejected: false };
            }
            // Authority is the pin. The first moment is not judged at all: our own clock set it,
            // and were it set back by days, every source would be turned away, and would believe
            // that its pairing has ended.
            if now < order.not_after + rules.skew {
                Standing::Source { is_first_use }
            } else if now <= order.not_after + rules.renew_after_expiry {
                Standing::Expired { is_first_use }
            } else {
                Standing::None
            }
        };
        match &self.stage {
            Stage::AwaitFirstUse(paired) | Stage::Active(paired) => {
                let is_active = matches!(self.stage, Stage::Active(_));
                let (is_overlap_over, renewed) = match &paired.renewal {
                    Some(Renewal::AwaitFirstUse { certificate, published_at }) => {
                        (now >= *published_at + rules.overlap, Some(certificate))
                    }
                    _ => (false, None),
                };
                if paired.live.order.key == *key && !is_overlap_over {
                    return of_certificate(&paired.live, !is_active);
                }
                match (renewed, &paired.renewal) {
                    (Some(certificate), _) if certificate.order.key == *key => {
                        of_certificate(certificate, true)
                    }
                    (None, Some(renewal)) if renewal.order().key == *key => {
                        Standing::Enrolling { is_rejected: false }
                    }
                    _ => Standing::None,
                }
            }
            Stage::Ended(ended) if ended.keys.contains(key) => Standing::Gone,
            _ if self.key != *key => Standing::None,
            Stage::Pending(pending) if now >= pending.expires_at => Standing::None,
            Stage::Pending(_) | Stage::AwaitIssued(_) => Standing::Enrolling { is_rejected: false },
            Stage::Rejected(_) => Standing::Enrolling { is_rejected: true },
            Stage::Withdrawn(_) | Stage::Ended(_) => Standing::Gone,
            Stage::Expired(_) => Standing::None,
        }
    }
}

impl Turn<'_> {
    /// A call came in with an issued certificate.
    pub(super) fn used(&mut self, stage: Stage, key: &PublicKey) -> Result<Stage, IllegalMove> {
        let illegal = IllegalMove { state: stage.name(), input: "Used by a key that is not good" };
        match stage {
            Stage::AwaitFirstUse(paired) if paired.live.order.key == *key => {
                self.audit(Audit::Active);
                Ok(Stage::Active(paired))
            }
            Stage::Active(mut paired) => {
                if paired.live.order.key == *key {
                    return Ok(Stage::Active(paired));
                }
                match paired.renewal.take() {
                    Some(Renewal::AwaitFirstUse { certificate, .. })
                        if certificate.order.key == *key =>
                    {
                        self.audit(Audit::KeyRetired { is_new_key_used: true });
                        self.retire(&mut paired, certificate);
                        Ok(Stage::Active(paired))
                    }
                    _ => Err(illegal),
                }
            }
            _ => Err(illegal),
        }
    }

    /// Puts the new certificate in the place of the old, whose key dies here.
    pub(super) fn retire(&mut self, paired: &mut Paired, certificate: Certificate) {
        let old = std::mem::replace(&mut paired.live, certificate).order.key;
        self.close(&old);
        paired.retired.push(old);
        if paired.retired.len() > RETIRED_KEYS_MAX {
            paired.retired.remove(0);
        }
    }

    /// Row 44 over an issued certificate: granted without an operator, once per new key.
    pub(super) fn renew(
        &mut self,
        stage: Stage,
        by: &PublicKey,
        key: PublicKey,
        fresh: RequestId,
        serial: [u8; 16],
    ) -> Stage {
        let mut paired = match stage {
            Stage::Active(paired) if paired.live.order.key == *by => paired,
            stage => {
                self.refuse(ErrorCode::NotPaired, "this key is bound to no pairing");
                return stage;
            }
        };
        if paired.live.order.key == key || paired.retired.contains(&key) {
            let message = "this key is in use already; renew with a new one";
            self.refuse(ErrorCode::AlreadyExists, message);
            return Stage::Active(paired);
        }
        let request = match &paired.renewal {
            Some(renewal) if renewal.order().key == key => renewal.order().request,
            // Another new key takes the place of one that was never used: its owner has lost it.
            _ => {
                if let Some(unused) = &paired.renewal {
                    self.close(&unused.order().key);
                }
                let order = self.order(fresh, key, paired.live.order.subject, serial);
                self.audit(Audit::RenewalAsked);
                self.issue(&order);
                paired.renewal = Some(Renewal::AwaitIssued(order));
                fresh
            }
        };
        self.reply(Ok(Reply::Submitted {
            request,
            expires_at: self.at.now + self.rules.request_life,
            poll_after_secs: super::decide::whole_secs(self.rules.poll_pause_min),
        }));
        Stage::Active(paired)
    }
}
