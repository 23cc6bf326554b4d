//! What the model knows of locks and of the retention clock, and what it asks of both.
//!
//! Ends of locks are computed here by days and microseconds, not by the store's own arithmetic.

use std::collections::BTreeMap;

use offsite_model::policy::Rules;
use offsite_model::retention::{Candidate, Hold, decide};
use offsite_model::{AgentId, Luck, Policy, Span, TenantId, Timestamp};

use super::super::scene::*;
use super::{Flying, World};
use crate::{Lock, Point, Store, StoreError};

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;
/// The longest lock of a world.
const DAYS_MAX: u64 = 3;
/// How long what is deleted waits for its purge by a round.
const SOFT_DELETE: Span = Span::from_days(1);

/// Whose lock: a tenant, and one of its agents or all.
pub(super) type Key = (u8, Option<AgentId>);

/// The agent of a point.
pub(super) fn agent(number: u64) -> AgentId {
    AgentId::from_bytes([8 + (number % 2) as u8; 16])
}

pub(super) struct Locks {
    /// What the retention clock shows.
    pub(super) now: Timestamp,
    /// The newest moment that the store was given.
    newest: Timestamp,
    set: BTreeMap<Key, Lock>,
    received: BTreeMap<u64, Timestamp>,
}

impl Locks {
    pub(super) fn new() -> Self {
        let now = Timestamp::from_secs(1_000_000);
        Self { now, newest: now, set: BTreeMap::new(), received: BTreeMap::new() }
    }

    /// The moment for something that happens now.
    pub(super) fn moment(&mut self) -> Timestamp {
        self.newest = self.newest.max(self.now);
        self.now
    }

    /// A point was committed at the last moment that was asked for.
    pub(super) fn received(&mut self, number: u64) {
        self.received.insert(number, self.newest);
    }

    pub(super) fn check_received(&self, number: u64, found: &Point) {
        assert_eq!(found.committed_at, self.received[&number], "point {number}");
        assert_eq!(found.agent, agent(number));
    }

    /// A clock is kept each minute; it goes on with what was kept, never behind the store.
    pub(super) fn restart(&mut self, dice: &Dice) {
        let kept = self.now.as_micros() - dice.below(60_000_000) as i64;
        self.now = Timestamp::from_micros(kept).max(self.newest);
    }

    fn of(&self, key: Key) -> Lock {
        self.set.get(&key).copied().unwrap_or_default()
    }

    /// The first moment at which a point may go.
    fn until(&self, tenant: u8, number: u64) -> Option<Timestamp> {
        let both = [self.of((tenant, None)), self.of((tenant, Some(agent(number))))];
        let days = both.iter().flat_map(|lock| [lock.compliance_days, lock.governance_days]).max();
        let days = i64::from(days.unwrap_or(0));
        let from = self.received[&number].as_micros();
        (days > 0).then(|| Timestamp::from_micros(from + days * DAY_MICROS))
    }

    fn is_locked(&self, tenant: u8, number: u64) -> bool {
        self.until(tenant, number).is_some_and(|until| self.now < until)
    }

    /// Each lock is what was answered last, or what was asked for last.
    pub(super) fn check(&mut self, store: &Store, flying: Option<(Key, Lock)>) {
        if let Some((of, lock)) = flying {
            let found = store.lock(tenant(of.0), of.1).unwrap();
            assert!(found == lock || found == self.of(of), "{found:?} in place of {lock:?}");
            self.set.insert(of, found);
        }
        for owner in [1, 2] {
            for agent in [None, Some(agent(0)), Some(agent(1))] {
                let found = store.lock(tenant(owner), agent).unwrap();
                assert_eq!(found, self.of((owner, agent)), "the lock of {owner}, {agent:?}");
            }
        }
    }
}

