//! A collection beside a session that is told of what is being moved: it keeps nothing from going,
//! and loses nothing.

use std::ops::ControlFlow;

use offsite_model::{Key, SessionId, Timestamp};
use offsite_testkit::disk::Disk;

use super::collect::{ALL, check_whole, collect, purge};
use super::scene::*;
use crate::group::{CheckedGroup, Form};
use crate::{CollectOptions, Kept, Stage, Store};

const SESSION: SessionId = SessionId::from_bytes([6; 16]);
/// Records of the point that goes; of these every third is in the one that stays.
const N: usize = 60;

/// Segments a third of which is alive, and the bytes of both points.
fn mixed(disk: &Disk) -> (Store, Vec<u8>, Vec<u8>) {
    drop(new_store(disk));
    let store = open_with(disk, TINY).unwrap();
    let all = Dice::new(9).noise(N * RECORD);
    let live: Vec<u8> = all.chunks(RECORD).step_by(3).flatten().copied().collect();
    protect(&store, 1, 1, &Volumes::from([(1, all.clone())]), None).unwrap();
    protect(&store, 1, 2, &Volumes::from([(1, live.clone())]), None).unwrap();
    let at = Timestamp::from_secs(5);
    store.delete_point(tenant(1), point(1), at).unwrap();
    store.purge(tenant(1), &[point(1)], at).unwrap();
    (store, all, live)
}

#[test]
fn b_08_who_is_told_beside_a_collection_finds_it_there_and_keeps_nothing_from_going() {
    for n_threads in [1, 2] {
        let disk = Disk::new(3);
        let (store, all, live) = mixed(&disk);
        let mut draft = store.draft(tenant(1), SESSION, Vec::new()).unwrap();
        // What is alive, again and again; and in the middle a record that was garbage and whose
        // group was moved by then.
        let garbage = &all[RECORD..2 * RECORD];
        let told: Vec<u8> = [&live[..], garbage].concat();
        let keys: Vec<Key> = told.chunks(RECORD).map(Key::of).collect();
        let (mut n_moves, mut n_told) = (0, 0);
        let options = CollectOptions { n_threads, ..ALL };
        let report = store.collect(&options, &mut |progress| {
            n_moves += usize::from(progress.stage == Stage::Move);
            if matches!(progress.stage, Stage::Weigh | Stage::Move) {
                let asked = if n_moves == 9 { &keys[..] } else { &keys[..live.len() / RECORD] };
                let found = draft.find_many(Form::Plain, asked).unwrap();
                n_told += found.iter().filter(|found| found.is_some()).count();
            }
            ControlFlow::Continue(())
        });
        let report = report.unwrap();
        assert!(n_moves > 9 && n_told > keys.len(), "{n_moves} {n_told}");
        assert!(!report.kept.contains_key(&Kept::InUse), "{report:?}");
        assert!(report.n_segments as usize >= N / 6, "{report:?}");
        let find_all = || {
            let places = store.find_many(tenant(1), Form::Plain, &keys).unwrap();
            assert!(places.iter().all(Option::is_some), "told, and gone");
        };
        find_all();
        // The next one holds them too, where they lie now, though nothing has named them yet.
        store.collect(&options, &mut |_| ControlFlow::Continue(())).unwrap();
        find_all();
        draft.list(0, &list_of(&told, None)).unwrap();
        draft.promise().unwrap();
        store.collect(&options, &mut |_| ControlFlow::Continue(())).unwrap();
        find_all();
        let spec = image_spec(7, 1, told.len() as u64);
        let mut image = draft.session().image(spec, None, None).unwrap();
        list_of(&told, None).iter().for_each(|entry| image.push(*entry).unwrap());
        draft.commit(point_spec(7, 1), vec![(image, None)]).unwrap();
        draft.end().unwrap();
        let model = [(2, live), (7, told)].map(|(number, bytes)| {
            let volumes = Volumes::from([(1, bytes)]);
            (number, Expected { tenant: 1, volumes, is_deleted: false })
        });
        check(&store, &Model::from(model), None);
        check_no_strangers(&store, &disk);
    }
}

