//! What retention does without anybody asking: keeps the clock, applies policies, purges what was
//! deleted long enough ago.
//!
//! A round looks at the points when something was committed or deleted since the last one, and once
//! an hour in any case. After a system clock that was set back nothing is removed for a while.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use offsite_model::retention::{Candidate, Hold, Verdict, decide};
use offsite_model::{AgentId, Clock as _, PointId, Span, TenantId};
use offsite_store::catalog::Transactions as _;
use offsite_store::{Point, StoreError};

use super::acts::{BULK_POINTS, listed};
use super::clock::Jump;
use super::locks::failed;
use super::rules;
use super::state::Retention;
use crate::Target;
use crate::audit::Event;
use crate::failure::Failure;
use crate::principal::ITSELF;
use crate::replicas::Owner;
use crate::tenants;

/// How often the clock is kept.
const KEEP_EVERY: Span = Span::from_secs(60);
/// How often points are looked at though nothing happened.
const LOOK_EVERY: Span = Span::from_hours(1);
/// Points that are purged in one round; the rest goes in the next.
const PURGED_MAX: usize = 1_000;

/// A point with what was decided about it.
pub(crate) struct Decided {
    pub(crate) point: Point,
    pub(crate) verdict: Verdict,
}

impl Target {
    /// One round of retention, where it is time for one. Blocks.
    ///
    /// # Errors
    /// The catalog's or the store's; the next round tries again.
    pub(crate) fn keep_retention(&self) -> Result<(), Failure> {
        let Ok(retention) = self.retention() else { return Ok(()) };
        let mut last = retention.last.lock().unwrap_or_else(PoisonError::into_inner);
        let boot = self.world().clock.uptime();
        let is_due = |then: Option<Span>, every: Span| {
            then.is_none_or(|then| boot.as_micros() >= then.as_micros() + every.as_micros())
        };
        if !is_due(last.kept, KEEP_EVERY) {
            return Ok(());
        }
        last.kept = Some(boot);
        if let Some(jump) = retention.time.keep()? {
            self.tell_jump(jump)?;
        }
        let store = &self.replicas()?.store;
        let is_asked = retention.is_asked.swap(false, Ordering::Relaxed);
        let is_news = is_asked || last.entry != Some(store.journal_head().0);
        if !is_news && !is_due(last.looked, LOOK_EVERY) {
            return Ok(());
        }
        self.raise_locks()?;
        if retention.time.look(super::clock::RetentionClock::is_paused) {
            return Ok(());
        }
        self.apply_policies()?;
        let n_purged = self.purge_due(&retention)?;
        last.looked = Some(boot);
        // What was left is looked for in the next round.
        last.entry = (n_purged < PURGED_MAX).then(|| store.journal_head().0);
        Ok(())
    }

    /// Makes the next round look at the points whatever happened.
    pub(crate) fn look_again(&self) {
        if let Ok(retention) = self.retention() {
            retention.is_asked.store(true, Ordering::Relaxed);
        }
    }

    /// Keeps the clock once more before the daemon ends: what is not kept counts as time spent
    /// down. Blocks.
    ///
    /// # Errors
    /// The catalog's.
    pub(crate) fn keep_clock(&self) -> Result<(), Failure> {
        match self.retention() {
            Ok(retention) => Ok(retention.time.keep().map(drop)?),
            Err(_) => Ok(()),
        }
    }

    pub(crate) fn tell_jump(&self, jump: Jump) -> Result<(), Failure> {
        let (way, span) = match jump {
            Jump::Forward(span) => ("forward", span),
            Jump::Back(span) => ("back", span),
        };
        let seconds = span.as_secs();
        tracing::error!(
            cause = way,
            elapsed_ms = seconds.saturating_mul(1_000),
            "the system's clock jumped; retention goes on by its own"
        );
        let deed = self.deed(&ITSELF);
        let facts = [("way", way.to_owned()), ("seconds", seconds.to_string())];
        self.catalog().write(|rows| Ok(deed.record(rows, Event::ClockJumped, None, &facts)?))
    }

