//! What the source's operator may want, stage by stage.

use super::stages::{
    Active, AwaitArtifacts, AwaitDecision, AwaitForgotten, AwaitInstalled, AwaitKey, AwaitMeeting,
    AwaitSubmitted, Link, Renewal, Stage,
};
use super::turn::Turn;
use super::words::{Order, Shown};
use crate::pairing::{IllegalMove, PublicKey, Wish};

impl Turn<'_> {
    pub(super) fn obey(&mut self, stage: Stage, order: Order) -> Result<Stage, IllegalMove> {
        match order {
            Order::Request { target, wish } => self.request(stage, target, wish),
            Order::Withdraw => self.withdraw(stage),
            Order::Unpair { delete_points } => self.unpair(stage, delete_points),
            Order::Renew => match stage {
                Stage::Active(active) if active.renewal.is_none() => Ok(self.renew_now(active)),
                stage => Err(IllegalMove { state: stage.name(), input: "Renew" }),
            },
            Order::Resume => match stage {
                Stage::Alarmed(alarmed) => Ok(self.enter(*alarmed.before)),
                Stage::Ended(super::Ended { before: Some(before) }) => Ok(self.enter(*before)),
                stage => Err(IllegalMove { state: stage.name(), input: "Resume" }),
            },
            Order::Forget => self.clear_away(stage),
        }
    }

    fn request(&mut self, stage: Stage, target: String, wish: Wish) -> Result<Stage, IllegalMove> {
        let other_target = |link: &Link| link.target != target;
        match stage {
            Stage::AwaitKey(_) => Ok(self.enter(Stage::AwaitKey(AwaitKey { target, wish }))),
            // Nothing was filed yet: a mistyped target is simply replaced.
            Stage::AwaitMeeting(AwaitMeeting { key, .. }) => {
                self.clear();
                Ok(self.enter(Stage::AwaitMeeting(AwaitMeeting { target, wish, key })))
            }
            Stage::AwaitSubmitted(waiting) if !other_target(&waiting.link) => {
                let is_same = waiting.wish == wish;
                let stage = Stage::AwaitSubmitted(AwaitSubmitted {
                    next: (!is_same).then_some(wish),
                    ..waiting
                });
                self.effects.push(super::Effect::Persist);
                Ok(self.woken(stage))
            }
            // Also with the same wish: that is how a request locked by wrong codes is opened again.
            Stage::AwaitDecision(AwaitDecision { link, filed, .. }) if !other_target(&link) => {
                let stage = AwaitSubmitted { link, wish, next: None, filed: Some(filed) };
                Ok(self.enter(Stage::AwaitSubmitted(stage)))
            }
            Stage::Unpaired
            | Stage::Rejected(_)
            | Stage::Refused(_)
            | Stage::Expired(_)
            | Stage::Alarmed(_)
            | Stage::Withdrawn
            | Stage::Ended(_) => {
                // A fresh key each time: the old one is bound to what came of the old request.
                let new = self.enter(Stage::AwaitKey(AwaitKey { target, wish }));
                self.forget(&stage);
                Ok(new)
            }
            stage => Err(IllegalMove { state: stage.name(), input: "Request" }),
        }
    }

    fn withdraw(&mut self, stage: Stage) -> Result<Stage, IllegalMove> {
        match stage {
            Stage::AwaitKey(_) | Stage::AwaitMeeting(_) => Ok(self.nothing_left(&stage)),
            Stage::AwaitSubmitted(AwaitSubmitted { link, .. })
            | Stage::AwaitDecision(AwaitDecision { link, .. })
            | Stage::AwaitArtifacts(AwaitArtifacts { link, .. })
            | Stage::AwaitInstalled(AwaitInstalled {
                accepted: AwaitArtifacts { link, .. }, ..
            })
            | Stage::AwaitFirstSync(Active { link, .. }) => {
                Ok(self.leave(link, Shown::SelfSigned, None, false))
            }
            stage => Err(IllegalMove { state: stage.name(), input: "Withdraw" }),
        }
    }

    fn unpair(&mut self, stage: Stage, delete_points: bool) -> Result<Stage, IllegalMove> {
        match stage {
            Stage::AwaitFirstSync(active) | Stage::Active(active) => {
                let other_key = active.renewal.as_ref().and_then(Renewal::key).cloned();
                Ok(self.leave(active.link, Shown::Issued, other_key, delete_points))
            }
            // Changing one's mind about the points while the note is not delivered.
            Stage::AwaitForgotten(note) => {
                Ok(self.enter(Stage::AwaitForgotten(AwaitForgotten { delete_points, ..note })))
            }
            stage => Err(IllegalMove { state: stage.name(), input: "Unpair" }),
        }
    }

    fn leave(
        &mut self,
        link: Link,
        shown: Shown,
        other_key: Option<PublicKey>,
        delete_points: bool,
    ) -> Stage {
        self.clear();
        self.enter(Stage::AwaitForgotten(AwaitForgotten { link, shown, other_key, delete_points }))
    }

    /// Clears away what is over, an alarm, or a note that nobody will ever hear.
    fn clear_away(&mut self, stage: Stage) -> Result<Stage, IllegalMove> {
        match stage {
            Stage::Unpaired
            | Stage::AwaitForgotten(_)
            | Stage::Rejected(_)
            | Stage::Refused(_)
            | Stage::Expired(_)
            | Stage::Alarmed(_)
            | Stage::Withdrawn
            | Stage::Ended(_) => Ok(self.nothing_left(&stage)),
            stage => Err(IllegalMove { state: stage.name(), input: "Forget" }),
        }
    }

    fn nothing_left(&mut self, stage: &Stage) -> Stage {
        self.clear();
        self.line.awaited = None;
        let new = self.enter(Stage::Unpaired);
        self.forget(stage);
        new
    }
}
