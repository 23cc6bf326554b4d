//! Target half of one volume image's transfer.
//!
//! ```text
//!  row 56 ─► Open ─ keys ─► Transferring ─ commit ─► Committing ─ stored ─► Committed
//!             │                 │  ▲                     │
//!             │                 │  └ incomplete          └─ the store's fault ─► Failed
//!             ├─ abort ─────────┴──────────────────────────────────────────────► Aborted
//!             └─ idle ────────────────────────────────────────────────────────► Expired
//!
//!  one window:  KEYS ─► LookUp ─► WriteDraft ─► (durable, if anything is held) ─► WANTED
//!  one record:  wanted ─► group ─► Stage ─► staged ─► Barrier ─► durable: FLUSHED, bitmap
//! ```
//!
//! Nothing is answered as held before the draft that holds it is durable (B-08). Entries of the
//! list are kept by the driver in the draft, in order; this module keeps only what is not settled
//! yet. A target that crashed builds the session anew from the draft: [`Session::restore`] with
//! what a fresh look into the store finds.
//!
//! **Absent:** this module cannot wait, read a clock, touch a disk, decode a group or hash a
//! record.

mod end;
mod ledger;
mod open;
mod records;
mod spec;
mod windows;
mod words;

pub use open::{Opening, ParentStanding, Standing, decide};
pub use spec::Spec;
pub use words::{CommitFault, Effect, Ending, Input, Known, Rules, Stage, StageFault};

use std::collections::VecDeque;

use offsite_model::{ListDigest, SessionId, Span};
use offsite_proto::bitmap::{Run, write_runs};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::session::SessionState;
use offsite_proto::window::{ListEntry, Wanted};

use self::ledger::Ledger;
use super::Runs;

/// A window between its KEYS frame and its WANTED frame.
#[derive(Clone, Debug)]
struct Undecided {
    ticket: u64,
    window: u32,
    first_ordinal: u64,
    entries: Vec<ListEntry>,
    is_looked_up: bool,
    /// Per entry whether the store holds it, once it was looked up.
    held: Option<Vec<bool>>,
}

/// A window whose draft is being written.
#[derive(Clone, Debug)]
struct Drafting {
    ticket: u64,
    /// The answer, where it waits for the draft and its stream still lives.
    answer: Option<Wanted>,
    runs: Vec<Run>,
}

/// What a sync that is under way will make durable.
#[derive(Clone, Debug)]
struct Barrier {
    number: u64,
    ordinals: Vec<u64>,
    runs: Vec<Run>,
    listed: u64,
    bytes: u64,
}

/// The target half of one transfer.
#[derive(Clone)]
pub struct Session {
    id: SessionId,
    spec: Spec,
    rules: Rules,
    stage: Stage,
    last_heard: Span,
    /// Windows in the order of their ordinals.
    undecided: VecDeque<Undecided>,
    drafting: Vec<Drafting>,
    next_ticket: u64,
    /// Entries in the draft, the ordinal after the last one (the same, but for healing), their
    /// digest, and where the last one ends.
    n_listed: u64,
    listed_through: u64,
    digest: ListDigest,
    end: u64,
    ledger: Ledger,
    /// Positions that are held or durable.
    durable: Runs,
    /// Positions of zeros, whose draft the next barrier makes durable.
    pending_runs: Vec<Run>,
    barrier: Option<Barrier>,
    next_barrier: u64,
    unflushed_bytes: u64,
    unflushed_since: Option<Span>,
    flushed_bytes: u64,
    /// Payload bytes of this opening, and of any opening that are not staged yet.
    received_bytes: u64,
    staging_bytes: u64,
    granted_bytes: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "session {} {:?} {}/{}",
            self.id,
            self.stage,
            self.n_listed,
            self.spec.n_entries()
        )
    }
}

