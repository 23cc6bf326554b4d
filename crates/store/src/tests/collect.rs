//! Space comes back, nothing that is needed goes: collection by itself and beside readers, sessions
//! and drafts.

use std::ops::ControlFlow;

use offsite_model::{Key, Luck, SessionId, Timestamp};
use offsite_testkit::disk::Disk;

use super::scene::*;
use crate::group::{CheckedGroup, Form};
use crate::{CollectOptions, CollectReport, GroupCache, Kept, ListEntry, Store, StoreError};

/// Everything with garbage is emptied.
pub(super) const ALL: CollectOptions = CollectOptions {
    live_percent: 100,
    moved_bytes_max: u64::MAX,
    filter_bytes_max: 1 << 20,
    level: 1,
    tenant: None,
    n_threads: 1,
};

pub(super) fn collect(store: &Store) -> Result<CollectReport, StoreError> {
    store.collect(&ALL, &mut |_| ControlFlow::Continue(()))
}

/// Marks and purges.
pub(super) fn purge(store: &Store, model: &mut Model, number: u64) -> Result<(), StoreError> {
    let owner = tenant(model[&number].tenant);
    if !model[&number].is_deleted {
        store.delete_point(owner, point(number), Timestamp::from_secs(5))?;
        model.get_mut(&number).unwrap().is_deleted = true;
    }
    store.purge(owner, &[point(number)], Timestamp::from_secs(6))?;
    model.remove(&number);
    Ok(())
}

/// Bytes of segments and manifests on the disk.
pub(super) fn bytes_of_files(disk: &Disk) -> u64 {
    let is_data = |path: &std::path::Path| {
        path.starts_with("/store/segments") || path.starts_with("/store/manifests")
    };
    disk.paths().iter().filter(|(path, _)| is_data(path)).map(|(_, bytes)| bytes).sum()
}

pub(super) fn check_whole(store: &Store, model: &Model) {
    check(store, model, None);
    let report = store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(report.damage, []);
}

fn noise(seed: u64, n_records: usize) -> Volumes {
    Volumes::from([(1, Dice::new(seed).noise(n_records * RECORD))])
}

fn remember(model: &mut Model, number: u64, tenant: u8, volumes: Volumes) {
    model.insert(number, Expected { tenant, volumes, is_deleted: false });
}

fn store_with(points: &[(u64, u8, usize)]) -> (Disk, Store, Model) {
    let disk = Disk::new(1);
    drop(new_store(&disk));
    let store = open_with(&disk, TINY).unwrap();
    let mut model = Model::new();
    for &(number, owner, n_records) in points {
        let volumes = noise(number, n_records);
        protect(&store, owner, number, &volumes, None).unwrap();
        remember(&mut model, number, owner, volumes);
    }
    (disk, store, model)
}

#[test]
fn only_what_is_marked_is_purged_and_then_it_is_gone() {
    let (disk, store, mut model) = store_with(&[(1, 1, 4), (2, 1, 4)]);
    let now = Timestamp::from_secs(3);
    let refused = store.purge(tenant(1), &[point(1)], now);
    assert!(matches!(refused, Err(StoreError::NotDeleted(_))), "{refused:?}");
    store.delete_point(tenant(1), point(1), now).unwrap();
    let other = store.purge(tenant(2), &[point(1)], now);
    assert!(matches!(other, Err(StoreError::PointUnknown(_))), "{other:?}");
    store.purge(tenant(1), &[point(1)], now).unwrap();
    model.remove(&1);
    let again = store.purge(tenant(1), &[point(1)], now);
    assert!(matches!(again, Err(StoreError::PointUnknown(_))), "{again:?}");
    assert!(store.undelete_point(tenant(1), point(1), now).is_err());
    // What was committed was committed, whoever asks later.
    assert!(store.outcome(tenant(1), token(1)).unwrap().is_some());
    drop(store);
    disk.power_cut();
    let store = open_with(&disk, TINY).unwrap();
    assert!(store.point(tenant(1), point(1)).is_err());
    check_whole(&store, &model);
}

