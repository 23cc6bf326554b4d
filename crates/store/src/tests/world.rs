//! A small world that lives by the dice: two tenants' volumes are protected, received, read,
//! locked, deleted, purged and collected, the clock ticks, the process dies and the power fails, at
//! rest and in the middle of anything. After each crash the store must agree with maps.

mod acts;
mod locks;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use offsite_model::{Key, Luck, SessionId};
use offsite_testkit::disk::Disk;

use super::collect::ALL;
use super::scene::*;
use crate::group::Form;
use crate::{Draft, Fetch, Image, ImageWriter, RebuildAsked, Session, Store, StoreError};
use locks::{Key as LockKey, Locks};

/// Steps of one world.
pub(super) const STEPS: u64 = 90;
const POOL: u64 = 40;

/// A volume that is being protected: what was found or appended so far must be there at the commit.
struct Open {
    session: Session,
    tenant: u8,
    number: u64,
    bytes: Vec<u8>,
    /// The writer, where the image has a parent; its bytes.
    parent: Option<(ImageWriter, Vec<u8>)>,
    told: BTreeSet<Key>,
}

/// A volume that is being received.
struct Receiving {
    draft: Option<Draft>,
    tenant: u8,
    number: u64,
    bytes: Vec<u8>,
    /// What was answered as held, after a promise.
    held: BTreeSet<Key>,
}

/// A reader in the middle of a volume.
struct Reader {
    image: Image,
    fetches: Vec<Fetch>,
    bytes: Vec<u8>,
}

/// What was asked for and not answered; after a crash it happened or it did not.
enum Flying {
    Commit {
        number: u64,
        expected: Expected,
    },
    Mark {
        number: u64,
    },
    Purge {
        number: u64,
    },
    Lock {
        of: LockKey,
        lock: crate::Lock,
    },
    /// A draft that was begun or ended.
    Draft {
        id: u8,
    },
}

/// How often what happened.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) n_steps: u64,
    /// Deletions and purges that a lock refused.
    pub(super) n_locked: u64,
    /// Locks that were not shortened.
    pub(super) n_lock_kept: u64,
    pub(super) n_purged: u64,
    /// Cuts in the middle of something.
    pub(super) n_cuts: u64,
    /// Of these, in the middle of what the model had to ask about; and of a lock.
    pub(super) n_in_flight: u64,
    pub(super) n_locks_in_flight: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.n_steps += other.n_steps;
        self.n_locked += other.n_locked;
        self.n_lock_kept += other.n_lock_kept;
        self.n_purged += other.n_purged;
        self.n_cuts += other.n_cuts;
        self.n_in_flight += other.n_in_flight;
        self.n_locks_in_flight += other.n_locks_in_flight;
    }
}

pub(super) struct World {
    disk: Disk,
    store: Option<Store>,
    dice: Dice,
    model: Model,
    locks: Locks,
    has_locks: bool,
    open: Vec<Open>,
    receiving: BTreeMap<u8, Receiving>,
    readers: Vec<Reader>,
    next_number: u64,
    pool: Vec<Vec<u8>>,
    flying: Option<Flying>,
    tally: Tally,
}

impl World {
    /// A whole life; in one of so many steps a cut is made ready.
    pub(super) fn live(seed: u64, cut_one_in: u64) -> Tally {
        let mut world = Self::new(seed);
        for step in 0..STEPS {
            if world.dice.one_in(cut_one_in) {
                world.disk.cut_after(world.dice.below(40));
            }
            world.settle(Self::step);
            if step % 15 == 0 && !world.disk.is_cut() {
                world.check();
            }
        }
        // The end is a crash as well, whether a cut is ready or not.
        world.crash();
        world.end();
        world.tally.n_steps += STEPS;
        world.tally
    }

    fn new(seed: u64) -> Self {
        let disk = Disk::new(seed);
        let dice = Dice::new(seed);
        let pool = (0..POOL).map(|_| dice.noise(RECORD)).collect();
        drop(new_store(&disk));
        Self {
            store: Some(open_with(&disk, if dice.one_in(2) { TINY } else { SMALL }).unwrap()),
            disk,
            dice,
            model: Model::new(),
            locks: Locks::new(),
            has_locks: !seed.is_multiple_of(2),
            open: Vec::new(),
            receiving: BTreeMap::new(),
            readers: Vec::new(),
            next_number: 1,
            pool,
            flying: None,
            tally: Tally::default(),
        }
    }

