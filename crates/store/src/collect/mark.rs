//! What is alive: the keys in every page that a root refers to, and the keys that drafts name.
//!
//! Roots are the images of all points, marked as deleted or not, and all images that are open.
//! Every distinct pair of a full page and its patch is read once, however many images share it, in
//! the order in which they lie; a key of a full page counts only where some image really shows it.
//!
//! Any doubt ends the collection: an error of the disk, a root or a page without its digest, a
//! draft whose log is torn. Nothing has been taken at that time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use offsite_model::{Key, PointId, SessionId, TenantId};

use super::run::{Run, Stage, doubt};
use crate::catalog::{CatalogError, Order, Rows, Transactions, TypedRows};
use crate::draft::Log;
use crate::error::StoreError;
use crate::format::PageRef;
use crate::manifest::page::Page;
use crate::manifest::{Image, ManifestFiles, is_none};
use crate::recover::rows_in;
use crate::rows::{ImageRow, MANIFESTS, ManifestRow, POINTS, PointRow, SEGMENTS, SegmentRow};
use crate::store::{Core, SCAN_ROWS, lock, point_in};

/// Points that doubt names.
const POINTS_NAMED_MAX: usize = 8;

/// A draft as it was when the collection began.
pub(super) struct DraftAt {
    session: SessionId,
    tenant: TenantId,
    log: u32,
    /// How far its log is written, or believed where nobody holds it.
    written: u64,
}

/// What a collection starts from: one state of the catalog and of all holds.
pub(super) struct Start {
    pub(super) roots: Vec<RootAt>,
    pub(super) drafts: Vec<DraftAt>,
    pub(super) segments: Vec<(u32, SegmentRow)>,
    pub(super) manifests: Vec<(u32, ManifestRow)>,
}

/// An image that holds what it shows: a point's, or one that is open.
pub(super) struct RootAt {
    tenant: TenantId,
    row: ImageRow,
    /// The point, for words alone; none for one that is open and was purged.
    point: Option<PointId>,
}

/// Where a page lies: manifest and offset.
type PageAt = (u32, u64);

/// Images that show one full page: with which patch, and how many of its positions.
type Shown = BTreeMap<(PageAt, usize), PageRef>;

/// The pages of one tenant: by the place of the full page (none for a patch over zeros) and its
/// index.
#[derive(Default)]
struct Pages(BTreeMap<(PageAt, u32), (PageRef, Shown)>);

impl Core {
    /// Notes what there is, at one moment at which no look-up is under way: a point that is not in
    /// it was either purged before, or is committed later by somebody who adds its keys.
    ///
    /// Of one tenant, where only that is collected: segments, manifests and pages belong to one
    /// tenant each, and no tenant refers to what is another's.
    pub(super) fn start(&self, only: Option<TenantId>) -> Result<Start, StoreError> {
        let is_meant = |tenant: TenantId| only.is_none_or(|only| only == tenant);
        let alone = self.holds.alone();
        let mut start = self.catalog.read::<_, StoreError>(|rows| {
            let drafts = lock(&self.drafts);
            let drafts = drafts.iter().filter(|(_, kept)| is_meant(kept.tenant));
            let drafts = drafts.map(|(session, kept)| DraftAt {
                session: *session,
                tenant: kept.tenant,
                log: kept.log,
                written: kept.written.load(Ordering::Acquire),
            });
            let (open, drafts) = (self.holds.images(), drafts.collect());
            // The transaction shows the state of this moment for as long as it lasts.
            drop(alone);
            let mut segments = rows_in::<SegmentRow>(rows, SEGMENTS)?;
            segments.retain(|(_, row)| is_meant(TenantId::from_bytes(row.tenant)));
            let mut manifests = rows_in::<ManifestRow>(rows, MANIFESTS)?;
            manifests.retain(|(_, row)| is_meant(TenantId::from_bytes(row.tenant)));
            let open = open.into_iter().map(|(tenant, row)| RootAt { tenant, row, point: None });
            let mut roots: Vec<RootAt> = images_in(rows)?;
            roots.extend(open);
            roots.retain(|root| is_meant(root.tenant));
            Ok(Start { roots, drafts, segments, manifests })
        })?;
        // Stable, so that of an image that is open and a point's the latter stays.
        start.roots.sort_by_key(|root| (root.tenant, root.row.manifest, root.row.root_offset));
        start.roots.dedup_by(|b, a| a.tenant == b.tenant && a.row == b.row);
        Ok(start)
    }
}

/// The images of all points.
fn images_in(rows: &dyn Rows) -> Result<Vec<RootAt>, StoreError> {
    let mut images = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let (order, last) = (Order::Ascending, after.as_deref());
        let points = rows.scan_values::<PointRow>(POINTS, b"", last, order, SCAN_ROWS)?;
        let Some((last, _)) = points.last() else { return Ok(images) };
        after = Some(last.clone());
        for (key, row) in points {
            let tenant = key.first_chunk().map(|id| TenantId::from_bytes(*id));
            let damaged = || CatalogError::Damaged("the key of a point".to_owned());
            let tenant = tenant.ok_or_else(damaged)?;
            let point = Some(point_in(&key)?);
            images.extend(row.images.into_iter().map(|row| RootAt { tenant, row, point }));
        }
    }
}

