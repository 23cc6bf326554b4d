//! Reading everything: every group decoded, every record compared with its key, every page with
//! its digest, the journal's chain walked; damage is named together with the points it hurts.
//!
//! Verify changes nothing but the cache: a damaged key run is dropped and made again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use offsite_model::{Key, PointId, TenantId};

use crate::catalog::{CatalogError, Order, Transactions, TypedRows};
use crate::error::StoreError;
use crate::format::PLACE_BYTES;
use crate::group::Form;
use crate::index::IndexKey;
use crate::index::run::{Run, RunError};
use crate::manifest::{Image, PAGE_POSITIONS, length_at};
use crate::quarantine::{Aside, GroupAt};
use crate::rows::{ImageRow, POINTS, PointRow};
use crate::segment::{Segment, has_head};
use crate::store::{Core, SCAN_ROWS, Store, lock, point_in};

/// Something that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What, in words: `segment 0000002a, group at 4096`.
    pub what: String,
    /// The points that cannot be restored whole because of it.
    pub points: Vec<(TenantId, PointId)>,
}

/// What verify read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segments read.
    pub n_segments: u64,
    /// Groups decoded.
    pub n_groups: u64,
    /// Records compared with their keys.
    pub n_records: u64,
    /// Points walked.
    pub n_points: u64,
    /// Bytes of segments read.
    pub bytes: u64,
    /// Everything that is wrong.
    pub damage: Vec<Damage>,
}

/// Told the bytes read so far; an error ends the walk.
pub(crate) type GoOn<'a> = &'a mut dyn FnMut(u64) -> Result<(), StoreError>;
/// What a page consists of, by digests: shared pages are walked once.
type PageId = ([u8; 32], [u8; 32]);

#[derive(Default)]
pub(crate) struct Walk {
    pub(crate) report: VerifyReport,
    good: BTreeSet<GroupAt>,
    /// Whether every group that is not put aside counts as good: they are read by another part of
    /// the walk.
    trusts_groups: bool,
    /// Groups that are damaged, and groups put aside that read well again.
    pub(crate) bad: BTreeMap<TenantId, BTreeSet<GroupAt>>,
    pub(crate) well: BTreeMap<TenantId, BTreeSet<GroupAt>>,
    /// What is wrong, and whom it hurts.
    pub(crate) damage: BTreeMap<String, BTreeSet<(TenantId, PointId)>>,
    /// Records in what is put aside, once somebody asked for one.
    aside: BTreeMap<TenantId, HashMap<IndexKey, GroupAt>>,
    /// Pages already walked, with what is wrong in them.
    pub(crate) pages: BTreeMap<(TenantId, Form, PageId), Vec<String>>,
}

impl Walk {
    /// A walk of lists alone, whose groups another part has read.
    pub(crate) fn of_lists() -> Self {
        Self { trusts_groups: true, ..Self::default() }
    }

    /// The group that is put aside and has a record that is nowhere else.
    fn group_aside(&mut self, core: &Core, tenant: TenantId, key: IndexKey) -> Option<GroupAt> {
        let aside = self.aside.entry(tenant).or_insert_with(|| core.keys_aside(tenant));
        aside.get(&key).copied()
    }
}

impl Store {
    /// Reads the whole store. `progress` is told the bytes of segments read so far and in all, once
    /// a group and once a page, and says whether to go on.
    ///
    /// # Errors
    /// [`StoreError::Interrupted`] when `progress` said so, or what keeps verify from going on: the
    /// catalog's errors. What is damaged is in the report.
    pub fn verify(
        &self,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<VerifyReport, StoreError> {
        let mut walk = Walk::default();
        let segments: Vec<Arc<Segment>> = {
            let all = self.core.segments.read().unwrap_or_else(PoisonError::into_inner);
            let all = all.values().filter(|segment| segment.bytes_committed() > 0);
            all.map(Arc::clone).collect()
        };
        let bytes_in_all = segments.iter().map(|segment| segment.bytes_committed()).sum();
        let mut go_on = |bytes| match progress(bytes, bytes_in_all) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(StoreError::Interrupted),
        };
        for segment in segments {
            let _reading = self.reading();
            // Collected since: nothing refers to it, and its file may be gone.
            if self.core.segment(segment.number).is_some() {
                self.verify_segment(&segment, &mut walk, &mut go_on)?;
            }
        }
        for (tenant, groups) in &walk.well {
            self.core.let_out(*tenant, groups)?;
        }
        self.verify_runs(&mut walk)?;
        self.verify_points(&mut walk, &mut go_on)?;
        self.verify_journal(&mut walk);
        for (tenant, groups) in &walk.bad {
            self.core.put_aside(*tenant, groups);
        }
        let damage = walk.damage.into_iter();
        walk.report.damage = damage
            .map(|(what, points)| Damage { what, points: points.into_iter().collect() })
            .collect();
        Ok(walk.report)
    }

