//! One volume image on its way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use offsite_model::SessionId;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::session::SessionState;
use offsite_proto::stream::Flushed;
use offsite_proto::window::{ListEntry, Wanted};

use super::parcels::{Listed, Parcel};
use crate::replication::Runs;

/// The limits of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Bytes of one request body; then it is ended and the next one opened.
    pub transfer_bytes_max: u64,
    /// Attempts in a row that bring nothing; then the image is left for another job.
    pub attempts_max: u32,
    /// Raw bytes of a group made anew.
    pub part_bytes: u64,
    /// Records of a group made anew.
    pub part_records: usize,
    /// Bytes that may wait to be sent; the next window is not offered before they are fewer.
    pub queued_bytes_max: u64,
    /// Parcels that a stream may have before it, so that it never runs dry.
    pub parcels_ahead: u32,
    /// Known entries between two unknown ones up to which both share a window.
    pub gap_entries: u64,
    /// Seconds that row 47 is asked to wait.
    pub poke_wait_secs: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            transfer_bytes_max: 1 << 30,
            attempts_max: 5,
            part_bytes: 256 << 10,
            part_records: 256,
            queued_bytes_max: 64 << 20,
            parcels_ahead: 2,
            gap_entries: 64,
            poke_wait_secs: 30,
        }
    }
}

/// A call to make. Its answer is one [`Input`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Row 56; then `Opened`.
    Open,
    /// Row 52 where a session is known, else (or where that is refused) row 8; then `Transferred`.
    Transferred(Option<SessionId>),
    /// Row 57 with `commit=true`; then `CommitBegun`.
    BeginCommit,
    /// Row 47 with so many seconds; then `Poked`.
    Poke(u32),
    /// Row 7 with `commit=false`; nobody waits for the answer.
    Abort,
}

/// Why a call or stream failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The target said so.
    Refused(Refusal),
    /// Nothing was said, or it cannot be known what became of it.
    Cut,
}

/// What row 56 gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The session.
    pub session: SessionId,
    /// Where it stands.
    pub state: SessionState,
    /// Whether the bitmap counts.
    pub is_resumed: bool,
    /// Keys of a window, at least 1.
    pub window_keys: u32,
    /// Windows that may be undecided, at least 1.
    pub windows_in_flight: u32,
    /// Record streams at once, at least 1.
    pub streams_max: u32,
    /// Bytes granted.
    pub credit: u64,
}

/// A wish to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// For now: the session stays for resume.
    Pause,
    /// For good: the session is aborted.
    Cancel,
}

/// What happened. Inputs of streams carry the number of the opening they belong to; those of an earlier one are ignored.
#[derive(Clone, Debug)]
pub enum Input {
    /// Begin.
    Start,
    /// Row 56 was answered.
    Opened(Result<Given, Failure>),
    /// Row 52 or 8 was answered: positions that need not be sent. No such image is no failure but an empty set.
    Transferred(Result<Runs, Failure>),
    /// Entries of the list were read, from an ordinal on; as many as asked for, fewer only at the end.
    Listed {
        /// The opening of the effect.
        opening: u32,
        /// The entries.
        entries: Vec<Listed>,
    },
    /// Our own store cannot give what was asked for.
    Unreadable {
        /// The sentence for people.
        message: String,
    },
    /// A WANTED frame.
    Wanted {
        /// The opening of the stream.
        opening: u32,
        /// The answer.
        answer: Wanted,
    },
    /// A CREDIT frame, of whatever stream.
    Credit {
        /// The opening of the stream.
        opening: u32,
        /// Bytes granted in total.
        granted: u64,
    },
    /// A FLUSHED frame.
    Flushed {
        /// The opening of the stream.
        opening: u32,
        /// What is durable.
        flushed: Flushed,
    },
    /// A parcel was handed to the line.
    Sent {
        /// The opening of the effect.
        opening: u32,
        /// The stream.
        stream: u32,
        /// Bytes of the frame's payload, at most those of the parcel.
        bytes: u64,
    },
    /// A stream's answer came to its END.
    Ended {
        /// The opening of the stream.
        opening: u32,
        /// The record stream; `None` for that of the keys.
        stream: Option<u32>,
    },
    /// A stream failed.
    Cut {
        /// The opening of the stream.
        opening: u32,
        /// Why.
        failure: Failure,
    },
    /// The link needs so many record streams: opened only up to what the target allows.
    Streams(u32),
    /// Row 57 was answered.
    CommitBegun(Result<(), Failure>),
    /// Row 47 was answered.
    Poked(Result<bool, Failure>),
    /// A rest is over.
    Rested,
    /// The image's parent is committed, or it needs none.
    MayCommit,
    /// Stop at the next safe point.
    Stop(Stop),
}

