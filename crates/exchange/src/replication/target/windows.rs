//! Windows of keys: taken, looked up, decided, drafted, answered, in this order.

use offsite_model::Span;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::window::{ListEntry, Wanted};

use super::words::{Effect, Stage};
use super::{Drafting, Session, Undecided};

impl Session {
    pub(super) fn keys(
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
        // What is undecided has not been listed yet, so the chain to go on from is that of the last
        // one.
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

    /// Checks what can be checked of each entry alone; the chain is checked when it is listed, in
    /// order.
    pub(super) fn check_offsets(
        &self,
        first_ordinal: u64,
        entries: &[ListEntry],
    ) -> Result<(), Refusal> {
        for (ordinal, entry) in (first_ordinal..).zip(entries) {
            self.spec.check_entry_alone(ordinal, entry)?;
        }
        Ok(())
    }

    pub(super) fn look_up(&mut self, effects: &mut Vec<Effect>) {
        // A window waits while too much is owed, so that a source cannot make the ledger grow by
        // offering.
        if self.ledger.n_told() > self.rules.owed_keys_max {
            return;
        }
        // What was lost with a stream is offered again before anything new, so this bound stops no
        // honest source.
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

    pub(super) fn looked_up(&mut self, ticket: u64, held: &[bool]) {
        let Some(window) = self.undecided.iter_mut().find(|window| window.ticket == ticket) else {
            return;
        };
        // One answer per key that was asked; a shorter answer counts as not held.
        let mut held = held.iter().copied();
        let of = |entry: &ListEntry| !entry.is_zeros() && held.next().unwrap_or(false);
        window.held = Some(window.entries.iter().map(of).collect());
    }

    /// Decides a window: what is wanted, what the draft holds.
    pub(super) fn decide_window(
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
                // The same bytes are wanted, or staged and not yet durable, under this or another
                // ordinal.
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

    pub(super) fn list(&mut self, ordinal: u64, entry: &ListEntry) {
        self.digest.entry(entry.offset(), entry.bytes(), &entry.key());
        self.n_listed = self.n_listed.saturating_add(1);
        self.listed_through = ordinal.saturating_add(1);
    }

    pub(super) fn draft_written(&mut self, ticket: u64, effects: &mut Vec<Effect>) {
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
}
