//! What is here, as the caller may see it: images, points, usage, mirrors of jobs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use offsite_model::{AgentId, CoreId, ImageId, JobId, PointId, Timestamp, VolumeId};
use offsite_proto::catalog::PointStatus;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::jobs::{JobState, StartMirror, SyncMirror};
use offsite_store::catalog::Transactions;

use super::Replicas;
use super::images::{Held, Owner, announced, held, is_purged, unreadable};
use super::live::lock;
use super::orphans::Orphan;

/// Mirrors of one source.
const MIRRORS_PER_SOURCE_MAX: usize = 256;

/// A recovery point with what its images were announced as.
#[derive(Clone, Debug)]
pub struct PointShown {
    /// Its id.
    pub id: PointId,
    /// Its agent.
    pub agent: AgentId,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// When its last image was committed, or kept until its parent comes.
    pub received_at: Timestamp,
    /// Its images.
    pub images: Vec<Held>,
    /// How complete it is.
    pub status: PointStatus,
    /// What an orphaned point waits for, in words.
    pub waits_for: Vec<String>,
    /// When it was marked as deleted.
    pub deleted_at: Option<Timestamp>,
}

impl PointShown {
    /// Bytes of its volumes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.images.iter().fold(0, |sum, image| image.open.size_bytes.0.saturating_add(sum))
    }

    /// Refuses to read an orphaned point.
    ///
    /// # Errors
    /// `base_missing`, with the epoch that is missing.
    pub fn check_whole(&self) -> Result<(), Refusal> {
        if self.status == PointStatus::Ok {
            return Ok(());
        }
        let waits = self.waits_for.join("; ");
        let sentence = format!("recovery point {} is orphaned: {waits}", self.id);
        Err(Refusal::new(ErrorCode::BaseMissing, sentence))
    }

    /// The highest of its images' epochs.
    fn epoch(&self) -> u32 {
        self.images.iter().map(|image| image.open.epoch_number).max().unwrap_or(0)
    }

    /// Ids of its images.
    #[must_use]
    pub fn image_ids(&self) -> Vec<ImageId> {
        self.images.iter().map(Held::image).collect()
    }

    /// The volume that an operator names: by its name, or by its id.
    #[must_use]
    pub fn volume(&self, name: &str) -> Option<VolumeId> {
        let by_name = |image: &&Held| image.open.display_name.as_deref() == Some(name);
        let found = self.images.iter().find(by_name);
        let by_id = |image: &&Held| image.name.volume.to_string() == name;
        found.or_else(|| self.images.iter().find(by_id)).map(|image| image.name.volume)
    }
}