    fn step(&mut self) -> Result<(), StoreError> {
        match self.dice.below(38) {
            0..4 => self.begin(),
            4..9 => self.go_on(),
            9..13 => self.commit(),
            13 => self.abort(),
            14..20 => self.receive(),
            20..22 => self.read(),
            22 => self.mark(),
            23..26 => self.purge(),
            26..30 => self.collect(),
            30 if self.dice.one_in(2) => self.verify(),
            30 => self.scrub(),
            31 => self.reopen(),
            // Where everything is locked, little is collected: half of the worlds have no locks.
            32..34 if self.has_locks => self.set_lock(),
            32..34 => self.purge(),
            34..37 => self.tick(),
            _ => self.retention_round(),
        }
    }

    /// Does something; an error is one only where the power is still there.
    fn settle(&mut self, act: impl FnOnce(&mut Self) -> Result<(), StoreError>) {
        match act(self) {
            Ok(()) => self.flying = None,
            Err(_) if self.disk.is_cut() => {
                self.tally.n_cuts += 1;
                self.crash();
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn store(&self) -> Store {
        self.store.clone().unwrap()
    }

    fn one(&self, n: usize) -> Option<usize> {
        (n > 0).then(|| self.dice.below(n as u64) as usize)
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn a_point(&self, is_wanted: impl Fn(&Expected) -> bool) -> Option<u64> {
        let numbers = self.model.iter().filter(|(_, expected)| is_wanted(expected));
        let numbers: Vec<u64> = numbers.map(|(number, _)| *number).collect();
        self.one(numbers.len()).map(|at| numbers[at])
    }

    /// The old process never ends cleanly: what it does from here on does not count.
    fn forget(&mut self) {
        self.open.clear();
        self.readers.clear();
        self.receiving.values_mut().for_each(|receiving| receiving.draft = None);
        self.store = None;
    }

    fn settings(&self) -> crate::Settings {
        if self.dice.one_in(2) { TINY } else { SMALL }
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        // A cut that is ready comes while it opens, or goes on being ready.
        let end = if self.disk.is_cut() { 2 } else { self.dice.below(3) };
        if end > 0 {
            if end == 1 { self.disk.kill() } else { self.disk.power_cut() }
        }
        self.forget();
        self.store = Some(open_with(&self.disk, self.settings())?);
        if self.disk.is_cut() {
            // While a run was written, which is told and hinders nobody.
            return Err(StoreError::Poisoned);
        }
        assert_eq!(self.store().alarms(), []);
        self.locks.restart(&self.dice);
        self.locks.check(&self.store(), None);
        Ok(())
    }

    /// The power has failed; sometimes it fails again while the store is opened.
    fn crash(&mut self) {
        if self.dice.one_in(2) {
            self.disk.kill()
        } else {
            self.disk.power_cut()
        }
        self.forget();
        if self.dice.one_in(5) {
            self.disk.cut_after(1 + self.dice.below(40));
            drop(open_with(&self.disk, TINY));
            self.disk.power_cut();
        }
        let opened = open_with(&self.disk, self.settings());
        self.store = Some(opened.unwrap_or_else(|error| panic!("does not open: {error}")));
        assert_eq!(self.store().alarms(), [], "a power cut is no damage");
        self.locks.restart(&self.dice);
        let flying = self.flying.take();
        self.tally.n_in_flight += u64::from(flying.is_some());
        self.ask_about(flying);
        self.check();
    }

    /// What was under way happened or not; everything else is as it was answered.
    fn ask_about(&mut self, flying: Option<Flying>) {
        let store = self.store();
        let is_there = |owner: u8, number| store.point(tenant(owner), point(number)).is_ok();
        let mut flying_draft = None;
        let mut flying_lock = None;
        match flying {
            Some(Flying::Commit { number, expected }) if is_there(expected.tenant, number) => {
                self.locks.received(number);
                self.model.insert(number, expected);
            }
            Some(Flying::Mark { number }) => {
                let expected = self.model.get_mut(&number).unwrap();
                let found = store.point(tenant(expected.tenant), point(number)).unwrap();
                expected.is_deleted = found.deleted_at.is_some();
            }
            Some(Flying::Purge { number }) if !is_there(self.model[&number].tenant, number) => {
                self.model.remove(&number);
            }
            Some(Flying::Lock { of, lock }) => flying_lock = Some((of, lock)),
            Some(Flying::Draft { id }) => flying_draft = Some(id),
            Some(Flying::Commit { .. } | Flying::Purge { .. }) | None => {}
        }
        self.tally.n_locks_in_flight += u64::from(flying_lock.is_some());
        self.locks.check(&store, flying_lock);
        let kept: BTreeSet<u8> =
            store.drafts().unwrap().iter().map(|draft| draft.session.to_bytes()[0]).collect();
        for id in self.receiving.keys().copied().collect::<Vec<u8>>() {
            let receiving = &self.receiving[&id];
            if !kept.contains(&id) {
                assert_eq!(flying_draft, Some(id), "a draft is lost");
                self.receiving.remove(&id);
            } else if self.model.contains_key(&receiving.number) {
                // Committed, and not ended yet.
                store.end_draft(tenant(receiving.tenant), SessionId::from_bytes([id; 16])).unwrap();
                self.receiving.remove(&id);
            }
        }
    }

    fn check(&self) {
        check(&self.store(), &self.model, None);
        for (number, expected) in &self.model {
            let found = self.store().point(tenant(expected.tenant), point(*number)).unwrap();
            self.locks.check_received(*number, &found);
        }
        for Receiving { tenant: owner, held, .. } in self.receiving.values() {
            for key in held {
                let record = self.store().record(tenant(*owner), Form::Plain, key).unwrap();
                assert_eq!(Key::of(&record), *key);
            }
        }
    }

    /// Catalog and key runs are gone, and made again of what else there is.
    fn lose_catalog(&mut self) {
        self.store = None;
        for (path, _) in self.disk.paths() {
            if path.starts_with("/store/runs") || path.ends_with("catalog") {
                self.disk.files().remove(&path).unwrap();
            }
        }
        let asked = RebuildAsked {
            up_to_damage: false,
            progress: &mut |_, _| ControlFlow::Continue(()),
            replayed: &mut |_| {},
        };
        let rebuilt = Store::rebuild(self.disk.files(), Path::new(STORE), asked).unwrap();
        assert_eq!(rebuilt.n_points, self.model.len() as u64);
        assert!(rebuilt.missing.is_empty(), "{rebuilt:?}");
        self.store = Some(open_with(&self.disk, self.settings()).unwrap());
        assert_eq!(self.store().alarms(), []);
        self.locks.check(&self.store(), None);
        self.check();
    }

    /// Everything ends; what is left is what points refer to.
    fn end(&mut self) {
        self.readers.clear();
        self.open.clear();
        for (id, receiving) in std::mem::take(&mut self.receiving) {
            let session = SessionId::from_bytes([id; 16]);
            drop(receiving.draft);
            self.store().end_draft(tenant(receiving.tenant), session).unwrap();
        }
        if self.dice.one_in(4) {
            self.lose_catalog();
        }
        // What a session that gave up left in a segment that others refer to is cut.
        self.store = None;
        self.store = Some(open_with(&self.disk, TINY).unwrap());
        let report = self.store().collect(&ALL, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(report.bytes_waiting, 0);
        self.check();
        check_no_strangers(&self.store(), &self.disk);
        let report = self.store().verify(&mut |_, _| ControlFlow::Continue(())).unwrap();
        assert_eq!(report.damage, []);
        let mut live: BTreeSet<(u8, Key)> = BTreeSet::new();
        for expected in self.model.values() {
            let records = expected.volumes[&1].chunks(RECORD);
            live.extend(records.map(|record| (expected.tenant, Key::of(record))));
        }
        let mut n_dead = 0;
        for owner in [1, 2] {
            for record in &self.pool {
                let key = Key::of(record);
                let found = self.store().find(tenant(owner), Form::Plain, &key).unwrap();
                assert!(found.is_some() || !live.contains(&(owner, key)), "lost {key}");
                n_dead += u32::from(found.is_some() && !live.contains(&(owner, key)));
            }
        }
        // A filter may take a dead record for alive.
        assert!(n_dead <= 2, "{n_dead} dead records are left");
    }
}
