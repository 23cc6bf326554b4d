//! Random interleavings of everything that adds, holds, removes and moves records, against maps;
//! and several threads at once.
//!
//! `OFFSITE_STEPS` says how many steps, `OFFSITE_SEED` with which world to begin.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use offsite_model::{Key, Luck, SessionId, Timestamp};
use offsite_testkit::disk::Disk;

use super::collect::{ALL, purge};
use super::scene::*;
use crate::group::{CheckedGroup, Form};
use crate::{
    CollectOptions, Draft, Fetch, Image, ImageWriter, ScrubProgress, Session, Store, StoreError,
};

const POOL: u64 = 40;
const STEPS: u64 = 90;

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

struct World {
    disk: Disk,
    store: Option<Store>,
    dice: Dice,
    model: Model,
    open: Vec<Open>,
    receiving: BTreeMap<u8, Receiving>,
    readers: Vec<Reader>,
    next_number: u64,
    pool: Vec<Vec<u8>>,
}

impl World {
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
            open: Vec::new(),
            receiving: BTreeMap::new(),
            readers: Vec::new(),
            next_number: 1,
            pool,
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

    fn volume(&self) -> Vec<u8> {
        // Neighbours in the pool stay neighbours, so that groups are shared as wholes and in part.
        let start = self.dice.below(POOL);
        let n = 1 + self.dice.below(12);
        (start..start + n).flat_map(|i| self.pool[(i % POOL) as usize].clone()).collect()
    }

    fn a_point(&self, is_wanted: impl Fn(&Expected) -> bool) -> Option<u64> {
        let numbers = self.model.iter().filter(|(_, expected)| is_wanted(expected));
        let numbers: Vec<u64> = numbers.map(|(number, _)| *number).collect();
        self.one(numbers.len()).map(|at| numbers[at])
    }

    fn begin(&mut self) {
        let owner = 1 + self.dice.below(2) as u8;
        let session = self.store().session(tenant(owner)).unwrap();
        let number = self.number();
        let mut bytes = self.volume();
        let parent =
            self.a_point(|expected| expected.tenant == owner).filter(|_| self.dice.one_in(2));
        let parent = parent.map(|parent| {
            let before = self.model[&parent].volumes[&1].clone();
            bytes = before.clone();
            for record in bytes.chunks_mut(RECORD).filter(|_| self.dice.one_in(3)) {
                record.copy_from_slice(&self.pool[self.dice.below(POOL) as usize]);
            }
            let spec = image_spec(number, 1, bytes.len() as u64);
            (session.image(spec, Some(point(parent)), None).unwrap(), before)
        });
        let told = BTreeSet::new();
        self.open.push(Open { session, tenant: owner, number, bytes, parent, told });
    }

    /// Asks for some records of an open session, and appends some that are missing.
    fn go_on(&mut self) {
        let Some(at) = self.one(self.open.len()) else { return };
        let Self { dice, open, .. } = self;
        let open = &mut open[at];
        let mut missing: Vec<(Key, &[u8])> = Vec::new();
        for record in open.bytes.chunks(RECORD).filter(|_| dice.one_in(2)) {
            let key = Key::of(record);
            if open.session.find(Form::Plain, &key).unwrap().is_some() {
                open.told.insert(key);
            } else if missing.len() < 3 && missing.iter().all(|(other, _)| *other != key) {
                missing.push((key, record));
            }
        }
        if !missing.is_empty() {
            open.session.append(&CheckedGroup::encode(Form::Plain, &missing, 1).unwrap()).unwrap();
            open.told.extend(missing.iter().map(|(key, _)| *key));
        }
    }

    fn commit(&mut self) {
        let Some(at) = self.one(self.open.len()) else { return };
        let Open { mut session, tenant, number, bytes, parent, told } = self.open.swap_remove(at);
        let list = list_of(&bytes, parent.as_ref().map(|(_, before)| &before[..]));
        for entry in &list {
            let is_found = session.find(Form::Plain, &entry.key).unwrap().is_some();
            assert!(
                is_found || !told.contains(&entry.key),
                "told of {}, and it is gone",
                entry.key
            );
        }
        append_missing(&mut session, &bytes, &list).unwrap();
        let spec = image_spec(number, 1, bytes.len() as u64);
        let mut image = match parent {
            Some((image, _)) => image,
            None => session.image(spec, None, None).unwrap(),
        };
        list.iter().for_each(|entry| image.push(*entry).unwrap());
        session.commit(point_spec(number, 1), vec![(image, None)]).unwrap();
        let volumes = Volumes::from([(1, bytes)]);
        self.model.insert(number, Expected { tenant, volumes, is_deleted: false });
    }