    /// What was put aside earlier is named again only with the points that it still hurts.
    pub(crate) fn verify_segment(
        &self,
        segment: &Segment,
        walk: &mut Walk,
        go_on: GoOn<'_>,
    ) -> Result<(), StoreError> {
        let aside = self.core.aside(segment.tenant);
        let is_known = aside.has_segment(segment.number);
        let mut wrong = Vec::new();
        self.read_segment(segment, walk, &aside, &mut wrong, go_on)?;
        if self.core.segment(segment.number).is_none() {
            // Collected under our eyes: it leaves the list before its file goes.
            let own = walk.bad.entry(segment.tenant).or_default();
            own.retain(|(number, _)| *number != segment.number);
            return Ok(());
        }
        for what in wrong.into_iter().filter(|_| !is_known) {
            walk.damage.entry(what).or_default();
        }
        Ok(())
    }

    fn read_segment(
        &self,
        segment: &Segment,
        walk: &mut Walk,
        aside: &Aside,
        wrong: &mut Vec<String>,
        go_on: GoOn<'_>,
    ) -> Result<(), StoreError> {
        let name = format!("segment {:08x}", segment.number);
        let bytes = segment.bytes_committed();
        let bytes_before = walk.report.bytes;
        walk.report.n_segments += 1;
        walk.report.bytes += bytes;
        let place = &self.core.place;
        let Ok(file) = segment.file(place) else {
            wrong.push(format!("{name}: missing"));
            return Ok(());
        };
        let has_head = has_head(&*file, segment.number, self.core.id, segment.tenant);
        if !has_head.unwrap_or(false) {
            wrong.push(format!("{name}: header"));
        }
        if !segment.has_good_footer(place).unwrap_or(false) {
            wrong.push(format!("{name}: footer"));
        }
        let there = file.bytes().unwrap_or(0).min(bytes);
        if there < bytes {
            wrong.push(format!("{name}: cut at {there}"));
        }
        let contents = match segment.scan(&*file, there) {
            Ok(contents) => contents,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                return Ok(());
            }
        };
        if !contents.is_whole {
            wrong.push(format!("{name}: a group's header or table"));
        }
        for at in contents.groups {
            walk.report.n_groups += 1;
            go_on(bytes_before + u64::from(at) * PLACE_BYTES)?;
            match segment.read_group(place, at) {
                Ok(group) => {
                    walk.report.n_records += group.table().len() as u64;
                    walk.good.insert((segment.number, at));
                    if aside.has((segment.number, at)) {
                        walk.well.entry(segment.tenant).or_default().insert((segment.number, at));
                    }
                }
                Err(_) => {
                    let group = (segment.number, at);
                    wrong.push(group_name(group));
                    walk.bad.entry(segment.tenant).or_default().insert(group);
                }
            }
        }
        go_on(walk.report.bytes)
    }

    /// Reads every page of every run; one that is damaged is made again by the next look-up.
    fn verify_runs(&self, walk: &mut Walk) -> Result<(), StoreError> {
        let runs: Vec<_> = {
            let index = self.core.index.read().unwrap_or_else(PoisonError::into_inner);
            let runs = index.iter().flat_map(|(tenant, index)| {
                index.runs.iter().map(|run| (*tenant, Arc::clone(run)))
            });
            runs.collect()
        };
        for (tenant, run) in runs {
            self.verify_run(tenant, &run, walk)?;
        }
        Ok(())
    }

    pub(crate) fn verify_run(
        &self,
        tenant: TenantId,
        run: &Run,
        walk: &mut Walk,
    ) -> Result<(), StoreError> {
        if run.entries().any(|entry| matches!(entry, Err(RunError::Damaged))) {
            let what = format!("key run {:08x}: damaged, made again", run.number);
            walk.damage.entry(what).or_default();
            self.core.drop_run(tenant, run.number)?;
        }
        Ok(())
    }

    fn verify_points(&self, walk: &mut Walk, go_on: GoOn<'_>) -> Result<(), StoreError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = self.core.catalog.read::<_, CatalogError>(|rows| {
                let order = Order::Ascending;
                rows.scan_values::<PointRow>(POINTS, b"", after.as_deref(), order, SCAN_ROWS)
            })?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, row) in rows {
                let point = point_in(&key)?;
                let tenant = key.first_chunk().map(|id| TenantId::from_bytes(*id));
                let Some(tenant) = tenant else { continue };
                self.verify_point((tenant, point), row, walk, go_on)?;
            }
        }
    }

    pub(crate) fn verify_point(
        &self,
        of: (TenantId, PointId),
        row: PointRow,
        walk: &mut Walk,
        go_on: GoOn<'_>,
    ) -> Result<(), StoreError> {
        walk.report.n_points += 1;
        for image in row.images {
            let _reading = self.reading();
            // Purged since: nobody is hurt.
            let Some(_held) = self.core.hold_image(of.0, of.1, &image)? else { break };
            for what in self.verify_image(of, image, walk, go_on)? {
                walk.damage.entry(what).or_default().insert(of);
            }
        }
        Ok(())
    }

    /// What is wrong with an image, in words.
    fn verify_image(
        &self,
        (tenant, point): (TenantId, PointId),
        row: ImageRow,
        walk: &mut Walk,
        go_on: GoOn<'_>,
    ) -> Result<Vec<String>, StoreError> {
        let image = match Image::open(&self.core.place, row) {
            Ok(image) => image,
            Err(error) => return Ok(vec![error.to_string()]),
        };
        let mut wrong = Vec::new();
        if !image
            .has_good_tail([self.core.id, tenant.to_bytes(), point.to_bytes()])
            .unwrap_or(false)
        {
            // It repeats what the catalog says, so it hurts nobody.
            let what = format!("manifest of image {}: its end", image.image());
            walk.damage.entry(what).or_default();
        }
        for page in 0..image.n_pages() {
            go_on(walk.report.bytes)?;
            let [full, patch] = image.refs(page);
            let id = (tenant, image.form(), (full.digest, patch.digest));
            if let Some(known) = walk.pages.get(&id) {
                wrong.extend(known.iter().cloned());
                continue;
            }
            let found = self.verify_page(tenant, &image, page, walk);
            wrong.extend(found.iter().cloned());
            walk.pages.insert(id, found);
        }
        Ok(wrong)
    }

    fn verify_page(
        &self,
        tenant: TenantId,
        image: &Image,
        page: u32,
        walk: &mut Walk,
    ) -> Vec<String> {
        let keys = match image.load(page) {
            Ok((keys, _)) => keys,
            Err(error) => return vec![error.to_string()],
        };
        let form = image.form();
        let places = match self.find_needed(tenant, form, &keys) {
            Ok(places) => places,
            Err(error) => return vec![error.to_string()],
        };
        let mut wrong = BTreeSet::new();
        let found = (0_u64..).zip(keys.iter().zip(places));
        for (within, (key, place)) in found.filter(|(_, (key, _))| **key != Key::ZERO) {
            let position = u64::from(page) * PAGE_POSITIONS + within;
            let length = length_at(position, image.bytes(), image.record_bytes());
            match place {
                None => {
                    let what = match walk.group_aside(&self.core, tenant, (*key, form)) {
                        Some(at) => group_name(at),
                        None => format!("record {key}: missing"),
                    };
                    wrong.insert(what);
                }
                Some(place) => {
                    let at = (place.segment, place.place);
                    if !self.is_good(tenant, at, walk) {
                        wrong.insert(group_name(at));
                    } else if place.raw_bytes != length {
                        wrong.insert(format!("record {key}: length"));
                    }
                }
            }
        }
        wrong.into_iter().collect()
    }

    /// Whether a group can be read; one that was stored since the segments were read is read now.
    fn is_good(&self, tenant: TenantId, at: GroupAt, walk: &mut Walk) -> bool {
        if walk.trusts_groups || walk.good.contains(&at) {
            return true;
        }
        let is_bad = walk.bad.get(&tenant).is_some_and(|bad| bad.contains(&at));
        let reads = || {
            let segment = self.core.segment_of(tenant, at.0);
            segment.is_ok_and(|segment| segment.read_group(&self.core.place, at.1).is_ok())
        };
        if !is_bad && reads() {
            walk.good.insert(at);
            return true;
        }
        walk.bad.entry(tenant).or_default().insert(at);
        false
    }

    pub(crate) fn verify_journal(&self, walk: &mut Walk) {
        let journal = lock(&self.core.journal);
        match journal.walk(self.core.id) {
            Ok(link) if link == journal.last => {}
            Ok(link) => {
                walk.damage.entry(format!("journal: after entry {}", link.entry)).or_default();
            }
            Err(error) => drop(walk.damage.entry(format!("journal: {error}")).or_default()),
        }
    }
}

fn group_name((segment, place): GroupAt) -> String {
    format!("segment {segment:08x}, group at {}", u64::from(place) * PLACE_BYTES)
}