#[test]
fn a_purge_and_a_collection_that_the_catalog_lost_come_back_from_the_journal() {
    let (disk, store, mut model) = store_with(&[(1, 1, 9), (2, 1, 9)]);
    drop(store);
    let old = disk.files().read(std::path::Path::new("/store/catalog"), 1 << 30).unwrap();
    let store = open_with(&disk, TINY).unwrap();
    purge(&store, &mut model, 1).unwrap();
    assert!(collect(&store).unwrap().n_segments > 0);
    drop(store);
    disk.edit(std::path::Path::new("/store/catalog"), |bytes| *bytes = old);
    let store = open_with(&disk, TINY).unwrap();
    assert!(store.alarms().iter().all(|a| matches!(a, crate::Alarm::CommitsRestored { .. })));
    assert!(store.point(tenant(1), point(1)).is_err());
    check_whole(&store, &model);
    check_no_strangers(&store, &disk);
}

#[test]
fn a_program_that_does_not_know_purges_is_shut_out() {
    let (disk, store, mut model) = store_with(&[(1, 1, 4)]);
    let needs =
        |disk: &Disk| disk.files().read(std::path::Path::new("/store/store"), 99).unwrap()[12];
    assert_eq!(needs(&disk), 0);
    assert_eq!(collect(&store).unwrap().n_segments, 0);
    assert_eq!(needs(&disk), 0, "nothing was written that it would not know");
    purge(&store, &mut model, 1).unwrap();
    assert_eq!(needs(&disk), 1);
    drop(store);
    drop(open(&disk).unwrap());
    assert_eq!(needs(&disk), 1, "it stays");
}

#[test]
fn space_comes_back_and_comes_back_to_the_empty_store() {
    let (disk, store, mut model) = store_with(&[]);
    let empty = bytes_of_files(&disk);
    let dice = Dice::new(4);
    let mut parent: Option<(u64, Volumes)> = None;
    for number in 1..=12 {
        let volumes = match &parent {
            None => noise(9, 60),
            Some((_, before)) => {
                before.iter().map(|(n, bytes)| (*n, next_version(&dice, bytes))).collect()
            }
        };
        let before = parent.as_ref().map(|(number, volumes)| (*number, volumes));
        protect(&store, 1, number, &volumes, before).unwrap();
        remember(&mut model, number, 1, volumes.clone());
        parent = Some((number, volumes));
    }
    let full = bytes_of_files(&disk);
    let mut sizes = vec![full];
    for number in [6, 1, 12, 2, 3, 4, 5, 7, 8, 9, 10, 11] {
        purge(&store, &mut model, number).unwrap();
        let before = bytes_of_files(&disk);
        let report = collect(&store).unwrap();
        let after = bytes_of_files(&disk);
        assert!(after <= before, "{before} {after}");
        assert!(report.bytes_freed >= before - after, "{report:?}");
        assert_eq!(report.bytes_waiting, 0);
        check_whole(&store, &model);
        check_no_strangers(&store, &disk);
        sizes.push(after);
    }
    assert_eq!(bytes_of_files(&disk), empty, "{sizes:?}");
    drop(store);
    let store = open_with(&disk, TINY).unwrap();
    assert_eq!(store.alarms(), []);
    check_whole(&store, &model);
}

