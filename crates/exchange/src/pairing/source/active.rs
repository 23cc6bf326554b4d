//! The active pairing: row 45 again and again, and now and then a new key.
//!
//! A renewal goes its steps between two calls of row 45. Until the target has answered a call with
//! the new key the old one is kept, and when the target refuses the old one the new one is tried
//! before the pairing is believed to have ended: whichever of the two the target holds for good,
//! the source has it.

use offsite_model::Span;
use offsite_proto::error::ErrorCode;
use offsite_proto::pairing::PairingState;

use super::Answer;
use super::request::judge;
use super::stages::{Active, Renewal, Stage};
use super::turn::Turn;
use super::words::{Ask, Effect, Event, Shown, Status, Trouble};
use crate::pairing::{IllegalMove, PublicKey};

impl Turn<'_> {
    /// The first call with the new certificate made both sides active.
    pub(super) fn first_synced(
        &mut self,
        active: Active,
        answer: Answer,
    ) -> Result<Stage, IllegalMove> {
        let Answer::Synced(status) = answer else {
            return Err(IllegalMove { state: "AwaitFirstSync", input: answer.name() });
        };
        self.compare_clocks(status.server_time);
        if status.state == PairingState::Ended {
            return Ok(self.ended_by_target(Stage::AwaitFirstSync(active)));
        }
        self.effects.push(Effect::Persist);
        self.tell(Event::Active);
        self.wait_for_sync();
        Ok(Stage::Active(active))
    }

    fn wait_for_sync(&mut self) {
        let pause = self.rules.sync_pause;
        let jitter = self.at.part_of(pause.divided_by(10));
        self.wake_after(Span::from_micros(pause.as_micros().saturating_add(jitter.as_micros())));
    }

    /// Row 45 with the key in use; with a key that the target refuses, straight on to the renewal.
    pub(super) fn pursue_active(&mut self, active: Active) -> Stage {
        // What was being installed when the program ended is fetched again.
        let renewal = match active.renewal {
            Some(Renewal::AwaitInstalled { key, request, acceptance, .. }) => {
                Some(Renewal::AwaitArtifacts { key, request, acceptance })
            }
            renewal => renewal,
        };
        let active = Active { renewal, ..active };
        if active.is_key_refused {
            return self.pursue_renewal(active);
        }
        self.call(&active.link, Shown::Issued, Ask::Sync(Some(active.identity.request)));
        Stage::Active(Active { is_syncing: true, ..active })
    }

    /// The next step of a renewal.
    fn pursue_renewal(&mut self, active: Active) -> Stage {
        let link = &active.link;
        match &active.renewal {
            None => self.wait_for_sync(),
            Some(Renewal::AwaitKey) => self.effects.push(Effect::MakeKey),
            Some(Renewal::AwaitSubmitted { key }) if active.is_key_refused => {
                // Was the renewal filed, and its answer lost? Row 45 knows by key.
                self.call_as(key, link, Shown::SelfSigned, Ask::Sync(None));
            }
            Some(Renewal::AwaitSubmitted { key }) => {
                self.call(link, Shown::Issued, Ask::Renew(key.clone()));
            }
            Some(Renewal::AwaitDecision { key, request }) => {
                self.call_as(key, link, Shown::SelfSigned, Ask::Poll(*request));
            }
            Some(
                Renewal::AwaitArtifacts { key, request, .. }
                | Renewal::AwaitInstalled { key, request, .. },
            ) => self.call_as(key, link, Shown::SelfSigned, Ask::Fetch(*request)),
            Some(Renewal::AwaitFirstUse(identity)) => {
                let ask = Ask::Sync(Some(identity.request));
                self.call_as(&identity.key, link, Shown::Issued, ask);
            }
        }
        Stage::Active(Active { is_syncing: false, ..active })
    }

    /// Begins a renewal before its time. A call under way no longer matters: its answer is ignored.
    pub(super) fn renew_now(&mut self, active: Active) -> Stage {
        self.line.awaited = None;
        self.enter_renewal(active, Renewal::AwaitKey)
    }

    fn enter_renewal(&mut self, active: Active, renewal: Renewal) -> Stage {
        self.effects.push(Effect::Persist);
        self.pursue_renewal(Active { renewal: Some(renewal), ..active })
    }

    pub(super) fn renewal_key_made(&mut self, active: Active, key: PublicKey) -> Stage {
        self.enter_renewal(active, Renewal::AwaitSubmitted { key })
    }

    pub(super) fn renewal_installed(
        &mut self,
        active: Active,
        key: &PublicKey,
    ) -> Result<Stage, IllegalMove> {
        match &active.renewal {
            Some(Renewal::AwaitInstalled { key: awaited, request, artifacts, .. })
                if awaited == key =>
            {
                let identity = self.identity(key.clone(), *request, artifacts);
                Ok(self.enter_renewal(active, Renewal::AwaitFirstUse(identity)))
            }
            _ => Ok(Stage::Active(active)),
        }
    }

    /// An answer to row 45, or to the step of a renewal.
    pub(super) fn active_heard(
        &mut self,
        active: Active,
        answer: Answer,
    ) -> Result<Stage, IllegalMove> {
        if active.is_syncing {
            return match answer {
                Answer::Synced(status) => Ok(self.synced(active, &status)),
                answer => Err(Active::surprised(&answer)),
            };
        }
        let Some(renewal) = active.renewal.clone() else { return Err(Active::surprised(&answer)) };
        Ok(match (renewal, answer) {
            (Renewal::AwaitSubmitted { key }, Answer::Submitted(submission)) => {
                let request = submission.request;
                self.enter_renewal(active, Renewal::AwaitDecision { key, request })
            }
            (
                Renewal::AwaitSubmitted { key },
                Answer::Synced(Status { request: Some(request), .. }),
            ) => self.enter_renewal(active, Renewal::AwaitDecision { key, request }),
            (Renewal::AwaitSubmitted { .. }, Answer::Synced(_)) => {
                self.ended_by_target(Stage::Active(active))
            }
            (Renewal::AwaitDecision { .. }, Answer::Pending { retry_after_secs }) => {
                self.pause(Span::ZERO, retry_after_secs);
                Stage::Active(active)
            }
            (Renewal::AwaitDecision { key, request }, Answer::Accepted(acceptance)) => {
                self.enter_renewal(active, Renewal::AwaitArtifacts { key, request, acceptance })
            }
            (Renewal::AwaitArtifacts { key, request, acceptance }, Answer::Fetched(artifacts)) => {
                if let Some(cause) = judge(&artifacts, &acceptance, &active.link, &key) {
                    return Ok(self.alarm(Stage::Active(active), cause));
                }
                let install = Effect::Install { key: key.clone(), artifacts: artifacts.clone() };
                self.effects.push(install);
                let renewal = Renewal::AwaitInstalled { key, request, acceptance, artifacts };
                Stage::Active(Active { renewal: Some(renewal), ..active })
            }
            (Renewal::AwaitFirstUse(identity), Answer::Synced(status)) => {
                self.compare_clocks(status.server_time);
                let old = active.link.key.clone();
                let mut link = active.link;
                link.key = identity.key.clone();
                self.effects.push(Effect::Persist);
                self.effects.push(Effect::ForgetKey(old));
                self.tell(Event::Renewed);
                self.wait_for_sync();
                Stage::Active(Active::new(link, identity))
            }
            (_, answer) => return Err(Active::surprised(&answer)),
        })
    }

    fn synced(&mut self, active: Active, status: &Status) -> Stage {
        if !self.compare_clocks(status.server_time) {
            // The pairing goes on, since authority is the pin; a person should know.
            self.tell(Event::ClocksDiffer { skew_secs: self.line.skew_secs.unwrap_or(0) });
        }
        if status.state == PairingState::Ended {
            return self.ended_by_target(Stage::Active(active));
        }
        // Judged by the target's clock, which dated the certificate: ours may be anywhere.
        if active.renewal.is_none() && status.server_time >= active.identity.renew_at {
            return self.enter_renewal(active, Renewal::AwaitKey);
        }
        self.pursue_renewal(active)
    }

    /// A refusal that no repeat will change, in the active pairing.
    pub(super) fn active_refused(
        &mut self,
        active: Active,
        code: ErrorCode,
        message: String,
        retry_after_secs: Option<u32>,
    ) -> Stage {
        let is_unknown = matches!(code, ErrorCode::NotPaired | ErrorCode::RequestUnknown);
        let is_new_key_refused = code == ErrorCode::AlreadyExists && !active.is_syncing;
        if !is_unknown && !is_new_key_refused {
            self.bear(Trouble::Refused(code, message), retry_after_secs);
            return Stage::Active(active);
        }
        let is_old_key_refused =
            active.is_syncing || matches!(active.renewal, Some(Renewal::AwaitSubmitted { .. }));
        match active.renewal.clone() {
            // The key in use is dead. If the target may hold the new one, that one decides.
            Some(renewal)
                if is_old_key_refused
                    && is_unknown
                    && !active.is_key_refused
                    && renewal.key().is_some() =>
            {
                self.pursue_renewal(Active { is_key_refused: true, ..active })
            }
            _ if active.is_syncing || active.is_key_refused => {
                self.ended_by_target(Stage::Active(active))
            }
            // The target does not know the new key, while the old one is good: the renewal begins
            // again. A certificate that was installed and then refused needs a key of its own; one
            // never issued keeps its key.
            Some(Renewal::AwaitDecision { key, .. } | Renewal::AwaitArtifacts { key, .. }) => {
                self.effects.push(Effect::Persist);
                self.wait_for_sync();
                Stage::Active(Active { renewal: Some(Renewal::AwaitSubmitted { key }), ..active })
            }
            renewal => {
                self.effects.push(Effect::Persist);
                let unused = renewal.as_ref().and_then(Renewal::key).cloned();
                self.effects.extend(unused.map(Effect::ForgetKey));
                self.wait_for_sync();
                Stage::Active(Active { renewal: None, ..active })
            }
        }
    }
}