impl Session {
    /// A session that was just opened.
    #[must_use]
    pub fn new(id: SessionId, spec: Spec, rules: Rules, at: Span) -> Self {
        Self {
            id,
            spec,
            rules,
            stage: Stage::Open,
            last_heard: at,
            undecided: VecDeque::new(),
            drafting: Vec::new(),
            next_ticket: 0,
            n_listed: 0,
            listed_through: 0,
            digest: ListDigest::new(),
            end: 0,
            ledger: Ledger::default(),
            durable: Runs::new(),
            pending_runs: Vec::new(),
            barrier: None,
            next_barrier: 0,
            unflushed_bytes: 0,
            unflushed_since: None,
            flushed_bytes: 0,
            received_bytes: 0,
            staging_bytes: 0,
            granted_bytes: rules.credit_bytes,
        }
    }

    /// A session for an image that is committed already: it answers as its commit did.
    #[must_use]
    pub fn committed(id: SessionId, spec: Spec, rules: Rules, at: Span) -> Self {
        let mut session = Self::new(id, spec, rules, at);
        session.stage = Stage::Committed;
        session
    }

    /// Takes the next entries of a draft that was found after a crash, or of an earlier session of
    /// the same image, with what the store holds of them now. To be called in order, before the
    /// first step, and after one barrier: draft and segments are synced first, since after a kill
    /// (or within one life of the daemon) they may lie in the cache only. The body of row 8 is made
    /// the same way, from the part that is durable without a sync.
    ///
    /// # Errors
    /// The broken rule, where the draft is not one of this image: it is to be dropped, and the
    /// session made anew.
    pub fn restore(&mut self, entries: &[Known]) -> Result<(), Refusal> {
        for known in entries {
            let ordinal = self.n_listed;
            self.end = self.spec.check_entry(ordinal, &known.entry, self.end)?;
            self.list(ordinal, &known.entry);
            let run = self.spec.positions(&known.entry);
            if known.is_held || known.entry.is_zeros() {
                self.durable.insert(run);
            } else {
                self.ledger.lose(ordinal, &known.entry, run);
            }
            self.stage = Stage::Transferring;
        }
        Ok(())
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// What it transfers.
    #[must_use]
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Where it stands.
    #[must_use]
    pub const fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Where it stands, as row 56 says it.
    #[must_use]
    pub const fn state(&self) -> SessionState {
        self.stage.state()
    }

    /// Bytes of RECORDS payloads granted since the last opening: `initialCredit` of row 56, right
    /// after it.
    #[must_use]
    pub const fn granted_bytes(&self) -> u64 {
        self.granted_bytes
    }

    /// Payload bytes that arrived and are not staged: what this session holds in memory.
    #[must_use]
    pub const fn staging_bytes(&self) -> u64 {
        self.staging_bytes
    }

    /// When the session expires if nothing happens, on the clock of the steps.
    #[must_use]
    pub fn expires_at(&self) -> Span {
        Span::from_micros(self.last_heard.as_micros().saturating_add(self.rules.idle.as_micros()))
    }

    /// When a `Tick` has something to do, if anything; the driver wakes it then.
    #[must_use]
    pub fn wake_at(&self) -> Option<Span> {
        if !self.stage.is_live() {
            return None;
        }
        let barrier = self.unflushed_since.map(|since| {
            Span::from_micros(
                since.as_micros().saturating_add(self.rules.barrier_after.as_micros()),
            )
        });
        Some(barrier.map_or(self.expires_at(), |barrier| barrier.min(self.expires_at())))
    }

    /// What of the image is held or durable: the body of rows 52 and 8.
    #[must_use]
    pub fn bitmap(&self) -> Vec<u8> {
        let runs: Vec<Run> = self.durable.iter().collect();
        let spec = &self.spec;
        write_runs(
            spec.record_bytes(),
            spec.open().epoch_number,
            spec.n_positions(),
            self.durable.first_gap(),
            &runs,
        )
    }

    /// Row 52, by the table of what a session allows.
    ///
    /// # Errors
    /// `session_unknown` once aborted, `session_expired` once expired.
    pub fn transferred(&self) -> Result<Vec<u8>, Refusal> {
        match &self.stage {
            Stage::Aborted => {
                Err(Refusal::new(ErrorCode::SessionUnknown, "there is no such session"))
            }
            Stage::Expired => Err(words::expired()),
            _ => Ok(self.bitmap()),
        }
    }

    /// Takes one thing that happened; says what must be done about it, in order.
    pub fn step(&mut self, input: Input, at: Span) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Reopened => self.reopen(at, &mut effects),
            Input::Keys { window, first_ordinal, entries } => {
                self.last_heard = at;
                let taken = self.keys(window, first_ordinal, entries);
                taken.unwrap_or_else(|refusal| effects.push(Effect::Fail(refusal)));
            }
            Input::LookedUp { ticket, held } => self.looked_up(ticket, &held),
            Input::DraftWritten { ticket } => self.draft_written(ticket, &mut effects),
            Input::DraftDiffers { ordinal } => self.fail(
                Refusal::new(
                    ErrorCode::HashMismatch,
                    format!("entry {ordinal} of the list is another one than before"),
                )
                .with("ordinals", vec![ordinal]),
                &mut effects,
            ),
            Input::Group { table, is_encrypted, bytes } => {
                self.last_heard = at;
                match self.group(&table, is_encrypted, bytes) {
                    Ok(group) => effects.push(Effect::Stage { group }),
                    Err(refusal) => effects.push(Effect::Fail(refusal)),
                }
            }
            Input::Staged { group, outcome } => self.staged(group, outcome, at, &mut effects),
            Input::Flushed { number } => self.flushed(number, at, &mut effects),
            Input::End { commit } => {
                self.last_heard = at;
                self.end_session(commit, &mut effects);
            }
            Input::NotKept(fault) => self.fail(fault.refusal(), &mut effects),
            Input::Stored(outcome) => self.stored(outcome),
            Input::Tick => self.tick(at, &mut effects),
        }
        self.advance(at, &mut effects);
        effects
    }

    /// Row 56 asked again: earlier streams are over, what they brought stays, counting of credit
    /// starts anew.
    fn reopen(&mut self, at: Span, effects: &mut Vec<Effect>) {
        self.last_heard = at;
        if !self.stage.is_live() {
            return;
        }
        self.undecided.clear();
        self.ledger.forget_wanted();
        self.drafting.iter_mut().for_each(|drafting| drafting.answer = None);
        self.received_bytes = 0;
        self.granted_bytes = self.rules.credit_bytes.saturating_sub(self.staging_bytes);
        effects.push(Effect::EndStreams);
    }

    /// Sends off whatever has become possible.
    fn advance(&mut self, at: Span, effects: &mut Vec<Effect>) {
        if !self.stage.is_live() {
            return;
        }
        self.look_up(effects);
        while self.undecided.front().is_some_and(|window| window.held.is_some()) {
            if let Some(window) = self.undecided.pop_front()
                && let Err(refusal) = self.decide_window(window, at, effects)
            {
                self.fail(refusal, effects);
                return;
            }
            self.look_up(effects);
        }
        self.start_barrier(at, effects);
        self.grant(effects);
    }

    fn tick(&mut self, at: Span, effects: &mut Vec<Effect>) {
        if matches!(self.stage, Stage::Open | Stage::Transferring) && at >= self.expires_at() {
            self.stage = Stage::Expired;
            effects.push(Effect::EndStreams);
            effects.push(Effect::Suspend);
        }
    }
}

#[cfg(test)]
impl Session {
    /// Whether a key is wanted, on its way, or staged and not yet durable.
    pub(crate) fn owes(&self, key: &offsite_model::Key) -> bool {
        self.ledger.owes(key)
    }

    /// Whether a window is between its look-up and its answer: it holds the collector's epoch.
    pub(crate) fn is_deciding(&self) -> bool {
        !self.drafting.is_empty() || self.undecided.iter().any(|window| window.is_looked_up)
    }
}