#[test]
fn a_few_live_records_are_put_together_and_most_of_a_group_stays_as_it_is() {
    // Points 2 and 3 share records of point 1: one of each three, and two of each three.
    for (n_kept, is_packed) in [(1, true), (2, false)] {
        let (disk, store, mut model) = store_with(&[(1, 1, 30)]);
        let all = model[&1].volumes[&1].clone();
        let kept: Vec<u8> =
            all.chunks(3 * RECORD).flat_map(|group| group[..n_kept * RECORD].to_vec()).collect();
        let volumes = Volumes::from([(1, kept)]);
        protect(&store, 1, 2, &volumes, None).unwrap();
        remember(&mut model, 2, 1, volumes);
        purge(&store, &mut model, 1).unwrap();
        let most = CollectOptions { live_percent: 60, ..ALL };
        let go_on = &mut |_: &crate::CollectProgress| ControlFlow::Continue(());
        let report = store.collect(&most, go_on).unwrap();
        assert_eq!(report.bytes_moved > 0, is_packed, "{report:?}");
        let n_stored = store.bytes_stored(tenant(1)) / RECORD as u64;
        assert_eq!((10..13).contains(&n_stored), is_packed, "{n_stored} records");
        assert_eq!(report.kept.contains_key(&Kept::MostlyAlive), !is_packed, "{report:?}");
        check_whole(&store, &model);
        check_no_strangers(&store, &disk);
        // Nothing is left to do; then everything is asked for.
        assert_eq!(store.collect(&most, go_on).unwrap().n_segments, 0);
        assert_eq!(collect(&store).unwrap().n_segments > 0, !is_packed);
        assert!(store.bytes_stored(tenant(1)) / (RECORD as u64) < 24);
        assert_eq!(collect(&store).unwrap().n_segments, 0);
    }
}

#[test]
fn c_10_removing_a_parent_or_a_child_changes_no_other_point() {
    let dice = Dice::new(10);
    for seed in 0..50 {
        let (disk, store, mut model) = store_with(&[]);
        let mut last: Option<(u64, Volumes)> = None;
        for number in 1..=6 {
            let volumes: Volumes = match &last {
                Some((_, before)) if !dice.one_in(4) => {
                    before.iter().map(|(n, bytes)| (*n, next_version(&dice, bytes))).collect()
                }
                _ => Volumes::from([(1, fresh_volume(&dice, 12)), (2, fresh_volume(&dice, 3))]),
            };
            let before = last.as_ref().map(|(number, volumes)| (*number, volumes));
            protect(&store, 1, number, &volumes, before).unwrap();
            remember(&mut model, number, 1, volumes.clone());
            last = Some((number, volumes));
        }
        let mut order: Vec<u64> = (1..=6).collect();
        while !order.is_empty() {
            let number = order.swap_remove(dice.below(order.len() as u64) as usize);
            purge(&store, &mut model, number).unwrap();
            collect(&store).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            check_whole(&store, &model);
        }
        check_no_strangers(&store, &disk);
    }
}

#[test]
fn readers_of_what_was_purged_and_moved_go_on_to_their_end() {
    let (disk, store, mut model) = store_with(&[(1, 1, 30), (2, 1, 9)]);
    let all = model[&1].volumes[&1].clone();
    // An image that is open, and places that were looked up.
    let image = store.image(tenant(1), point(1), volume(1)).unwrap();
    let list: Vec<ListEntry> = image.list(0).map(Result::unwrap).collect();
    let fetches = store.plan(tenant(1), &image, &list[..10]).unwrap();
    purge(&store, &mut model, 1).unwrap();
    collect(&store).unwrap();
    // Its pages and records are held by name.
    let later = store.plan(tenant(1), &image, &list[10..]).unwrap();
    drop((image, later));
    let report = collect(&store).unwrap();
    assert!(report.bytes_waiting > 0, "{report:?}");
    let (mut found, cache) = (vec![0; all.len()], GroupCache::default());
    fetches.into_iter().for_each(|fetch| {
        fetch.read(&store, &cache, &mut found[..]).unwrap();
    });
    let end = (list[9].offset + u64::from(list[9].length)) as usize;
    assert!(found[..end] == all[..end]);
    assert_eq!(collect(&store).unwrap().bytes_waiting, 0);
    check_whole(&store, &model);
    check_no_strangers(&store, &disk);
}

