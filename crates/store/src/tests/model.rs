//! Random interleavings of sessions, look-ups, aborts, commits, deletions and reopenings, compared
//! step by step with maps: tenants to keys, points to bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use offsite_model::{Key, Luck, Timestamp};
use offsite_testkit::disk::Disk;

use super::scene::*;
use crate::group::{CheckedGroup, Form};
use crate::{Session, Store};

/// An open session and the volume it is protecting.
struct Open {
    session: Session,
    tenant: u8,
    bytes: Vec<u8>,
    parent: Option<(u64, Volumes)>,
    appended: BTreeSet<Key>,
}

struct World {
    disk: Disk,
    store: Option<Store>,
    dice: Dice,
    model: Model,
    /// Keys that a commit made durable, per tenant.
    committed: BTreeMap<u8, BTreeSet<Key>>,
    /// Keys that a session ever appended, per tenant; they may be there as long as their segment
    /// is.
    ever_appended: BTreeMap<u8, BTreeSet<Key>>,
    open: Vec<Open>,
    next_number: u64,
    /// A small pool of records, so that sessions and tenants store the same ones.
    pool: Vec<Vec<u8>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = Disk::new(seed);
        let dice = Dice::new(seed);
        let pool = (0..12).map(|_| dice.noise(RECORD)).collect();
        Self {
            store: Some(new_store(&disk)),
            disk,
            dice,
            model: Model::new(),
            committed: BTreeMap::new(),
            ever_appended: BTreeMap::new(),
            open: Vec::new(),
            next_number: 1,
            pool,
        }
    }

    fn store(&self) -> Store {
        self.store.clone().unwrap()
    }

    fn volume(&self) -> Vec<u8> {
        let n = 1 + self.dice.below(6);
        (0..n).flat_map(|_| self.pool[self.dice.below(12) as usize].clone()).collect()
    }

    fn begin(&mut self) {
        let tenant_number = 1 + self.dice.below(2) as u8;
        let mut parents = self.model.iter().filter(|(_, point)| point.tenant == tenant_number);
        let parent = parents.next_back().filter(|_| self.dice.one_in(2));
        let parent = parent.map(|(number, point)| (*number, point.volumes.clone()));
        self.open.push(Open {
            session: self.store().session(tenant(tenant_number)).unwrap(),
            tenant: tenant_number,
            bytes: self.volume(),
            parent,
            appended: BTreeSet::new(),
        });
    }

    fn append_one(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let index = self.dice.below(self.open.len() as u64) as usize;
        let open = &mut self.open[index];
        let n = open.bytes.len() / RECORD;
        let at = self.dice.below(n as u64) as usize * RECORD;
        let record = &open.bytes[at..at + RECORD];
        let key = Key::of(record);
        let group = CheckedGroup::encode(Form::Plain, &[(key, record)], 1).unwrap();
        open.session.append(&group).unwrap();
        open.appended.insert(key);
        self.ever_appended.entry(open.tenant).or_default().insert(key);
    }

    fn look_up(&self) {
        let key = Key::of(&self.pool[self.dice.below(12) as usize]);
        for tenant_number in 1..=2 {
            let found = self.store().find(tenant(tenant_number), Form::Plain, &key).unwrap();
            let is_committed =
                self.committed.get(&tenant_number).is_some_and(|keys| keys.contains(&key));
            let was_appended =
                self.ever_appended.get(&tenant_number).is_some_and(|keys| keys.contains(&key));
            let is_appended = self
                .open
                .iter()
                .any(|open| open.tenant == tenant_number && open.appended.contains(&key));
            if is_committed || is_appended {
                assert!(found.is_some(), "lost record {key}");
            } else if !was_appended {
                assert_eq!(found, None, "record {key} was never this tenant's");
            }
            if found.is_some() {
                let record = self.store().record(tenant(tenant_number), Form::Plain, &key);
                assert!(Key::of(&record.unwrap()) == key);
            }
        }
    }

    fn commit(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let index = self.dice.below(self.open.len() as u64) as usize;
        let mut open = self.open.swap_remove(index);
        let number = self.next_number;
        self.next_number += 1;
        let volumes = Volumes::from([(1, open.bytes.clone())]);
        let parent = open.parent.as_ref().map(|(number, volumes)| (*number, volumes));
        protect_in(&mut open.session, number, &volumes, parent).unwrap();
        let keys: Vec<Key> = open.bytes.chunks(RECORD).map(Key::of).collect();
        self.committed.entry(open.tenant).or_default().extend(&keys);
        self.ever_appended.entry(open.tenant).or_default().extend(&keys);
        let expected = Expected { tenant: open.tenant, volumes, is_deleted: false };
        self.model.insert(number, expected);
    }

    fn abort(&mut self) {
        if !self.open.is_empty() {
            let index = self.dice.below(self.open.len() as u64) as usize;
            drop(self.open.swap_remove(index));
        }
    }

    fn delete(&mut self) {
        let numbers: Vec<u64> = self.model.keys().copied().collect();
        if numbers.is_empty() {
            return;
        }
        let number = numbers[self.dice.below(numbers.len() as u64) as usize];
        let store = self.store();
        let expected = self.model.get_mut(&number).unwrap();
        expected.is_deleted = !expected.is_deleted;
        let (owner, at) = (tenant(expected.tenant), Timestamp::from_secs(1));
        match expected.is_deleted {
            true => store.delete_point(owner, point(number), at).unwrap(),
            false => store.undelete_point(owner, point(number), at).unwrap(),
        }
    }

    fn reopen(&mut self) {
        match self.dice.below(3) {
            0 => {
                self.open.clear();
                self.store = None;
            }
            // The old process never ends cleanly: what it does from here on does not count.
            1 => {
                self.disk.kill();
                self.open.clear();
                self.store = None;
            }
            _ => {
                self.disk.power_cut();
                self.open.clear();
                self.store = None;
            }
        }
        let settings = if self.dice.one_in(2) { TINY } else { SMALL };
        self.store = Some(open_with(&self.disk, settings).unwrap());
        check_no_strangers(&self.store(), &self.disk);
    }
}

#[test]
fn interleaved_sessions_agree_with_the_model() {
    for seed in 0..60 {
        let mut world = World::new(seed);
        for _ in 0..80 {
            match world.dice.below(16) {
                0..3 => world.begin(),
                3..8 => world.append_one(),
                8..10 => world.look_up(),
                10..13 => world.commit(),
                13 => world.abort(),
                14 => world.delete(),
                _ => world.reopen(),
            }
        }
        check(&world.store(), &world.model, None);
        world.reopen();
        check(&world.store(), &world.model, None);
        let report = world.store().verify(&mut |_, _| ControlFlow::Continue(())).unwrap();
        assert_eq!(report.damage, [], "seed {seed}");
    }
}
