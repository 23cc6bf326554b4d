//! Retention of images that wait for their parents: they go as points do, and no source makes them
//! go.
//!
//! **Absent:** what it means for an image to be dismissed (`replicas`).

use std::collections::BTreeMap;

use offsite_model::retention::{Candidate, Hold, decide};
use offsite_model::{AgentId, PointId, Span, TenantId, Timestamp};

use super::round::Decided;
use super::rules;
use crate::Target;
use crate::failure::Failure;
use crate::replicas::{Orphan, Owner};

impl Target {
    /// Ends images that were given up long enough ago and that no lock keeps; whose points they
    /// were.
    ///
    /// # Errors
    /// The catalog's or the store's.
    pub(super) fn end_waiting(
        &self,
        tenant: TenantId,
        now: Timestamp,
        soft: Span,
    ) -> Result<Vec<PointId>, Failure> {
        let is_due = |orphan: &Orphan, given_up_at: Timestamp| {
            Ok(now >= given_up_at + soft && self.locked_while_waiting(orphan, now)?.is_none())
        };
        Ok(self.replicas()?.end_dismissed(tenant, is_due)?)
    }

    /// The images that wait and that the policy of their agent does not keep. Each is judged as if
    /// its point were complete, and takes no other point's place.
    ///
    /// # Errors
    /// The catalog's or the store's.
    pub(super) fn waiting_that_go(
        &self,
        owner: &Owner,
        decided: &BTreeMap<AgentId, Vec<Decided>>,
    ) -> Result<Vec<Orphan>, Failure> {
        let now = self.retention_now();
        let mut gone = Vec::new();
        for orphan in self.replicas()?.orphans(owner, None)? {
            let agent = orphan.held.name.agent;
            // An agent without a complete point keeps everything: its newest is one that waits.
            let Some(points) = decided.get(&agent) else { continue };
            if orphan.dismissed_at.is_some() {
                continue;
            }
            let candidate = |point, received_at, hold| Candidate { point, received_at, hold };
            let points = points.iter().map(|decided| &decided.point);
            let points = points.map(|point| candidate(point.point, point.committed_at, None));
            let until = self.locked_while_waiting(&orphan, now)?;
            let own = orphan.held.point();
            let hold = until.map(|until| Hold::Locked { until });
            let all: Vec<_> = points.chain([candidate(own, orphan.landed_at, hold)]).collect();
            let policy = self.catalog_read(|rows| rules::policy_of(rows, owner, agent))?.policy;
            if decide(&policy, now, &all).last().is_some_and(|verdict| !verdict.is_kept()) {
                gone.push(orphan);
            }
        }
        Ok(gone)
    }
}
