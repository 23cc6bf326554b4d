//! Scrub: the whole store is read again and again, slowly, so that damage is found while there is
//! still a good copy somewhere (D-08).
//!
//! A *pass* reads every committed segment, every key run, every page and root of every point, and
//! the journal. Where it stands survives a restart: one that was stopped goes on with the segment,
//! or the points, that it was at. What is damaged is put aside at once (`aside`), so that nobody is
//! told "have" of it and the next contact heals it; nothing is deleted.
//!
//! **Absent:** when to begin a pass and how fast to go: the caller waits in the progress function,
//! where no lock is held.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use offsite_model::{PointId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::catalog::{CatalogError, Order, Table, Transactions, TypedRows, TypedRowsMut, Value};
use crate::error::StoreError;
use crate::rows::{POINTS, PointRow};
use crate::segment::Segment;
use crate::store::{Store, point_in};
use crate::verify::{Damage, Walk};

const SCRUB: Table = Table::new("store.scrub");
const SCRUB_KEY: &[u8] = b"state";

/// Damaged parts that are remembered of a pass, and points that are remembered with each.
const PARTS_MAX: usize = 200;
const POINTS_PER_PART_MAX: usize = 8;
/// Points after which the place is written down.
const POINTS_PER_WRITING: usize = 16;
/// Pages that are remembered as walked: a few hundred bytes each.
const PAGES_MAX: usize = 1 << 16;

/// A pass as the catalog remembers it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct PassRow {
    began: i64,
    ended: Option<i64>,
    bytes: u64,
    n_segments: u64,
    n_groups: u64,
    n_points: u64,
    n_damaged: u64,
    parts: Vec<PartRow>,
}

/// What is damaged, and the points it hurts.
type PartRow = (String, Vec<OfPoint>);
/// Tenant and id.
type OfPoint = ([u8; 16], [u8; 16]);

/// Where a pass stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ScrubRow {
    running: Option<PassRow>,
    stage: u8,
    /// The last segment, or the key of the last point, that was read in this stage.
    after: Vec<u8>,
    last: Option<PassRow>,
}

impl Value for ScrubRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 1 << 18;
}

const SEGMENTS: u8 = 0;
const RUNS: u8 = 1;
const OF_POINTS: u8 = 2;
const OF_JOURNAL: u8 = 3;

/// One reading of the whole store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubPass {
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended; none while it goes on.
    pub ended_at: Option<Timestamp>,
    /// Bytes of segments read.
    pub bytes: u64,
    /// Segments read.
    pub n_segments: u64,
    /// Groups decoded, every record in them compared with its key.
    pub n_groups: u64,
    /// Points walked.
    pub n_points: u64,
    /// Parts that were found damaged.
    pub n_damaged: u64,
    /// The first of them, with the first of the points that each hurts.
    pub damage: Vec<Damage>,
}

impl ScrubPass {
    fn of(row: &PassRow) -> Self {
        let damage = row.parts.iter().map(|(what, points)| Damage {
            what: what.clone(),
            points: points
                .iter()
                .map(|(tenant, point)| (TenantId::from_bytes(*tenant), PointId::from_bytes(*point)))
                .collect(),
        });
        Self {
            began_at: Timestamp::from_micros(row.began),
            ended_at: row.ended.map(Timestamp::from_micros),
            bytes: row.bytes,
            n_segments: row.n_segments,
            n_groups: row.n_groups,
            n_points: row.n_points,
            n_damaged: row.n_damaged,
            damage: damage.collect(),
        }
    }
}

/// How scrubbing stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubState {
    /// The pass that goes on, or waits to be gone on with.
    pub running: Option<ScrubPass>,
    /// The last one that came to its end.
    pub last: Option<ScrubPass>,
}

/// How far a pass is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubProgress {
    /// Bytes of segments read in this pass.
    pub bytes: u64,
    /// Bytes of all segments.
    pub bytes_total: u64,
}

impl Store {
    /// How scrubbing stands.
    ///
    /// # Errors
    /// The catalog's.
    pub fn scrub_state(&self) -> Result<ScrubState, StoreError> {
        let row = self.scrub_row()?;
        let shown = |pass: &Option<PassRow>| pass.as_ref().map(ScrubPass::of);
        Ok(ScrubState { running: shown(&row.running), last: shown(&row.last) })
    }