/// What must be done, in the order of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make a call; calls of one list go out together.
    Call(Call),
    /// Open the stream of row 5.
    OpenKeys {
        /// The opening, for what comes of it.
        opening: u32,
    },
    /// Read entries of the list, with their places; then `Listed`.
    Read {
        /// The opening, to be given back.
        opening: u32,
        /// The first.
        first_ordinal: u64,
        /// How many.
        n_entries: u64,
    },
    /// Send a KEYS frame.
    SendKeys {
        /// Its number.
        window: u32,
        /// Ordinal of the first entry.
        first_ordinal: u64,
        /// The entries.
        entries: Vec<ListEntry>,
    },
    /// End the stream of row 5; its answer ends in `Ended`. With `reopen` the next one is opened at once.
    EndKeys {
        /// Whether more keys follow on another stream.
        reopen: bool,
    },
    /// Open a stream of row 6.
    OpenRecords {
        /// The opening, for what comes of it.
        opening: u32,
        /// Its number.
        stream: u32,
    },
    /// Send a parcel as a RECORDS frame; then `Sent`.
    Send {
        /// The stream.
        stream: u32,
        /// The parcel.
        parcel: Parcel,
    },
    /// End a stream of row 6; its answer ends in `Ended`.
    EndRecords {
        /// The stream.
        stream: u32,
    },
    /// Drop all streams of this transfer, and all calls that were not answered: nothing of them is told any more.
    DropStreams,
    /// Wait before the next attempt, with full jitter; then `Rested`.
    Rest {
        /// Attempts in a row that brought nothing, from 1.
        n_failed: u32,
        /// The target's advice in seconds.
        retry_after_secs: Option<u32>,
    },
    /// It is over.
    End(Outcome),
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The image is on the target.
    Committed,
    /// It was stopped.
    Stopped(Stop),
    /// The target refused in a way that trying again does not mend, or too often.
    Refused(Refusal),
    /// The target could not be reached, too often.
    Unreachable,
    /// Our own store failed.
    Unreadable(String),
}

/// How far a transfer has come; totals over all its openings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Entries of the list.
    pub n_entries: u64,
    /// Entries that are decided in this opening, known ones included.
    pub n_decided: u64,
    /// Keys offered.
    pub n_offered: u64,
    /// Records wanted.
    pub n_wanted: u64,
    /// Bytes of RECORDS payloads handed to the line.
    pub bytes_sent: u64,
    /// Bytes that the target says are durable, of this opening's session.
    pub bytes_flushed: u64,
    /// Openings.
    pub n_openings: u32,
}

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
    /// A transfer of an image of so many entries in records of so many bytes. `known` is what the bitmap of the preflight said, if
    /// one was asked; it counts only if row 56 says so.
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

    /// Stops where nothing is half said: never while a commit is asked for, whose outcome must be known.
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

    fn commit_begun(&mut self, answer: Result<(), Failure>, effects: &mut Vec<Effect>) {
        if self.stage != Stage::BeginningCommit {
            return;
        }
        match answer {
            Ok(()) => {
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