#[test]
fn b_08_what_a_session_was_told_it_need_not_send_is_there_at_its_commit() {
    let (disk, store, mut model) = store_with(&[(1, 1, 9), (2, 1, 9)]);
    let volumes = model[&1].volumes.clone();
    let mut session = store.session(tenant(1)).unwrap();
    let keys: Vec<Key> = volumes[&1].chunks(RECORD).map(Key::of).collect();
    assert!(session.find_many(Form::Plain, &keys).unwrap().iter().all(Option::is_some));
    purge(&store, &mut model, 1).unwrap();
    let report = collect(&store).unwrap();
    assert!(report.kept[&Kept::InUse].0 > 0, "{report:?}");
    let list = list_of(&volumes[&1], None);
    let spec = image_spec(7, 1, volumes[&1].len() as u64);
    let mut image = session.image(spec, None, None).unwrap();
    list.iter().for_each(|entry| image.push(*entry).unwrap());
    session.commit(point_spec(7, 1), vec![(image, None)]).unwrap();
    remember(&mut model, 7, 1, volumes);
    drop(session);
    collect(&store).unwrap();
    check_whole(&store, &model);
    check_no_strangers(&store, &disk);
}

#[test]
fn b_08_a_parent_that_is_purged_under_a_writer_passes_its_pages_on() {
    let (disk, store, mut model) = store_with(&[(1, 1, 30)]);
    let before = model[&1].volumes[&1].clone();
    let mut session = store.session(tenant(1)).unwrap();
    let mut after = before.clone();
    after[..RECORD].copy_from_slice(&Dice::new(3).noise(RECORD));
    let list = list_of(&after, Some(&before));
    let spec = image_spec(7, 1, after.len() as u64);
    let mut image = session.image(spec, Some(point(1)), None).unwrap();
    purge(&store, &mut model, 1).unwrap();
    collect(&store).unwrap();
    append_missing(&mut session, &after, &list).unwrap();
    list.iter().for_each(|entry| image.push(*entry).unwrap());
    session.commit(point_spec(7, 1), vec![(image, None)]).unwrap();
    remember(&mut model, 7, 1, Volumes::from([(1, after)]));
    drop(session);
    collect(&store).unwrap();
    check_whole(&store, &model);
    check_no_strangers(&store, &disk);
}

const SESSION: SessionId = SessionId::from_bytes([5; 16]);

#[test]
fn d_11_an_idle_draft_holds_what_it_names_and_nothing_else() {
    for is_held in [true, false] {
        let (disk, store, mut model) = store_with(&[(1, 1, 60), (2, 1, 6)]);
        // One record of each segment, and of each second group.
        let all = model[&1].volumes[&1].chunks(RECORD).step_by(6);
        let named: Vec<u8> = all.flatten().copied().collect();
        let keys: Vec<Key> = named.chunks(RECORD).map(Key::of).collect();
        let mut draft = store.draft(tenant(1), SESSION, Vec::new()).unwrap();
        assert!(draft.find_many(Form::Plain, &keys).unwrap().iter().all(Option::is_some));
        draft.list(0, &list_of(&named, None)).unwrap();
        draft.promise().unwrap();
        let mut draft = Some(draft);
        if !is_held {
            // The source is gone, for days or for good; no clock is asked.
            draft = None;
        }
        let full = bytes_of_files(&disk);
        purge(&store, &mut model, 1).unwrap();
        collect(&store).unwrap();
        let freed = full - bytes_of_files(&disk);
        let unreferenced = 50 * RECORD as u64;
        assert!(freed * 100 >= unreferenced * 95, "{freed} of {unreferenced} came back");
        drop((draft, store));
        disk.power_cut();
        let store = open_with(&disk, TINY).unwrap();
        assert_eq!(store.alarms(), []);
        let mut draft = store.resume(tenant(1), SESSION).unwrap();
        assert!(draft.find_many(Form::Plain, &keys).unwrap().iter().all(Option::is_some));
        // The promise is kept, and what it held goes with it.
        let spec = image_spec(7, 1, named.len() as u64);
        let mut image = draft.session().image(spec, None, None).unwrap();
        list_of(&named, None).iter().for_each(|entry| image.push(*entry).unwrap());
        draft.commit(point_spec(7, 1), vec![(image, None)]).unwrap();
        draft.end().unwrap();
        remember(&mut model, 7, 1, Volumes::from([(1, named)]));
        check_whole(&store, &model);
        purge(&store, &mut model, 7).unwrap();
        collect(&store).unwrap();
        assert!(keys.iter().all(|key| store.find(tenant(1), Form::Plain, key).unwrap().is_none()));
        check_whole(&store, &model);
        check_no_strangers(&store, &disk);
    }
}

