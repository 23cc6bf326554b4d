//! Drafts: promises kept through crashes, leases, commits by token across restarts.

use offsite_model::{Key, Luck, SessionId};
use offsite_testkit::disk::Disk;
use std::ops::ControlFlow;
use std::path::Path;

use super::scene::*;
use crate::group::{CheckedGroup, Form};
use crate::{Barrier, Draft, ListEntry, Store, StoreError};

fn session(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

/// What a target's driver has answered: entries listed, records held or flushed.
#[derive(Clone, Default)]
struct Told {
    n_listed: u64,
    held: Vec<Key>,
    committed: bool,
}

fn keys_of(entries: &[ListEntry]) -> Vec<Key> {
    entries.iter().map(|entry| entry.key).filter(|key| *key != Key::ZERO).collect()
}

/// Takes a volume window by window as a target does, until something fails; what it could say.
fn receive(
    store: &Store,
    draft: &mut Draft,
    number: u64,
    bytes: &[u8],
    told: &mut Told,
    dice: &Dice,
) -> Result<(), StoreError> {
    let list = list_of(bytes, None);
    let (mut staged, mut barrier) = (Vec::new(), None);
    for (n, window) in list.chunks(4).enumerate() {
        let first = n as u64 * 4;
        let is_known = first < draft.n_listed();
        let keys = keys_of(window);
        let places = draft.find_many(Form::Plain, &keys)?;
        if !is_known {
            draft.list(first, window)?;
        }
        if dice.one_in(2) || n == list.len().div_ceil(4) - 1 {
            draft.promise()?;
            told.n_listed = told.n_listed.max(draft.n_listed());
            let held = keys.iter().zip(&places).filter(|(_, place)| place.is_some());
            told.held.extend(held.map(|(key, _)| *key));
        }
        for (entry, place) in window.iter().filter(|e| e.key != Key::ZERO).zip(places) {
            if place.is_none() {
                let start = entry.offset as usize;
                let record = &bytes[start..start + entry.length as usize];
                draft.append(&CheckedGroup::encode(Form::Plain, &[(entry.key, record)], 1)?)?;
                staged.push(entry.key);
            }
        }
        // A barrier lasts at times until the groups of another window were appended.
        if let Some((begun, mut covered)) = barrier.take() {
            draft.end_barrier(Barrier::sync(begun))?;
            told.held.append(&mut covered);
        } else if dice.one_in(3) {
            barrier = Some((draft.begin_barrier()?, std::mem::take(&mut staged)));
        } else if dice.one_in(3) {
            draft.barrier()?;
            told.held.append(&mut staged);
        }
    }
    let mut image = draft.session().image(image_spec(number, 1, bytes.len() as u64), None, None)?;
    list.iter().try_for_each(|entry| image.push(*entry))?;
    draft.commit(point_spec(number, 1), vec![(image, Some(digest_of(&list)))])?;
    told.committed = true;
    store.end_draft(tenant(1), draft.id())
}

/// Everything that was answered is true.
fn check_told(store: &Store, number: u64, bytes: &[u8], told: &Told) {
    for key in &told.held {
        let record = store.record(tenant(1), Form::Plain, key);
        assert_eq!(Key::of(&record.expect("a record that was answered as held")), *key);
    }
    let outcome = store.outcome(tenant(1), token(number)).unwrap();
    assert!(outcome.is_some() || !told.committed, "a commit is lost");
    if outcome.is_some() {
        assert!(restore(store, 1, number, 1).unwrap() == bytes);
        return;
    }
    let Ok(mut draft) = store.resume(tenant(1), session(1)) else {
        assert_eq!((told.n_listed, told.held.len()), (0, 0), "a draft is lost");
        return;
    };
    assert!(draft.n_listed() >= told.n_listed, "promised entries are lost");
    let listed = draft.listed(0, usize::MAX).unwrap();
    assert_eq!(listed.len() as u64, draft.n_listed());
    let list = list_of(bytes, None);
    for (ordinal, entry) in listed {
        assert_eq!(entry, list[ordinal as usize]);
    }
}

#[test]
fn b_08_what_was_answered_as_held_survives_power_cuts_and_e_11_the_token_answers_once() {
    const SEEDS: u64 = 5_000;
    let (base, model) = super::crash::prepared();
    let (mut n_told, mut n_committed) = (0, 0);
    for seed in 0..SEEDS {
        let disk = base.fork(seed);
        let dice = Dice::new(seed);
        let settings = if seed.is_multiple_of(2) { SMALL } else { TINY };
        let bytes = [fresh_volume(&dice, 8), model[&1].volumes[&1][..2 * RECORD].to_vec()];
        let bytes = [&bytes[0][..8 * RECORD], &bytes[1][..]].concat();
        let mut told = Told::default();
        let life = |told: &mut Told| -> Result<(), StoreError> {
            let store = open_with(&disk, settings)?;
            if store.outcome(tenant(1), token(60))?.is_some() {
                return store.end_draft(tenant(1), session(1));
            }
            let mut draft = match store.resume(tenant(1), session(1)) {
                Err(StoreError::DraftUnknown(_)) => {
                    store.draft(tenant(1), session(1), b"opening".to_vec())?
                }
                other => other?,
            };
            receive(&store, &mut draft, 60, &bytes, told, &dice)
        };
        for _ in 0..1 + dice.below(3) {
            disk.cut_after(1 + dice.below(120));
            drop(life(&mut told));
            disk.power_cut();
            let store = open_with(&disk, settings)
                .unwrap_or_else(|error| panic!("seed {seed} does not open: {error}"));
            assert_eq!(store.alarms(), [], "seed {seed}");
            check_told(&store, 60, &bytes, &told);
            assert_eq!(
                store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap().damage,
                [],
                "seed {seed}"
            );
            n_told += told.held.len();
        }
        life(&mut told).unwrap_or_else(|error| panic!("seed {seed} does not go on: {error}"));
        let store = open_with(&disk, settings).unwrap();
        assert_eq!(store.drafts().unwrap(), []);
        let committed = store.outcome(tenant(1), token(60)).unwrap().unwrap();
        n_committed += 1;
        assert_eq!(committed.point, point(60));
        assert!(restore(&store, 1, 60, 1).unwrap() == bytes, "seed {seed}");
        check_no_strangers(&store, &disk);
        assert_eq!(
            store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap().damage,
            [],
            "seed {seed}"
        );
    }
    assert!(n_told > 1000 && n_committed == SEEDS, "{n_told} {n_committed}");
}

#[test]
fn d_12_a_holder_that_was_replaced_loses_its_lease_and_not_its_records() {
    let disk = Disk::new(1);
    let store = new_store(&disk);
    let record = Dice::new(1).noise(RECORD);
    let group = CheckedGroup::encode(Form::Plain, &[(Key::of(&record), &record)], 1).unwrap();
    let mut old = store.draft(tenant(1), session(1), Vec::new()).unwrap();
    old.append(&group).unwrap();
    old.barrier().unwrap();
    let mut new = store.resume(tenant(1), session(1)).unwrap();
    let lost =
        |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::LeaseLost)));
    lost(old.append(&group));
    lost(old.barrier());
    lost(old.promise());
    lost(old.list(0, &[]));
    lost(old.commit(point_spec(1, 1), Vec::new()).map(|_| ()));
    drop(old);
    assert!(new.find_many(Form::Plain, &[Key::of(&record)]).unwrap()[0].is_some());
    // Nobody else's, and nobody's twice.
    let other = store.resume(tenant(2), session(1)).map(|_| ());
    assert!(matches!(other, Err(StoreError::DraftUnknown(_))));
    assert!(store.draft(tenant(1), session(1), Vec::new()).is_err());
    let other = store.end_draft(tenant(2), session(1));
    assert!(matches!(other, Err(StoreError::DraftUnknown(_))));
    // Expired: its records can still be found, until it is ended.
    drop(new);
    assert!(store.find(tenant(1), Form::Plain, &Key::of(&record)).unwrap().is_some());
    assert_eq!(store.drafts().unwrap().len(), 1);
    store.end_draft(tenant(1), session(1)).unwrap();
    assert!(store.find(tenant(1), Form::Plain, &Key::of(&record)).unwrap().is_none());
    check_no_strangers(&store, &disk);
}

