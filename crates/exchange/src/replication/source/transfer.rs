//! One volume image on its way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use offsite_model::SessionId;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::session::SessionState;

use super::parcels::{Listed, Parcel};
use super::words::{Call, Effect, Failure, Given, Input, Outcome, Progress, Rules, Stop};
use crate::replication::Runs;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    New,
    /// Row 56 is asked, and on a resume the bitmap with it.
    Opening {
        given: Option<Given>,
        awaits_bitmap: bool,
    },
    Offering,
    /// Everything is sent; the streams' answers are awaited.
    Closing,
    /// Waits for the parent.
    AwaitCommit,
    BeginningCommit,
    Poking,
    Resting,
    Ended,
}

#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) first_ordinal: u64,
    pub(super) entries: Vec<Listed>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecordStream {
    pub(super) n_ahead: u32,
    pub(super) bytes: u64,
    pub(super) is_ended: bool,
}

/// The source half of one transfer.
#[derive(Clone, Debug)]
pub struct Transfer {
    pub(super) rules: Rules,
    pub(super) record_bytes: u64,
    pub(super) n_entries: u64,
    pub(super) stage: Stage,
    pub(super) session: Option<SessionId>,
    pub(super) may_commit: bool,
    pub(super) stop: Option<Stop>,
    pub(super) n_failed: u32,
    /// Records whose group was refused: sent raw, and once only.
    pub(super) raw: BTreeSet<u64>,
    pub(super) progress: Progress,
    pub(super) n_streams_wished: u32,
    // Of this opening:
    pub(super) opening: u32,
    pub(super) known: Runs,
    pub(super) given: Option<Given>,
    pub(super) next_ordinal: u64,
    pub(super) is_reading: bool,
    pub(super) unsent: VecDeque<Window>,
    pub(super) next_window: u32,
    pub(super) undecided: BTreeMap<u32, Window>,
    pub(super) keys_bytes: u64,
    pub(super) keys_open: u32,
    pub(super) are_keys_ended: bool,
    pub(super) queue: VecDeque<Parcel>,
    pub(super) queued_bytes: u64,
    pub(super) streams: BTreeMap<u32, RecordStream>,
    pub(super) next_stream: u32,
    pub(super) in_hand: BTreeMap<u32, VecDeque<u64>>,
    pub(super) spent: u64,
    pub(super) credit: u64,
}

impl Transfer {
    /// A transfer of an image of so many entries in records of so many bytes. `known` is what the
    /// bitmap of the preflight said, if one was asked; it counts only if row 56 says so.
    #[must_use]
    pub fn new(record_bytes: u32, n_entries: u64, known: Runs, rules: Rules) -> Self {
        Self {
            rules,
            record_bytes: u64::from(record_bytes.max(1)),
            n_entries,
            stage: Stage::New,
            session: None,
            may_commit: false,
            stop: None,
            n_failed: 0,
            raw: BTreeSet::new(),
            progress: Progress { n_entries, ..Progress::default() },
            n_streams_wished: 1,
            opening: 0,
            known,
            given: None,
            next_ordinal: 0,
            is_reading: false,
            unsent: VecDeque::new(),
            next_window: 0,
            undecided: BTreeMap::new(),
            keys_bytes: 0,
            keys_open: 0,
            are_keys_ended: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            streams: BTreeMap::new(),
            next_stream: 0,
            in_hand: BTreeMap::new(),
            spent: 0,
            credit: 0,
        }
    }

    /// How far it has come.
    #[must_use]
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The number of the opening now: what comes of streams and reads carries it.
    #[must_use]
    pub const fn opening(&self) -> u32 {
        self.opening
    }

