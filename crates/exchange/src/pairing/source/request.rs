//! From the first key to the installed certificate: what each answer on the way leads to.

use offsite_model::Timestamp;
use offsite_proto::error::ErrorCode;

use super::Answer;
use super::stages::{
    Active, AwaitArtifacts, AwaitDecision, AwaitInstalled, AwaitMeeting, AwaitSubmitted, Filed,
    Identity, Link, Refused, Rejected, Renewal, Stage,
};
use super::turn::Turn;
use super::words::{Acceptance, Artifacts, Cause, Effect, Event, Trouble};
use crate::pairing::{IllegalMove, PublicKey};

/// Compares what was downloaded with what was announced and with what is known. The order is that
/// of the damage: somebody else's target first.
pub(super) fn judge(
    artifacts: &Artifacts,
    acceptance: &Acceptance,
    link: &Link,
    key: &PublicKey,
) -> Option<Cause> {
    if artifacts.target_key != link.target_key {
        return Some(Cause::TargetKeyDisagrees(artifacts.target_key.clone()));
    }
    if artifacts.certificate_key != *key {
        return Some(Cause::CertificateOfAnotherKey);
    }
    let announced = (acceptance.certificate_sha256, acceptance.target_certificate_sha256);
    if announced != (artifacts.certificate_sha256, artifacts.target_certificate_sha256) {
        return Some(Cause::DigestDiffers);
    }
    if !artifacts.is_signed_by_authority {
        return Some(Cause::CertificateNotSigned);
    }
    None
}

