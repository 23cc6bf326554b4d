//! How a session ends: rows 7, 57 and 47 by the table of what a session allows.

use offsite_proto::error::{ErrorCode, Refusal};

use super::Session;
use super::words::{CommitFault, Effect, Ending, Stage, expired};

impl Session {
    pub(super) fn end_session(&mut self, commit: bool, effects: &mut Vec<Effect>) {
        let answer = if commit { self.commit(effects) } else { self.abort(effects) };
        effects.push(Effect::Answer(answer));
    }

    fn commit(&mut self, effects: &mut Vec<Effect>) -> Result<Ending, Refusal> {
        match &self.stage {
            Stage::Open | Stage::Transferring => {}
            Stage::Committing => return Ok(Ending::Running),
            Stage::Committed => return Ok(Ending::Done),
            Stage::Aborted => {
                return Err(Refusal::new(ErrorCode::WrongState, "the session was aborted"));
            }
            Stage::Expired => return Err(expired()),
            Stage::Failed(refusal) => return Err(refusal.clone()),
        }
        self.check_complete()?;
        if !self.spec.is_heal() && self.digest.finish() != self.spec.digest() {
            let refusal = Refusal::new(
                ErrorCode::HashMismatch,
                "the list that was offered has another digest than the one announced",
            );
            self.fail(refusal.clone(), effects);
            return Err(refusal);
        }
        self.stage = Stage::Committing;
        effects.push(Effect::EndStreams);
        effects.push(Effect::Commit);
        Ok(Ending::Running)
    }

    fn check_complete(&self) -> Result<(), Refusal> {
        let missing = self.ledger.missing();
        let n_unlisted = self.spec.n_entries().saturating_sub(self.n_listed);
        let is_decided = self.undecided.is_empty() && self.drafting.is_empty();
        if missing.is_empty() && n_unlisted == 0 && is_decided && self.spec.is_whole(self.end) {
            return Ok(());
        }
        // A handful of ordinals shows where to look; all of them would be as large as the image.
        let first: Vec<u64> = missing.iter().copied().take(16).collect();
        Err(Refusal::new(ErrorCode::Incomplete, "keys or wanted records are still missing")
            .with("missingKeys", n_unlisted)
            .with("missingRecords", missing.len())
            .with("ordinals", first))
    }

    fn abort(&mut self, effects: &mut Vec<Effect>) -> Result<Ending, Refusal> {
        match &self.stage {
            Stage::Committing | Stage::Committed => Err(Refusal::new(
                ErrorCode::WrongState,
                "the commit has begun and cannot be taken back",
            )),
            Stage::Aborted => Ok(Ending::Done),
            Stage::Expired => {
                effects.push(Effect::DropStaging);
                Ok(Ending::Done)
            }
            Stage::Open | Stage::Transferring | Stage::Failed(_) => {
                self.stage = Stage::Aborted;
                effects.push(Effect::EndStreams);
                effects.push(Effect::DropStaging);
                Ok(Ending::Done)
            }
        }
    }

    pub(super) fn stored(&mut self, outcome: Result<(), CommitFault>) {
        if self.stage == Stage::Committing {
            self.stage = match outcome {
                Ok(()) => Stage::Committed,
                Err(fault) => Stage::Failed(fault.refusal()),
            };
        }
    }

    pub(super) fn fail(&mut self, refusal: Refusal, effects: &mut Vec<Effect>) {
        if self.stage.is_live() {
            effects.push(Effect::Fail(refusal.clone()));
            effects.push(Effect::EndStreams);
            self.stage = Stage::Failed(refusal);
        }
    }

    /// Row 47: true = committed, false = the commit runs.
    ///
    /// # Errors
    /// `wrong_state` where no commit was begun, or what ended it.
    pub fn poke(&self) -> Result<bool, Refusal> {
        match &self.stage {
            Stage::Open | Stage::Transferring | Stage::Aborted => {
                Err(Refusal::new(ErrorCode::WrongState, "no commit was begun"))
            }
            Stage::Committing => Ok(false),
            Stage::Committed => Ok(true),
            Stage::Expired => Err(expired()),
            Stage::Failed(refusal) => Err(refusal.clone()),
        }
    }
}
