//! Answers `proto::admin::upkeep`, and does what is due without being asked.

use std::sync::Arc;
use std::time::Duration;

use offsite_model::JobId;
use offsite_proto::admin::upkeep::{Collected, OfGc, Scrubbed};
use offsite_proto::endpoint::Params as _;
use offsite_proto::error::Refusal;
use offsite_transport::{RawCall, RawReply};

use super::protection::told_as_it_goes;
use super::state::{Admin, Operator};
use crate::error::Trouble;
use crate::pairing::off;
use crate::progress::Progress;

/// How often it is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);

pub(super) async fn gc(admin: Arc<Admin>, call: RawCall<Operator>) -> Result<RawReply, Refusal> {
    let OfGc { all } = OfGc::read(&call.values)?;
    let progress = Arc::new(Progress::default());
    let (shared, told) = (Arc::clone(&admin), Arc::clone(&progress));
    let work = move || shared.collect(all, &told);
    Ok(told_as_it_goes(&admin, &call, progress, work))
}

pub(super) async fn scrub(admin: Arc<Admin>, call: RawCall<Operator>) -> Result<RawReply, Refusal> {
    let progress = Arc::new(Progress::default());
    let (shared, told) = (Arc::clone(&admin), Arc::clone(&progress));
    // Somebody waits for it.
    let work = move || shared.scrub(Some(100), &told);
    Ok(told_as_it_goes(&admin, &call, progress, work))
}

impl Admin {
    fn collect(&self, all: bool, progress: &Arc<Progress>) -> Result<Collected, Trouble> {
        let done = self.as_job("gc", progress, |progress| self.keeper.collect(all, progress));
        match &done {
            Ok(done) => tracing::info!(bytes = done.bytes_freed.0, "space collected"),
            Err(trouble) => tracing::warn!(cause = trouble.message, "space is not collected"),
        }
        for doubt in done.iter().flat_map(|done| &done.doubts) {
            tracing::error!(cause = doubt, "nothing was collected");
        }
        done
    }

    fn scrub(&self, share: Option<u8>, progress: &Arc<Progress>) -> Result<Scrubbed, Trouble> {
        let done = self.as_job("scrub", progress, |progress| self.keeper.scrub(share, progress));
        match &done {
            Ok(done) if done.damaged > 0 => {
                tracing::error!(records = done.damaged, "scrubbed: damage found");
            }
            Ok(done) => tracing::info!(bytes = done.bytes.0, "scrubbed: no damage found"),
            Err(trouble) => tracing::info!(cause = trouble.message, "the scrub waits"),
        }
        done
    }

    fn as_job<T>(
        &self,
        kind: &'static str,
        progress: &Arc<Progress>,
        work: impl FnOnce(&Progress) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let id = JobId::random(&*self.means.luck);
        self.jobs.begin(id, kind, "", self.means.clock.now(), progress);
        let done = work(progress);
        self.jobs.end(id, self.means.clock.now(), &done);
        done
    }

    /// Does what is due, until the daemon stops.
    pub async fn keep_house(self: Arc<Self>) {
        let collecting = Arc::clone(&self).repeat(|admin, progress| {
            admin.keeper.note_figures()?;
            if !admin.keeper.due()?.collect {
                return Ok(());
            }
            // What is to go by the policies goes first.
            admin.judged(|judge| judge.apply(None))?;
            admin.collect(false, progress).map(drop)
        });
        let scrubbing = Arc::clone(&self).repeat(|admin, progress| {
            if admin.keeper.due()?.scrub { admin.scrub(None, progress).map(drop) } else { Ok(()) }
        });
        tokio::join!(collecting, scrubbing);
    }

    async fn repeat(
        self: Arc<Self>,
        work: impl Fn(&Self, &Arc<Progress>) -> Result<(), Trouble> + Send + Sync + 'static,
    ) {
        let work = Arc::new(work);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let progress = Arc::new(Progress::default());
            let (admin, told) = (Arc::clone(&self), Arc::clone(&progress));
            let work = Arc::clone(&work);
            let working = off(&self.means, move |_| work(&admin, &told));
            tokio::pin!(working);
            let ended = tokio::select! {
                ended = &mut working => ended,
                () = self.stop.cancelled() => {
                    progress.cancel();
                    working.await
                }
            };
            if let Err(trouble) = ended {
                tracing::warn!(cause = trouble.message, "upkeep is tried again");
            }
        }
    }
}
