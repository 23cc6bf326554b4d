//! What a list may say: D-16, sizes that change, patches, sparse volumes.

use offsite_model::{Key, Luck};
use offsite_testkit::disk::Disk;

use super::crash::prepared;
use super::scene::*;
use crate::group::{CheckedGroup, Form};
use crate::{ListEntry, StoreError};

#[test]
fn a_volume_made_smaller_and_larger_again_shows_nothing_of_its_past() {
    let disk = Disk::new(1);
    let store = new_store(&disk);
    let dice = Dice::new(5);
    let mut before = Volumes::from([(1, dice.noise(6 * RECORD + 900))]);
    protect(&store, 1, 1, &before, None).unwrap();
    let sizes = [5 * RECORD + 100, 6 * RECORD + 1500, 3 * RECORD, 3 * RECORD + 1, 9 * RECORD];
    for (number, bytes) in (2..).zip(sizes) {
        let mut next = before.clone();
        next.get_mut(&1).unwrap().resize(bytes, 0);
        protect(&store, 1, number, &next, Some((number - 1, &before))).unwrap();
        assert!(restore(&store, 1, number, 1).unwrap() == next[&1], "point {number}");
        before = next;
    }
}

#[test]
fn few_changes_cost_a_patch_and_no_change_costs_nothing() {
    let disk = Disk::new(1);
    let store = new_store(&disk);
    let dice = Dice::new(5);
    let first = Volumes::from([(1, dice.noise(600 * RECORD))]);
    protect(&store, 1, 1, &first, None).unwrap();
    let manifest_bytes = |disk: &Disk| -> u64 {
        let paths = disk.paths().into_iter();
        paths.filter(|(path, _)| path.starts_with("/store/manifests")).map(|(_, n)| n).sum()
    };
    let full = manifest_bytes(&disk);
    assert!(full > 600 * 32, "{full}");
    let mut second = first.clone();
    dice.fill(&mut second.get_mut(&1).unwrap()[70 * RECORD..71 * RECORD]);
    protect(&store, 1, 2, &second, Some((1, &first))).unwrap();
    let patched = manifest_bytes(&disk) - full;
    assert!(patched < 500, "{patched}");
    protect(&store, 1, 3, &second, Some((2, &second))).unwrap();
    assert!(manifest_bytes(&disk) - full - patched < 400);
    for number in [2, 3] {
        assert!(restore(&store, 1, number, 1).unwrap() == second[&1]);
    }
    assert!(restore(&store, 1, 1, 1).unwrap() == first[&1]);
}

#[test]
fn a_sparse_volume_of_many_gigabytes_is_a_few_entries() {
    let disk = Disk::new(1);
    let store = new_store(&disk);
    let bytes = 10_u64 << 30;
    let record = Dice::new(3).noise(RECORD);
    let key = Key::of(&record);
    let mut session = store.session(tenant(1)).unwrap();
    session.append(&CheckedGroup::encode(Form::Plain, &[(key, &record)], 1).unwrap()).unwrap();
    let mut image = session.image(image_spec(1, 1, bytes), None, None).unwrap();
    let at = (5_u64 << 30) + RECORD as u64;
    let mut list = Vec::new();
    let zeros = |mut offset: u64, end: u64, list: &mut Vec<ListEntry>| {
        while offset < end {
            let next = ((offset >> 31) + 1) << 31;
            let length = (next.min(end) - offset) as u32;
            list.push(ListEntry { offset, length, key: Key::ZERO });
            offset += u64::from(length);
        }
    };
    zeros(0, at, &mut list);
    list.push(ListEntry { offset: at, length: RECORD as u32, key });
    zeros(at + RECORD as u64, bytes, &mut list);
    list.iter().try_for_each(|entry| image.push(*entry)).unwrap();
    session.commit(point_spec(1, 1), vec![(image, Some(digest_of(&list)))]).unwrap();
    let image = store.image(tenant(1), point(1), volume(1)).unwrap();
    assert_eq!(image.list(0).collect::<Result<Vec<_>, _>>().unwrap(), list);
    assert_eq!(image.key_at(at / RECORD as u64).unwrap(), Some(key));
    assert_eq!(image.key_at(bytes / RECORD as u64).unwrap(), None);
}

