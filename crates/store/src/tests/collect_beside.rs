//! A collection beside a session that is told of what is being moved: it keeps nothing from going,
//! and loses nothing.

use std::ops::ControlFlow;

use offsite_model::{Key, SessionId, Timestamp};
use offsite_testkit::disk::Disk;

use super::collect::ALL;
use super::scene::*;
use crate::group::Form;
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