    /// Goes on with the pass that was begun, or begins one, and reads to its end. `now` is asked
    /// for the time, `progress` is told how far it is, once a group and once a page, and says
    /// whether to go on. One scrub at a time.
    ///
    /// # Errors
    /// [`StoreError::Interrupted`] when `progress` said so: the place is written down. The
    /// catalog's errors. What is damaged is in the outcome.
    pub fn scrub(
        &self,
        now: &dyn Fn() -> Timestamp,
        progress: &mut dyn FnMut(&ScrubProgress) -> ControlFlow<()>,
    ) -> Result<ScrubPass, StoreError> {
        self.core.check_writable()?;
        let mut row = self.scrub_row()?;
        if row.running.is_none() {
            let began = now().as_micros();
            let last = row.last.take();
            let running = Some(PassRow { began, ..PassRow::default() });
            row = ScrubRow { running, last, ..ScrubRow::default() };
            self.keep_scrub(&row)?;
        }
        let mut pass = Pass { store: self, row, progress };
        pass.segments()?;
        pass.runs()?;
        pass.points()?;
        pass.journal()?;
        let mut row = pass.row;
        let mut done = row.running.take().unwrap_or_default();
        done.ended = Some(now().as_micros());
        let shown = ScrubPass::of(&done);
        self.keep_scrub(&ScrubRow { last: Some(done), ..ScrubRow::default() })?;
        Ok(shown)
    }

    fn scrub_row(&self) -> Result<ScrubRow, StoreError> {
        let row = self
            .core
            .catalog
            .read::<_, StoreError>(|rows| Ok(rows.value::<ScrubRow>(SCRUB, SCRUB_KEY)?))?;
        Ok(row.unwrap_or_default())
    }

    fn keep_scrub(&self, row: &ScrubRow) -> Result<(), StoreError> {
        self.core.check_fence()?;
        self.core.reserve.make_room(&self.core.place);
        self.core.catalog.write::<_, StoreError>(|rows| Ok(rows.put_value(SCRUB, SCRUB_KEY, row)?))
    }
}

/// A pass under way.
struct Pass<'a> {
    store: &'a Store,
    row: ScrubRow,
    progress: &'a mut dyn FnMut(&ScrubProgress) -> ControlFlow<()>,
}

