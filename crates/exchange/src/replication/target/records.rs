//! Records: taken under credit, staged, made durable by barriers.

use offsite_model::Span;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::group::GroupEntry;
use offsite_proto::stream::Flushed;

use super::words::{Effect, StageFault};
use super::{Barrier, Session};

impl Session {
    pub(super) fn group(
        &mut self,
        table: &[GroupEntry],
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

    pub(super) fn staged(
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

    pub(super) fn start_barrier(&mut self, at: Span, effects: &mut Vec<Effect>) {
        let Some(since) = self.unflushed_since else { return };
        let waited = at.as_micros().saturating_sub(since.as_micros());
        let is_due = self.unflushed_bytes >= self.rules.barrier_bytes
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

    pub(super) fn flushed(&mut self, number: u64, at: Span, effects: &mut Vec<Effect>) {
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

    pub(super) fn grant(&mut self, effects: &mut Vec<Effect>) {
        if self.barrier.is_some() && self.unflushed_bytes >= self.rules.behind_bytes {
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
}
