//! The index is a cache, and exact: B-12, B-14, D-07, tenants apart.

use std::path::PathBuf;

use offsite_model::{Key, Luck, SessionId};
use offsite_testkit::disk::Disk;

use super::scene::*;
use crate::group::{CheckedGroup, Form};
use crate::hash::{self, IS_STUB};
use crate::{ListEntry, Session, Settings, Store, StoreError};

/// Records of 8 bytes, and one of a whole record so that an image can hold the segment.
fn fill(store: &Store, number: u64, records: std::ops::Range<u64>) {
    let mut session = store.session(tenant(1)).unwrap();
    let whole = Dice::new(number).noise(RECORD);
    let whole_key = Key::of(&whole);
    session.append(&CheckedGroup::encode(Form::Plain, &[(whole_key, &whole)], 1).unwrap()).unwrap();
    append(&mut session, records);
    let mut image = session.image(image_spec(number, 1, RECORD as u64), None, None).unwrap();
    image.push(ListEntry { offset: 0, length: RECORD as u32, key: whole_key }).unwrap();
    session.commit(point_spec(number, 1), vec![(image, None)]).unwrap();
}

/// Every record is found where it is, its bytes compared for a sample; nothing else is found.
fn check_answers(store: &Store, n: u64, n_absent: u64) {
    for record in 0..n {
        let key = Key::of(&record.to_le_bytes());
        let found = store.find(tenant(1), Form::Plain, &key).unwrap();
        assert!(found.is_some(), "record {record} is missing");
        if record % 997 == 0 {
            let bytes = store.record(tenant(1), Form::Plain, &key).unwrap();
            assert_eq!(bytes, record.to_le_bytes());
        }
        assert_eq!(store.find(tenant(2), Form::Plain, &key).unwrap(), None);
    }
    // Windows: as stored, backwards, stored and absent ones in turn, and one stored among many
    // absent ones.
    let key_of = |record: u64| Key::of(&record.to_le_bytes());
    let ordered: Vec<u64> = (0..n).collect();
    let backwards: Vec<u64> = (0..n).rev().collect();
    let mixed: Vec<u64> = (0..n.min(n_absent)).flat_map(|record| [record, n + record]).collect();
    let lone = |record| if record % 40 == 39 { record * 9 % n } else { n + record };
    let lonely: Vec<u64> = (0..n_absent).map(lone).collect();
    for records in [ordered, backwards, mixed, lonely] {
        for window in records.chunks(700) {
            let keys: Vec<Key> = window.iter().map(|record| key_of(*record)).collect();
            let places = store.find_many(tenant(1), Form::Plain, &keys).unwrap();
            for (record, (key, place)) in window.iter().zip(keys.iter().zip(places)) {
                assert_eq!(place.is_some(), *record < n, "record {record} in a window");
                if record % 97 == 0 && *record < n {
                    let group = store.group(tenant(1), place.unwrap()).unwrap();
                    assert_eq!(group.table()[usize::from(place.unwrap().slot)].key, *key);
                }
            }
            let theirs = store.find_many(tenant(2), Form::Plain, &keys).unwrap();
            assert!(theirs.iter().all(Option::is_none));
        }
    }
    for record in n..n + n_absent {
        let key = Key::of(&record.to_le_bytes());
        assert_eq!(store.find(tenant(1), Form::Plain, &key).unwrap(), None, "a false have");
    }
}

fn runs(disk: &Disk) -> Vec<PathBuf> {
    let paths = disk.paths().into_iter().map(|(path, _)| path);
    paths.filter(|path| path.starts_with("/store/runs")).collect()
}

