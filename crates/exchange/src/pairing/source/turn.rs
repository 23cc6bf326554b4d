//! One step being taken: the effects gathered, the pursuit of each stage, and how failures are
//! borne.

use offsite_model::{Span, Timestamp};
use offsite_proto::error::ErrorCode;

use super::line::Line;
use super::stages::{
    Active, Alarmed, AwaitArtifacts, AwaitDecision, AwaitInstalled, Ended, Link, Stage,
};
use super::words::{Answer, Ask, Call, Cause, Effect, Event, Failure, Shown, Ticket, Trouble};
use crate::pairing::{IllegalMove, Moment, PublicKey, Rules};

/// The longest a target may tell us to wait: a hostile one must not silence the source for years.
const RETRY_AFTER_MAX: Span = Span::from_hours(1);

pub(super) struct Turn<'a> {
    pub(super) line: Line,
    pub(super) at: Moment,
    pub(super) rules: &'a Rules,
    pub(super) effects: Vec<Effect>,
}

impl<'a> Turn<'a> {
    pub(super) const fn new(line: Line, at: Moment, rules: &'a Rules) -> Self {
        Self { line, at, rules, effects: Vec::new() }
    }

    /// The program started: what was under way is gone, what is waited for begins anew.
    pub(super) fn start(&mut self, stage: Stage) -> Stage {
        self.line = Line::default();
        match &stage {
            // An alarm or an end that was kept but not told yet must be told.
            Stage::Alarmed(alarmed) => self.tell(Event::Alarm(alarmed.cause.clone())),
            Stage::Ended(Ended { before: Some(_) }) => self.tell(Event::EndedByTarget),
            Stage::Rejected(rejected) => {
                self.tell(Event::Rejected { message: rejected.message.clone() });
            }
            Stage::Expired(_) => self.tell(Event::NoAnswer),
            _ => {}
        }
        self.pursue(stage)
    }

    /// The timer ran out. With a call under way there is nothing to do.
    pub(super) fn woken(&mut self, stage: Stage) -> Stage {
        if self.line.awaited.is_some() { stage } else { self.pursue(stage) }
    }

    /// Enters a stage: keeps it, then begins what it waits for.
    pub(super) fn enter(&mut self, stage: Stage) -> Stage {
        self.effects.push(Effect::Persist);
        self.pursue(stage)
    }

    /// Does what a stage waits for. The same on entering, waking and starting again.
    pub(super) fn pursue(&mut self, stage: Stage) -> Stage {
        match stage {
            Stage::AwaitKey(_) => self.effects.push(Effect::MakeKey),
            Stage::AwaitMeeting(ref waiting) => {
                let ticket = self.ticket();
                self.effects.push(Effect::Call(Call {
                    ticket,
                    target: waiting.target.clone(),
                    key: waiting.key.clone(),
                    shown: Shown::SelfSigned,
                    pin: None,
                    ask: Ask::Meet(waiting.wish.clone()),
                }));
            }
            Stage::AwaitSubmitted(ref waiting) => {
                self.call(&waiting.link, Shown::SelfSigned, Ask::Submit(waiting.wish.clone()));
            }
            Stage::AwaitDecision(AwaitDecision { ref link, ref filed, is_doubted }) => {
                let ask = if is_doubted { Ask::Sync(None) } else { Ask::Poll(filed.request) };
                self.call(link, Shown::SelfSigned, ask);
            }
            Stage::AwaitArtifacts(ref waiting) => {
                let request = waiting.filed.request;
                let ask = match waiting.are_clocks_near {
                    true => Ask::Fetch(request),
                    false => Ask::Sync(Some(request)),
                };
                self.call(&waiting.link, Shown::SelfSigned, ask);
            }
            // A program that ended while installing has lost the certificates: fetched again.
            Stage::AwaitInstalled(AwaitInstalled { accepted, .. }) => {
                return self.pursue(Stage::AwaitArtifacts(accepted));
            }
            Stage::AwaitFirstSync(ref active) => {
                self.call(&active.link, Shown::Issued, Ask::Sync(Some(active.identity.request)));
            }
            Stage::Active(active) => return self.pursue_active(active),
            Stage::AwaitForgotten(ref note) => {
                let ask = Ask::Leave { delete_points: note.delete_points };
                self.call(&note.link, note.shown, ask);
            }
            Stage::Unpaired
            | Stage::Rejected(_)
            | Stage::Refused(_)
            | Stage::Expired(_)
            | Stage::Alarmed(_)
            | Stage::Withdrawn
            | Stage::Ended(_) => {}
        }
        stage
    }