    /// What the policy of each agent says of its points now.
    ///
    /// # Errors
    /// The catalog's or the store's.
    pub(crate) fn decided(
        &self,
        owner: &Owner,
        agent: Option<AgentId>,
        instead: Option<offsite_model::Policy>,
    ) -> Result<BTreeMap<AgentId, Vec<Decided>>, Failure> {
        let now = self.retention_now();
        let mut of_agents: BTreeMap<AgentId, Vec<Point>> = BTreeMap::new();
        for point in self.committed_points(owner, agent)? {
            if point.is_complete() && point.deleted_at.is_none() {
                of_agents.entry(point.agent).or_default().push(point);
            }
        }
        let mut decided = BTreeMap::new();
        for (agent, points) in of_agents {
            let lock = self.lock_of(owner.tenant, agent)?;
            let own = self.catalog_read(|rows| rules::policy_of(rows, owner, agent))?;
            let candidate = |point: &Point| {
                let until = lock.until(point.committed_at).filter(|until| now < *until);
                Candidate {
                    point: point.point,
                    received_at: point.committed_at,
                    hold: until.map(|until| Hold::Locked { until }),
                }
            };
            let candidates: Vec<Candidate> = points.iter().map(candidate).collect();
            let verdicts = decide(&instead.unwrap_or(own.policy), now, &candidates);
            let both = points.into_iter().zip(verdicts);
            let both = both.map(|(point, verdict)| Decided { point, verdict });
            decided.insert(agent, both.collect());
        }
        Ok(decided)
    }

    fn apply_policies(&self) -> Result<(), Failure> {
        for row in self.register().peers()? {
            let Some(place) = &row.place else { continue };
            let owner = Owner { tenant: place.tenant.0, source: place.subject.0 };
            let decided = self.decided(&owner, None, None)?;
            let waiting = self.waiting_that_go(&owner, &decided)?;
            if !waiting.is_empty() {
                let points: Vec<PointId> = waiting.iter().map(|o| o.held.point()).collect();
                let facts = [("count", points.len().to_string()), ("points", listed(&points))];
                self.write_audit(&ITSELF, owner.tenant, Event::PolicyApplied, &facts)?;
                self.replicas()?.dismiss(&waiting, self.retention_now())?;
            }
            for (agent, decided) in decided {
                let gone = decided.iter().filter(|decided| !decided.verdict.is_kept());
                let gone: Vec<PointId> = gone.map(|decided| decided.point.point).collect();
                if gone.is_empty() {
                    continue;
                }
                let facts = [
                    ("agent", agent.to_string()),
                    ("count", gone.len().to_string()),
                    ("points", listed(&gone)),
                ];
                self.write_audit(&ITSELF, owner.tenant, Event::PolicyApplied, &facts)?;
                if gone.len() >= BULK_POINTS {
                    tracing::error!(%agent, records = gone.len(), "a policy removes many points");
                    self.write_audit(&ITSELF, owner.tenant, Event::BulkDeletion, &facts)?;
                }
                self.mark(owner.tenant, &gone)?;
            }
        }
        Ok(())
    }

    fn mark(&self, tenant: TenantId, points: &[PointId]) -> Result<(), Failure> {
        let (store, now) = (&self.replicas()?.store, self.retention_now());
        for &point in points {
            match store.delete_point(tenant, point, now) {
                // Locked or gone since it was looked at.
                Ok(()) | Err(StoreError::PointUnknown(_) | StoreError::Locked { .. }) => {}
                Err(cause) => return Err(failed(&cause)),
            }
        }
        Ok(())
    }

    /// Purges what was deleted long enough ago; how many points that were.
    fn purge_due(&self, retention: &Retention) -> Result<usize, Failure> {
        let store = &self.replicas()?.store;
        let soft = self.catalog_read(|rows| rules::soft_delete(rows))?;
        let now = retention.time.now();
        let mut n_purged: usize = 0;
        for tenant in self.catalog_read(|rows| Ok(tenants::ids(rows)?))? {
            let mut purged = self.end_waiting(tenant, now, soft)?;
            let points = store.points(tenant).map_err(|cause| failed(&cause))?;
            let is_due = |point: &&Point| point.deleted_at.is_some_and(|at| now >= at + soft);
            let due: Vec<PointId> = points.iter().filter(is_due).map(|point| point.point).collect();
            for point in due.into_iter().take(PURGED_MAX.saturating_sub(n_purged)) {
                match store.purge(tenant, &[point], now) {
                    Ok(()) => purged.push(point),
                    // Undeleted, purged or locked since it was looked at.
                    Err(
                        StoreError::PointUnknown(_)
                        | StoreError::NotDeleted(_)
                        | StoreError::Locked { .. },
                    ) => {}
                    Err(cause) => return Err(failed(&cause)),
                }
            }
            n_purged = n_purged.saturating_add(purged.len());
            if !purged.is_empty() {
                let facts = [("count", purged.len().to_string()), ("points", listed(&purged))];
                self.write_audit(&ITSELF, tenant, Event::PointPurged, &facts)?;
            }
        }
        Ok(n_purged)
    }
}