#[test]
fn b_08_a_promise_holds_what_another_session_that_gives_up_has_stored() {
    let disk = Disk::new(1);
    let store = new_store(&disk);
    let record = Dice::new(1).noise(RECORD);
    let key = Key::of(&record);
    let group = CheckedGroup::encode(Form::Plain, &[(key, &record)], 1).unwrap();
    let mut other = store.session(tenant(1)).unwrap();
    other.append(&group).unwrap();
    let mut draft = store.draft(tenant(1), session(1), Vec::new()).unwrap();
    assert!(draft.find_many(Form::Plain, &[key]).unwrap()[0].is_some());
    draft.promise().unwrap();
    drop((other, draft, store));
    disk.power_cut();
    let store = open(&disk).unwrap();
    let mut draft = store.resume(tenant(1), session(1)).unwrap();
    assert!(draft.find_many(Form::Plain, &[key]).unwrap()[0].is_some());
    assert_eq!(store.record(tenant(1), Form::Plain, &key).unwrap(), record);
}

#[test]
fn d_12_what_a_writer_stores_after_a_takeover_is_promised_to_nobody() {
    for seed in 0..20 {
        let (disk, dice) = (Disk::new(seed), Dice::new(seed));
        let old = Store::create(disk.files(), Path::new("/store"), &dice, TINY).unwrap();
        let bytes = dice.noise(24 * RECORD);
        let list = list_of(&bytes, None);
        let group = |entry: &ListEntry| {
            let record = &bytes[entry.offset as usize..][..entry.length as usize];
            CheckedGroup::encode(Form::Plain, &[(entry.key, record)], 1).unwrap()
        };
        let mut draft = old.draft(tenant(1), session(1), Vec::new()).unwrap();
        draft.list(0, &list).unwrap();
        // Some of it is durable, some is written, and the rest comes when the store has another
        // writer, which has cut what was not durable: what the old one goes on with has a hole.
        let [n_durable, n_written] = [1, 1].map(|least| least + dice.below(6) as usize);
        let (last, others) = list.split_last().unwrap();
        let mut groups = others.iter().map(group);
        groups.by_ref().take(n_durable).for_each(|group| draft.append(&group).unwrap());
        draft.barrier().unwrap();
        groups.by_ref().take(n_written).for_each(|group| draft.append(&group).unwrap());
        disk.files().remove(Path::new("/store/lock")).unwrap();
        let new = open_with(&disk, TINY).unwrap();
        // The new one may have gone on with the session, and promised something itself.
        let is_resumed = seed % 2 == 1;
        if is_resumed {
            let mut draft = new.resume(tenant(1), session(1)).unwrap();
            draft.append(&group(last)).unwrap();
            draft.barrier().unwrap();
        }
        groups.for_each(|group| draft.append(&group).unwrap());
        let refused = draft.barrier();
        assert!(matches!(refused, Err(StoreError::Fenced)), "seed {seed}: {refused:?}");
        drop((draft, old, new));
        let store = open_with(&disk, TINY).unwrap();
        let mut draft = store.resume(tenant(1), session(1)).unwrap();
        assert_eq!(draft.n_listed(), list.len() as u64, "seed {seed}");
        let found = draft.find_many(Form::Plain, &keys_of(&list)).unwrap();
        let n_found = found.iter().flatten().count();
        assert!(n_found >= n_durable, "seed {seed}: {n_found} of {n_durable} promised records");
        assert!(found[others.len()].is_some() || !is_resumed, "seed {seed}: the new one's is lost");
        for (entry, _) in list.iter().zip(&found).filter(|(_, place)| place.is_some()) {
            let record = store.record(tenant(1), Form::Plain, &entry.key);
            record.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        for (entry, _) in list.iter().zip(&found).filter(|(_, place)| place.is_none()) {
            draft.append(&group(entry)).unwrap();
        }
        let spec = image_spec(1, 1, bytes.len() as u64);
        let mut image = draft.session().image(spec, None, None).unwrap();
        list.iter().for_each(|entry| image.push(*entry).unwrap());
        draft.commit(point_spec(1, 1), vec![(image, Some(digest_of(&list)))]).unwrap();
        store.end_draft(tenant(1), session(1)).unwrap();
        assert!(restore(&store, 1, 1, 1).unwrap() == bytes, "seed {seed}");
        drop((draft, store));
        let store = open_with(&disk, TINY).unwrap();
        check_no_strangers(&store, &disk);
    }
}

#[test]
fn d_12_of_two_that_resume_a_session_at_once_one_holds_it() {
    for seed in 0..50 {
        let disk = Disk::new(seed);
        let store = new_store(&disk);
        let record = Dice::new(seed).noise(RECORD);
        let group = CheckedGroup::encode(Form::Plain, &[(Key::of(&record), &record)], 1).unwrap();
        let mut draft = store.draft(tenant(1), session(1), Vec::new()).unwrap();
        draft.append(&group).unwrap();
        draft.barrier().unwrap();
        drop((draft, store));
        let store = open(&disk).unwrap();
        let resume = || store.resume(tenant(1), session(1));
        let both = std::thread::scope(|scope| {
            [scope.spawn(resume), scope.spawn(resume)].map(|one| one.join().unwrap())
        });
        let mut n_holders = 0;
        for one in both {
            match one.and_then(|mut draft| draft.promise()) {
                Ok(()) => n_holders += 1,
                Err(StoreError::LeaseLost) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert_eq!(n_holders, 1, "seed {seed}");
        let drafts = disk.files().list(Path::new("/store/drafts")).unwrap();
        assert_eq!(drafts.len(), 1, "seed {seed}: {drafts:?}");
        drop(store);
        disk.power_cut();
        let store = open(&disk).unwrap();
        let mut draft = store.resume(tenant(1), session(1)).unwrap();
        assert!(draft.find_many(Form::Plain, &[Key::of(&record)]).unwrap()[0].is_some());
    }
}