    fn ticket(&mut self) -> Ticket {
        self.line.n_calls = self.line.n_calls.wrapping_add(1);
        let ticket = Ticket(self.line.n_calls);
        self.line.awaited = Some(ticket);
        ticket
    }

    /// Calls the target under its pin.
    pub(super) fn call(&mut self, link: &Link, shown: Shown, ask: Ask) {
        self.call_as(&link.key, link, shown, ask);
    }

    /// Calls the target with another key than the link's.
    pub(super) fn call_as(&mut self, key: &PublicKey, link: &Link, shown: Shown, ask: Ask) {
        let ticket = self.ticket();
        self.effects.push(Effect::Call(Call {
            ticket,
            target: link.target.clone(),
            key: key.clone(),
            shown,
            pin: Some(link.target_key.clone()),
            ask,
        }));
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.effects.push(Effect::Tell(event));
    }

    pub(super) fn forget(&mut self, stage: &Stage) {
        self.effects.extend(stage.keys().into_iter().cloned().map(Effect::ForgetKey));
    }

    pub(super) fn wake_after(&mut self, span: Span) {
        self.effects.push(Effect::WakeAfter(span));
    }

    /// The call went well.
    pub(super) fn clear(&mut self) {
        self.line.n_failures = 0;
        self.line.trouble = None;
    }

    /// Bears a failure that time may heal: notes it and tries again, later each time, up to a
    /// bound.
    pub(super) fn bear(&mut self, trouble: Trouble, retry_after_secs: Option<u32>) {
        let min = self.rules.poll_pause_min;
        let doublings = self.line.n_failures.min(16);
        let bound = min.times(1 << doublings).min(self.rules.poll_pause_max);
        let spread = Span::from_micros(bound.as_micros().saturating_sub(min.as_micros()));
        let pause = min.as_micros().saturating_add(self.at.part_of(spread).as_micros());
        self.line.n_failures = self.line.n_failures.saturating_add(1);
        self.line.trouble = Some(trouble);
        self.wake_after(Span::from_micros(pause).max(bounded(retry_after_secs)));
    }

    /// Waits before the next poll: what the target asks for and a little more, so that a thousand
    /// sources which started together drift apart.
    pub(super) fn pause(&mut self, age: Span, retry_after_secs: Option<u32>) {
        let own = self.rules.poll_pause(age);
        let asked = if retry_after_secs.is_some() { bounded(retry_after_secs) } else { own };
        let pause = asked.max(self.rules.poll_pause_min);
        let jitter = self.at.part_of(pause.divided_by(5));
        self.wake_after(Span::from_micros(pause.as_micros().saturating_add(jitter.as_micros())));
    }

    /// Stops: nothing more is sent until an operator acts.
    pub(super) fn alarm(&mut self, before: Stage, cause: Cause) -> Stage {
        self.clear();
        let alarmed = Alarmed { before: Box::new(before), cause: cause.clone() };
        let stage = self.enter(Stage::Alarmed(alarmed));
        self.tell(Event::Alarm(cause));
        stage
    }

    /// The target has ended it, or does not know us any more. Nothing is deleted.
    pub(super) fn ended_by_target(&mut self, before: Stage) -> Stage {
        self.clear();
        let before = match before {
            Stage::Active(active) => Stage::Active(Active { is_key_refused: false, ..active }),
            before => before,
        };
        let stage = self.enter(Stage::Ended(Ended { before: Some(Box::new(before)) }));
        self.tell(Event::EndedByTarget);
        stage
    }

    /// Measures the clocks against each other; says whether they are near enough.
    pub(super) fn compare_clocks(&mut self, server_time: Timestamp) -> bool {
        let skew_secs = server_time.as_secs().saturating_sub(self.at.now.as_secs());
        self.line.skew_secs = Some(skew_secs);
        skew_secs.unsigned_abs() <= self.rules.skew.as_secs()
    }