/// A record that was stored twice is known at one place. Where that place is collected while nobody
/// needs the record, the other copy stays among its neighbours and is met by who follows them.
#[test]
fn d_07_a_copy_that_only_its_neighbours_lead_to_is_found_when_it_is_needed_again() {
    let disk = Disk::new(1);
    drop(new_store(&disk));
    let store = open_with(&disk, SMALL).unwrap();
    let dice = Dice::new(1);
    let (first, twice) = (dice.noise(RECORD), dice.noise(RECORD));
    let (only_twice, both) = (twice.clone(), [first.as_slice(), &twice].concat());
    let mut model = Model::new();
    let volumes = Volumes::from([(1, only_twice)]);
    protect(&store, 1, 1, &volumes, None).unwrap();
    model.insert(1, Expected { tenant: 1, volumes, is_deleted: false });
    // Stored again, in the middle of a group of which the rest is new, and needed by nobody.
    let mut session = store.session(tenant(1)).unwrap();
    let group = [(Key::of(&first), &first[..]), (Key::of(&twice), &twice[..])];
    session.append(&CheckedGroup::encode(Form::Plain, &group, 1).unwrap()).unwrap();
    // Enough of it that a key run is written, which names one place for each key.
    let volumes = Volumes::from([(1, [first.clone(), dice.noise(20 * RECORD)].concat())]);
    protect_in(&mut session, 2, &volumes, None).unwrap();
    model.insert(2, Expected { tenant: 1, volumes, is_deleted: false });
    drop(session);
    purge(&store, &mut model, 1).unwrap();
    let mostly_dead = CollectOptions { live_percent: 1, ..ALL };
    let report = store.collect(&mostly_dead, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(report.bytes_freed > 0, "{report:?}");
    // Whoever asks for the neighbour first is led to it.
    let session = store.session(tenant(1)).unwrap();
    let keys = [Key::of(&first), Key::of(&twice)];
    let found = session.find_many(Form::Plain, &keys).unwrap();
    drop(session);
    if found.iter().all(Option::is_some) {
        let mut session = store.session(tenant(1)).unwrap();
        assert!(session.find_many(Form::Plain, &keys).unwrap().iter().all(Option::is_some));
        let list = list_of(&both, None);
        let mut image = session.image(image_spec(3, 1, both.len() as u64), None, None).unwrap();
        list.iter().for_each(|entry| image.push(*entry).unwrap());
        session.commit(point_spec(3, 1), vec![(image, Some(digest_of(&list)))]).unwrap();
        let volumes = Volumes::from([(1, both)]);
        model.insert(3, Expected { tenant: 1, volumes, is_deleted: false });
        drop(session);
    }
    assert!(model.contains_key(&3), "nobody was led to the second copy: the test is of no use");
    check_whole(&store, &model);
    drop(store);
    let store = open_with(&disk, SMALL).unwrap();
    check_whole(&store, &model);
    // Whoever asks for it by itself finds it too, as where a window of a restore begins with it.
    assert!(store.record(tenant(1), Form::Plain, &Key::of(&twice)).unwrap() == twice);
    // What is needed is moved with what it lies among, and known from then on.
    purge(&store, &mut model, 2).unwrap();
    collect(&store).unwrap();
    check_whole(&store, &model);
}

/// Groups are looked up and listed while the disk works: what is found then is promised by the next
/// barrier, and whoever stored it may be gone by that time.
#[test]
fn b_08_what_is_found_during_a_barrier_stays_until_it_is_promised() {
    let disk = Disk::new(1);
    drop(new_store(&disk));
    let store = open_with(&disk, TINY).unwrap();
    let record = Dice::new(3).noise(RECORD);
    let key = Key::of(&record);
    let mut other = store.session(tenant(1)).unwrap();
    other.append(&CheckedGroup::encode(Form::Plain, &[(key, &record)], 1).unwrap()).unwrap();
    let mut draft = store.draft(tenant(1), SESSION, Vec::new()).unwrap();
    let barrier = draft.begin_barrier().unwrap();
    assert!(draft.find_many(Form::Plain, &[key]).unwrap()[0].is_some());
    draft.list(0, &list_of(&record, None)).unwrap();
    let synced = barrier.sync();
    draft.end_barrier(synced).unwrap();
    drop(other);
    draft.promise().unwrap();
    assert!(store.record(tenant(1), Form::Plain, &key).unwrap() == record, "promised, and lost");
    drop((draft, store));
    disk.power_cut();
    let store = open_with(&disk, TINY).unwrap();
    assert!(store.record(tenant(1), Form::Plain, &key).unwrap() == record, "promised, and lost");
}
