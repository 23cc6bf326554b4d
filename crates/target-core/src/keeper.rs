//! The target's upkeep: space is taken back, damage is looked for; by order and by timetable.
//!
//! **Absent:** how (`offsite_upkeep`), what may go (retention).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use offsite_daemon::process::giving_way;
use offsite_model::{Clock, Span};
use offsite_proto::admin::upkeep::{Collected, Scrubbed, Upkeep};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_store::StoreError;
use offsite_upkeep::{Due, Surroundings, figures};
use tokio_util::sync::CancellationToken;

use crate::Target;
use crate::target::off_runtime;

/// How often it is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Is told what is being done, and how far it is: bytes done and in all.
pub(crate) type Show<'a> = &'a (dyn Fn(&'static str, u64, u64) + Sync);

struct Around<'a> {
    target: &'a Target,
    show: Show<'a>,
}

impl Surroundings for Around<'_> {
    fn clock(&self) -> &dyn Clock {
        &*self.target.world().clock
    }

    fn pause(&self, span: Span) {
        offsite_upkeep::pause(span, &|| self.is_stopped());
    }

    fn is_stopped(&self) -> bool {
        self.target.is_stopping()
    }

    fn is_busy(&self) -> bool {
        self.target.replicas().is_ok_and(|replicas| replicas.is_at_work())
    }

    fn show(&self, phase: &'static str, done: u64, total: u64) {
        (self.show)(phase, done, total);
    }
}

impl Target {
    /// Takes space back, tenant by tenant; with `all`, also out of segments of which little is
    /// garbage. Blocks.
    ///
    /// # Errors
    /// `wrong_state` while space is collected already, or when the daemon stops;
    /// `repository_unavailable`.
    pub(crate) fn collect(&self, all: bool, show: Show<'_>) -> Result<Collected, Refusal> {
        let Some(_turn) = self.turns().collecting.take() else {
            return Err(runs("space is collected already"));
        };
        let replicas = self.replicas()?;
        let mut settings = self.settings().upkeep.collect;
        if all {
            settings.dead_percent = 1;
        }
        let tenants = replicas.store.tenants().map_err(|error| failed(&error))?;
        let around = Around { target: self, show };
        // What lies in quarantine goes by the clock that nobody sets.
        let kept_now = self.retention_now();
        let collect =
            || offsite_upkeep::collect(&replicas.store, &tenants, &settings, kept_now, &around);
        let done = giving_way(collect).map_err(|error| failed(&error))?;
        for doubt in &done.doubts {
            tracing::error!(cause = doubt, "nothing was collected");
        }
        tracing::info!(bytes = done.bytes_freed.0, "space collected");
        Ok(done)
    }

    /// Reads the whole store, from where the last reading stopped; `share_percent` of the time, or
    /// as the settings say. Blocks.
    ///
    /// # Errors
    /// `wrong_state` while it is read already, or when the daemon stops; `repository_unavailable`.
    pub(crate) fn scrub(
        &self,
        share_percent: Option<u8>,
        show: Show<'_>,
    ) -> Result<Scrubbed, Refusal> {
        let Some(_turn) = self.turns().scrubbing.take() else {
            return Err(runs("the store is scrubbed already"));
        };
        let share = share_percent.unwrap_or(self.settings().upkeep.scrub.share_percent);
        let around = Around { target: self, show };
        let done = offsite_upkeep::scrub(&self.replicas()?.store, share, &around);
        let done = done.map_err(|error| failed(&error))?;
        match done.damaged {
            0 => tracing::info!(bytes = done.bytes.0, "scrubbed: no damage found"),
            records => tracing::error!(records, "scrubbed: damage found"),
        }
        Ok(done)
    }

    /// How it stands. Blocks.
    ///
    /// # Errors
    /// `repository_unavailable`.
    pub(crate) fn upkeep(&self) -> Result<Upkeep, Refusal> {
        offsite_upkeep::state(&self.replicas()?.store).map_err(|error| failed(&error))
    }

    /// Whether the daemon stops, and long work with it.
    pub(crate) fn is_stopping(&self) -> bool {
        self.turns().is_stopping.load(Ordering::Relaxed)
    }

    fn note_figures(&self) -> Result<(), Refusal> {
        let store = &self.replicas()?.store;
        figures::note(store, self.now()).map_err(|error| failed(&error))
    }

    fn due(&self) -> Result<Due, Refusal> {
        let store = &self.replicas()?.store;
        Due::at(store, self.now(), &self.settings().upkeep).map_err(|error| failed(&error))
    }

    /// Does what is due, until `shutdown`; then what is under way stops at its next safe point.
    pub async fn keep_store(self: Arc<Self>, shutdown: CancellationToken) {
        let collecting = Arc::clone(&self).repeat(shutdown.clone(), |target| {
            target.note_figures()?;
            match target.due()?.collect {
                true => target.collect(false, &|_, _, _| {}).map(drop),
                false => Ok(()),
            }
        });
        let scrubbing = Arc::clone(&self).repeat(shutdown.clone(), |target| {
            if target.due()?.scrub { target.scrub(None, &|_, _, _| {}).map(drop) } else { Ok(()) }
        });
        let stopping = async {
            shutdown.cancelled().await;
            self.turns().is_stopping.store(true, Ordering::Relaxed);
        };
        tokio::join!(collecting, scrubbing, stopping);
    }

    async fn repeat(
        self: Arc<Self>,
        shutdown: CancellationToken,
        work: impl Fn(&Self) -> Result<(), Refusal> + Send + Sync + 'static,
    ) {
        let work = Arc::new(work);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let (target, work) = (Arc::clone(&self), Arc::clone(&work));
            if let Err(cause) = off_runtime(move || work(&target)).await {
                tracing::warn!(%cause, "upkeep is tried again");
            }
        }
    }
}

fn runs(what: &str) -> Refusal {
    Refusal::new(ErrorCode::WrongState, format!("{what}; see: offsite-target status"))
}

/// Why work on the store did not come to its end.
pub(crate) fn failed(error: &StoreError) -> Refusal {
    match error {
        StoreError::CollectionRuns => runs("space is collected already"),
        StoreError::Interrupted => {
            Refusal::new(ErrorCode::WrongState, "the daemon stops; what was done stays done")
        }
        error => Refusal::new(ErrorCode::RepositoryUnavailable, format!("cannot go on: {error}")),
    }
}
