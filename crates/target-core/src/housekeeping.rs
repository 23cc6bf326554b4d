//! What has to happen without anybody calling: certificates signed, requests lapsed, keys ended.
//!
//! **Absent:** any decision: what is due is stepped, and the machine says what that means.

use std::sync::Arc;

use offsite_exchange::pairing::target::{Input, Stage};
use offsite_model::Span;
use tokio_util::sync::CancellationToken;

use crate::Target;
use crate::failure::Failure;
use crate::principal::ITSELF;
use crate::target::off_runtime;

/// How often the housekeeping looks by itself.
const ROUND: Span = Span::from_secs(15);
/// How often sessions are asked whether time has done something.
const TICK: Span = Span::from_secs(1);
/// Rounds between two writings of when sources were last heard of.
const ROUNDS_PER_WRITING: u32 = 20;

impl Target {
    /// Keeps house until `shutdown`: signs what is ordered as soon as it is, and looks for what
    /// time has done.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let target = Arc::clone(&self);
        let found = off_runtime(move || target.find_orders().map_err(Into::into)).await;
        if let Err(cause) = found {
            tracing::error!(%cause, "cannot look for certificates that were ordered");
        }
        // Sessions have barriers of seconds; certificates and requests have days.
        let ticking = self.tick_sessions();
        let retaining = self.retain();
        tokio::pin!(ticking, retaining);
        let mut round: u32 = 0;
        loop {
            let target = Arc::clone(&self);
            let is_writing = round.is_multiple_of(ROUNDS_PER_WRITING);
            round = round.wrapping_add(1);
            let kept = off_runtime(move || target.keep_house(is_writing).map_err(Into::into)).await;
            if let Err(cause) = kept {
                tracing::error!(%cause, "housekeeping failed");
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.wake().notified() => {}
                () = &mut ticking => {}
                () = &mut retaining => {}
                () = tokio::time::sleep(ROUND.to_std()) => {}
            }
        }
        let target = Arc::clone(&self);
        if let Err(cause) = off_runtime(move || target.keep_clock().map_err(Into::into)).await {
            tracing::error!(%cause, "the retention clock was not kept");
        }
    }

    /// Retention beside the rest: a round may take its time.
    async fn retain(self: &Arc<Self>) {
        loop {
            let target = Arc::clone(self);
            let kept = off_runtime(move || target.keep_retention().map_err(Into::into)).await;
            if let Err(cause) = kept {
                tracing::error!(%cause, "a round of retention failed");
            }
            tokio::time::sleep(ROUND.to_std()).await;
        }
    }

    async fn tick_sessions(&self) {
        loop {
            tokio::time::sleep(TICK.to_std()).await;
            if let Ok(replicas) = self.replicas() {
                replicas.tick();
            }
        }
    }

    /// One round of housekeeping. Blocks.
    ///
    /// # Errors
    /// The catalog's; the next round tries again.
    pub fn keep_house(&self, is_writing: bool) -> Result<(), Failure> {
        self.issue_ordered();
        for number in self.register().due(self.now()) {
            self.wake_row(number)?;
        }
        if is_writing {
            self.register().write_down_last_seen()?;
            self.purge()?;
            self.end_abandoned();
        }
        Ok(())
    }

    /// Ends what sessions left behind, once nobody can be expected to come back for it.
    fn end_abandoned(&self) {
        let Ok(replicas) = self.replicas() else { return };
        if let Err(cause) = replicas.end_abandoned() {
            tracing::error!(%cause, "cannot end drafts whose lease is over");
        }
    }

    fn wake_row(&self, number: u64) -> Result<(), Failure> {
        let woken = self.advance(&ITSELF, |step| {
            let row = step.peer(number)?.ok_or_else(crate::submit::not_paired)?;
            Ok((row, Input::Woken))
        });
        if let Err(cause) = woken {
            tracing::debug!(%cause, number, "a row that was due is gone");
        }
        Ok(())
    }

    /// Forgets requests that were rejected long ago. Ended pairings stay: their keys must never be
    /// taken again, and their points are still there.
    fn purge(&self) -> Result<(), Failure> {
        let kept = self.settings().pairing.ended_kept;
        let now = self.now();
        let old: Vec<_> = self
            .register()
            .peers()?
            .into_iter()
            .filter(|row| match row.machine.stage() {
                Stage::Rejected(rejected) => now >= rejected.at + kept,
                _ => false,
            })
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        self.register().step(|step| {
            for row in &old {
                step.remove_peer(row)?;
            }
            Ok(())
        })
    }
}