#[test]
fn d_07_the_index_is_a_cache() {
    const N: u64 = 100_000;
    let disk = Disk::new(1);
    let store = new_store(&disk);
    fill(&store, 1, 0..N / 2);
    let old: Vec<(PathBuf, Vec<u8>)> = runs(&disk)
        .into_iter()
        .map(|path| (path.clone(), disk.files().read(&path, 1 << 30).unwrap()))
        .collect();
    assert!(!old.is_empty());
    for part in 0..5 {
        fill(&store, 2 + part, N / 2 + part * N / 10..N / 2 + (part + 1) * N / 10);
    }
    drop(store);
    for (case, one_in) in [("all", 1), ("half", 2)] {
        let disk = disk.fork(2);
        for (n, path) in runs(&disk).into_iter().enumerate() {
            if n % one_in == 0 {
                disk.files().remove(&path).unwrap();
            }
        }
        let store = open(&disk).unwrap();
        assert_eq!(store.alarms(), [], "{case}");
        check_answers(&store, N, 10_000);
    }
    // An older copy put back beside the newer ones, and in place of them.
    for is_beside in [true, false] {
        let disk = disk.fork(3);
        if !is_beside {
            runs(&disk).iter().for_each(|path| disk.files().remove(path).unwrap());
        }
        for (path, bytes) in &old {
            disk.files().write_atomically(path, bytes).unwrap();
        }
        check_answers(&open(&disk).unwrap(), N, 10_000);
    }
    check_answers(&open(&disk).unwrap(), N, 10_000);
}

/// Appends records that nobody commits, in the order of their numbers, and drops nothing.
fn append(session: &mut Session, records: std::ops::Range<u64>) {
    let all: Vec<[u8; 8]> = records.map(u64::to_le_bytes).collect();
    for group in all.chunks(256) {
        let keyed: Vec<(Key, &[u8])> = group.iter().map(|r| (Key::of(r), &r[..])).collect();
        session.append(&CheckedGroup::encode(Form::Plain, &keyed, 1).unwrap()).unwrap();
    }
}

#[test]
fn what_is_not_committed_yet_is_read_once_for_a_window() {
    const N: u64 = 20_000;
    let disk = Disk::new(1);
    drop(new_store(&disk));
    let settings = Settings { recent_records_max: 1_000, segment_records: 2_000, ..SMALL };
    let store = open_with(&disk, settings).unwrap();
    let mut session = store.session(tenant(1)).unwrap();
    append(&mut session, 0..N);
    // As a commit asks for the list of its own image: no segment of it has a trail to follow.
    let keys: Vec<Key> = (0..N).map(|record| Key::of(&record.to_le_bytes())).collect();
    let before = disk.n_reads();
    let found = session.find_many(Form::Plain, &keys).unwrap();
    assert!(found.iter().all(Option::is_some));
    let (n_reads, n_pages) = (disk.n_reads() - before, N / 92);
    assert!(n_reads <= 2 * n_pages, "{n_reads} reads of {n_pages} pages");
}

#[test]
fn merging_waits_for_the_end_of_a_session_unless_there_is_much_of_it() {
    const RECORDS: u64 = 200;
    let disk = Disk::new(1);
    drop(new_store(&disk));
    let settings = Settings { recent_records_max: 100, segment_records: 200, ..SMALL };
    let store = open_with(&disk, settings).unwrap();
    let mut number = 0;
    let mut keep = |session: &mut Session| {
        append(session, number * RECORDS..(number + 1) * RECORDS);
        session.keep().unwrap();
        number += 1;
        runs(&disk).len()
    };
    let mut first = store.session(tenant(1)).unwrap();
    assert_eq!(keep(&mut first), 1);
    assert_eq!(keep(&mut first), 2, "merged while somebody waited");
    drop(first);
    assert_eq!(runs(&disk).len(), 1);
    let mut long = store.session(tenant(1)).unwrap();
    let n_max = (0..40).map(|_| keep(&mut long)).max().unwrap();
    assert!(n_max <= 4 + 42_usize.ilog2() as usize + 1, "{n_max} runs");
    drop((long, store));
    check_answers(&open_with(&disk, settings).unwrap(), 42 * RECORDS, 1_000);
}

#[test]
fn runs_are_few_however_many_sessions_brought_theirs() {
    const SESSIONS: u64 = 12;
    const RECORDS: u64 = 2_600;
    let disk = Disk::new(1);
    drop(new_store(&disk));
    let settings = Settings { recent_records_max: 100, segment_records: 200, ..SMALL };
    let store = open_with(&disk, settings).unwrap();
    for number in 0..SESSIONS {
        let mut session = store.session(tenant(1)).unwrap();
        append(&mut session, number * RECORDS..(number + 1) * RECORDS);
        session.keep().unwrap();
    }
    // Each is less than half of the one before it.
    let n_max = (SESSIONS * RECORDS / 100).ilog2() as usize + 1;
    let n_runs = runs(&disk).len();
    assert!(n_runs <= n_max, "{n_runs} runs, {n_max} are enough");
    check_answers(&store, SESSIONS * RECORDS, 1_000);
}

