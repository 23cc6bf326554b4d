//! The source's upkeep: deleted points go for good, space is taken back, damage is looked for; by
//! order and by timetable.
//!
//! **Absent:** how (`offsite_upkeep`), which points are deleted (people).

use std::sync::Arc;

use offsite_daemon::process::giving_way;
use offsite_model::{Clock, PointId, Span};
use offsite_proto::admin::upkeep::{Collected, Scrubbed, Upkeep};
use offsite_proto::error::ErrorCode;
use offsite_store::StoreError;
use offsite_upkeep::{Due, Settings, Surroundings, Turn, figures};

use crate::error::Trouble;
use crate::memory::Memory;
use crate::origin;
use crate::points;
use crate::progress::Progress;
use crate::protect::Protection;

/// What keeps a source's store in order.
pub struct Keeper {
    protection: Arc<Protection>,
    memory: Memory,
    settings: Settings,
    collecting: Turn,
    scrubbing: Turn,
}

struct Around<'a> {
    clock: &'a dyn Clock,
    progress: &'a Progress,
}

impl Surroundings for Around<'_> {
    fn clock(&self) -> &dyn Clock {
        self.clock
    }

    fn pause(&self, span: Span) {
        offsite_upkeep::pause(span, &|| self.is_stopped());
    }

    fn is_stopped(&self) -> bool {
        self.progress.check().is_err()
    }

    fn is_busy(&self) -> bool {
        // Nobody tells; a thread that gives way is all that protects what goes on beside it.
        false
    }

    fn show(&self, phase: &'static str, done: u64, total: u64) {
        self.progress.stage(phase, None);
        self.progress.set_total(total);
        self.progress.set_done(done);
    }
}

impl Keeper {
    /// Over what the daemon works with.
    #[must_use]
    pub fn new(protection: Arc<Protection>, memory: Memory, settings: Settings) -> Self {
        let (collecting, scrubbing) = (Turn::default(), Turn::default());
        Self { protection, memory, settings: settings.bounded(), collecting, scrubbing }
    }

    /// Removes what was deleted for good, and takes its space back; with `all`, also out of
    /// segments of which little is garbage. Blocks.
    ///
    /// # Errors
    /// `wrong_state` while space is collected already, or when it was told to stop; the disk's.
    pub fn collect(&self, all: bool, progress: &Progress) -> Result<Collected, Trouble> {
        let Some(_turn) = self.collecting.take() else { return Err(runs("space is collected")) };
        let Protection { store, tenant, clock, .. } = &*self.protection;
        progress.stage("removing deleted points", None);
        let deleted = points::deleted(store, *tenant)?;
        points::purge(store, *tenant, &deleted, clock.now())?;
        origin::forget(&self.memory, &deleted)?;
        // Nobody asks again about what this source committed itself.
        store.forget_tokens(*tenant)?;
        let mut settings = self.settings.collect;
        if all {
            settings.dead_percent = 1;
        }
        let around = Around { clock: &**clock, progress };
        let now = clock.now();
        let collect = || offsite_upkeep::collect(store, &[*tenant], &settings, now, &around);
        let done = giving_way(collect);
        progress.check()?;
        let mut done = done.map_err(|error| match error {
            StoreError::CollectionRuns => runs("space is collected"),
            other => other.into(),
        })?;
        done.points_purged = deleted.len() as u64;
        Ok(done)
    }

    /// Reads the whole store, from where the last reading stopped; `share_percent` of the time, or
    /// as the settings say. Blocks.
    ///
    /// # Errors
    /// `wrong_state` while it is read already, or when it was told to stop; the disk's.
    pub fn scrub(
        &self,
        share_percent: Option<u8>,
        progress: &Progress,
    ) -> Result<Scrubbed, Trouble> {
        let Some(_turn) = self.scrubbing.take() else { return Err(runs("the store is scrubbed")) };
        let Protection { store, clock, .. } = &*self.protection;
        let share = share_percent.unwrap_or(self.settings.scrub.share_percent);
        let done = offsite_upkeep::scrub(store, share, &Around { clock: &**clock, progress });
        progress.check()?;
        Ok(done?)
    }

    /// How it stands. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn state(&self) -> Result<Upkeep, Trouble> {
        Ok(offsite_upkeep::state(&self.protection.store)?)
    }

    /// Remembers how full the store is today. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn note_figures(&self) -> Result<(), Trouble> {
        let Protection { store, clock, .. } = &*self.protection;
        Ok(figures::note(store, clock.now())?)
    }

    /// What is due now. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn due(&self) -> Result<Due, Trouble> {
        let Protection { store, clock, .. } = &*self.protection;
        Ok(Due::at(store, clock.now(), &self.settings)?)
    }
}

fn runs(what: &str) -> Trouble {
    Trouble::operator(
        ErrorCode::WrongState,
        format!("{what} already"),
        "see how far it is with: offsite-source jobs list",
    )
}

/// Where a target that is to have a point has not got it.
pub(crate) fn not_replicated(point: PointId, lacking: &[String]) -> Trouble {
    Trouble::operator(
        ErrorCode::WrongState,
        format!("recovery point {point} is not yet at {}", lacking.join(", ")),
        "replicate it first, or delete it all the same with: --yes",
    )
}