#[test]
fn one_collection_at_a_time_and_none_by_one_who_only_reads() {
    let (disk, store, _) = store_with(&[(1, 1, 4)]);
    let other = store.clone();
    let mut n_refused = 0;
    let mut progress = |_: &crate::CollectProgress| {
        assert!(matches!(collect(&other), Err(StoreError::CollectionRuns)));
        n_refused += 1;
        ControlFlow::Continue(())
    };
    store.collect(&ALL, &mut progress).unwrap();
    assert!(n_refused > 0);
    drop((store, other));
    let path = std::path::Path::new(STORE);
    let store = Store::open_read_only(disk.files(), path, TINY).unwrap();
    assert!(matches!(collect(&store), Err(StoreError::ReadOnly)));
}

#[test]
fn a_collection_that_is_cancelled_anywhere_removes_nothing_and_is_gone_on_with() {
    let (disk, store, mut model) = store_with(&[(1, 1, 30), (2, 1, 9)]);
    let half = Volumes::from([(1, model[&1].volumes[&1][RECORD..18 * RECORD].to_vec())]);
    protect(&store, 1, 3, &half, None).unwrap();
    remember(&mut model, 3, 1, half);
    purge(&store, &mut model, 1).unwrap();
    drop(store);
    let mut n_cancelled = 0;
    for n in 0.. {
        let disk = disk.fork(n);
        let store = open_with(&disk, TINY).unwrap();
        let mut left = n;
        let mut progress = |_: &crate::CollectProgress| match left.checked_sub(1) {
            Some(less) => {
                left = less;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        };
        let names = |disk: &Disk| {
            let paths = disk.paths().into_iter().map(|(path, _)| path);
            let data = |path: &std::path::PathBuf| {
                path.starts_with("/store/segments") || path.starts_with("/store/manifests")
            };
            paths.filter(data).collect::<std::collections::BTreeSet<_>>()
        };
        let before = names(&disk);
        let done = store.collect(&ALL, &mut progress);
        check_whole(&store, &model);
        if done.is_ok() {
            break;
        }
        assert!(matches!(done, Err(StoreError::Interrupted)), "{done:?}");
        assert!(names(&disk).is_superset(&before), "step {n}: something was removed");
        let store = if n % 2 == 0 {
            store
        } else {
            drop(store);
            open_with(&disk, TINY).unwrap()
        };
        let report = collect(&store).unwrap();
        assert!(report.n_segments > 0);
        check_whole(&store, &model);
        check_no_strangers(&store, &disk);
        let n_live = store.bytes_stored(tenant(1)) / RECORD as u64;
        assert!((26..34).contains(&n_live), "step {n}: {n_live} records for 26");
        n_cancelled += 1;
    }
    assert!(n_cancelled > 10, "{n_cancelled}");
}

#[test]
fn b_07_what_is_put_aside_stays_until_a_good_copy_came_and_then_lies_in_quarantine() {
    let (disk, store, mut model) = store_with(&[(1, 1, 9), (2, 1, 9)]);
    let bytes = model[&2].volumes[&1].clone();
    let key = Key::of(&bytes[..RECORD]);
    let place = store.find(tenant(1), Form::Plain, &key).unwrap().unwrap();
    let path = format!("/store/segments/{:08x}", place.segment);
    disk.edit(std::path::Path::new(&path), |bytes| bytes[place.place as usize * 16 + 200] ^= 1);
    assert!(store.record(tenant(1), Form::Plain, &key).is_err());
    purge(&store, &mut model, 1).unwrap();
    // Other space comes back meanwhile.
    let report = collect(&store).unwrap();
    assert!(report.n_segments > 0 && report.kept[&Kept::PutAside].0 == 1, "{report:?}");
    assert!(disk.paths().iter().any(|(other, _)| other.ends_with(&path[1..])), "it was removed");
    let mut session = store.session(tenant(1)).unwrap();
    for record in bytes.chunks(RECORD) {
        let group = CheckedGroup::encode(Form::Plain, &[(Key::of(record), record)], 1).unwrap();
        session.append(&group).unwrap();
    }
    session.keep().unwrap();
    drop(session);
    let report = collect(&store).unwrap();
    assert!(report.bytes_quarantined > 0, "{report:?}");
    let in_quarantine = format!("quarantine/{:08x}", place.segment);
    assert!(disk.paths().iter().any(|(other, _)| other.ends_with(&in_quarantine)), "deleted");
    check_whole(&store, &model);
}

#[test]
fn d_09_a_group_is_compared_with_its_keys_before_its_segment_goes() {
    let (disk, store, mut model) = store_with(&[(1, 1, 30)]);
    let all = model[&1].volumes[&1].clone();
    let kept: Vec<u8> = all.chunks(3 * RECORD).flat_map(|group| group[..RECORD].to_vec()).collect();
    let volumes = Volumes::from([(1, kept.clone())]);
    protect(&store, 1, 2, &volumes, None).unwrap();
    remember(&mut model, 2, 1, volumes);
    purge(&store, &mut model, 1).unwrap();
    let place = store.find(tenant(1), Form::Plain, &Key::of(&kept[..RECORD])).unwrap().unwrap();
    let path = format!("/store/segments/{:08x}", place.segment);
    let payload = place.place as usize * 16 + 64 + 3 * 36;
    disk.edit(std::path::Path::new(&path), |bytes| bytes[payload + 9] ^= 1);
    let refused = collect(&store);
    assert!(matches!(refused, Err(StoreError::Doubt(_))), "{refused:?}");
    assert!(disk.paths().iter().any(|(other, _)| other.ends_with(&path[1..])), "it was removed");
    disk.edit(std::path::Path::new(&path), |bytes| bytes[payload + 9] ^= 1);
    // It reads well again, so it is let out and its record can be moved.
    assert_eq!(store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap().damage, []);
    assert!(collect(&store).unwrap().n_segments > 0);
    check_whole(&store, &model);
}

#[test]
fn c_10_a_record_that_comes_back_to_where_it_was_is_stored_again() {
    let (disk, store, mut model) = store_with(&[(1, 1, 12)]);
    let first = model[&1].volumes.clone();
    let mut second = first.clone();
    second.get_mut(&1).unwrap()[..RECORD].copy_from_slice(&Dice::new(8).noise(RECORD));
    protect(&store, 1, 2, &second, Some((1, &first))).unwrap();
    remember(&mut model, 2, 1, second.clone());
    purge(&store, &mut model, 1).unwrap();
    collect(&store).unwrap();
    // The page of the first point is still there, and names a record that is not.
    let key = Key::of(&first[&1][..RECORD]);
    assert!(store.find(tenant(1), Form::Plain, &key).unwrap().is_none());
    protect(&store, 1, 3, &first, Some((2, &second))).unwrap();
    remember(&mut model, 3, 1, first.clone());
    check_whole(&store, &model);
    protect(&store, 1, 4, &first, Some((3, &first))).unwrap();
    remember(&mut model, 4, 1, first);
    for number in [2, 3] {
        purge(&store, &mut model, number).unwrap();
        collect(&store).unwrap();
        check_whole(&store, &model);
    }
    check_no_strangers(&store, &disk);
}
