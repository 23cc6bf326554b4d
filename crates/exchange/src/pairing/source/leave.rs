//! Going away: a note that is repeated until the target has heard it.

use offsite_proto::error::ErrorCode;

use super::Answer;
use super::stages::{AwaitForgotten, Ended, Stage};
use super::turn::Turn;
use super::words::{Event, Shown, Trouble};
use crate::pairing::IllegalMove;

impl Turn<'_> {
    pub(super) fn left(
        &mut self,
        note: AwaitForgotten,
        answer: Answer,
    ) -> Result<Stage, IllegalMove> {
        match answer {
            Answer::Left => Ok(self.gone(note)),
            answer => Err(IllegalMove { state: "AwaitForgotten", input: answer.name() }),
        }
    }

    /// The target knows: the keys go.
    fn gone(&mut self, note: AwaitForgotten) -> Stage {
        self.clear();
        let is_withdrawn = note.shown == Shown::SelfSigned;
        let note = Stage::AwaitForgotten(note);
        let stage = self.enter(match is_withdrawn {
            true => Stage::Withdrawn,
            false => Stage::Ended(Ended { before: None }),
        });
        self.forget(&note);
        self.tell(Event::Left);
        stage
    }

    pub(super) fn leave_refused(
        &mut self,
        note: AwaitForgotten,
        code: ErrorCode,
        message: String,
    ) -> Stage {
        match (code, note.other_key.clone()) {
            // Whoever is not known has been forgotten; but with a renewal under way the other key
            // may be.
            (ErrorCode::NotPaired | ErrorCode::RequestUnknown, Some(other)) => {
                let mut note = AwaitForgotten { other_key: None, ..note };
                note.link.key = other;
                self.pursue(Stage::AwaitForgotten(note))
            }
            (
                ErrorCode::NotPaired
                | ErrorCode::RequestUnknown
                | ErrorCode::Unauthenticated
                | ErrorCode::PairingDenied,
                _,
            ) => self.gone(note),
            // A retention lock, say: the operator may go without deleting, the note stays until
            // then.
            (code, _) => {
                self.bear(Trouble::Refused(code, message), None);
                Stage::AwaitForgotten(note)
            }
        }
    }
}