#[test]
fn d_07_a_run_that_names_a_segment_that_is_gone_is_not_believed() {
    let disk = Disk::new(1);
    let store = new_store(&disk);
    fill(&store, 1, 0..500);
    drop(store);
    // The run of another history of the same store: its segments are unknown here.
    let other = disk.fork(2);
    let store = open(&other).unwrap();
    fill(&store, 2, 500..1000);
    drop(store);
    for path in runs(&other) {
        let bytes = other.files().read(&path, 1 << 30).unwrap();
        disk.files().write_atomically(&path, &bytes).unwrap();
    }
    check_answers(&open(&disk).unwrap(), 500, 500);
}

/// First byte and length of the filter in a run's file.
fn filter_of(run: &[u8]) -> (usize, usize) {
    let number = |at: usize| u32::from_le_bytes(run[at..at + 4].try_into().unwrap()) as usize;
    let (n_blocks, n_pages) = (number(60), number(64));
    (4096 * (1 + n_pages) + 8 * n_pages, 64 * n_blocks)
}

#[test]
fn b_14_a_filter_never_says_have_and_a_damaged_one_is_not_asked() {
    const N: u64 = 10_000;
    let base = Disk::new(1);
    let store = new_store(&base);
    fill(&store, 1, 0..N);
    drop(store);
    // Forced to all-ones, with a good checksum: everything may be there, nothing is for that.
    let disk = base.fork(1);
    for path in runs(&disk) {
        disk.edit(&path, |run| {
            let (start, bytes) = filter_of(run);
            run[start..start + bytes].fill(0xff);
            reseal(run);
        });
    }
    let store = open(&disk).unwrap();
    assert_eq!(store.alarms(), []);
    check_answers(&store, N, N);
    // Damaged, or all zeros (everything "missing"): not consulted, the run is made again.
    for kind in 0..2 {
        let disk = base.fork(2);
        for path in runs(&disk) {
            disk.edit(&path, |run| {
                let (start, bytes) = filter_of(run);
                match kind {
                    0 => run[start + bytes / 2] ^= 0x10,
                    _ => run[start..start + bytes].fill(0),
                }
            });
        }
        let store = open(&disk).unwrap();
        assert!(!store.alarms().is_empty());
        check_answers(&store, N, 1000);
        assert!(restore(&store, 1, 1, 1).unwrap() == Dice::new(1).noise(RECORD));
    }
}

/// Makes the checksums of a run good again.
fn reseal(run: &mut [u8]) {
    let (start, _) = filter_of(run);
    let n_pages = u32::from_le_bytes(run[64..68].try_into().unwrap()) as usize;
    let tables = crate::format::crc(&[&run[start - 8 * n_pages..]]);
    run[68..72].copy_from_slice(&tables.to_le_bytes());
    let head = crate::format::crc(&[&run[..4092]]);
    run[4092..4096].copy_from_slice(&head.to_le_bytes());
}

#[test]
fn b_14_a_page_that_rots_while_the_store_is_open_says_neither_have_nor_missing() {
    let disk = Disk::new(1);
    let store = new_store(&disk);
    fill(&store, 1, 0..2000);
    for path in runs(&disk) {
        // The store keeps its open file; the disk changes under it.
        disk.edit(&path, |run| run[4096 + 700] ^= 1);
    }
    check_answers(&store, 2000, 100);
    assert!(!store.alarms().is_empty());
}

