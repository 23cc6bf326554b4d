//! Collection under power cuts, process deaths, failing calls and every kind of doubt.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use offsite_model::{Key, Luck, SessionId, Timestamp};
use offsite_testkit::disk::{Disk, Fault, Which};

use super::collect::{ALL, check_whole, collect, purge};
use super::scene::*;
use crate::catalog::Transactions;
use crate::group::Form;
use crate::rows::{POINTS, point_key};
use crate::{CollectOptions, Kept, Settings, Store, StoreError};

const SESSION: SessionId = SessionId::from_bytes([5; 16]);

/// A disk with garbage of every kind: points 1 to 6 of two tenants, 1 and 5 purged, 4 marked, a
/// point that shares a third of what was purged, an idle draft that names records of it, and a
/// session that never committed.
fn littered() -> (Disk, Model) {
    static LITTERED: OnceLock<(Disk, Model)> = OnceLock::new();
    let (disk, model) = LITTERED.get_or_init(|| {
        let disk = Disk::new(0);
        drop(new_store(&disk));
        let store = open_with(&disk, TINY).unwrap();
        let dice = Dice::new(77);
        let mut model = Model::new();
        let mut last: Option<(u64, Volumes)> = None;
        for number in 1..=4 {
            let volumes: Volumes = match &last {
                None => Volumes::from([(1, dice.noise(24 * RECORD)), (2, fresh_volume(&dice, 5))]),
                Some((_, before)) => {
                    before.iter().map(|(n, bytes)| (*n, next_version(&dice, bytes))).collect()
                }
            };
            let before = last.as_ref().map(|(number, volumes)| (*number, volumes));
            protect(&store, 1, number, &volumes, before).unwrap();
            let expected = Expected { tenant: 1, volumes: volumes.clone(), is_deleted: false };
            model.insert(number, expected);
            last = Some((number, volumes));
        }
        let first = model[&1].volumes[&1].clone();
        let third: Vec<u8> =
            first.chunks(3 * RECORD).flat_map(|group| group[..RECORD].to_vec()).collect();
        for (number, volumes) in
            [(5, Volumes::from([(1, dice.noise(9 * RECORD))])), (6, Volumes::from([(1, third)]))]
        {
            let tenant = if number == 5 { 2 } else { 1 };
            protect(&store, tenant, number, &volumes, None).unwrap();
            model.insert(number, Expected { tenant, volumes, is_deleted: false });
        }
        let mut draft = store.draft(tenant(1), SESSION, b"idle".to_vec()).unwrap();
        let named = named(&model);
        draft.find_many(Form::Plain, &keys_of(&named)).unwrap();
        draft.list(0, &list_of(&named, None)).unwrap();
        draft.promise().unwrap();
        drop(draft);
        drop(store.session(tenant(1)).unwrap());
        store.delete_point(tenant(1), point(4), Timestamp::from_secs(4)).unwrap();
        model.get_mut(&4).unwrap().is_deleted = true;
        for number in [1, 5] {
            purge(&store, &mut model, number).unwrap();
        }
        drop(store);
        (disk, model)
    });
    (disk.clone(), model.clone())
}

/// What the draft names: records of point 2, so that they may be of point 1 as well.
fn named(model: &Model) -> Vec<u8> {
    model[&2].volumes[&1][..2 * RECORD].to_vec()
}

fn keys_of(bytes: &[u8]) -> Vec<Key> {
    let list = list_of(bytes, None);
    list.iter().map(|entry| entry.key).filter(|key| *key != Key::ZERO).collect()
}

fn check_draft(store: &Store, bytes: &[u8]) {
    let mut draft = store.resume(tenant(1), SESSION).unwrap();
    let found = draft.find_many(Form::Plain, &keys_of(bytes)).unwrap();
    assert!(found.iter().all(Option::is_some), "a promise was broken");
    assert_eq!(draft.listed(0, usize::MAX).unwrap().len(), list_of(bytes, None).len());
}

/// Reading goes on; where redb has seen an error itself, only as far as its cache reaches.
fn check_readable(store: &Store, model: &Model) {
    let is_readable = |owner: u8| store.points(tenant(owner)).is_ok();
    if !store.is_poisoned() && is_readable(1) && is_readable(2) {
        check(store, model, None);
    }
}

