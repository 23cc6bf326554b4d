//! Standing by: the connection for calls to the target of each active pairing is there before a job
//! needs it, which over a long line spares two round trips.
//!
//! A target closes a connection on which nobody calls for two minutes; it is made again soon after.
//! One that cannot be reached is tried less and less often, down to once a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use offsite_exchange::pairing::source::{Link as PinnedLink, Stage};
use offsite_model::Span;
use offsite_transport::{Backoff, Retry};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Replicator;
use super::link::Link;
use crate::error::Trouble;
use crate::pairing::off;

/// How often is looked whether connections are there.
const LOOK_EVERY: Span = Span::from_secs(2);

/// A target that could not be reached: how often in a row, and when it is tried again, by the
/// uptime.
struct Rest {
    n_failed: u32,
    until: Span,
}

impl Replicator {
    /// Keeps connections at hand until it is told to stop.
    pub async fn stand_by(&self, stop: CancellationToken) {
        let mut rests: BTreeMap<String, Rest> = BTreeMap::new();
        loop {
            match self.active_links().await {
                Ok(links) => self.dial(&links, &mut rests).await,
                Err(trouble) => tracing::debug!(cause = trouble.message, "cannot list pairings"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.means.waiter.wait(LOOK_EVERY) => {}
            }
        }
    }

    /// The links of active pairings; those of others are let go.
    async fn active_links(&self) -> Result<Vec<Arc<Link>>, Trouble> {
        let read = off(&self.means, |means| Ok(means.memory.pairings()?));
        let mut active = Vec::new();
        for (_, row) in read.await? {
            let Stage::Active(pairing) = row.machine.stage() else { continue };
            active.push(self.active_link(pairing.link.clone()).await?);
        }
        let names: BTreeSet<&str> = active.iter().map(|link| link.target()).collect();
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|name, _| names.contains(name.as_str()));
        Ok(active)
    }

    async fn active_link(&self, pinned: PinnedLink) -> Result<Arc<Link>, Trouble> {
        let kept = {
            let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            links.get(&pinned.target).filter(|kept| kept.is_by(&pinned)).cloned()
        };
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let settings = self.settings.clone();
        let made = off(&self.means, move |means| Link::of(means, &settings, pinned));
        Ok(self.keep(made.await?))
    }

    async fn dial(&self, links: &[Arc<Link>], rests: &mut BTreeMap<String, Rest>) {
        let now = self.means.clock.uptime();
        let mut dials = JoinSet::new();
        let is_due = |link: &&Arc<Link>| rests.get(link.target()).is_none_or(|r| r.until <= now);
        for link in links.iter().filter(is_due) {
            let link = Arc::clone(link);
            dials.spawn(async move {
                let dialled = link.stand_by().await;
                (link.target().to_owned(), dialled)
            });
        }
        while let Some(dialled) = dials.join_next().await {
            let Ok((target, dialled)) = dialled else { continue };
            let Err(cause) = dialled else {
                rests.remove(&target);
                continue;
            };
            tracing::debug!(target, %cause, "no connection stands by");
            let n_failed = rests.get(&target).map_or(1, |rest| rest.n_failed.saturating_add(1));
            let rest = Rest { n_failed, until: self.rest(n_failed) };
            rests.insert(target, rest);
        }
    }

    /// When a target that failed so often is tried again.
    fn rest(&self, n_failed: u32) -> Span {
        let backoff = Backoff { attempts_max: u32::MAX, ..Backoff::default() };
        let pause = backoff.delay(n_failed, Retry::Later(None), &*self.means.luck);
        let pause: Duration = pause.unwrap_or(backoff.cap);
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        let now = self.means.clock.uptime();
        Span::from_micros(now.as_micros().saturating_add(micros))
    }
}