#[test]
fn b_12_a_collision_is_refused_and_never_an_alias() {
    IS_STUB.set(true);
    let disk = Disk::new(1);
    let store = new_store(&disk);
    let mut session = store.session(tenant(1)).unwrap();
    let dice = Dice::new(12);
    let mut stored: Vec<(Key, Vec<u8>)> = Vec::new();
    let (mut n_collisions, mut n_again) = (0, 0);
    for n in 0..10_000 {
        let record = match n % 10 {
            9 => stored[dice.below(stored.len() as u64) as usize].1.clone(),
            _ => dice.noise(24),
        };
        let key = hash::key_of(&record);
        let group = CheckedGroup::encode(Form::Plain, &[(key, &record)], 1).unwrap();
        let before = store.find(tenant(1), Form::Plain, &key).unwrap();
        match session.append(&group) {
            Ok(()) if before.is_none() => stored.push((key, record)),
            Ok(()) => n_again += 1,
            Err(StoreError::KeyCollision(refused)) => {
                assert_eq!(refused, key);
                assert!(before.is_some());
                n_collisions += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(n_collisions > 300 && n_again > 900, "{n_collisions} {n_again}");
    for (key, record) in &stored {
        assert_eq!(store.record(tenant(1), Form::Plain, key).unwrap(), *record);
    }
    // Two contents under one key within one group.
    let twins = (0..u32::MAX).map(|n| n.to_le_bytes().to_vec()).scan(
        std::collections::BTreeMap::new(),
        |seen, record| {
            Some(seen.insert(hash::key_of(&record), record.clone()).map(|a| (a, record)))
        },
    );
    let fresh = |key: &Key| store.find(tenant(1), Form::Plain, key).unwrap().is_none();
    let (a, b) = twins.flatten().find(|(a, _)| fresh(&hash::key_of(a))).unwrap();
    let key = hash::key_of(&a);
    let group = CheckedGroup::encode(Form::Plain, &[(key, &a), (key, &b)], 1).unwrap();
    assert!(matches!(session.append(&group), Err(StoreError::KeyCollision(_))));
    IS_STUB.set(false);
}

#[test]
fn b_12_plain_and_encrypted_records_never_stand_for_each_other() {
    let disk = Disk::new(1);
    drop(new_store(&disk));
    // Every commit writes a run, so that runs are asked and merged, too.
    let settings = Settings { recent_records_max: 1, ..SMALL };
    let store = Store::open(disk.files(), std::path::Path::new(STORE), settings).unwrap();
    let record = Dice::new(4).noise(RECORD);
    let key = Key::of(&record);
    for form in [Form::Encrypted, Form::Plain] {
        assert_eq!(store.find(tenant(1), form, &key).unwrap(), None);
        let mut session = store.session(tenant(1)).unwrap();
        session.append(&CheckedGroup::encode(form, &[(key, &record)], 1).unwrap()).unwrap();
        let number = if form == Form::Plain { 1 } else { 2 };
        let spec = crate::ImageSpec { form, ..image_spec(number, 1, RECORD as u64) };
        let mut image = session.image(spec, None, None).unwrap();
        image.push(ListEntry { offset: 0, length: RECORD as u32, key }).unwrap();
        session.commit(point_spec(number, 1), vec![(image, None)]).unwrap();
    }
    assert_eq!(runs(&disk).len(), 1);
    drop(store);
    let store = open(&disk).unwrap();
    let places = [Form::Plain, Form::Encrypted].map(|form| store.find(tenant(1), form, &key));
    let [plain, encrypted] = places.map(|place| place.unwrap().unwrap());
    assert_ne!(plain, encrypted);
    for number in [1, 2] {
        assert!(restore(&store, 1, number, 1).unwrap() == record);
    }
}

#[test]
fn b_01_a_tenant_finds_only_what_it_stored_itself() {
    let disk = Disk::new(1);
    let store = new_store(&disk);
    let volumes = Volumes::from([(1, Dice::new(4).noise(20 * RECORD))]);
    protect(&store, 1, 1, &volumes, None).unwrap();
    for entry in list_of(&volumes[&1], None) {
        assert!(store.find(tenant(1), Form::Plain, &entry.key).unwrap().is_some());
        assert_eq!(store.find(tenant(2), Form::Plain, &entry.key).unwrap(), None);
        assert!(matches!(
            store.record(tenant(2), Form::Plain, &entry.key),
            Err(StoreError::UnknownRecord { .. })
        ));
    }
    // Neither by a point of the other's, nor by a list that names the other's records.
    let image = store.image(tenant(2), point(1), volume(1));
    assert!(matches!(image, Err(StoreError::PointUnknown(_))));
    let mut session = store.session(tenant(2)).unwrap();
    let list = list_of(&volumes[&1], None);
    let spec = image_spec(5, 1, volumes[&1].len() as u64);
    let mut image = session.image(spec, None, None).unwrap();
    list.iter().try_for_each(|entry| image.push(*entry)).unwrap();
    let refused = session.commit(point_spec(5, 1), vec![(image, None)]);
    assert!(matches!(refused, Err(StoreError::UnknownRecord { .. })));
}

/// A list of more windows than are looked up at once: one record that is not stored, wherever it
/// stands, keeps the point from being committed.
#[test]
fn one_missing_record_anywhere_in_a_long_list_is_refused() {
    const WINDOW: u64 = 1 << 16;
    const N: u64 = 2 * WINDOW + 1_000;
    let disk = Disk::new(1);
    let store = new_store(&disk);
    let record = Dice::new(5).noise(RECORD);
    let (stored, absent) = (Key::of(&record), Key::of(b"absent"));
    let mut session = store.session(tenant(1)).unwrap();
    session.append(&CheckedGroup::encode(Form::Plain, &[(stored, &record)], 1).unwrap()).unwrap();
    let mut commit = |number: u64, missing: Option<u64>| {
        let spec = image_spec(number, 1, N * RECORD as u64);
        let mut image = session.image(spec, None, None).unwrap();
        for position in 0..N {
            let key = if missing == Some(position) { absent } else { stored };
            let (offset, length) = (position * RECORD as u64, RECORD as u32);
            image.push(ListEntry { offset, length, key }).unwrap();
        }
        session.commit(point_spec(number, 1), vec![(image, None)])
    };
    for (number, missing) in (1..).zip([0, WINDOW - 1, WINDOW, 2 * WINDOW - 1, 2 * WINDOW, N - 1]) {
        match commit(number, Some(missing)) {
            Err(StoreError::UnknownRecord { key, offset }) => {
                assert_eq!((key, offset), (absent, missing * RECORD as u64));
            }
            other => panic!("{missing}: {:?}", other.map(|_| ())),
        }
    }
    commit(9, None).unwrap();
}

/// A draft's segment comes before that of a point and holds some of the point's records again,
/// which nobody committed. Whoever opens the store then must not take those for the point's.
#[test]
fn d_07_what_a_draft_stored_again_hides_no_committed_record_when_it_goes() {
    for n_again in [1, 3] {
        let disk = Disk::new(1);
        drop(new_store(&disk));
        // Nothing is written to a run before the end.
        let store = open_with(&disk, Settings { recent_records_max: 1_000, ..SMALL }).unwrap();
        let dice = Dice::new(1);
        let (bytes, other) = (dice.noise(12 * RECORD), dice.noise(RECORD));
        let id = SessionId::from_bytes([5; 16]);
        let mut draft = store.draft(tenant(1), id, Vec::new()).unwrap();
        let own = [(Key::of(&other), &other[..])];
        draft.append(&CheckedGroup::encode(Form::Plain, &own, 1).unwrap()).unwrap();
        let volumes = Volumes::from([(1, bytes.clone())]);
        protect(&store, 1, 1, &volumes, None).unwrap();
        for record in bytes.chunks(RECORD).take(n_again) {
            // With one that is new, else nothing is written.
            let new = dice.noise(RECORD);
            let both = [(Key::of(record), record), (Key::of(&new), &new[..])];
            draft.append(&CheckedGroup::encode(Form::Plain, &both, 1).unwrap()).unwrap();
        }
        draft.barrier().unwrap();
        drop((draft, store));
        for goes in [false, true] {
            let store = open_with(&disk, SMALL).unwrap();
            if goes {
                store.end_draft(tenant(1), id).unwrap();
            }
            // Runs are written by whoever commits.
            let more = Volumes::from([(1, dice.noise(9 * RECORD))]);
            protect(&store, 1, 2 + u64::from(goes), &more, None).unwrap();
            assert!(restore(&store, 1, 1, 1).unwrap() == bytes, "{n_again} {goes}");
            drop(store);
            assert!(restore(&open(&disk).unwrap(), 1, 1, 1).unwrap() == bytes, "{n_again} {goes}");
        }
    }
}