impl World {
    /// Sets a lock, longer or shorter than it was.
    pub(super) fn set_lock(&mut self) -> Result<(), StoreError> {
        let owner = 1 + self.dice.below(2) as u8;
        let agent = self.dice.one_in(2).then(|| agent(self.dice.below(2)));
        let of = (owner, agent);
        let lock = Lock {
            compliance_days: self.dice.below(DAYS_MAX) as u32,
            governance_days: self.dice.below(DAYS_MAX + 1) as u32,
        };
        let before = self.locks.of(of);
        self.flying = Some(Flying::Lock { of, lock });
        let at = self.locks.moment();
        match self.store().set_lock(tenant(owner), agent, lock, at) {
            Ok(()) => {
                assert!(lock.compliance_days >= before.compliance_days, "{before:?} to {lock:?}");
                self.locks.set.insert(of, lock);
            }
            Err(StoreError::LockKept { days }) => {
                assert!(days == before.compliance_days && lock.compliance_days < days);
                self.tally.n_lock_kept += 1;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Time passes: a little, a lot, or up to the last moment of some lock or the first after it.
    pub(super) fn tick(&mut self) -> Result<(), StoreError> {
        let span = match self.dice.below(4) {
            0 => Span::from_micros(1 + self.dice.below(60_000_000)),
            1 => Span::from_hours(1 + self.dice.below(12)),
            2 => Span::from_days(1 + self.dice.below(2)),
            _ => {
                let some = self.a_point(|_| true);
                let until =
                    some.and_then(|number| self.locks.until(self.model[&number].tenant, number));
                let left = until.map_or(Span::ZERO, |until| until.since(self.locks.now));
                Span::from_micros(left.as_micros().saturating_sub(self.dice.below(2)))
            }
        };
        self.locks.now = self.locks.now + span;
        Ok(())
    }

    /// Whether an answer is the one that the locks allow; one that is another error is handed on.
    fn judge(&mut self, number: u64, done: Result<(), StoreError>) -> Result<bool, StoreError> {
        let owner = self.model[&number].tenant;
        let until = self.locks.until(owner, number);
        match done {
            Ok(()) => {
                assert!(!self.locks.is_locked(owner, number), "locked point {number} goes");
                Ok(true)
            }
            Err(StoreError::Locked { until: told, .. }) => {
                assert!(self.locks.is_locked(owner, number), "point {number} is not locked");
                assert_eq!(Some(told), until);
                self.tally.n_locked += 1;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Marks a point as deleted; whether no lock refused it.
    fn delete(&mut self, number: u64) -> Result<bool, StoreError> {
        let owner = tenant(self.model[&number].tenant);
        self.flying = Some(Flying::Mark { number });
        let at = self.locks.moment();
        let done = self.store().delete_point(owner, point(number), at);
        let is_done = self.judge(number, done)?;
        self.model.get_mut(&number).unwrap().is_deleted |= is_done;
        self.flying = None;
        Ok(is_done)
    }

    pub(super) fn mark(&mut self) -> Result<(), StoreError> {
        let Some(number) = self.a_point(|_| true) else { return Ok(()) };
        if !self.model[&number].is_deleted {
            return self.delete(number).map(drop);
        }
        self.flying = Some(Flying::Mark { number });
        let (owner, at) = (tenant(self.model[&number].tenant), self.locks.moment());
        self.store().undelete_point(owner, point(number), at)?;
        self.model.get_mut(&number).unwrap().is_deleted = false;
        Ok(())
    }

    pub(super) fn purge(&mut self) -> Result<(), StoreError> {
        let Some(number) = self.a_point(|_| true) else { return Ok(()) };
        if self.model[&number].is_deleted || self.delete(number)? {
            self.purge_marked(number)?;
        }
        Ok(())
    }

    fn purge_marked(&mut self, number: u64) -> Result<(), StoreError> {
        let owner = tenant(self.model[&number].tenant);
        self.flying = Some(Flying::Purge { number });
        let at = self.locks.moment();
        let done = self.store().purge(owner, &[point(number)], at);
        if self.judge(number, done)? {
            self.model.remove(&number);
            self.tally.n_purged += 1;
        }
        self.flying = None;
        Ok(())
    }

    /// What a target's round does: judges what the store lists by its locks and a policy, marks
    /// what no rule keeps, purges what was marked long enough ago.
    pub(super) fn retention_round(&mut self) -> Result<(), StoreError> {
        let rules = Rules { last: 1, daily: self.dice.below(3) as u32, ..Rules::default() };
        for owner in [1, 2] {
            for agent in [agent(0), agent(1)] {
                for number in self.unkept(tenant(owner), agent, rules)? {
                    assert!(self.delete(number)?, "the round did not know the lock of {number}");
                }
            }
            for found in self.store().points(tenant(owner))? {
                let now = self.locks.now;
                if found.deleted_at.is_some_and(|at| now >= at + SOFT_DELETE) {
                    self.purge_marked(number_of(&found))?;
                }
            }
        }
        Ok(())
    }

    fn unkept(
        &self,
        owner: TenantId,
        agent: AgentId,
        rules: Rules,
    ) -> Result<Vec<u64>, StoreError> {
        let (now, lock) = (self.locks.now, self.store().lock_of(owner, agent)?);
        let mut points = self.store().points(owner)?;
        points.retain(|found| found.agent == agent && found.deleted_at.is_none());
        let candidate = |found: &Point| Candidate {
            point: found.point,
            received_at: found.committed_at,
            hold: lock
                .until(found.committed_at)
                .filter(|until| now < *until)
                .map(|until| Hold::Locked { until }),
        };
        let candidates: Vec<Candidate> = points.iter().map(candidate).collect();
        let verdicts = decide(&Policy::Keep(rules), now, &candidates);
        let both = points.iter().zip(verdicts).filter(|(_, verdict)| !verdict.is_kept());
        Ok(both.map(|(found, _)| number_of(found)).collect())
    }
}

fn number_of(found: &Point) -> u64 {
    u128::from_be_bytes(found.point.to_bytes()) as u64
}