    /// What came of the awaited call.
    pub(super) fn answered(
        &mut self,
        stage: Stage,
        outcome: Result<Answer, Failure>,
    ) -> Result<Stage, IllegalMove> {
        let failure = match outcome {
            Ok(answer) => {
                self.clear();
                return self.heard(stage, answer);
            }
            Err(failure) => failure,
        };
        Ok(match failure {
            Failure::TargetKeyChanged { seen } => self.alarm(stage, Cause::TargetKeyChanged(seen)),
            Failure::Unreachable { reason } => {
                let trouble = Trouble::Unreachable(reason);
                self.unanswered(stage, trouble)
            }
            Failure::Unreadable { reason } => {
                let trouble = Trouble::Unreadable(reason);
                self.unanswered(stage, trouble)
            }
            Failure::Refused { code, message, retry_after_secs } if code.is_retryable() => {
                self.bear(Trouble::Refused(code, message), retry_after_secs);
                stage
            }
            Failure::Refused { code, message, retry_after_secs } => {
                self.refused(stage, code, message, retry_after_secs)
            }
        })
    }

    /// No answer. A request that lapsed long ago by our clock, and whose target cannot be reached
    /// since, is given up.
    fn unanswered(&mut self, stage: Stage, trouble: Trouble) -> Stage {
        match stage {
            Stage::AwaitDecision(AwaitDecision { link, filed, .. })
                if self.at.now >= filed.expires_at + self.rules.skew =>
            {
                self.no_answer(link)
            }
            stage => {
                self.bear(trouble, None);
                stage
            }
        }
    }

    pub(super) fn no_answer(&mut self, link: Link) -> Stage {
        self.clear();
        let stage = self.enter(Stage::Expired(link));
        self.tell(Event::NoAnswer);
        stage
    }

    /// An answer, to the stage that asked.
    fn heard(&mut self, stage: Stage, answer: Answer) -> Result<Stage, IllegalMove> {
        match stage {
            Stage::AwaitMeeting(waiting) => self.met(waiting, answer),
            Stage::AwaitSubmitted(waiting) => self.submitted(waiting, answer),
            Stage::AwaitDecision(waiting) => self.polled(waiting, answer),
            Stage::AwaitArtifacts(waiting) => self.accepted(waiting, answer),
            Stage::AwaitFirstSync(active) => self.first_synced(active, answer),
            Stage::Active(active) => self.active_heard(active, answer),
            Stage::AwaitForgotten(note) => self.left(note, answer),
            stage => Err(IllegalMove { state: stage.name(), input: answer.name() }),
        }
    }

    /// A refusal that no repeat will change.
    fn refused(
        &mut self,
        stage: Stage,
        code: ErrorCode,
        message: String,
        retry_after_secs: Option<u32>,
    ) -> Stage {
        match (stage, code) {
            (Stage::AwaitMeeting(waiting), _) => self.turned_away(waiting, code, message),
            (Stage::AwaitSubmitted(waiting), _) => self.not_filed(waiting, code, message),
            (Stage::AwaitDecision(waiting), ErrorCode::RequestUnknown | ErrorCode::NotPaired) => {
                self.request_unknown(waiting)
            }
            (
                Stage::AwaitArtifacts(AwaitArtifacts { link, filed, .. }),
                ErrorCode::PairingDenied,
            ) => self.enter(Stage::AwaitDecision(AwaitDecision { link, filed, is_doubted: false })),
            (
                stage @ Stage::AwaitArtifacts(_),
                ErrorCode::RequestUnknown | ErrorCode::NotPaired,
            )
            | (stage @ Stage::AwaitFirstSync(_), ErrorCode::NotPaired) => {
                self.ended_by_target(stage)
            }
            (Stage::Active(active), code) => {
                self.active_refused(active, code, message, retry_after_secs)
            }
            (Stage::AwaitForgotten(note), code) => self.leave_refused(note, code, message),
            (stage, code) => {
                self.bear(Trouble::Refused(code, message), retry_after_secs);
                stage
            }
        }
    }
}

/// What a target may ask for, bounded.
fn bounded(retry_after_secs: Option<u32>) -> Span {
    Span::from_secs(u64::from(retry_after_secs.unwrap_or(0))).min(RETRY_AFTER_MAX)
}

impl Active {
    /// An answer that the call of the moment cannot have had.
    pub(super) const fn surprised(answer: &Answer) -> IllegalMove {
        IllegalMove { state: "Active", input: answer.name() }
    }
}

impl Answer {
    /// The answer's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Met { .. } => "Met",
            Self::Submitted(_) => "Submitted",
            Self::Pending { .. } => "Pending",
            Self::Accepted(_) => "Accepted",
            Self::Rejected { .. } => "Rejected",
            Self::Fetched(_) => "Fetched",
            Self::Synced(_) => "Synced",
            Self::Left => "Left",
        }
    }
}