impl Pass<'_> {
    fn segments(&mut self) -> Result<(), StoreError> {
        if self.row.stage > SEGMENTS {
            return Ok(());
        }
        let after = self.row.after.first_chunk().map(|number| u32::from_be_bytes(*number));
        let all: Vec<Arc<Segment>> = {
            let all = self.store.core.segments.read().unwrap_or_else(PoisonError::into_inner);
            all.values().filter(|segment| segment.bytes_committed() > 0).map(Arc::clone).collect()
        };
        let bytes_total: u64 = all.iter().map(|segment| segment.bytes_committed()).sum();
        for segment in all.iter().filter(|segment| after.is_none_or(|last| segment.number > last)) {
            let mut walk = Walk::default();
            let before = self.bytes();
            let progress = &mut *self.progress;
            let mut go_on = |bytes: u64| {
                let bytes = before.saturating_add(bytes);
                match progress(&ScrubProgress { bytes, bytes_total }) {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(()) => Err(StoreError::Interrupted),
                }
            };
            {
                let _reading = self.store.reading();
                // Collected since: nothing refers to it, and its file may be gone.
                if self.store.core.segment(segment.number).is_none() {
                    continue;
                }
                self.store.verify_segment(segment, &mut walk, &mut go_on)?;
            }
            segment.let_go();
            self.settle(&mut walk)?;
            self.row.after = segment.number.to_be_bytes().to_vec();
            self.store.keep_scrub(&self.row)?;
        }
        self.turn(RUNS)
    }

    fn runs(&mut self) -> Result<(), StoreError> {
        if self.row.stage > RUNS {
            return Ok(());
        }
        let runs: Vec<_> = {
            let index = self.store.core.index.read().unwrap_or_else(PoisonError::into_inner);
            let of = index.iter().flat_map(|(tenant, index)| {
                index.runs.iter().map(|run| (*tenant, Arc::clone(run)))
            });
            of.collect()
        };
        let mut walk = Walk::default();
        for (tenant, run) in runs {
            self.store.verify_run(tenant, &run, &mut walk)?;
            self.go_on()?;
        }
        self.settle(&mut walk)?;
        self.turn(OF_POINTS)
    }

    fn points(&mut self) -> Result<(), StoreError> {
        if self.row.stage > OF_POINTS {
            return Ok(());
        }
        // Groups were read before; what was found damaged then is put aside by now.
        let mut walk = Walk::of_lists();
        loop {
            let after = Some(self.row.after.clone()).filter(|key| !key.is_empty());
            let rows = self.store.core.catalog.read::<_, CatalogError>(|rows| {
                let (order, n_max) = (Order::Ascending, POINTS_PER_WRITING);
                rows.scan_values::<PointRow>(POINTS, b"", after.as_deref(), order, n_max)
            })?;
            if rows.is_empty() {
                self.settle(&mut walk)?;
                return self.turn(OF_JOURNAL);
            }
            for (key, row) in rows {
                let point = point_in(&key)?;
                let tenant = key.first_chunk().map(|id| TenantId::from_bytes(*id));
                let shown = self.shown();
                let progress = &mut *self.progress;
                let mut go_on = |_| match progress(&shown) {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(()) => Err(StoreError::Interrupted),
                };
                if let Some(tenant) = tenant {
                    let of = (tenant, point);
                    let walked = self.store.verify_point(of, row, &mut walk, &mut go_on);
                    if let Err(StoreError::Interrupted) = walked {
                        // This one is walked again; those before it are done.
                        walk.report.n_points = walk.report.n_points.saturating_sub(1);
                        self.settle(&mut walk)?;
                        self.store.keep_scrub(&self.row)?;
                    }
                    walked?;
                }
                if walk.pages.len() > PAGES_MAX {
                    walk.pages.clear();
                }
                self.row.after = key;
            }
            self.settle(&mut walk)?;
            self.store.keep_scrub(&self.row)?;
        }
    }

    fn journal(&mut self) -> Result<(), StoreError> {
        let mut walk = Walk::default();
        self.store.verify_journal(&mut walk);
        self.settle(&mut walk)
    }

    fn bytes(&self) -> u64 {
        self.row.running.as_ref().map_or(0, |pass| pass.bytes)
    }

    fn shown(&self) -> ScrubProgress {
        ScrubProgress { bytes: self.bytes(), bytes_total: self.bytes() }
    }

    fn go_on(&mut self) -> Result<(), StoreError> {
        let shown = self.shown();
        match (self.progress)(&shown) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(StoreError::Interrupted),
        }
    }

    fn turn(&mut self, stage: u8) -> Result<(), StoreError> {
        self.row.stage = stage;
        self.row.after.clear();
        self.store.keep_scrub(&self.row)
    }

    /// Puts aside what is damaged, lets out what reads well again, and counts both.
    fn settle(&mut self, walk: &mut Walk) -> Result<(), StoreError> {
        let core = &self.store.core;
        for (tenant, groups) in std::mem::take(&mut walk.well) {
            core.let_out(tenant, &groups)?;
        }
        for (tenant, groups) in std::mem::take(&mut walk.bad) {
            core.put_aside(tenant, &groups);
        }
        let report = std::mem::take(&mut walk.report);
        let damage = std::mem::take(&mut walk.damage);
        let Some(pass) = &mut self.row.running else { return Ok(()) };
        pass.bytes = pass.bytes.saturating_add(report.bytes);
        pass.n_segments = pass.n_segments.saturating_add(report.n_segments);
        pass.n_groups = pass.n_groups.saturating_add(report.n_groups);
        pass.n_points = pass.n_points.saturating_add(report.n_points);
        for (what, points) in damage {
            let points =
                points.into_iter().map(|(tenant, point)| (tenant.to_bytes(), point.to_bytes()));
            match pass.parts.iter_mut().find(|(known, _)| *known == what) {
                Some((_, hurt)) => {
                    for point in points {
                        if hurt.len() < POINTS_PER_PART_MAX && !hurt.contains(&point) {
                            hurt.push(point);
                        }
                    }
                }
                None => {
                    pass.n_damaged = pass.n_damaged.saturating_add(1);
                    if pass.parts.len() < PARTS_MAX {
                        pass.parts.push((what, points.take(POINTS_PER_PART_MAX).collect()));
                    }
                }
            }
        }
        Ok(())
    }
}
