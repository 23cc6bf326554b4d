//! Whose space it is: what each agent of a tenant needs by itself, what several share, and what
//! nobody needs any more. Everything adds up to the tenant's files.
//!
//! A record counts for an agent when one of its points shows it. Which records those are is told by
//! a filter of the agent's keys: a record may be taken for shared, or for used, that is not (about
//! three of a thousand); the sum is exact.
//!
//! **Absent:** other tenants: nothing of what is told of one depends on them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use offsite_model::{AgentId, Key, PointId, TenantId};

use crate::catalog::Transactions;
use crate::error::StoreError;
use crate::index::filter::Filter;
use crate::manifest::{Image, PAGE_POSITIONS};
use crate::recover::rows_in;
use crate::rows::{MANIFESTS, ManifestRow};
use crate::segment::Segment;
use crate::store::{Core, Store};

/// The space of one agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentSpace {
    /// Points that are not marked as deleted.
    pub n_points: u64,
    /// Points that are.
    pub n_deleted: u64,
    /// Bytes of the volumes of all points.
    pub logical_bytes: u64,
    /// Stored bytes of records that this agent alone shows: what comes back when all its points go.
    pub exclusive_bytes: u64,
    /// Stored bytes of records that other agents of the tenant show as well.
    pub shared_bytes: u64,
}

/// The space of one tenant. `exclusive_bytes` of all agents, `shared_bytes`, `list_bytes` and
/// `other_bytes` are `bytes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantSpace {
    /// Bytes of its segments and manifests.
    pub bytes: u64,
    /// Its agents.
    pub agents: BTreeMap<AgentId, AgentSpace>,
    /// Stored bytes of records that several agents show, each counted once.
    pub shared_bytes: u64,
    /// Bytes of manifests.
    pub list_bytes: u64,
    /// What no point shows: garbage, what sessions have brought, heads and ends of segments that
    /// hold nothing else.
    pub other_bytes: u64,
}

impl Store {
    /// Accounts for a tenant's space. Reads every page of its points and every segment's list, 0.4
    /// % of the records' bytes; needs 12 bits for each key of each agent. `go_on` is asked now and
    /// then.
    ///
    /// # Errors
    /// [`StoreError::Interrupted`] when `go_on` said so; [`StoreError::Damaged`]; the disk's.
    pub fn account(
        &self,
        tenant: TenantId,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<TenantSpace, StoreError> {
        let mut check = || if go_on() { Ok(()) } else { Err(StoreError::Interrupted) };
        let core = &*self.core;
        let mut space = TenantSpace::default();
        let mut of_agents: BTreeMap<AgentId, Vec<PointId>> = BTreeMap::new();
        for point in self.points(tenant)? {
            let agent = space.agents.entry(point.agent).or_default();
            match point.deleted_at {
                None => agent.n_points = agent.n_points.saturating_add(1),
                Some(_) => agent.n_deleted = agent.n_deleted.saturating_add(1),
            }
            for image in &point.images {
                agent.logical_bytes = agent.logical_bytes.saturating_add(image.bytes);
            }
            of_agents.entry(point.agent).or_default().push(point.point);
        }
        let mut filters: Vec<(AgentId, Filter)> = Vec::new();
        for (agent, points) in of_agents {
            filters.push((agent, core.filter_of(tenant, &points, &mut check)?));
        }
        let manifests = core.catalog.read(|rows| rows_in::<ManifestRow>(rows, MANIFESTS))?;
        let own = manifests.iter().filter(|(_, row)| row.tenant == tenant.to_bytes());
        space.list_bytes = own.fold(0, |sum, (_, row)| row.bytes.saturating_add(sum));
        space.bytes = space.list_bytes;
        for segment in core.segments_of(tenant) {
            check()?;
            let _reading = self.reading();
            // Collected since.
            if core.segment(segment.number).is_some() {
                core.account_for(&segment, &filters, &mut space)?;
            }
        }
        Ok(space)
    }
}

impl Core {
    pub(crate) fn segments_of(&self, tenant: TenantId) -> Vec<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.values().filter(|segment| segment.tenant == tenant).map(Arc::clone).collect()
    }

    /// The keys that some points show.
    fn filter_of(
        &self,
        tenant: TenantId,
        points: &[PointId],
        check: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<Filter, StoreError> {
        let mut seen = BTreeSet::new();
        let mut pages: Vec<(Arc<Image>, u32)> = Vec::new();
        for &point in points {
            let row = match self.point_row(tenant, point) {
                // Purged since.
                Err(StoreError::PointUnknown(_)) => continue,
                row => row?,
            };
            for image in row.images {
                let Some(held) = self.hold_image(tenant, point, &image)? else { continue };
                let image = Arc::new(Image::open(&self.place, image)?.held(held));
                for page in 0..image.n_pages() {
                    let refs = image.refs(page);
                    let at = refs.map(|page| (page.manifest.get(), page.offset.get()));
                    if seen.insert((at, page)) {
                        pages.push((Arc::clone(&image), page));
                    }
                }
            }
        }
        let n_keys = (pages.len() as u64).saturating_mul(PAGE_POSITIONS);
        let mut filter = Filter::for_keys(n_keys.min(self.n_keys_of(tenant)));
        for (image, page) in pages {
            check()?;
            let (keys, _) = image.load(page)?;
            keys.iter().filter(|key| **key != Key::ZERO).for_each(|key| filter.add(key));
        }
        Ok(filter)
    }

    fn n_keys_of(&self, tenant: TenantId) -> u64 {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.get(&tenant).map_or(0, |index| {
            let in_runs = index.runs.iter().map(|run| run.n_entries).sum::<u64>();
            in_runs.saturating_add(index.recent.len() as u64)
        })
    }

    /// Shares the bytes of a segment out by the lengths of its records, to the last byte.
    fn account_for(
        &self,
        segment: &Segment,
        filters: &[(AgentId, Filter)],
        space: &mut TenantSpace,
    ) -> Result<(), StoreError> {
        let bytes = segment.bytes();
        space.bytes = space.bytes.saturating_add(bytes);
        let doing = format!("read segment {:08x}", segment.number);
        let contents = segment.contents(&self.place).map_err(StoreError::io(doing))?;
        segment.let_go();
        let raw_of = |place: &crate::segment::RecordPlace| u128::from(place.raw_bytes);
        let raw_total: u128 = contents.records.iter().map(|(.., place)| raw_of(place)).sum();
        let (mut raw, mut shared_out) = (0_u128, 0_u64);
        for (key, _, place) in &contents.records {
            raw += raw_of(place);
            let up_to = u128::from(bytes) * raw / raw_total.max(1);
            let up_to = u64::try_from(up_to).unwrap_or(u64::MAX);
            let part = up_to.saturating_sub(shared_out);
            shared_out = up_to;
            let users: Vec<AgentId> = filters
                .iter()
                .filter(|(_, filter)| filter.may_have(key))
                .map(|(agent, _)| *agent)
                .collect();
            match &users[..] {
                [] => space.other_bytes = space.other_bytes.saturating_add(part),
                [only] => {
                    let agent = space.agents.entry(*only).or_default();
                    agent.exclusive_bytes = agent.exclusive_bytes.saturating_add(part);
                }
                several => {
                    space.shared_bytes = space.shared_bytes.saturating_add(part);
                    for agent in several {
                        let agent = space.agents.entry(*agent).or_default();
                        agent.shared_bytes = agent.shared_bytes.saturating_add(part);
                    }
                }
            }
        }
        let rest = bytes.saturating_sub(shared_out);
        space.other_bytes = space.other_bytes.saturating_add(rest);
        Ok(())
    }
}
