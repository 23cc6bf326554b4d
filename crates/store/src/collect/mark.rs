//! What is alive: the keys in every page that a root refers to, and the keys that drafts name.
//!
//! Roots are the images of all points, marked as deleted or not, and all images that are open.
//! Every distinct pair of a full page and its patch is read once, however many images share it, in
//! the order in which they lie; a key of a full page counts only where some image really shows it.
//!
//! Any doubt ends the collection: an error of the disk, a root or a page without its digest, a
//! draft whose log is torn. Nothing has been taken at that time.

use std::collections::{BTreeMap, BTreeSet};

use offsite_model::{Key, SessionId, TenantId};

use super::run::{Run, Stage, doubt};
use crate::catalog::{CatalogError, Order, Rows, Transactions, TypedRows};
use crate::draft::Log;
use crate::error::StoreError;
use crate::format::PageRef;
use crate::manifest::page::Page;
use crate::manifest::{Image, ManifestFiles, is_none};
use crate::recover::rows_in;
use crate::rows::{ImageRow, MANIFESTS, ManifestRow, POINTS, PointRow, SEGMENTS, SegmentRow};
use crate::store::{Core, SCAN_ROWS, lock};

/// A draft as it was when the collection began.
pub(super) struct DraftAt {
    session: SessionId,
    tenant: TenantId,
    log: u32,
    /// How far its log is written, where somebody holds it.
    written: Option<u64>,
}

/// What a collection starts from: one state of the catalog and of all holds.
pub(super) struct Start {
    pub(super) roots: Vec<(TenantId, ImageRow)>,
    pub(super) drafts: Vec<DraftAt>,
    pub(super) segments: Vec<(u32, SegmentRow)>,
    pub(super) manifests: Vec<(u32, ManifestRow)>,
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
    pub(super) fn start(&self) -> Result<Start, StoreError> {
        let alone = self.holds.alone();
        let mut start = self.catalog.read::<_, StoreError>(|rows| {
            let drafts = lock(&self.drafts);
            let drafts = drafts.iter().map(|(session, kept)| DraftAt {
                session: *session,
                tenant: kept.tenant,
                log: kept.log,
                written: kept
                    .written
                    .as_ref()
                    .map(|end| end.load(std::sync::atomic::Ordering::Acquire)),
            });
            let (roots, drafts) = (self.holds.images(), drafts.collect());
            // The transaction shows the state of this moment for as long as it lasts.
            drop(alone);
            let segments = rows_in::<SegmentRow>(rows, SEGMENTS)?;
            let manifests = rows_in::<ManifestRow>(rows, MANIFESTS)?;
            let mut start = Start { roots, drafts, segments, manifests };
            start.roots.extend(images_in(rows)?);
            Ok(start)
        })?;
        start.roots.sort_by_key(|(tenant, row)| (*tenant, row.manifest, row.root_offset));
        start.roots.dedup();
        Ok(start)
    }
}

/// The images of all points.
fn images_in(rows: &dyn Rows) -> Result<Vec<(TenantId, ImageRow)>, StoreError> {
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
            images.extend(row.images.into_iter().map(|image| (tenant, image)));
        }
    }
}

impl Run<'_> {
    /// Marks everything; the manifests that something refers to.
    pub(super) fn mark(&mut self, start: &Start) -> Result<BTreeSet<u32>, StoreError> {
        let mut alive = BTreeSet::new();
        let tenants: BTreeSet<TenantId> = start.roots.iter().map(|(tenant, _)| *tenant).collect();
        for tenant in tenants {
            let own = start.roots.iter().filter(|(of, _)| *of == tenant);
            let mut pages = Pages::default();
            for (_, row) in own {
                alive.insert(row.manifest);
                let image = Image::open(&self.core.place, row.clone()).map_err(doubt)?;
                pages.add(&image, &mut alive);
                self.report.n_images += 1;
                self.go_on(Stage::Mark)?;
            }
            self.mark_pages(tenant, pages)?;
        }
        for draft in &start.drafts {
            self.mark_draft(draft)?;
        }
        Ok(alive)
    }

    fn mark_pages(&mut self, tenant: TenantId, pages: Pages) -> Result<(), StoreError> {
        let mut files = ManifestFiles::new(&self.core.place);
        for ((_, index), (full, shown)) in pages.0 {
            let base = match is_none(&full) {
                true => Vec::new(),
                false => match files.read(index, &full).map_err(doubt)? {
                    Page::Full(keys) => keys,
                    Page::Patch(_) => return Err(wrong_kind()),
                },
            };
            // How many of the images do not show what the full page says of a position.
            let mut n_other = vec![0_usize; base.len()];
            let n_images = shown.len();
            for ((_, n_keys), patch) in shown {
                n_other.iter_mut().skip(n_keys).for_each(|n| *n += 1);
                if is_none(&patch) {
                    continue;
                }
                let Page::Patch(changes) = files.read(index, &patch).map_err(doubt)? else {
                    return Err(wrong_kind());
                };
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
        let marked = Log::keys(&core.place, draft.log, of, draft.written, &mut tell);
        // One that was ended meanwhile holds nothing.
        let is_there =
            || lock(&core.drafts).get(&draft.session).is_some_and(|k| k.log == draft.log);
        match marked {
            Err(error) if is_there() => Err(doubt(error)),
            _ => self.go_on(Stage::Mark),
        }
    }
}

fn wrong_kind() -> StoreError {
    doubt(StoreError::Damaged("a page of another kind than its reference says".to_owned()))
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
            let at = |page: &PageRef| (page.manifest.get(), page.offset.get());
            let (_, shown) = self.0.entry((at(&full), index)).or_insert((full, Shown::new()));
            shown.insert((at(&patch), image.n_keys(index)), patch);
        }
    }
}
