//! Power cuts, process deaths, failing calls, a full disk.

use std::io;
use std::ops::ControlFlow;

use offsite_model::{Luck, Timestamp};
use offsite_testkit::disk::{Disk, Fault, Which};

use super::scene::*;
use crate::{Settings, Store, StoreError};

/// A disk with a store that holds points 1 and 2 of tenant 1 and 3 of tenant 2.
pub(super) fn prepared() -> (Disk, Model) {
    let disk = Disk::new(0);
    let store = new_store(&disk);
    let dice = Dice::new(99);
    let mut model = Model::new();
    let first = Volumes::from([(1, fresh_volume(&dice, 5)), (2, fresh_volume(&dice, 2))]);
    protect(&store, 1, 1, &first, None).unwrap();
    let second = first.iter().map(|(n, bytes)| (*n, next_version(&dice, bytes))).collect();
    protect(&store, 1, 2, &second, Some((1, &first))).unwrap();
    let third = Volumes::from([(1, first[&1].clone())]);
    protect(&store, 2, 3, &third, None).unwrap();
    for (number, tenant, volumes) in [(1, 1, first), (2, 1, second), (3, 2, third)] {
        model.insert(number, Expected { tenant, volumes, is_deleted: false });
    }
    check(&store, &model, None);
    drop(store);
    (disk, model)
}

/// What a run of a workload left: what was acknowledged, and what was under way.
struct Outcome {
    model: Model,
    in_flight: Option<(u64, Expected)>,
    n_acknowledged: u32,
}

