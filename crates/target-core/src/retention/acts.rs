//! Deletion, its undoing and purge, as somebody asks for them.
//!
//! Whoever asks, a lock is looked at before anything is marked: either all points of a wish are
//! marked or none. What a lock refuses is an entry of the audit log too.

use offsite_model::{AgentId, Clock as _, PointId};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_store::catalog::Transactions as _;
use offsite_store::{Point, StoreError};

use super::locks::locked;
use crate::Target;
use crate::audit::Event;
use crate::failure::Failure;
use crate::principal::Principal;
use crate::replicas::{Orphan, Owner, unreadable};

/// As many deletions at once are told to a person.
pub(super) const BULK_POINTS: usize = 10;

/// Points that shall be marked as deleted, and in whose name.
pub(crate) struct Removal<'a> {
    /// Whose they are.
    pub(crate) owner: &'a Owner,
    /// What is to be deleted, in a word for the audit log.
    pub(crate) what: String,
    /// The points, deleted ones among them.
    pub(crate) points: Vec<Point>,
    /// Images that wait for their parents. None in what a source asks for: it can end what it
    /// sends, and nothing that was acknowledged.
    pub(crate) waiting: Vec<Orphan>,
}

impl Target {
    /// The committed points of an owner, of one agent or of all, deleted ones too.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn committed_points(
        &self,
        owner: &Owner,
        agent: Option<AgentId>,
    ) -> Result<Vec<Point>, Refusal> {
        let replicas = self.replicas()?;
        let own = replicas.point_ids(owner, agent)?;
        let all = replicas.store.points(owner.tenant).map_err(|cause| unreadable(&cause))?;
        Ok(all.into_iter().filter(|point| own.contains(&point.point)).collect())
    }

    /// Marks points as deleted; how many were not so before. Blocks.
    ///
    /// # Errors
    /// `retention_locked`, and then nothing was marked; the catalog's or the store's.
    pub(crate) fn delete_softly(
        &self,
        by: &Principal,
        removal: &Removal<'_>,
    ) -> Result<usize, Refusal> {
        let (store, retention) = (&self.replicas()?.store, self.retention()?);
        let tenant = removal.owner.tenant;
        // An acceptance may say more than the store was told yet.
        self.raise_locks()?;
        let live: Vec<&Point> =
            removal.points.iter().filter(|point| point.deleted_at.is_none()).collect();
        let now = retention.time.now();
        for point in &live {
            let lock = self.lock_of(tenant, point.agent)?;
            if let Some(until) = lock.until(point.committed_at).filter(|until| now < *until) {
                self.tell_locked(by, removal, point.point)?;
                return Err(locked(point.point, until));
            }
        }
        let waiting = self.check_waiting(by, removal)?;
        let mut ids: Vec<PointId> = live.iter().map(|point| point.point).collect();
        let live_ids = ids.clone();
        ids.extend(waiting.iter().map(|orphan| orphan.held.point()));
        ids.sort();
        ids.dedup();
        if ids.is_empty() {
            return Ok(0);
        }
        self.tell(by, removal, Event::DeletionAsked, &ids)?;
        if ids.len() >= BULK_POINTS {
            // Somebody should look; nothing else follows from it.
            tracing::error!(records = ids.len(), what = removal.what, "many points were deleted");
            self.tell(by, removal, Event::BulkDeletion, &ids)?;
        }
        self.replicas()?.dismiss(&waiting, now)?;
        for id in &live_ids {
            match store.delete_point(tenant, *id, now) {
                Ok(()) | Err(StoreError::PointUnknown(_)) => {}
                Err(StoreError::Locked { point, until }) => return Err(locked(point, until)),
                Err(cause) => return Err(unreadable(&cause)),
            }
        }
        Ok(ids.len())
    }

    /// The images of a removal that wait and are not marked yet. Locks count from when they were
    /// acknowledged.
    fn check_waiting(&self, by: &Principal, removal: &Removal<'_>) -> Result<Vec<Orphan>, Refusal> {
        let now = self.retention_now();
        let unmarked = removal.waiting.iter().filter(|orphan| orphan.dismissed_at.is_none());
        let unmarked: Vec<Orphan> = unmarked.cloned().collect();
        for orphan in &unmarked {
            if let Some(until) = self.locked_while_waiting(orphan, now)? {
                self.tell_locked(by, removal, orphan.held.point())?;
                return Err(locked(orphan.held.point(), until));
            }
        }
        Ok(unmarked)
    }

    /// Takes the mark of a deletion back, of a point and of images of it that wait. Blocks.
    ///
    /// # Errors
    /// `wrong_state` for what is not deleted; the catalog's or the store's.
    pub(crate) fn undelete(
        &self,
        by: &Principal,
        owner: &Owner,
        id: PointId,
        (point, waiting): (Option<&Point>, &[Orphan]),
    ) -> Result<(), Refusal> {
        let (replicas, retention) = (self.replicas()?, self.retention()?);
        let is_deleted = point.is_some_and(|point| point.deleted_at.is_some());
        if !is_deleted && waiting.iter().all(|orphan| orphan.dismissed_at.is_none()) {
            return Err(Refusal::new(
                ErrorCode::WrongState,
                format!("recovery point {id} is not deleted"),
            ));
        }
        let (what, points, none) = ("point".to_owned(), Vec::new(), Vec::new());
        let removal = Removal { owner, what, points, waiting: none };
        self.tell(by, &removal, Event::DeletionUndone, &[id])?;
        replicas.take_back(waiting)?;
        if !is_deleted {
            return Ok(());
        }
        match replicas.store.undelete_point(owner.tenant, id, retention.time.now()) {
            Ok(()) => Ok(()),
            // Purged since it was looked up.
            Err(StoreError::PointUnknown(point)) => Err(Refusal::new(
                ErrorCode::PointUnknown,
                format!("there is no recovery point {point}"),
            )),
            Err(cause) => Err(unreadable(&cause)),
        }
    }

    /// Purges a point that is marked as deleted, and images of it that wait and are, before its
    /// time; two persons agreed. Blocks.
    ///
    /// # Errors
    /// `retention_locked`; `wrong_state` for a point that is not deleted; the store's.
    pub(crate) fn purge_early(
        &self,
        by: &Principal,
        tenant: offsite_model::TenantId,
        point: PointId,
    ) -> Result<(), Refusal> {
        let (replicas, retention) = (self.replicas()?, self.retention()?);
        let now = retention.time.now();
        let is_it = |orphan: &Orphan, _| {
            Ok(orphan.held.point() == point && self.locked_while_waiting(orphan, now)?.is_none())
        };
        let ended = replicas.end_dismissed(tenant, is_it)?;
        match replicas.store.purge(tenant, &[point], now) {
            Err(StoreError::PointUnknown(_)) if !ended.is_empty() => {
                let facts = [("points", point.to_string()), ("early", true.to_string())];
                self.write_audit(by, tenant, Event::PointPurged, &facts)
            }
            Ok(()) => {
                let facts = [("points", point.to_string()), ("early", true.to_string())];
                self.write_audit(by, tenant, Event::PointPurged, &facts)
            }
            Err(StoreError::Locked { point, until }) => {
                let facts = [("purge", point.to_string()), ("why", "locked".to_owned())];
                self.write_audit(by, tenant, Event::Refused, &facts)?;
                Err(locked(point, until))
            }
            Err(StoreError::NotDeleted(point)) => Err(Refusal::new(
                ErrorCode::WrongState,
                format!("recovery point {point} is not deleted; delete it first"),
            )),
            Err(StoreError::PointUnknown(point)) => Err(Refusal::new(
                ErrorCode::PointUnknown,
                format!("there is no recovery point {point}"),
            )),
            Err(cause) => Err(unreadable(&cause)),
        }
    }

    fn tell(
        &self,
        by: &Principal,
        removal: &Removal<'_>,
        event: Event,
        points: &[PointId],
    ) -> Result<(), Refusal> {
        let facts = [
            ("what", removal.what.clone()),
            ("source", removal.owner.source.to_string()),
            ("count", points.len().to_string()),
            ("points", listed(points)),
        ];
        self.write_audit(by, removal.owner.tenant, event, &facts)
    }

    fn tell_locked(
        &self,
        by: &Principal,
        removal: &Removal<'_>,
        point: PointId,
    ) -> Result<(), Refusal> {
        let facts = [
            ("what", format!("delete {}", removal.what)),
            ("why", "locked".to_owned()),
            ("point", point.to_string()),
        ];
        self.write_audit(by, removal.owner.tenant, Event::Refused, &facts)
    }

    /// Writes one entry of the audit log, by itself.
    ///
    /// # Errors
    /// The catalog's.
    pub(crate) fn write_audit(
        &self,
        by: &Principal,
        tenant: offsite_model::TenantId,
        event: Event,
        facts: &[(&'static str, String)],
    ) -> Result<(), Refusal> {
        let deed = self.deed(by);
        let written = self
            .catalog()
            .write(|rows| Ok::<_, Failure>(deed.record(rows, event, Some(tenant), facts)?));
        Ok(written?)
    }
}

/// The ids of points, for the audit log: the first few, and how many there are.
pub(super) fn listed(points: &[PointId]) -> String {
    const SHOWN: usize = 16;
    let mut shown: Vec<String> = points.iter().take(SHOWN).map(ToString::to_string).collect();
    if points.len() > SHOWN {
        shown.push(format!("and {} more", points.len().saturating_sub(SHOWN)));
    }
    shown.join(" ")
}