/// One way of getting a list wrong.
fn spoil(dice: &Dice, list: &mut Vec<ListEntry>) -> &'static str {
    let index = dice.below(list.len() as u64) as usize;
    let kind = dice.below(7);
    if kind == 0 {
        list[index].key = Key::of(b"a record that nobody stored");
        return "a record that is not stored";
    }
    if kind == 1 {
        list.remove(index);
        return "an entry missing";
    }
    if kind == 2 {
        list.insert(index, list[index]);
        return "an entry twice";
    }
    if kind == 3 && list.len() > 1 {
        let other = (index + 1) % list.len();
        list.swap(index, other);
        return "two entries exchanged";
    }
    if kind == 4 {
        list[index].length -= 1;
        return "a length too small";
    }
    if kind == 5 {
        list[index].offset += 1;
        return "an offset off the grid";
    }
    list.push(ListEntry { offset: 1 << 40, length: RECORD as u32, key: list[index].key });
    "an entry beyond the end"
}

#[test]
fn d_16_wrong_lists_are_refused_before_anything_is_visible() {
    let (base, model) = prepared();
    let disk = base.fork(1);
    let store = open(&disk).unwrap();
    for seed in 0..200 {
        let dice = Dice::new(seed);
        let bytes = fresh_volume(&dice, 6);
        let good = list_of(&bytes, None);
        let mut list = good.clone();
        let what = spoil(&dice, &mut list);
        let mut session = store.session(tenant(1)).unwrap();
        append_missing(&mut session, &bytes, &good).unwrap();
        let spec = image_spec(seed + 100, 1, bytes.len() as u64);
        let mut image = session.image(spec, None, None).unwrap();
        let pushed = list.iter().try_for_each(|entry| image.push(*entry));
        // A liar announces the digest of what he pushes, an honest source of what it meant.
        let announced = if dice.one_in(2) { digest_of(&list) } else { digest_of(&good) };
        let done = pushed.and_then(|()| {
            let images = vec![(image, Some(announced))];
            session.commit(point_spec(seed + 100, 1), images).map(|_| ())
        });
        let error = done.expect_err(what);
        assert!(
            matches!(
                error,
                StoreError::BadList(_)
                    | StoreError::UnknownRecord { .. }
                    | StoreError::ListMismatch
            ),
            "seed {seed}, {what}: {error}"
        );
        assert!(!store.is_poisoned());
        drop(session);
        assert!(matches!(
            store.point(tenant(1), point(seed + 100)),
            Err(StoreError::PointUnknown(_))
        ));
    }
    check(&store, &model, None);
    drop(store);
    disk.kill();
    check_no_strangers(&open(&disk).unwrap(), &disk);
}

#[test]
fn d_16_a_change_that_is_left_out_does_not_pass_for_the_parent_s() {
    let (base, model) = prepared();
    let store = open(&base.fork(1)).unwrap();
    let parent = &model[&2].volumes[&1];
    for seed in 0..40 {
        let dice = Dice::new(seed);
        let mut bytes = parent.clone();
        bytes.chunks_mut(RECORD).for_each(|record| dice.fill(record));
        let good = list_of(&bytes, Some(parent));
        let mut list = good.clone();
        list.remove(dice.below(list.len() as u64) as usize);
        let mut session = store.session(tenant(1)).unwrap();
        append_missing(&mut session, &bytes, &good).unwrap();
        let spec = image_spec(seed + 100, 1, bytes.len() as u64);
        let mut image = session.image(spec, Some(point(2)), None).unwrap();
        list.iter().try_for_each(|entry| image.push(*entry)).unwrap();
        let images = vec![(image, Some(digest_of(&good)))];
        let refused = session.commit(point_spec(seed + 100, 1), images);
        assert!(matches!(refused, Err(StoreError::ListMismatch)), "{refused:?}");
    }
}

#[test]
fn d_16_a_record_of_another_length_than_its_entry_is_refused() {
    let disk = Disk::new(1);
    let store = new_store(&disk);
    let short = Dice::new(3).noise(1000);
    let key = Key::of(&short);
    let mut session = store.session(tenant(1)).unwrap();
    session.append(&CheckedGroup::encode(Form::Plain, &[(key, &short)], 1).unwrap()).unwrap();
    let mut image = session.image(image_spec(1, 1, RECORD as u64), None, None).unwrap();
    image.push(ListEntry { offset: 0, length: RECORD as u32, key }).unwrap();
    let refused = session.commit(point_spec(1, 1), vec![(image, None)]);
    assert!(matches!(refused, Err(StoreError::BadList(_))), "{refused:?}");
}