impl Replicas {
    /// The committed images of an owner. Blocks.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn held(&self, owner: &Owner, agent: Option<AgentId>) -> Result<Vec<Held>, Refusal> {
        self.catalog
            .read(|rows| Ok::<_, crate::failure::Failure>(held(rows, &self.store, owner, agent)))
            .map_err(Refusal::from)?
    }

    /// The committed images of an agent, and those that were here until their points were purged,
    /// or until they were given up while they waited.
    /// Blocks.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn held_and_purged(
        &self,
        owner: &Owner,
        agent: AgentId,
    ) -> Result<(Vec<Held>, Vec<Held>), Refusal> {
        let announced = self.catalog.read(|rows| announced(rows, owner, Some(agent)))?;
        let held = self.held(owner, Some(agent))?;
        let mut purged = Vec::new();
        for image in announced {
            let is_held = held.binary_search_by_key(&image.name, |held| held.name).is_ok();
            if !is_held
                && (is_purged(&self.store, owner.tenant, &image.open)?
                    || self.is_dismissed_and_gone(&image.name)?)
            {
                purged.push(image);
            }
        }
        Ok((held, purged))
    }

    /// The points that an owner's committed images belong to. Blocks.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn point_ids(
        &self,
        owner: &Owner,
        agent: Option<AgentId>,
    ) -> Result<BTreeSet<PointId>, Refusal> {
        Ok(self.held(owner, agent)?.iter().map(Held::point).collect())
    }

    /// Images of an owner that wait here for their parents. Blocks.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn waiting_images(&self, owner: &Owner, agent: AgentId) -> Result<Vec<Held>, Refusal> {
        let orphans = self.orphans(owner, Some(agent))?;
        Ok(orphans.into_iter().map(|orphan| orphan.held).collect())
    }

    /// As [`Replicas::points`], with those that are orphaned: all their images are here, and one or
    /// more of them wait for a parent. Blocks.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn points_with_orphans(
        &self,
        owner: &Owner,
        agent: Option<AgentId>,
    ) -> Result<Vec<PointShown>, Refusal> {
        // Orphans first: one that is committed meanwhile is then seen twice and not never.
        let waiting = self.orphans(owner, agent)?;
        let mut shown = self.all_points(owner, agent)?;
        let mut of_point: BTreeMap<PointId, Vec<&Orphan>> = BTreeMap::new();
        for orphan in &waiting {
            of_point.entry(orphan.held.point()).or_default().push(orphan);
        }
        of_point.retain(|point, _| shown.iter().all(|shown| shown.id != *point));
        if of_point.is_empty() {
            return Ok(shown);
        }
        let held = self.held(owner, agent)?;
        for (id, orphans) in of_point {
            let Some(first) = orphans.first() else { continue };
            let (open, agent) = (&first.held.open, first.held.name.agent);
            let committed = held.iter().filter(|image| image.point() == id).cloned();
            let mut images: Vec<Held> = committed.collect();
            images.extend(orphans.iter().map(|orphan| orphan.held.clone()));
            if images.len() < open.volume_image_count as usize {
                continue;
            }
            let landed_at = orphans.iter().map(|orphan| orphan.landed_at).max();
            shown.push(PointShown {
                id,
                agent,
                taken_at: open.utc_created_timestamp.0,
                received_at: landed_at.unwrap_or(first.landed_at),
                images,
                status: PointStatus::Orphaned,
                waits_for: orphans.iter().map(|orphan| orphan.waits_for(&waiting)).collect(),
                deleted_at: orphans.iter().filter_map(|orphan| orphan.dismissed_at).max(),
            });
        }
        sort(&mut shown);
        Ok(shown)
    }

    /// The recovery points of an owner that are whole and not deleted, newest first. Blocks.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn points(
        &self,
        owner: &Owner,
        agent: Option<AgentId>,
    ) -> Result<Vec<PointShown>, Refusal> {
        let mut points = self.all_points(owner, agent)?;
        points.retain(|point| point.deleted_at.is_none());
        Ok(points)
    }

    /// As [`Replicas::points`], with those that are marked as deleted. Blocks.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn all_points(
        &self,
        owner: &Owner,
        agent: Option<AgentId>,
    ) -> Result<Vec<PointShown>, Refusal> {
        let mut of_point: BTreeMap<PointId, Vec<Held>> = BTreeMap::new();
        for image in self.held(owner, agent)? {
            of_point.entry(image.point()).or_default().push(image);
        }
        let mut shown = Vec::new();
        for point in self.store.points(owner.tenant).map_err(|error| unreadable(&error))? {
            let Some(images) = of_point.remove(&point.point) else { continue };
            if point.is_complete() && images.len() == point.images.len() {
                shown.push(PointShown {
                    id: point.point,
                    agent: point.agent,
                    taken_at: point.taken_at,
                    received_at: point.committed_at,
                    images,
                    status: PointStatus::Ok,
                    waits_for: Vec::new(),
                    deleted_at: point.deleted_at,
                });
            }
        }
        sort(&mut shown);
        Ok(shown)
    }
}

/// Newest first.
fn sort(points: &mut [PointShown]) {
    // A source whose clock counts in seconds may take several in one: the chain says which is the
    // later.
    points.sort_by_key(|point| (Reverse(point.taken_at), Reverse(point.epoch()), point.id));
}

/// A mirror of a source's job.
#[derive(Clone, Debug)]
struct Mirror {
    agent: AgentId,
    state: JobState,
}

/// Mirrors of jobs, in memory: a source whose mirror is gone starts it again.
#[derive(Debug, Default)]
pub struct Mirrors(Mutex<BTreeMap<(CoreId, JobId), Mirror>>);

impl Mirrors {
    /// Row 29; whether the mirror is new.
    ///
    /// # Errors
    /// `busy` where the source has too many, `job_unknown` for a job of another agent.
    pub fn start(&self, source: CoreId, asked: &StartMirror) -> Result<(bool, JobState), Refusal> {
        let mut mirrors = lock(&self.0);
        if let Some(mirror) = mirrors.get(&(source, asked.job_id.0)) {
            return match mirror.agent == asked.agent_id.0 {
                true => Ok((false, mirror.state)),
                false => Err(job_unknown()),
            };
        }
        mirrors.retain(|(of, _), mirror| {
            *of != source || matches!(mirror.state, JobState::Queued | JobState::Running)
        });
        if mirrors.keys().filter(|(of, _)| *of == source).count() >= MIRRORS_PER_SOURCE_MAX {
            return Err(Refusal::new(ErrorCode::Busy, "too many jobs have a mirror here").after(60));
        }
        let mirror = Mirror { agent: asked.agent_id.0, state: JobState::Running };
        mirrors.insert((source, asked.job_id.0), mirror);
        Ok((true, JobState::Running))
    }

    /// Row 30.
    ///
    /// # Errors
    /// `job_unknown`.
    pub fn sync(&self, source: CoreId, told: &SyncMirror) -> Result<JobState, Refusal> {
        let mut mirrors = lock(&self.0);
        let mirror = mirrors.get_mut(&(source, told.job_id.0)).ok_or_else(job_unknown)?;
        mirror.state = told.state;
        Ok(mirror.state)
    }
}

fn job_unknown() -> Refusal {
    Refusal::new(ErrorCode::JobUnknown, "there is no such job")
}