    /// The session it was given last.
    #[must_use]
    pub const fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Bytes of RECORDS payloads sent or being sent in this opening, and what was granted.
    #[must_use]
    pub const fn spent_and_credit(&self) -> (u64, u64) {
        (self.spent, self.credit)
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Takes one thing that happened; says what must be done about it, in order.
    pub fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.stage == Stage::Ended {
            return effects;
        }
        match input {
            Input::Start if self.stage == Stage::New => self.open(false, &mut effects),
            Input::Start => {}
            Input::Opened(answer) => self.opened(answer, &mut effects),
            Input::Transferred(answer) => self.transferred(answer, &mut effects),
            Input::Listed { opening, entries } if self.is_current(opening) => self.listed(entries),
            Input::Unreadable { message } => {
                self.end(Outcome::Unreadable(message), &mut effects);
            }
            Input::Wanted { opening, answer } if self.is_current(opening) => {
                self.wanted(&answer, &mut effects);
            }
            Input::Credit { opening, granted } if self.is_current(opening) => {
                self.credit = self.credit.max(granted);
            }
            Input::Flushed { opening, flushed } if self.is_current(opening) => {
                self.n_failed = 0;
                self.progress.bytes_flushed = self.progress.bytes_flushed.max(flushed.bytes);
            }
            Input::Sent { opening, stream, bytes } if self.is_current(opening) => {
                self.sent(stream, bytes);
            }
            Input::Ended { opening, stream } if self.is_current(opening) => match stream {
                Some(stream) => {
                    self.streams.remove(&stream);
                }
                None => self.keys_open = self.keys_open.saturating_sub(1),
            },
            Input::Cut { opening, failure } if self.is_current(opening) => {
                self.failed(failure, &mut effects);
            }
            Input::Listed { .. }
            | Input::Wanted { .. }
            | Input::Credit { .. }
            | Input::Flushed { .. }
            | Input::Sent { .. }
            | Input::Ended { .. }
            | Input::Cut { .. } => {}
            Input::Streams(n_streams) => self.n_streams_wished = n_streams.max(1),
            Input::CommitBegun(answer) => self.commit_begun(answer, &mut effects),
            Input::Poked(answer) => self.poked(answer, &mut effects),
            Input::Rested if self.stage == Stage::Resting => self.open(true, &mut effects),
            Input::Rested => {}
            Input::MayCommit => self.may_commit = true,
            Input::Stop(stop) => self.stop = Some(stop),
        }
        self.settle(&mut effects);
        effects
    }

    fn is_current(&self, opening: u32) -> bool {
        opening == self.opening && matches!(self.stage, Stage::Offering | Stage::Closing)
    }

    fn open(&mut self, with_bitmap: bool, effects: &mut Vec<Effect>) {
        self.stage = Stage::Opening { given: None, awaits_bitmap: with_bitmap };
        effects.push(Effect::Call(Call::Open));
        if with_bitmap {
            effects.push(Effect::Call(Call::Transferred(self.session)));
        }
    }

    fn opened(&mut self, answer: Result<Given, Failure>, effects: &mut Vec<Effect>) {
        let Stage::Opening { given, .. } = &mut self.stage else { return };
        match answer {
            Ok(answer) => *given = Some(answer),
            Err(failure) => self.failed(failure, effects),
        }
    }

    fn transferred(&mut self, answer: Result<Runs, Failure>, effects: &mut Vec<Effect>) {
        let Stage::Opening { awaits_bitmap, .. } = &mut self.stage else { return };
        *awaits_bitmap = false;
        match answer {
            Ok(known) => self.known = known,
            // Without a bitmap everything is offered again, which is slower and never wrong.
            Err(Failure::Refused(_)) => self.known = Runs::new(),
            Err(Failure::Cut) => self.failed(Failure::Cut, effects),
        }
    }

    /// Goes on from wherever the input led.
    fn settle(&mut self, effects: &mut Vec<Effect>) {
        if let Stage::Opening { given: Some(given), awaits_bitmap: false } = self.stage {
            self.begin(given, effects);
        }
        if self.stop_now(effects) {
            return;
        }
        if matches!(self.stage, Stage::Offering) {
            self.flow(effects);
        }
        if self.stage == Stage::Closing && self.streams.is_empty() && self.keys_open == 0 {
            self.stage = Stage::AwaitCommit;
        }
        if self.stage == Stage::AwaitCommit && self.may_commit {
            self.stage = Stage::BeginningCommit;
            effects.push(Effect::Call(Call::BeginCommit));
        }
    }

    fn begin(&mut self, given: Given, effects: &mut Vec<Effect>) {
        self.session = Some(given.session);
        self.progress.n_openings = self.progress.n_openings.saturating_add(1);
        match given.state {
            SessionState::Committed => return self.end(Outcome::Committed, effects),
            SessionState::Committing => {
                self.stage = Stage::Poking;
                return effects.push(Effect::Call(Call::Poke(self.rules.poke_wait_secs)));
            }
            SessionState::Open | SessionState::Transferring => {}
            SessionState::Aborted | SessionState::Expired | SessionState::Failed => {
                return self.failed(Failure::Cut, effects);
            }
        }
        if !given.is_resumed {
            self.known = Runs::new();
        }
        self.start_opening(given);
        self.stage = Stage::Offering;
    }

