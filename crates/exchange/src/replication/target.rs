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
//! Nothing is answered as held before the draft that holds it is durable (B-08). Entries of the list are
//! kept by the driver in the draft, in order; this module keeps only what is not settled yet. A target that crashed builds
//! the session anew from the draft: [`Session::restore`] with what a fresh look into the store finds.
//!
//! **Absent:** this module cannot wait, read a clock, touch a disk, decode a group or hash a record.

mod end;
mod ledger;
mod open;
mod spec;
mod words;

pub use open::{Opening, ParentStanding, Standing, decide};
pub use spec::Spec;
pub use words::{CommitFault, Effect, Ending, Input, Known, Rules, Stage, StageFault};

use std::collections::VecDeque;

use offsite_model::{ListDigest, SessionId, Span};
use offsite_proto::bitmap::{Run, write_runs};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::session::SessionState;
use offsite_proto::stream::Flushed;
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
    /// Entries in the draft, the ordinal after the last one (the same, but for healing), their digest, and where
    /// the last one ends.
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

    /// Takes the next entries of a draft that was found after a crash, or of an earlier session of the same image, with
    /// what the store holds of them now. To be called in order, before the first step.
    ///
    /// # Errors
    /// The broken rule, where the draft is not one of this image: it is to be dropped, and the session made anew.
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

    /// Bytes of RECORDS payloads granted since the last opening: `initialCredit` of row 56, right after it.
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
            Input::Stored(outcome) => self.stored(outcome),
            Input::Tick => self.tick(at, &mut effects),
        }
        self.advance(at, &mut effects);
        effects
    }

    /// Row 56 asked again: earlier streams are over, what they brought stays, counting of credit starts anew.
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

    fn keys(
        &mut self,
        window: u32,
        first_ordinal: u64,
        entries: Vec<ListEntry>,
    ) -> Result<(), Refusal> {
        self.stage.takes_data()?;
        if self.undecided.len() >= self.rules.windows_in_flight as usize {
            return Err(Refusal::new(ErrorCode::WrongState, "too many windows are undecided")
                .with("windowsInFlight", self.rules.windows_in_flight));
        }
        if entries.len() > self.rules.window_keys as usize {
            return Err(Refusal::new(ErrorCode::TooLarge, "a window has too many keys")
                .with("windowKeys", self.rules.window_keys));
        }
        // What is undecided has not been listed yet, so the chain to go on from is that of the last one.
        let after = |window: &Undecided| window.first_ordinal + window.entries.len() as u64;
        let offered = self.undecided.iter().map(after).max().unwrap_or(0).max(self.listed_through);
        if first_ordinal > offered && !self.spec.is_heal() {
            return Err(Refusal::new(
                ErrorCode::WrongState,
                format!(
                    "a window begins at entry {first_ordinal}, the list is known up to {offered}"
                ),
            )
            .with("offered", offered));
        }
        self.check_offsets(first_ordinal, &entries)?;
        self.stage = Stage::Transferring;
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.undecided.push_back(Undecided {
            ticket,
            window,
            first_ordinal,
            entries,
            is_looked_up: false,
            held: None,
        });
        Ok(())
    }

    /// Checks what can be checked of each entry alone; the chain is checked when it is listed, in order.
    fn check_offsets(&self, first_ordinal: u64, entries: &[ListEntry]) -> Result<(), Refusal> {
        for (ordinal, entry) in (first_ordinal..).zip(entries) {
            self.spec.check_entry_alone(ordinal, entry)?;
        }
        Ok(())
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

    fn look_up(&mut self, effects: &mut Vec<Effect>) {
        // A window waits while too much is owed, so that a source cannot make the ledger grow by offering.
        if self.ledger.n_told() > self.rules.owed_keys_max {
            return;
        }
        // What was lost with a stream is offered again before anything new, so this bound stops no honest source.
        let is_full = self.ledger.len() > self.rules.owed_keys_max.saturating_mul(2);
        let through = self.listed_through;
        let is_new = |window: &Undecided| window.first_ordinal >= through;
        for window in self.undecided.iter_mut().filter(|window| !window.is_looked_up) {
            if is_full && is_new(window) {
                return;
            }
            window.is_looked_up = true;
            let records = window.entries.iter().filter(|entry| !entry.is_zeros());
            let keys: Vec<_> = records.map(ListEntry::key).collect();
            if keys.is_empty() {
                window.held = Some(Vec::new());
            } else {
                effects.push(Effect::LookUp { ticket: window.ticket, keys });
            }
        }
    }

    fn looked_up(&mut self, ticket: u64, held: &[bool]) {
        let Some(window) = self.undecided.iter_mut().find(|window| window.ticket == ticket) else {
            return;
        };
        // One answer per key that was asked; a shorter answer counts as not held.
        let mut held = held.iter().copied();
        let of = |entry: &ListEntry| !entry.is_zeros() && held.next().unwrap_or(false);
        window.held = Some(window.entries.iter().map(of).collect());
    }

    /// Decides a window: what is wanted, what the draft holds.
    fn decide_window(
        &mut self,
        window: Undecided,
        at: Span,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let Undecided { ticket, window: number, first_ordinal, entries, held, .. } = window;
        let mut held = held.unwrap_or_default();
        held.resize(entries.len(), false);
        let mut wanted = Vec::with_capacity(entries.len());
        let mut runs = Vec::new();
        let mut is_awaited = false;
        let n_known = self.listed_through.saturating_sub(first_ordinal).min(entries.len() as u64);
        for ((ordinal, entry), is_held) in (first_ordinal..).zip(&entries).zip(held) {
            let run = self.spec.positions(entry);
            let is_known = ordinal < self.listed_through;
            if !is_known {
                self.end = self.spec.check_entry(ordinal, entry, self.end)?;
                self.list(ordinal, entry);
            }
            let is_settled = is_known && self.ledger.is_settled(ordinal);
            if is_settled {
                // Decided in an earlier opening, whose draft may still be on its way to the disk.
                is_awaited |= !entry.is_zeros() && !self.durable.covers(run);
                wanted.push(false);
            } else if entry.is_zeros() {
                runs.push(run);
                wanted.push(false);
            } else if self.ledger.is_owed_by_key(ordinal, entry, run) {
                // The same bytes are wanted, or staged and not yet durable, under this or another ordinal.
                wanted.push(self.ledger.wants_again(ordinal));
            } else if is_held {
                self.ledger.hold(ordinal);
                runs.push(run);
                is_awaited = true;
                wanted.push(false);
            } else {
                self.ledger.want(ordinal, entry, run);
                wanted.push(true);
            }
        }
        let answer = Wanted::new(number, first_ordinal, &wanted);
        effects.push(Effect::WriteDraft {
            ticket,
            first_ordinal,
            n_known,
            entries,
            wanted,
            is_awaited,
        });
        if is_awaited {
            self.drafting.push(Drafting { ticket, answer: Some(answer), runs });
        } else {
            self.pending_runs.extend(runs);
            self.unflushed_since.get_or_insert(at);
            effects.push(Effect::Reply(answer));
        }
        Ok(())
    }

    fn list(&mut self, ordinal: u64, entry: &ListEntry) {
        self.digest.entry(entry.offset(), entry.bytes(), &entry.key());
        self.n_listed = self.n_listed.saturating_add(1);
        self.listed_through = ordinal.saturating_add(1);
    }

    fn draft_written(&mut self, ticket: u64, effects: &mut Vec<Effect>) {
        let Some(index) = self.drafting.iter().position(|drafting| drafting.ticket == ticket)
        else {
            return;
        };
        let drafting = self.drafting.remove(index);
        drafting.runs.into_iter().for_each(|run| self.durable.insert(run));
        if self.stage.is_live()
            && let Some(answer) = drafting.answer
        {
            effects.push(Effect::Reply(answer));
        }
    }

    fn group(
        &mut self,
        table: &[offsite_proto::group::GroupEntry],
        is_encrypted: bool,
        bytes: u64,
    ) -> Result<u64, Refusal> {
        self.stage.takes_data()?;
        let received_bytes = self.received_bytes.saturating_add(bytes);
        if received_bytes > self.granted_bytes {
            return Err(Refusal::new(ErrorCode::TooLarge, "more was sent than was granted")
                .with("granted", self.granted_bytes));
        }
        self.received_bytes = received_bytes;
        if is_encrypted != self.spec.is_encrypted() {
            return Err(Refusal::new(
                ErrorCode::BadRequest,
                "the group and the session disagree about encryption",
            ));
        }
        let group = self.ledger.begin_staging(table, bytes)?;
        self.staging_bytes = self.staging_bytes.saturating_add(bytes);
        Ok(group)
    }

    fn staged(
        &mut self,
        group: u64,
        outcome: Result<(), StageFault>,
        at: Span,
        effects: &mut Vec<Effect>,
    ) {
        let Some((ordinals, bytes)) = self.ledger.end_staging(group, outcome.is_ok()) else {
            return;
        };
        self.staging_bytes = self.staging_bytes.saturating_sub(bytes);
        match outcome {
            Ok(()) => {
                self.unflushed_bytes = self.unflushed_bytes.saturating_add(bytes);
                self.unflushed_since.get_or_insert(at);
            }
            Err(fault) => {
                let refusal = fault.refusal(&ordinals);
                if fault.ends_session() {
                    self.fail(refusal, effects);
                } else {
                    effects.push(Effect::Fail(refusal));
                }
            }
        }
    }

    fn start_barrier(&mut self, at: Span, effects: &mut Vec<Effect>) {
        let Some(since) = self.unflushed_since else { return };
        let waited = at.as_micros().saturating_sub(since.as_micros());
        // Half, since while one half is being synced the other one fills: both together are what a crash may cost.
        let is_due = self.unflushed_bytes >= self.rules.barrier_bytes / 2
            || waited >= self.rules.barrier_after.as_micros();
        if self.barrier.is_some() || !is_due {
            return;
        }
        let number = self.next_barrier;
        self.next_barrier += 1;
        self.barrier = Some(Barrier {
            number,
            ordinals: self.ledger.staged(),
            runs: std::mem::take(&mut self.pending_runs),
            listed: self.listed_through,
            bytes: std::mem::take(&mut self.unflushed_bytes),
        });
        self.unflushed_since = None;
        effects.push(Effect::Barrier { number });
    }

    fn flushed(&mut self, number: u64, at: Span, effects: &mut Vec<Effect>) {
        if self.barrier.as_ref().is_none_or(|barrier| barrier.number != number) {
            return;
        }
        let Some(barrier) = self.barrier.take() else { return };
        for run in
            self.ledger.settle(&barrier.ordinals, barrier.listed).into_iter().chain(barrier.runs)
        {
            self.durable.insert(run);
        }
        if self.ledger.has_staged() {
            self.unflushed_since.get_or_insert(at);
        }
        self.flushed_bytes = self.flushed_bytes.saturating_add(barrier.bytes);
        if self.stage.is_live() {
            let through = self.ledger.first().unwrap_or(barrier.listed).min(barrier.listed);
            effects.push(Effect::Flushed(Flushed { through, bytes: self.flushed_bytes }));
        }
        self.last_heard = self.last_heard.max(at);
    }

    fn grant(&mut self, effects: &mut Vec<Effect>) {
        let syncing_bytes = self.barrier.as_ref().map_or(0, |barrier| barrier.bytes);
        if syncing_bytes.saturating_add(self.unflushed_bytes) >= self.rules.barrier_bytes {
            // The disk is behind: what is not durable must not grow (E-08, E-09).
            return;
        }
        let due = self
            .received_bytes
            .saturating_add(self.rules.credit_bytes)
            .saturating_sub(self.staging_bytes);
        // Small grants would cost a frame each; a quarter of the whole keeps the line busy.
        if due.saturating_sub(self.granted_bytes) >= (self.rules.credit_bytes / 4).max(1) {
            self.granted_bytes = due;
            effects.push(Effect::Grant(due));
        }
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