impl Run<'_> {
    /// Marks everything; the manifests that something refers to.
    pub(super) fn mark(&mut self, start: &Start) -> Result<BTreeSet<u32>, StoreError> {
        let mut alive = BTreeSet::new();
        let tenants: BTreeSet<TenantId> = start.roots.iter().map(|root| root.tenant).collect();
        for tenant in tenants {
            let mut pages = Pages::default();
            for root in start.roots.iter().filter(|root| root.tenant == tenant) {
                alive.insert(root.row.manifest);
                let image = Image::open(&self.core.place, root.row.clone());
                let image = image.map_err(|error| blamed(error, root.point.into_iter()))?;
                pages.add(&image, &mut alive);
                self.report.n_images += 1;
                self.go_on(Stage::Mark)?;
            }
            self.mark_pages(start, tenant, pages)?;
        }
        for draft in &start.drafts {
            self.mark_draft(draft)?;
        }
        Ok(alive)
    }

    fn mark_pages(
        &mut self,
        start: &Start,
        tenant: TenantId,
        pages: Pages,
    ) -> Result<(), StoreError> {
        let core = self.core;
        let mut files = ManifestFiles::new(&core.place);
        for ((_, index), (full, shown)) in pages.0 {
            let hurt = |page: PageRef, error| {
                blamed(error, start.who_shows(core, tenant, at_of(&page)).into_iter())
            };
            let base = match is_none(&full) {
                true => Vec::new(),
                false => match files.read(index, &full).map_err(|error| hurt(full, error))? {
                    Page::Full(keys) => keys,
                    Page::Patch(_) => return Err(hurt(full, wrong_kind())),
                },
            };
            self.bytes_read += u64::from(full.bytes.get());
            // How many of the images do not show what the full page says of a position.
            let mut n_other = vec![0_usize; base.len()];
            let n_images = shown.len();
            for ((_, n_keys), patch) in shown {
                n_other.iter_mut().skip(n_keys).for_each(|n| *n += 1);
                if is_none(&patch) {
                    continue;
                }
                self.bytes_read += u64::from(patch.bytes.get());
                let read = files.read(index, &patch).map_err(|error| hurt(patch, error))?;
                let Page::Patch(changes) = read else { return Err(hurt(patch, wrong_kind())) };
                for (at, _) in &changes {
                    let at = usize::from(*at);
                    if let Some(n) = n_other.get_mut(at).filter(|_| at < n_keys) {
                        *n += 1;
                    }
                }
                self.live.add(tenant, changes.into_iter().map(|(_, key)| key));
                self.report.n_pages += 1;
            }
            let seen = base.into_iter().zip(n_other).filter(|(_, n)| *n < n_images);
            self.live.add(tenant, seen.map(|(key, _)| key));
            self.report.n_pages += 1;
            self.go_on(Stage::Mark)?;
        }
        Ok(())
    }

    fn mark_draft(&mut self, draft: &DraftAt) -> Result<(), StoreError> {
        let (core, live) = (self.core, &self.live);
        let of = (core.id, draft.tenant);
        let mut tell = |keys: &[Key]| live.add(draft.tenant, keys.iter().copied());
        let marked = Log::keys(&core.place, (draft.log, draft.written), of, &mut tell);
        // One that was ended meanwhile holds nothing.
        let is_there =
            || lock(&core.drafts).get(&draft.session).is_some_and(|k| k.log == draft.log);
        match marked {
            Err(error) if is_there() => match doubt(error) {
                StoreError::Doubt(what) => {
                    Err(StoreError::Doubt(format!("{what}, of session {}", draft.session)))
                }
                other => Err(other),
            },
            _ => self.go_on(Stage::Mark),
        }
    }
}

fn wrong_kind() -> StoreError {
    StoreError::Damaged("a page of another kind than its reference says".to_owned())
}

/// Doubt that names the points without which there would be none.
fn blamed(error: StoreError, points: impl Iterator<Item = PointId>) -> StoreError {
    let points: Vec<String> = points.map(|point| point.to_string()).collect();
    match doubt(error) {
        StoreError::Doubt(what) if !points.is_empty() => {
            StoreError::Doubt(format!("{what}, of recovery point {}", points.join(" and ")))
        }
        other => other,
    }
}

fn at_of(page: &PageRef) -> PageAt {
    (page.manifest.get(), page.offset.get())
}

impl Start {
    /// The points, not all where there are many, that show a page.
    fn who_shows(&self, core: &Core, tenant: TenantId, at: PageAt) -> Vec<PointId> {
        let shows = |root: &&RootAt| {
            let image = Image::open(&core.place, root.row.clone());
            image.is_ok_and(|image| {
                (0..image.n_pages()).any(|index| image.refs(index).iter().any(|p| at_of(p) == at))
            })
        };
        let own = self.roots.iter().filter(|root| root.tenant == tenant && root.point.is_some());
        own.filter(shows).filter_map(|root| root.point).take(POINTS_NAMED_MAX).collect()
    }
}

impl Pages {
    fn add(&mut self, image: &Image, alive: &mut BTreeSet<u32>) {
        for index in 0..image.n_pages() {
            let [full, patch] = image.refs(index);
            let used = [&full, &patch].into_iter().filter(|page| !is_none(page));
            alive.extend(used.map(|page| page.manifest.get()));
            if is_none(&full) && is_none(&patch) {
                continue;
            }
            let (_, shown) = self.0.entry((at_of(&full), index)).or_insert((full, Shown::new()));
            shown.insert((at_of(&patch), image.n_keys(index)), patch);
        }
    }
}