    /// Stops where nothing is half said: never while a commit is asked for, whose outcome must be
    /// known.
    fn stop_now(&mut self, effects: &mut Vec<Effect>) -> bool {
        let Some(stop) = self.stop else { return false };
        if matches!(self.stage, Stage::BeginningCommit | Stage::Poking | Stage::Ended) {
            return false;
        }
        effects.push(Effect::DropStreams);
        if stop == Stop::Cancel && self.session.is_some() {
            effects.push(Effect::Call(Call::Abort));
        }
        self.end(Outcome::Stopped(stop), effects);
        true
    }

    fn commit_begun(&mut self, answer: Result<bool, Failure>, effects: &mut Vec<Effect>) {
        if self.stage != Stage::BeginningCommit {
            return;
        }
        match answer {
            Ok(true) => self.end(Outcome::Committed, effects),
            Ok(false) => {
                self.stage = Stage::Poking;
                effects.push(Effect::Call(Call::Poke(self.rules.poke_wait_secs)));
            }
            Err(failure) => self.failed(failure, effects),
        }
    }

    fn poked(&mut self, answer: Result<bool, Failure>, effects: &mut Vec<Effect>) {
        if self.stage != Stage::Poking {
            return;
        }
        match answer {
            Ok(true) => self.end(Outcome::Committed, effects),
            Ok(false) => effects.push(Effect::Call(Call::Poke(self.rules.poke_wait_secs))),
            Err(failure) => self.failed(failure, effects),
        }
    }

    /// Something went wrong: again from row 56 on, or not at all.
    pub(super) fn failed(&mut self, failure: Failure, effects: &mut Vec<Effect>) {
        effects.push(Effect::DropStreams);
        let mut retry_after_secs = None;
        if let Failure::Refused(refusal) = &failure {
            retry_after_secs = refusal.retry_after_secs;
            if !self.is_mended_by_opening(refusal) {
                if is_hopeless(refusal.code) && self.session.is_some() {
                    effects.push(Effect::Call(Call::Abort));
                }
                return self.end(Outcome::Refused(refusal.clone()), effects);
            }
        }
        self.n_failed = self.n_failed.saturating_add(1);
        if self.n_failed >= self.rules.attempts_max {
            let outcome = match failure {
                Failure::Refused(refusal) => Outcome::Refused(refusal),
                Failure::Cut => Outcome::Unreachable,
            };
            return self.end(outcome, effects);
        }
        self.stage = Stage::Resting;
        effects.push(Effect::Rest { n_failed: self.n_failed, retry_after_secs });
    }

    fn is_mended_by_opening(&mut self, refusal: &Refusal) -> bool {
        match refusal.code {
            ErrorCode::HashMismatch => self.mark_raw(refusal),
            ErrorCode::SessionUnknown
            | ErrorCode::SessionExpired
            | ErrorCode::WrongState
            | ErrorCode::Incomplete => true,
            _ => refusal.retryable,
        }
    }

    /// Records of a refused group go again, raw. Once: what is refused raw is damaged on our side.
    fn mark_raw(&mut self, refusal: &Refusal) -> bool {
        let ordinals = refusal.detail.as_ref().and_then(|detail| detail.get("ordinals"));
        let ordinals: Vec<u64> = ordinals
            .and_then(|ordinals| ordinals.as_array())
            .map(|ordinals| ordinals.iter().filter_map(serde_json::Value::as_u64).collect())
            .unwrap_or_default();
        let is_new = ordinals.iter().any(|ordinal| !self.raw.contains(ordinal));
        self.raw.extend(ordinals.into_iter().filter(|ordinal| *ordinal < self.n_entries));
        is_new
    }

    fn end(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        self.stage = Stage::Ended;
        effects.push(Effect::End(outcome));
    }
}

/// Whether what the target holds of the image is of no use to another attempt.
const fn is_hopeless(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::HashMismatch
            | ErrorCode::KeyCollision
            | ErrorCode::BadRequest
            | ErrorCode::UnknownRecord
    )
}