    fn receive(&mut self) {
        let id = 1 + self.dice.below(3) as u8;
        let session = SessionId::from_bytes([id; 16]);
        let store = self.store();
        if !self.receiving.contains_key(&id) {
            let owner = 1 + self.dice.below(2) as u8;
            let draft = Some(store.draft(tenant(owner), session, Vec::new()).unwrap());
            let (number, bytes, held) = (self.number(), self.volume(), BTreeSet::new());
            self.receiving.insert(id, Receiving { draft, tenant: owner, number, bytes, held });
        }
        let Self { dice, receiving, model, .. } = self;
        let Some(Receiving { draft, tenant: owner, number, bytes, held }) = receiving.get_mut(&id)
        else {
            return;
        };
        let own = draft.get_or_insert_with(|| store.resume(tenant(*owner), session).unwrap());
        let list = list_of(bytes, None);
        match dice.below(8) {
            0 => *draft = None,
            1..5 if (own.n_listed() as usize) < list.len() => {
                let first = own.n_listed();
                let window: Vec<_> = list[first as usize..].iter().take(4).copied().collect();
                let keys: Vec<Key> = window.iter().map(|entry| entry.key).collect();
                let is_late = dice.one_in(2);
                if is_late {
                    own.list(first, &window).unwrap();
                }
                let found = own.find_many(Form::Plain, &keys).unwrap();
                if !is_late {
                    own.list(first, &window).unwrap();
                }
                own.promise().unwrap();
                let answered = keys.iter().zip(found).filter(|(_, found)| found.is_some());
                held.extend(answered.map(|(key, _)| *key));
            }
            1..6 => {
                for record in bytes.chunks(RECORD).take(own.n_listed() as usize) {
                    let group =
                        CheckedGroup::encode(Form::Plain, &[(Key::of(record), record)], 1).unwrap();
                    if !held.contains(&Key::of(record)) && dice.one_in(2) {
                        own.append(&group).unwrap();
                    }
                }
                own.barrier().unwrap();
            }
            6 if own.n_listed() as usize == list.len() => {
                for record in bytes.chunks(RECORD) {
                    let key = Key::of(record);
                    let is_there = own.find_many(Form::Plain, &[key]).unwrap()[0].is_some();
                    assert!(is_there || !held.contains(&key), "held, and it is gone");
                    let group = CheckedGroup::encode(Form::Plain, &[(key, record)], 1).unwrap();
                    own.append(&group).unwrap();
                }
                let spec = image_spec(*number, 1, bytes.len() as u64);
                let mut image = own.session().image(spec, None, None).unwrap();
                list.iter().for_each(|entry| image.push(*entry).unwrap());
                own.commit(point_spec(*number, 1), vec![(image, None)]).unwrap();
                let volumes = Volumes::from([(1, bytes.clone())]);
                model.insert(*number, Expected { tenant: *owner, volumes, is_deleted: false });
                store.end_draft(tenant(*owner), session).unwrap();
                receiving.remove(&id);
            }
            _ if dice.one_in(3) => {
                store.end_draft(tenant(*owner), session).unwrap();
                receiving.remove(&id);
            }
            _ => {}
        }
    }

    fn read(&mut self) {
        if self.dice.one_in(2) || self.readers.is_empty() {
            let Some(number) = self.a_point(|_| true) else { return };
            let expected = &self.model[&number];
            let owner = tenant(expected.tenant);
            let image = self.store().image(owner, point(number), volume(1)).unwrap();
            let list: Vec<_> = image.list(0).map(Result::unwrap).collect();
            let fetches = self.store().plan(owner, &image, &list).unwrap();
            self.readers.push(Reader { image, fetches, bytes: expected.volumes[&1].clone() });
            return;
        }
        let Some(at) = self.one(self.readers.len()) else { return };
        let Reader { image, fetches, bytes } = self.readers.swap_remove(at);
        let mut found = vec![0; bytes.len()];
        for fetch in fetches {
            fetch.read(&self.store(), &mut found[..]).unwrap();
        }
        assert!(found == bytes, "wrong bytes");
        // Its pages are held as well.
        let list: Vec<_> = image.list(0).map(Result::unwrap).collect();
        assert_eq!(list, list_of(&bytes, None));
    }

