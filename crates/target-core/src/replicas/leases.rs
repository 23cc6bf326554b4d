//! The lease of a draft that no session holds: how long what arrived waits for its source.
//!
//! What counts is the time that this target was at work and nobody held the draft, by the uptime,
//! added up in the catalog. So neither a wall clock that jumps nor a target that was switched off
//! ends a lease, and a restart does not begin one anew. The draft of a session that is at work has
//! none, however old it is, and neither has an image that waits for its parent.

use std::collections::{BTreeMap, BTreeSet};

use offsite_exchange::replication::target::Stage;
use offsite_model::{SessionId, TenantId};
use offsite_proto::error::Refusal;
use offsite_store::catalog::{Order, Table, Transactions, TypedRows, TypedRowsMut, Value};
use serde::{Deserialize, Serialize};

use super::images::unreadable;
use super::live::lock;
use super::{Replicas, draft};
use crate::failure::Failure;

/// Drafts without a session, by tenant and id: how long they had none.
const LEASES: Table = Table::new("replica_leases");
/// Rows read at a time.
const PAGE: usize = 1_024;

/// How long nobody has held a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LeaseRow {
    idle_micros: u64,
}

impl Value for LeaseRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 32;
}

type DraftName = (TenantId, SessionId);

fn key(name: &DraftName) -> Vec<u8> {
    [name.0.to_bytes(), name.1.to_bytes()].concat()
}

impl Replicas {
    /// Counts the time since the last count for drafts that nobody holds, and ends those whose
    /// lease is over: how many. To be called every few minutes. Blocks.
    ///
    /// # Errors
    /// The catalog's or the store's; the next count goes on.
    pub(crate) fn end_abandoned(&self) -> Result<usize, Refusal> {
        // Nobody opens a draft while it is judged.
        let _alone = lock(&self.opening);
        let now = self.world.clock.uptime();
        let passed = lock(&self.counted_at)
            .replace(now)
            .map_or(0, |before| now.as_micros().saturating_sub(before.as_micros()));
        let held = self.held_drafts()?;
        let drafts = self.store.drafts().map_err(|error| unreadable(&error))?;
        let before = self.leases()?;
        let mut after = BTreeMap::new();
        let mut n_ended = 0;
        let free = drafts.iter().map(|draft| (draft.tenant, draft.session));
        for name in free.filter(|name| !held.contains(name)) {
            // One that was held at the last count begins at nothing.
            let idle = before.get(&key(&name)).map_or(0, |idle| idle.saturating_add(passed));
            if idle < self.rules.idle.as_micros() {
                after.insert(key(&name), idle);
                continue;
            }
            self.forget_sessions(&name);
            self.store.end_draft(name.0, name.1).map_err(|error| unreadable(&error))?;
            tracing::info!(session = %name.1, "nobody came back for what a session left behind; \
                its lease is over, and its room is freed");
            n_ended += 1;
        }
        if before != after {
            self.catalog.write(|rows| {
                for gone in before.keys().filter(|key| !after.contains_key(*key)) {
                    rows.remove(LEASES, gone)?;
                }
                for (key, idle) in after.iter().filter(|(key, idle)| before.get(*key) != Some(idle))
                {
                    rows.put_value(LEASES, key, &LeaseRow { idle_micros: *idle })?;
                }
                Ok::<_, Failure>(())
            })?;
        }
        Ok(n_ended)
    }

    /// Drafts of sessions that are at work, and of images that wait for their parents.
    fn held_drafts(&self) -> Result<BTreeSet<DraftName>, Refusal> {
        let mut held = BTreeSet::new();
        // Sessions first: one that ends meanwhile has left its row by then.
        for live in lock(&self.sessions).by_id.values() {
            let is_at_work = live.look(|machine| {
                matches!(machine.stage(), Stage::Open | Stage::Transferring | Stage::Committing)
            });
            if is_at_work {
                held.insert((live.name.owner.tenant, draft::id_of(&live.name)));
            }
        }
        for orphan in self.orphans_under(&[])? {
            let name = orphan.held.name;
            held.insert((name.owner.tenant, draft::id_of(&name)));
        }
        Ok(held)
    }

    fn leases(&self) -> Result<BTreeMap<Vec<u8>, u64>, Refusal> {
        let mut leases = BTreeMap::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.catalog.read(|rows| {
                let (after, order) = (after.as_deref(), Order::Ascending);
                rows.scan_values::<LeaseRow>(LEASES, &[], after, order, PAGE)
            });
            let page = page.map_err(Failure::from)?;
            let Some((last, _)) = page.last() else { return Ok(leases) };
            after = Some(last.clone());
            leases.extend(page.into_iter().map(|(key, row)| (key, row.idle_micros)));
        }
    }

    /// What sessions that are over say of a draft is no longer so.
    fn forget_sessions(&self, name: &DraftName) {
        let mut sessions = lock(&self.sessions);
        let is_of =
            |live: &super::Live| (live.name.owner.tenant, draft::id_of(&live.name)) == *name;
        let gone: Vec<_> =
            sessions.by_id.values().filter(|live| is_of(live)).map(|live| live.id).collect();
        for id in gone {
            if let Some(live) = sessions.by_id.remove(&id)
                && sessions.by_image.get(&live.name) == Some(&id)
            {
                sessions.by_image.remove(&live.name);
            }
        }
    }
}