impl Turn<'_> {
    /// A private key lies on the disk.
    pub(super) fn key_made(&mut self, stage: Stage, key: PublicKey) -> Result<Stage, IllegalMove> {
        match stage {
            Stage::AwaitKey(waiting) => {
                let super::AwaitKey { target, wish } = waiting;
                Ok(self.enter(Stage::AwaitMeeting(AwaitMeeting { target, wish, key })))
            }
            Stage::Active(active) if active.renewal == Some(Renewal::AwaitKey) => {
                Ok(self.renewal_key_made(active, key))
            }
            // Made for a wish that is gone, or twice: removed again.
            stage => {
                if !stage.keys().contains(&&key) {
                    self.effects.push(Effect::ForgetKey(key));
                }
                Ok(stage)
            }
        }
    }

    pub(super) fn met(
        &mut self,
        waiting: AwaitMeeting,
        answer: Answer,
    ) -> Result<Stage, IllegalMove> {
        let Answer::Met { target_key, target_core } = answer else {
            return Err(IllegalMove { state: "AwaitMeeting", input: answer.name() });
        };
        let AwaitMeeting { target, wish, key } = waiting;
        let link = Link { target, target_key, target_core, key };
        let stage = AwaitSubmitted { link, wish, next: None, filed: None };
        Ok(self.enter(Stage::AwaitSubmitted(stage)))
    }

    pub(super) fn submitted(
        &mut self,
        waiting: AwaitSubmitted,
        answer: Answer,
    ) -> Result<Stage, IllegalMove> {
        let Answer::Submitted(submission) = answer else {
            return Err(IllegalMove { state: "AwaitSubmitted", input: answer.name() });
        };
        if submission.stated_target_key != waiting.link.target_key {
            let cause = Cause::TargetKeyDisagrees(submission.stated_target_key);
            return Ok(self.alarm(Stage::AwaitSubmitted(waiting), cause));
        }
        let AwaitSubmitted { mut link, wish, next, .. } = waiting;
        link.target_core = submission.target_core;
        let filed = Filed {
            request: submission.request,
            wish,
            filed_at: self.at.now,
            expires_at: submission.expires_at,
        };
        if let Some(wish) = next {
            let stage = AwaitSubmitted { link, wish, next: None, filed: Some(filed) };
            return Ok(self.enter(Stage::AwaitSubmitted(stage)));
        }
        let code = link.check_code(filed.request);
        let request = filed.request;
        // Kept before success is shown; polled after the pause that was asked for.
        self.effects.push(Effect::Persist);
        self.tell(Event::Filed { request, code });
        self.pause(offsite_model::Span::ZERO, Some(submission.poll_after_secs));
        Ok(Stage::AwaitDecision(AwaitDecision { link, filed, is_doubted: false }))
    }

    /// The target's program does not want to pair.
    pub(super) fn turned_away(
        &mut self,
        waiting: AwaitMeeting,
        code: ErrorCode,
        message: String,
    ) -> Stage {
        let AwaitMeeting { target, key, .. } = waiting;
        self.refuse(key, target, code, message)
    }

    fn refuse(
        &mut self,
        key: PublicKey,
        target: String,
        code: ErrorCode,
        message: String,
    ) -> Stage {
        self.clear();
        let refused = Refused { key, target, code, message: message.clone() };
        let stage = self.enter(Stage::Refused(refused));
        self.tell(Event::Refused { code, message });
        stage
    }

    /// The request was not filed. One that was filed before stands as it was.
    pub(super) fn not_filed(
        &mut self,
        waiting: AwaitSubmitted,
        code: ErrorCode,
        message: String,
    ) -> Stage {
        let AwaitSubmitted { link, filed, .. } = waiting;
        let Some(filed) = filed else {
            return self.refuse(link.key, link.target, code, message);
        };
        self.tell(match code {
            ErrorCode::AlreadyExists => Event::TooLateToChange,
            code => Event::Refused { code, message },
        });
        self.enter(Stage::AwaitDecision(AwaitDecision { link, filed, is_doubted: false }))
    }

    pub(super) fn polled(
        &mut self,
        waiting: AwaitDecision,
        answer: Answer,
    ) -> Result<Stage, IllegalMove> {
        let AwaitDecision { link, mut filed, is_doubted } = waiting;
        let age = self.at.now.since(filed.filed_at);
        Ok(match answer {
            Answer::Pending { retry_after_secs } if !is_doubted => {
                self.pause(age, retry_after_secs);
                Stage::AwaitDecision(AwaitDecision { link, filed, is_doubted })
            }
            Answer::Accepted(acceptance) if !is_doubted => {
                self.effects.push(Effect::Persist);
                self.tell(Event::Accepted { message: acceptance.message.clone() });
                let are_clocks_near = false;
                let stage = AwaitArtifacts { link, filed, acceptance, are_clocks_near };
                self.pursue(Stage::AwaitArtifacts(stage))
            }
            Answer::Rejected { message } if !is_doubted => {
                let stage =
                    self.enter(Stage::Rejected(Rejected { link, message: message.clone() }));
                self.tell(Event::Rejected { message });
                stage
            }
            // Row 45 says under which id our request goes now: a submit that was answered twice got
            // a second one.
            Answer::Synced(status) if is_doubted => {
                self.compare_clocks(status.server_time);
                match status.request {
                    Some(request) if request != filed.request => {
                        filed.request = request;
                        let code = link.check_code(request);
                        self.effects.push(Effect::Persist);
                        self.tell(Event::Filed { request, code });
                        self.pause(age, None);
                        Stage::AwaitDecision(AwaitDecision { link, filed, is_doubted: false })
                    }
                    Some(_) => {
                        self.pause(age, None);
                        Stage::AwaitDecision(AwaitDecision { link, filed, is_doubted: false })
                    }
                    None => self.no_answer(link),
                }
            }
            answer => return Err(IllegalMove { state: "AwaitDecision", input: answer.name() }),
        })
    }

    /// The target does not know the request under its id. Before it is believed to have lapsed, row
    /// 45 is asked by key.
    pub(super) fn request_unknown(&mut self, waiting: AwaitDecision) -> Stage {
        if waiting.is_doubted {
            return self.no_answer(waiting.link);
        }
        self.pursue(Stage::AwaitDecision(AwaitDecision { is_doubted: true, ..waiting }))
    }

    pub(super) fn accepted(
        &mut self,
        waiting: AwaitArtifacts,
        answer: Answer,
    ) -> Result<Stage, IllegalMove> {
        Ok(match answer {
            Answer::Synced(status) if !waiting.are_clocks_near => {
                if self.compare_clocks(status.server_time) {
                    let waiting = AwaitArtifacts { are_clocks_near: true, ..waiting };
                    return Ok(self.pursue(Stage::AwaitArtifacts(waiting)));
                }
                let skew_secs = self.line.skew_secs.unwrap_or(0);
                self.tell(Event::ClocksDiffer { skew_secs });
                self.bear(Trouble::ClocksDiffer(skew_secs), None);
                Stage::AwaitArtifacts(waiting)
            }
            Answer::Fetched(artifacts) if waiting.are_clocks_near => {
                let key = &waiting.link.key;
                if let Some(cause) = judge(&artifacts, &waiting.acceptance, &waiting.link, key) {
                    return Ok(self.alarm(Stage::AwaitArtifacts(waiting), cause));
                }
                let (key, installed) = (key.clone(), artifacts.clone());
                self.effects.push(Effect::Install { key, artifacts: installed });
                Stage::AwaitInstalled(AwaitInstalled { accepted: waiting, artifacts })
            }
            answer => return Err(IllegalMove { state: "AwaitArtifacts", input: answer.name() }),
        })
    }

    /// Everything lies in place.
    pub(super) fn installed(
        &mut self,
        stage: Stage,
        key: &PublicKey,
    ) -> Result<Stage, IllegalMove> {
        match stage {
            Stage::AwaitInstalled(waiting) if waiting.accepted.link.key == *key => {
                let AwaitArtifacts { link, filed, .. } = waiting.accepted;
                let identity = self.identity(key.clone(), filed.request, &waiting.artifacts);
                let active = Active::new(link, identity);
                Ok(self.enter(Stage::AwaitFirstSync(active)))
            }
            Stage::Active(active) => self.renewal_installed(active, key),
            // Installed for a request that was withdrawn meanwhile.
            stage => {
                if !stage.keys().contains(&key) {
                    self.effects.push(Effect::ForgetKey(key.clone()));
                }
                Ok(stage)
            }
        }
    }

    /// When to renew: at two thirds of the certificate's life, and up to a twentieth of it later.
    pub(super) fn identity(
        &self,
        key: PublicKey,
        request: offsite_model::RequestId,
        artifacts: &Artifacts,
    ) -> Identity {
        let (not_before, not_after): (Timestamp, Timestamp) =
            (artifacts.not_before, artifacts.not_after);
        let life = not_after.since(not_before);
        let renew_at =
            not_before + life.divided_by(3).times(2) + self.at.part_of(life.divided_by(20));
        Identity { key, request, not_before, not_after, renew_at }
    }
}