#[test]
fn another_parent_than_was_announced_is_refused() {
    let (base, model) = prepared();
    let store = open(&base.fork(1)).unwrap();
    let session = store.session(tenant(1)).unwrap();
    let bytes = model[&1].volumes[&1].len() as u64;
    let list = store.image(tenant(1), point(1), volume(1)).unwrap().list_digest();
    let other = store.image(tenant(1), point(2), volume(1)).unwrap().list_digest();
    session.image(image_spec(9, 1, bytes), Some(point(1)), Some(list)).unwrap();
    for (parent, list) in [(point(1), Some(other)), (point(77), None), (point(3), None)] {
        let refused = session.image(image_spec(9, 1, bytes), Some(parent), list);
        assert!(matches!(refused, Err(StoreError::BaseMissing)));
    }
}

#[test]
fn changes_against_the_parent_are_the_list_that_was_committed() {
    let disk = Disk::new(1);
    let store = new_store(&disk);
    for seed in 0..60_u64 {
        let dice = Dice::new(seed);
        let first = Volumes::from([(1, fresh_volume(&dice, 12))]);
        let second = Volumes::from([(1, next_version(&dice, &first[&1]))]);
        let (a, b) = (seed * 2 + 100, seed * 2 + 101);
        protect(&store, 1, a, &first, None).unwrap();
        protect(&store, 1, b, &second, Some((a, &first))).unwrap();
        for (number, parent) in [(a, None), (b, Some(point(a)))] {
            let changes = store.changes(tenant(1), point(number), volume(1), parent).unwrap();
            let announced = changes.image().list_digest();
            let list: Vec<ListEntry> = changes.map(Result::unwrap).collect();
            let before = parent.map(|_| &first[&1][..]);
            let bytes = if parent.is_some() { &second[&1] } else { &first[&1] };
            assert_eq!(list, list_of(bytes, before), "seed {seed}");
            assert_eq!(digest_of(&list), announced, "seed {seed}");
        }
        // Of the point itself nothing; without the parent, everything.
        let none = store.changes(tenant(1), point(b), volume(1), Some(point(b))).unwrap();
        assert_eq!(none.count(), 0);
        let all = store.changes(tenant(1), point(b), volume(1), None).unwrap();
        let all: Vec<ListEntry> = all.map(Result::unwrap).collect();
        assert_eq!(all, list_of(&second[&1], None));
        let missing = store.changes(tenant(1), point(b), volume(1), Some(point(9)));
        assert!(matches!(missing, Err(StoreError::BaseMissing)));
    }
}

#[test]
fn changes_of_a_large_volume_read_changed_pages_only_and_cut_zeros_at_2_gib() {
    const GIB: u64 = 1 << 30;
    let disk = Disk::new(1);
    let store = new_store(&disk);
    let record = Dice::new(3).noise(RECORD);
    let key = Key::of(&record);
    let mut session = store.session(tenant(1)).unwrap();
    let group = CheckedGroup::encode(Form::Plain, &[(key, &record)], 1);
    session.append(&group.unwrap()).unwrap();
    let zeros =
        |from: u64, to: u64| ListEntry { offset: from, length: (to - from) as u32, key: Key::ZERO };
    let written = |offset: u64| ListEntry { offset, length: RECORD as u32, key };
    let first = [
        zeros(0, 2 * GIB),
        zeros(2 * GIB, 3 * GIB),
        written(3 * GIB),
        zeros(3 * GIB + 4096, 4 * GIB),
        zeros(4 * GIB, 5 * GIB),
    ];
    let second = [written(GIB), zeros(3 * GIB, 3 * GIB + 4096)];
    for (number, parent, list) in [(1, None, &first[..]), (2, Some(point(1)), &second[..])] {
        let mut image = session.image(image_spec(number, 1, 5 * GIB), parent, None).unwrap();
        list.iter().for_each(|entry| image.push(*entry).unwrap());
        session.commit(point_spec(number, 1), vec![(image, Some(digest_of(list)))]).unwrap();
        let changes = store.changes(tenant(1), point(number), volume(1), parent).unwrap();
        assert_eq!(changes.map(Result::unwrap).collect::<Vec<_>>(), list);
    }
}