fn data_files(disk: &Disk) -> BTreeSet<PathBuf> {
    let paths = disk.paths().into_iter().map(|(path, _)| path);
    let is_data = |path: &PathBuf| {
        path.starts_with("/store/segments") || path.starts_with("/store/manifests")
    };
    paths.filter(is_data).collect()
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Marks, purges, collects and protects by the dice until something fails; the model, and what was
/// under way.
fn work(store: &Store, dice: &Dice, model: &mut Model) -> Option<(u64, Expected)> {
    for number in 100..104 + dice.below(4) {
        let numbers: Vec<u64> = model.keys().copied().collect();
        let chosen = numbers[dice.below(numbers.len() as u64) as usize];
        match dice.below(6) {
            0 | 1 => {
                let options = CollectOptions { live_percent: 50 + dice.below(51) as u8, ..ALL };
                if collect_with(store, &options).is_err() {
                    return None;
                }
            }
            2 if numbers.len() > 2 => {
                let mut expected = model[&chosen].clone();
                expected.is_deleted = true;
                if purge(store, model, chosen).is_err() {
                    // Marked or not, purged or not: what is listed restores.
                    model.remove(&chosen);
                    return Some((chosen, expected));
                }
            }
            _ => {
                let owner = 1 + dice.below(2) as u8;
                let mut parents = model.iter().filter(|(_, point)| point.tenant == owner);
                let parent = parents.next_back().filter(|_| !dice.one_in(3));
                let volumes: Volumes = match parent {
                    Some((_, parent)) => {
                        let versions = parent.volumes.iter();
                        versions.map(|(n, bytes)| (*n, next_version(dice, bytes))).collect()
                    }
                    None => Volumes::from([(1, fresh_volume(dice, 6))]),
                };
                let parent = parent.map(|(number, parent)| (*number, &parent.volumes));
                let done = protect(store, owner, number, &volumes, parent);
                let expected = Expected { tenant: owner, volumes, is_deleted: false };
                if done.is_err() {
                    return Some((number, expected));
                }
                model.insert(number, expected);
            }
        }
    }
    None
}

fn collect_with(store: &Store, options: &CollectOptions) -> Result<(), StoreError> {
    store.collect(options, &mut |_| std::ops::ControlFlow::Continue(())).map(drop)
}

fn one_power_cut(base: &Disk, model: &Model, bytes: &[u8], seed: u64) -> bool {
    let disk = base.fork(seed);
    let dice = Dice::new(seed);
    let settings = if seed.is_multiple_of(2) { SMALL } else { TINY };
    let mut model = model.clone();
    let mut flying = None;
    disk.cut_after(1 + dice.below(250));
    let is_done = match open_with(&disk, settings) {
        Ok(store) => {
            let is_done = collect(&store).is_ok();
            if is_done {
                flying = work(&store, &dice, &mut model);
            }
            is_done
        }
        Err(_) => false,
    };
    disk.power_cut();
    if dice.one_in(5) {
        disk.cut_after(1 + dice.below(40));
        drop(open_with(&disk, settings));
        disk.power_cut();
    }
    let store = open_with(&disk, settings).unwrap_or_else(|error| panic!("does not open: {error}"));
    assert_eq!(store.alarms(), [], "a power cut is no damage");
    let in_flight = flying.as_ref().map(|(number, expected)| (*number, expected));
    check(&store, &model, in_flight);
    check_draft(&store, bytes);
    if dice.one_in(4) {
        collect(&store).unwrap_or_else(|error| panic!("does not collect: {error}"));
        check(&store, &model, in_flight);
        check_draft(&store, bytes);
        drop(store);
        let store = open_with(&disk, settings).unwrap();
        assert_eq!(store.alarms(), []);
        check(&store, &model, in_flight);
        let go_on = &mut |_, _| std::ops::ControlFlow::Continue(());
        assert_eq!(store.verify(go_on).unwrap().damage, []);
    }
    is_done
}

#[test]
fn c_10_power_cuts_in_collection_lose_no_point() {
    let (base, model) = littered();
    let bytes = named(&model);
    let first = from_env("OFFSITE_SEED").unwrap_or(0);
    let n_seeds = from_env("OFFSITE_SEEDS").unwrap_or(2_000);
    let mut n_done = 0;
    for seed in first..first + n_seeds {
        let life = std::panic::AssertUnwindSafe(|| one_power_cut(&base, &model, &bytes, seed));
        match std::panic::catch_unwind(life) {
            Ok(is_done) => n_done += u64::from(is_done),
            Err(cause) => {
                eprintln!("failed with OFFSITE_SEED={seed} OFFSITE_SEEDS=1");
                std::panic::resume_unwind(cause);
            }
        }
    }
    let share = n_done * 100 / n_seeds;
    assert!(n_seeds < 100 || (10..95).contains(&share), "{share} % of the cuts come too late");
}

/// Changing calls of an opening, and of a collection after it.
fn n_calls(base: &Disk) -> (u64, u64) {
    let disk = base.fork(1);
    let store = open_with(&disk, TINY).unwrap();
    let n_open = disk.n_changes();
    let report = collect(&store).unwrap();
    assert!(report.n_segments > 2 && report.n_manifests > 0 && report.bytes_moved > 0);
    (n_open, disk.n_changes())
}

#[test]
fn d_02_death_at_every_call_of_a_collection_loses_nothing_and_leaks_nothing() {
    let (base, model) = littered();
    let bytes = named(&model);
    let (n_open, n_calls) = n_calls(&base);
    for n in n_open..=n_calls {
        let disk = base.fork(n);
        disk.cut_after(n);
        let done = open_with(&disk, TINY).and_then(|store| collect(&store));
        disk.kill();
        let store = open_with(&disk, TINY).unwrap_or_else(|error| panic!("call {n}: {error}"));
        assert_eq!(store.alarms(), [], "call {n}");
        check_draft(&store, &bytes);
        check(&store, &model, None);
        let has_moved = done.is_ok();
        // Gone on with, it frees what is left; then there is nothing to do.
        let report = collect(&store).unwrap_or_else(|error| panic!("call {n}: {error}"));
        assert!(report.n_segments > 0 || n > n_open || has_moved, "call {n}: {report:?}");
        assert_eq!(collect(&store).unwrap().n_segments, 0, "call {n}");
        check_whole(&store, &model);
        drop(store);
        let store = open_with(&disk, TINY).unwrap();
        assert_eq!(store.alarms(), [], "call {n}");
        check_draft(&store, &bytes);
        check(&store, &model, None);
    }
}

#[test]
fn d_04_every_failing_call_of_a_collection_ends_writing_or_the_run_and_nothing_is_lost() {
    let (base, model) = littered();
    let bytes = named(&model);
    let (n_open, n_calls) = n_calls(&base);
    let (mut n_failed, mut n_poisoned) = (0, 0);
    for which in [Which::Changes, Which::Syncs] {
        for for_good in [false, true] {
            for n in 0..n_calls - n_open {
                let disk = base.fork(n);
                let store = open_with(&disk, TINY).unwrap();
                disk.fail(Fault { which, after: n, error: io::ErrorKind::Other, for_good });
                let done = collect(&store);
                let case = format!("{which:?} {n} for good: {for_good}: {done:?}");
                n_failed += u32::from(done.is_err());
                if store.is_poisoned() {
                    n_poisoned += 1;
                    assert!(done.is_err(), "{case}");
                    assert!(matches!(collect(&store), Err(StoreError::Poisoned)), "{case}");
                    let marked = store.delete_point(tenant(1), point(2), Timestamp::from_secs(1));
                    assert!(matches!(marked, Err(StoreError::Poisoned)), "{case}");
                }
                check_readable(&store, &model);
                drop(store);
                disk.mend();
                if n % 2 == 0 {
                    disk.power_cut();
                }
                let store = open_with(&disk, TINY).unwrap_or_else(|e| panic!("{case}: {e}"));
                check_draft(&store, &bytes);
                check(&store, &model, None);
                collect(&store).unwrap_or_else(|error| panic!("{case}: {error}"));
                check_draft(&store, &bytes);
                check(&store, &model, None);
            }
        }
    }
    assert!(n_failed > 20 && n_poisoned > 5, "{n_failed} {n_poisoned}");
}

/// Changes a byte in the middle of a file.
fn rot(disk: &Disk, path: &Path, at: impl Fn(usize) -> usize) {
    disk.edit(path, |bytes| {
        let at = at(bytes.len());
        bytes[at] ^= 0x10;
    });
}

/// Files of a directory that hold something.
fn files_in(disk: &Disk, folder: &str) -> Vec<PathBuf> {
    let paths = disk.paths().into_iter().filter(|(path, _)| path.starts_with(folder));
    paths.map(|(path, _)| path).collect()
}

#[test]
fn d_10_any_doubt_and_nothing_is_removed() {
    let (base, model) = littered();
    // Files that a root refers to.
    let alive: Vec<PathBuf> = {
        let disk = base.fork(1);
        let store = open_with(&disk, TINY).unwrap();
        let images = model.iter().flat_map(|(number, expected)| {
            let owner = tenant(expected.tenant);
            let volumes = expected.volumes.keys();
            let store = &store;
            volumes.map(move |n| store.image(owner, point(*number), volume(*n)).unwrap())
        });
        images.map(|i| format!("/store/manifests/{:08x}", i.row.manifest).into()).collect()
    };
    let log = files_in(&base, "/store/drafts").remove(0);
    let mut n_cases = 0;
    let mut try_one = |case: &str, harm: &dyn Fn(&Disk, &Store)| {
        let disk = base.fork(n_cases);
        let store = open_with(&disk, TINY).unwrap();
        harm(&disk, &store);
        let before = data_files(&disk);
        let done = collect(&store);
        assert!(matches!(done, Err(StoreError::Doubt(_))), "{case}: {done:?}");
        assert!(data_files(&disk).is_superset(&before), "{case}: something was removed");
        disk.mend();
        n_cases += 1;
    };
    for (n, path) in alive.iter().enumerate() {
        let name = path.display();
        for share in 0..6 {
            // Pages first, the root before its end.
            try_one(&format!("{name}, rot {share}"), &|disk, _| {
                rot(disk, path, |n| (n - 129) * share / 5);
            });
        }
        try_one(&format!("{name} is missing"), &|disk, _| disk.files().remove(path).unwrap());
        try_one(&format!("{name} is cut"), &|disk, _| {
            disk.edit(path, |bytes| bytes.truncate(bytes.len() / 2));
        });
        let next = &alive[(n + 1) % alive.len()];
        if next != path {
            try_one(&format!("{name} is another"), &|disk, _| disk.swap(path, next));
        }
    }
    for share in 0..8 {
        try_one(&format!("the draft, rot {share}"), &|disk, _| {
            rot(disk, &log, |n| (n - 1) * share / 7);
        });
    }
    try_one("the draft is missing", &|disk, _| disk.files().remove(&log).unwrap());
    try_one("the draft is cut", &|disk, _| disk.edit(&log, |bytes| bytes.truncate(90)));
    try_one("a row is none", &|_, store| {
        let key = point_key(tenant(1), point(2));
        store
            .core
            .catalog
            .write::<_, StoreError>(|rows| Ok(rows.put(POINTS, &key, b"\x01?")?))
            .unwrap();
    });
    // The disk fails at any read, once or for good.
    let mut n_reads = 0;
    for for_good in [false, true] {
        for after in 0..400 {
            let disk = base.fork(after);
            let store = open_with(&disk, TINY).unwrap();
            let before = data_files(&disk);
            let error = io::ErrorKind::PermissionDenied;
            disk.fail(Fault { which: Which::Reads, after, error, for_good });
            let done = collect(&store);
            disk.mend();
            if done.is_ok() {
                break;
            }
            assert!(data_files(&disk).is_superset(&before), "read {after}: something was removed");
            check_readable(&store, &model);
            n_reads += 1;
        }
    }
    assert!(n_cases >= 60 && n_reads >= 100, "{n_cases} {n_reads}");
}

#[test]
fn d_05_a_full_disk_is_no_reason_not_to_free_what_is_dead() {
    let (base, model) = littered();
    let (mut n_no_space, mut n_failed) = (0, 0);
    for n_pages in 0..80 {
        let disk = base.fork(n_pages);
        let settings = Settings { reserve_bytes: 1 << 20, ..TINY };
        let store = open_with(&disk, settings).unwrap();
        // Others fill the disk.
        disk.set_bytes_max(Some(disk.bytes_used() + n_pages * 4096));
        let before = data_files(&disk).len();
        match collect(&store) {
            Ok(report) => {
                assert!(report.n_segments > 0, "{n_pages}: {report:?}");
                n_no_space += u32::from(report.kept.contains_key(&Kept::NoSpace));
            }
            Err(error) => {
                assert!(matches!(error, StoreError::NoSpace | StoreError::Doubt(_)), "{error}");
                assert!(data_files(&disk).len() >= before, "{n_pages}: {error}");
                n_failed += 1;
            }
        }
        check_readable(&store, &model);
        drop(store);
        disk.mend();
        let store = open_with(&disk, settings).unwrap();
        check(&store, &model, None);
        collect(&store).unwrap();
        assert_eq!(collect(&store).unwrap().n_segments, 0, "{n_pages}");
        check_whole(&store, &model);
    }
    assert!(n_no_space > 3, "{n_no_space} {n_failed}");
    assert!(n_failed == 0, "{n_no_space} {n_failed}");
}