/// Protects, deletes and undeletes by the dice until something fails or enough is done.
fn work(store: &Store, dice: &Dice, before: &Model, first_number: u64) -> Outcome {
    let mut outcome = Outcome { model: before.clone(), in_flight: None, n_acknowledged: 0 };
    for number in first_number..first_number + 1 + dice.below(4) {
        if dice.one_in(4) {
            let numbers: Vec<u64> = outcome.model.keys().copied().collect();
            let number = numbers[dice.below(numbers.len() as u64) as usize];
            let mut expected = outcome.model[&number].clone();
            expected.is_deleted = !expected.is_deleted;
            let (owner, at) = (tenant(expected.tenant), Timestamp::from_secs(9));
            let marked = match expected.is_deleted {
                true => store.delete_point(owner, point(number), at),
                false => store.undelete_point(owner, point(number), at),
            };
            if marked.is_err() {
                outcome.in_flight = Some((number, expected));
                return outcome;
            }
            outcome.model.insert(number, expected);
            outcome.n_acknowledged += 1;
            continue;
        }
        let tenant = 1 + dice.below(2) as u8;
        let mut parents = outcome.model.iter().filter(|(_, point)| point.tenant == tenant);
        let parent = parents.next_back().filter(|_| !dice.one_in(4));
        let volumes: Volumes = match parent {
            Some((_, parent)) => {
                parent.volumes.iter().map(|(n, bytes)| (*n, next_version(dice, bytes))).collect()
            }
            None => (1..=1 + dice.below(2) as u8).map(|n| (n, fresh_volume(dice, 3))).collect(),
        };
        let parent = parent.map(|(number, parent)| (*number, &parent.volumes));
        let done = protect(store, tenant, number, &volumes, parent);
        let expected = Expected { tenant, volumes, is_deleted: false };
        if done.is_err() {
            outcome.in_flight = Some((number, expected));
            return outcome;
        }
        outcome.model.insert(number, expected);
        outcome.n_acknowledged += 1;
    }
    outcome
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// One life: open, work, cut somewhere, perhaps a second cut while opening, and what is left.
fn one_power_cut(base: &Disk, model: &Model, seed: u64) -> u32 {
    let disk = base.fork(seed);
    let dice = Dice::new(seed);
    let settings = if seed.is_multiple_of(2) { SMALL } else { TINY };
    disk.cut_after(1 + dice.below(140));
    let outcome = match open_with(&disk, settings) {
        Ok(store) => work(&store, &dice, model, 10),
        Err(_) => Outcome { model: model.clone(), in_flight: None, n_acknowledged: 0 },
    };
    disk.power_cut();
    if dice.one_in(5) {
        disk.cut_after(1 + dice.below(40));
        drop(open_with(&disk, settings));
        disk.power_cut();
    }
    let store = open_with(&disk, settings).unwrap_or_else(|error| panic!("does not open: {error}"));
    assert_eq!(store.alarms(), [], "a power cut is no damage");
    let in_flight = outcome.in_flight.as_ref().map(|(number, expected)| (*number, expected));
    check(&store, &outcome.model, in_flight);
    check_no_strangers(&store, &disk);
    if dice.one_in(8) {
        let report = store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap();
        assert_eq!(report.damage, []);
        let after = Volumes::from([(1, fresh_volume(&dice, 2))]);
        protect(&store, 1, 1000, &after, None).unwrap();
        assert!(restore(&store, 1, 1000, 1).unwrap() == after[&1]);
    }
    outcome.n_acknowledged
}

#[test]
fn d_03_power_cuts_lose_nothing() {
    let (base, model) = prepared();
    let first = from_env("OFFSITE_SEED").unwrap_or(0);
    let n_seeds = from_env("OFFSITE_SEEDS").unwrap_or(20_000);
    let mut n_acknowledged = 0;
    for seed in first..first + n_seeds {
        let life = std::panic::AssertUnwindSafe(|| one_power_cut(&base, &model, seed));
        match std::panic::catch_unwind(life) {
            Ok(n) => n_acknowledged += u64::from(n),
            Err(cause) => {
                eprintln!("failed with OFFSITE_SEED={seed} OFFSITE_SEEDS=1");
                std::panic::resume_unwind(cause);
            }
        }
    }
    assert!(n_acknowledged > n_seeds / 2, "{n_acknowledged}: the cuts come before any commit");
}

#[test]
fn d_03_what_a_killed_process_left_in_the_cache_is_synced_before_it_is_believed() {
    let (base, model) = prepared();
    let (n_open, n_calls) = n_calls(&base, &model);
    let expected = next(&model);
    let volumes = Volumes::from([(1, fresh_volume(&Dice::new(7), 1))]);
    let mut n_alarms = 0;
    for killed_at in n_open..=n_calls {
        for cut_at in n_open..n_open + 60 {
            let disk = base.fork(killed_at * 1_000 + cut_at);
            disk.cut_after(killed_at);
            drop(open(&disk).and_then(|store| protect_next(&store, &model)));
            disk.kill();
            disk.cut_after(cut_at);
            drop(open(&disk).and_then(|store| protect(&store, 1, 51, &volumes, None)));
            disk.power_cut();
            let store = open(&disk).unwrap_or_else(|error| panic!("{killed_at}: {error}"));
            n_alarms += store.alarms().len();
            let is_there = |number| store.point(tenant(1), point(number)).is_ok();
            let mut model = model.clone();
            if is_there(51) {
                let volumes = volumes.clone();
                model.insert(51, Expected { tenant: 1, volumes, is_deleted: false });
            }
            check(&store, &model, Some((50, &expected)));
        }
    }
    assert_eq!(n_alarms, 0, "a power cut is no damage");
}

#[test]
fn d_03_a_power_cut_while_a_store_is_made_leaves_none_or_a_good_one() {
    for seed in 0..120 {
        let disk = Disk::new(seed);
        disk.cut_after(1 + seed % 40);
        let path = std::path::Path::new(STORE);
        let made = Store::create(disk.files(), path, &Dice::new(seed), SMALL).is_ok();
        disk.power_cut();
        let store = match open(&disk) {
            Err(StoreError::NotAStore(_)) if !made => new_store(&disk),
            other => other.unwrap_or_else(|error| panic!("seed {seed}: {error}")),
        };
        let volumes = Volumes::from([(1, fresh_volume(&Dice::new(seed), 2))]);
        protect(&store, 1, 1, &volumes, None).unwrap();
    }
}

/// How many changing calls opening and a protect with a parent take.
fn n_calls(base: &Disk, model: &Model) -> (u64, u64) {
    let disk = base.fork(1);
    let store = open(&disk).unwrap();
    let n_open = disk.n_changes();
    protect_next(&store, model).unwrap();
    (n_open, disk.n_changes())
}

/// Point 50: the next version of point 2.
fn protect_next(store: &Store, model: &Model) -> Result<(), StoreError> {
    let expected = next(model);
    protect(store, 1, 50, &expected.volumes, Some((2, &model[&2].volumes))).map(|_| ())
}

fn next(model: &Model) -> Expected {
    let dice = Dice::new(50);
    let volumes = &model[&2].volumes;
    let volumes = volumes.iter().map(|(n, bytes)| (*n, next_version(&dice, bytes))).collect();
    Expected { tenant: 1, volumes, is_deleted: false }
}

#[test]
fn d_02_death_at_every_call_loses_nothing_and_leaks_nothing() {
    let (base, model) = prepared();
    let (_, n_calls) = n_calls(&base, &model);
    let expected = next(&model);
    let (mut n_before, mut n_after) = (0, 0);
    for n in 1..=n_calls {
        let disk = base.fork(n);
        disk.cut_after(n);
        let acknowledged = open(&disk).and_then(|store| protect_next(&store, &model)).is_ok();
        disk.kill();
        let store = open(&disk).unwrap_or_else(|error| panic!("call {n}: {error}"));
        assert_eq!(store.alarms(), []);
        check(&store, &model, Some((50, &expected)));
        check_no_strangers(&store, &disk);
        let is_there = store.point(tenant(1), point(50)).is_ok();
        assert!(is_there || !acknowledged, "call {n}: lost");
        // Asked again, it is answered once and for all.
        protect_next(&store, &model).unwrap();
        check(&store, &model, Some((50, &expected)));
        n_before += u32::from(!is_there);
        n_after += u32::from(is_there);
    }
    assert!(n_before > 10 && n_after > 3, "{n_before} {n_after}");
}

#[test]
fn d_04_every_failing_call_ends_acknowledging_and_nothing_is_lost() {
    let (base, model) = prepared();
    let (n_open, n_calls) = n_calls(&base, &model);
    let expected = next(&model);
    for which in [Which::Changes, Which::Syncs] {
        for for_good in [false, true] {
            for n in 0..n_calls - n_open {
                let disk = base.fork(n);
                let store = open(&disk).unwrap();
                disk.fail(Fault { which, after: n, error: io::ErrorKind::Other, for_good });
                let done = protect_next(&store, &model);
                let case = format!("{which:?} {n} for good: {for_good}");
                if for_good && done.is_err() {
                    assert!(protect_next(&store, &model).is_err(), "{case}");
                }
                if store.is_poisoned() {
                    assert!(done.is_err(), "{case}");
                    let again = protect_next(&store, &model);
                    assert!(matches!(again, Err(StoreError::Poisoned)), "{case}: {again:?}");
                }
                // Reading goes on, and what the error hit may still be there or not.
                check(&store, &model, Some((50, &expected)));
                drop(store);
                disk.mend();
                if n % 2 == 0 {
                    disk.power_cut();
                }
                let store = open(&disk).unwrap_or_else(|error| panic!("{case}: {error}"));
                check(&store, &model, Some((50, &expected)));
                assert!(done.is_err() || store.point(tenant(1), point(50)).is_ok(), "{case}: lost");
                protect_next(&store, &model).unwrap();
            }
        }
    }
}

#[test]
fn d_04_a_failed_sync_is_never_repeated_and_believed() {
    let (base, model) = prepared();
    for seed in 0..60 {
        let disk = base.fork(seed);
        let store = open(&disk).unwrap();
        let error = io::ErrorKind::Other;
        disk.fail(Fault { which: Which::Syncs, after: seed % 6, error, for_good: false });
        let acknowledged = (0..3).any(|_| protect_next(&store, &model).is_ok());
        drop(store);
        disk.power_cut();
        let store = open(&disk).unwrap();
        let expected = next(&model);
        check(&store, &model, Some((50, &expected)));
        assert!(!acknowledged || store.point(tenant(1), point(50)).is_ok(), "seed {seed}: lost");
    }
}

#[test]
fn d_05_a_full_disk_refuses_and_recovers_without_loss() {
    let (base, model) = prepared();
    let expected = next(&model);
    let (mut n_refused, mut n_done) = (0, 0);
    for n_pages in 0..60 {
        let disk = base.fork(n_pages);
        let store = open(&disk).unwrap();
        disk.set_bytes_max(Some(disk.bytes_used() + n_pages * 4096));
        let done = protect_next(&store, &model);
        match &done {
            Ok(()) => n_done += 1,
            Err(StoreError::NoSpace) => n_refused += 1,
            Err(other) => panic!("{n_pages}: {other}"),
        }
        check(&store, &model, Some((50, &expected)));
        disk.mend();
        let store = match store.is_poisoned() {
            true => {
                drop(store);
                open(&disk).unwrap()
            }
            false => store,
        };
        check(&store, &model, Some((50, &expected)));
        assert!(done.is_err() || store.point(tenant(1), point(50)).is_ok());
        protect_next(&store, &model).unwrap();
        let report = store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap();
        assert_eq!(report.damage, []);
    }
    assert!(n_refused > 3 && n_done > 3, "{n_refused} {n_done}");
}

const RESERVE: Settings =
    Settings { reserve_bytes: 1 << 20, reserve_percent: 1, segment_bytes: 24 << 10, ..SMALL };

#[test]
fn d_05_ingest_leaves_the_reserve_to_deletions() {
    let (base, model) = prepared();
    let disk = base.fork(1);
    let settings = Settings { reserve_percent: 90, ..RESERVE };
    let store = open_with(&disk, settings).unwrap();
    // The file is there in full, and yet less than the limit would be left.
    disk.set_bytes_max(Some(disk.bytes_used() * 6 / 5));
    assert!(matches!(protect_next(&store, &model), Err(StoreError::NoSpace)));
    assert!(!store.is_poisoned());
    store.delete_point(tenant(1), point(1), Timestamp::from_secs(5)).unwrap();
    disk.mend();
    protect_next(&store, &model).unwrap();
}

/// Somebody else fills the disk, down to so many pages.
fn fill_up(disk: &Disk, n_pages: u64) {
    disk.set_bytes_max(Some(disk.bytes_used() + n_pages * 4096));
}

#[test]
fn d_05_a_disk_that_others_filled_lets_points_be_deleted_and_needs_no_restart() {
    let (base, model) = prepared();
    let expected = next(&model);
    let (mut n_refused, mut n_done) = (0, 0);
    for n_pages in 0..60 {
        let disk = base.fork(n_pages);
        let store = open_with(&disk, RESERVE).unwrap();
        fill_up(&disk, n_pages);
        let done = protect_next(&store, &model);
        match &done {
            Ok(()) => n_done += 1,
            Err(StoreError::NoSpace) => n_refused += 1,
            Err(other) => panic!("{n_pages}: {other}"),
        }
        assert!(!store.is_poisoned(), "{n_pages}");
        // Deletions go on, more than one, and nothing that is not one takes their room.
        for second in 0..3 {
            let at = Timestamp::from_secs(second);
            store.delete_point(tenant(1), point(1), at).unwrap();
            store.undelete_point(tenant(1), point(1), at).unwrap();
        }
        // Nor does a restart need more than there is, though what was let go was taken by others.
        drop(store);
        fill_up(&disk, 0);
        let store = open_with(&disk, RESERVE).unwrap();
        check(&store, &model, Some((50, &expected)));
        store.delete_point(tenant(2), point(3), Timestamp::from_secs(9)).unwrap();
        store.undelete_point(tenant(2), point(3), Timestamp::from_secs(10)).unwrap();
        disk.mend();
        protect_next(&store, &model).unwrap();
        check(&store, &model, Some((50, &expected)));
        let more = Volumes::from([(1, fresh_volume(&Dice::new(n_pages), 3))]);
        protect(&store, 1, 51, &more, None).unwrap();
        let reserve = disk.paths().into_iter().find(|(path, _)| path.ends_with("reserve"));
        assert_eq!(reserve.unwrap().1, 1 << 20, "{n_pages}: it is whole again");
    }
    assert!(n_refused > 3 && n_done > 3, "{n_refused} {n_done}");
}