    fn mark(&mut self) {
        let Some(number) = self.a_point(|_| true) else { return };
        let store = self.store();
        let expected = self.model.get_mut(&number).unwrap();
        expected.is_deleted = !expected.is_deleted;
        let (owner, at) = (tenant(expected.tenant), Timestamp::from_secs(1));
        match expected.is_deleted {
            true => store.delete_point(owner, point(number), at).unwrap(),
            false => store.undelete_point(owner, point(number), at).unwrap(),
        }
    }

    fn purge(&mut self) {
        if let Some(number) = self.a_point(|_| true) {
            purge(&self.store(), &mut self.model, number).unwrap();
        }
    }

    fn collect(&mut self) {
        let options = CollectOptions {
            live_percent: [0, 50, 75, 100][self.dice.below(4) as usize],
            moved_bytes_max: if self.dice.one_in(3) { 3 << 14 } else { u64::MAX },
            tenant: [None, Some(tenant(1)), Some(tenant(2))][self.dice.below(3) as usize],
            n_threads: [1, 1, 1, 2][self.dice.below(4) as usize],
            ..ALL
        };
        let mut left = if self.dice.one_in(3) { self.dice.below(60) } else { u64::MAX };
        let collected = self.store().collect(&options, &mut |_| {
            left = left.saturating_sub(1);
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match collected {
            Ok(_) | Err(StoreError::Interrupted) => {}
            // Only the tail of a draft that a cut has torn and nobody has resumed.
            Err(StoreError::Doubt(what)) if what.contains("draft") => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// A part of a pass, or the rest of it.
    fn scrub(&mut self) {
        let mut left = if self.dice.one_in(3) { u64::MAX } else { 1 + self.dice.below(40) };
        let mut progress = |_: &ScrubProgress| {
            left = left.saturating_sub(1);
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        match self.store().scrub(&|| Timestamp::from_secs(1), &mut progress) {
            Ok(pass) => assert_eq!(pass.damage, []),
            Err(StoreError::Interrupted) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn reopen(&mut self) {
        let end = self.dice.below(3);
        if end > 0 {
            // The old process never ends cleanly: what it does from here on does not count.
            if end == 1 { self.disk.kill() } else { self.disk.power_cut() }
        }
        self.open.clear();
        self.readers.clear();
        self.receiving.values_mut().for_each(|receiving| receiving.draft = None);
        self.store = None;
        let settings = if self.dice.one_in(2) { TINY } else { SMALL };
        self.store = Some(open_with(&self.disk, settings).unwrap());
        assert_eq!(self.store().alarms(), []);
    }

    fn check(&self) {
        check(&self.store(), &self.model, None);
        for Receiving { tenant: owner, held, .. } in self.receiving.values() {
            for key in held {
                let record = self.store().record(tenant(*owner), Form::Plain, key).unwrap();
                assert_eq!(Key::of(&record), *key);
            }
        }
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

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn one_world(seed: u64) {
    let mut world = World::new(seed);
    for step in 0..STEPS {
        match world.dice.below(32) {
            0..4 => world.begin(),
            4..9 => world.go_on(),
            9..13 => world.commit(),
            13 => drop(world.one(world.open.len()).map(|at| world.open.swap_remove(at))),
            14..20 => world.receive(),
            20..22 => world.read(),
            22 => world.mark(),
            23..26 => world.purge(),
            26..30 => world.collect(),
            30 if world.dice.one_in(2) => {
                let report = world.store().verify(&mut |_, _| ControlFlow::Continue(())).unwrap();
                assert_eq!(report.damage, []);
            }
            30 => world.scrub(),
            _ => world.reopen(),
        }
        if step % 15 == 0 {
            world.check();
        }
    }
    world.check();
    world.end();
}

#[test]
fn d_09_interleaved_collections_agree_with_the_model() {
    let first = from_env("OFFSITE_SEED").unwrap_or(0);
    let n_worlds = from_env("OFFSITE_STEPS").unwrap_or(27_000).div_ceil(STEPS);
    for seed in first..first + n_worlds {
        let world = std::panic::AssertUnwindSafe(|| one_world(seed));
        if let Err(cause) = std::panic::catch_unwind(world) {
            eprintln!("failed with OFFSITE_SEED={seed} OFFSITE_STEPS=1");
            std::panic::resume_unwind(cause);
        }
    }
}

/// Several ingest and purge, one reads, one collects without end; then everything restores.
fn one_storm(seed: u64) -> u64 {
    let disk = Disk::new(seed);
    drop(new_store(&disk));
    let store = open_with(&disk, TINY).unwrap();
    let pool: Vec<Vec<u8>> = {
        let dice = Dice::new(seed);
        (0..POOL).map(|_| dice.noise(RECORD)).collect()
    };
    let model: Mutex<Model> = Mutex::default();
    let (n_working, n_collected) = (AtomicU64::new(4), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for worker in 0..4_u64 {
            let (store, pool, model, n_working) = (&store, &pool, &model, &n_working);
            scope.spawn(move || {
                let dice = Dice::new(seed * 10 + worker);
                let mut last: Option<(u64, Volumes)> = None;
                for round in 0..8 {
                    let number = 1 + worker * 100 + round;
                    let mut bytes = match &last {
                        Some((_, volumes)) => volumes[&1].clone(),
                        None => vec![0; 8 * RECORD],
                    };
                    for record in bytes.chunks_mut(RECORD).filter(|_| !dice.one_in(3)) {
                        record.copy_from_slice(&pool[dice.below(POOL) as usize]);
                    }
                    let volumes = Volumes::from([(1, bytes)]);
                    let parent = last.as_ref().map(|(number, volumes)| (*number, volumes));
                    protect(store, 1, number, &volumes, parent).unwrap();
                    assert!(restore(store, 1, number, 1).unwrap() == volumes[&1]);
                    let kept = last.replace((number, volumes));
                    // The parent goes as soon as its child is there, or stays.
                    let Some((before, volumes)) = kept else { continue };
                    if dice.one_in(3) {
                        let expected = Expected { tenant: 1, volumes, is_deleted: false };
                        model.lock().unwrap().insert(before, expected);
                    } else {
                        let mut own = Model::new();
                        own.insert(before, Expected { tenant: 1, volumes, is_deleted: false });
                        purge(store, &mut own, before).unwrap();
                    }
                }
                let (number, volumes) = last.unwrap();
                let expected = Expected { tenant: 1, volumes, is_deleted: false };
                model.lock().unwrap().insert(number, expected);
                n_working.fetch_sub(1, Ordering::SeqCst);
            });
        }
        scope.spawn(|| {
            while n_working.load(Ordering::SeqCst) > 0 {
                let report = store.collect(&ALL, &mut |_| ControlFlow::Continue(())).unwrap();
                n_collected.fetch_add(report.n_segments, Ordering::SeqCst);
            }
        });
        scope.spawn(|| {
            while n_working.load(Ordering::SeqCst) > 0 {
                let report = store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap();
                assert_eq!(report.damage, []);
                let now = || Timestamp::from_secs(1);
                let pass = store.scrub(&now, &mut |_| ControlFlow::Continue(())).unwrap();
                assert_eq!(pass.damage, []);
            }
        });
    });
    let model = model.into_inner().unwrap();
    check(&store, &model, None);
    drop(store);
    disk.power_cut();
    let store = open_with(&disk, TINY).unwrap();
    assert_eq!(store.alarms(), []);
    check(&store, &model, None);
    n_collected.load(Ordering::SeqCst)
}

#[test]
fn d_09_threads_that_ingest_beside_endless_collection_lose_nothing() {
    let first = from_env("OFFSITE_SEED").unwrap_or(0);
    let mut n_collected = 0;
    let n_storms = from_env("OFFSITE_SEEDS").unwrap_or(40);
    // Where other work keeps the machine busy a storm collects less, and there are more of them.
    for seed in first..first + 4 * n_storms {
        if seed >= first + n_storms && n_collected > 100 {
            break;
        }
        let storm = std::panic::AssertUnwindSafe(|| one_storm(seed));
        match std::panic::catch_unwind(storm) {
            Ok(n) => n_collected += n,
            Err(cause) => {
                eprintln!("failed with OFFSITE_SEED={seed} OFFSITE_SEEDS=1");
                std::panic::resume_unwind(cause);
            }
        }
    }
    assert!(n_collected > 100, "{n_collected} segments");
}
