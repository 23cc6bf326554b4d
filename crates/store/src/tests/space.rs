//! What collection leaves to whom: ids and tokens of what was purged, sessions that gave up beside
//! others that go on, doubt about one tenant, drafts that a crash has torn.

use std::ops::ControlFlow;
use std::path::PathBuf;

use offsite_model::{Key, SessionId, Timestamp};
use offsite_testkit::disk::Disk;

use super::collect::{ALL, bytes_of_files, check_whole, collect, purge};
use super::scene::*;
use crate::group::Form;
use crate::{CollectOptions, Store, StoreError};

fn store_with(points: &[(u64, u8, usize)]) -> (Disk, Store, Model) {
    let disk = Disk::new(1);
    drop(new_store(&disk));
    let store = open_with(&disk, TINY).unwrap();
    let mut model = Model::new();
    for &(number, owner, n_records) in points {
        let volumes = Volumes::from([(1, Dice::new(number).noise(n_records * RECORD))]);
        protect(&store, owner, number, &volumes, None).unwrap();
        model.insert(number, Expected { tenant: owner, volumes, is_deleted: false });
    }
    (disk, store, model)
}

#[test]
fn c_09_the_id_of_a_purged_point_is_never_used_again_and_its_token_goes() {
    let (disk, store, mut model) = store_with(&[(1, 1, 4), (2, 1, 4)]);
    let volumes = model[&1].volumes.clone();
    let gone = store.purged_at(tenant(1), point(1)).unwrap();
    assert_eq!(gone, None);
    purge(&store, &mut model, 1).unwrap();
    assert_eq!(store.purged_at(tenant(1), point(1)).unwrap(), Some(Timestamp::from_secs(6)));
    // Until it is forgotten, whoever asks again is told what came of it then.
    collect(&store).unwrap();
    assert!(store.outcome(tenant(1), token(1)).unwrap().is_some());
    store.forget_tokens(tenant(1)).unwrap();
    assert_eq!(store.outcome(tenant(1), token(1)).unwrap(), None);
    assert!(store.outcome(tenant(1), token(2)).unwrap().is_some());
    for is_reopened in [false, true] {
        let store = if is_reopened { open_with(&disk, TINY).unwrap() } else { store.clone() };
        let again = protect(&store, 1, 1, &volumes, None);
        assert!(matches!(again, Err(StoreError::Purged(_))), "{again:?}");
        assert!(store.point(tenant(1), point(1)).is_err());
        // Another tenant's point is another point.
        if is_reopened {
            protect(&store, 2, 1, &volumes, None).unwrap();
        }
        drop(store);
        disk.power_cut();
    }
}

#[test]
fn d_11_an_idle_session_holds_what_it_was_told_and_not_what_another_gave_up() {
    let (disk, store, mut model) = store_with(&[(2, 1, 6)]);
    let before = bytes_of_files(&disk);
    let kept = Dice::new(8).noise(6 * RECORD);
    let (mut giving_up, mut idle) =
        (store.session(tenant(1)).unwrap(), store.session(tenant(1)).unwrap());
    let spec = list_of(&kept, None);
    append_missing(&mut giving_up, &kept, &spec).unwrap();
    let more = Dice::new(9).noise(60 * RECORD);
    append_missing(&mut giving_up, &more, &list_of(&more, None)).unwrap();
    let keys: Vec<Key> = kept.chunks(RECORD).map(Key::of).collect();
    assert!(idle.find_many(Form::Plain, &keys).unwrap().iter().all(Option::is_some));
    drop(giving_up);
    let left = bytes_of_files(&disk) - before;
    assert!(left <= 12 * RECORD as u64, "{left} bytes are left of 66 records of which 6 are held");
    let none = more.chunks(RECORD).skip(6).map(Key::of).collect::<Vec<_>>();
    let found = store.find_many(tenant(1), Form::Plain, &none).unwrap();
    assert!(found.iter().all(Option::is_none), "what is gone is found");
    // What it was told it finds at its commit.
    let image_of = image_spec(7, 1, kept.len() as u64);
    let mut image = idle.image(image_of, None, None).unwrap();
    spec.iter().for_each(|entry| image.push(*entry).unwrap());
    idle.commit(point_spec(7, 1), vec![(image, None)]).unwrap();
    model.insert(7, Expected { tenant: 1, volumes: Volumes::from([(1, kept)]), is_deleted: false });
    drop(idle);
    check_whole(&store, &model);
    drop(store);
    let store = open_with(&disk, TINY).unwrap();
    check_whole(&store, &model);
    check_no_strangers(&store, &disk);
}

#[test]
fn d_11_what_a_draft_promised_of_another_session_outlives_that_one() {
    let (disk, store, _) = store_with(&[(2, 1, 6)]);
    let bytes = Dice::new(8).noise(6 * RECORD);
    let keys: Vec<Key> = bytes.chunks(RECORD).map(Key::of).collect();
    let mut giving_up = store.session(tenant(1)).unwrap();
    append_missing(&mut giving_up, &bytes, &list_of(&bytes, None)).unwrap();
    let session = SessionId::from_bytes([5; 16]);
    let mut draft = store.draft(tenant(1), session, Vec::new()).unwrap();
    assert!(draft.find_many(Form::Plain, &keys).unwrap().iter().all(Option::is_some));
    draft.list(0, &list_of(&bytes, None)).unwrap();
    draft.promise().unwrap();
    drop(giving_up);
    drop(draft);
    let found = store.find_many(tenant(1), Form::Plain, &keys).unwrap();
    assert!(found.iter().all(Option::is_some), "a promise was broken");
    drop(store);
    disk.power_cut();
    let store = open_with(&disk, TINY).unwrap();
    let found = store.find_many(tenant(1), Form::Plain, &keys).unwrap();
    assert!(found.iter().all(Option::is_some), "a promise was broken");
    store.end_draft(tenant(1), session).unwrap();
    let found = store.find_many(tenant(1), Form::Plain, &keys).unwrap();
    assert!(found.iter().all(Option::is_none), "nobody holds it any more");
    check_no_strangers(&store, &disk);
}

#[test]
fn d_10_doubt_names_the_point_and_stops_the_tenant_that_it_is_about_and_no_other() {
    let (disk, store, mut model) = store_with(&[(1, 1, 9), (2, 1, 9), (3, 2, 9), (4, 2, 9)]);
    let image = store.image(tenant(1), point(2), volume(1)).unwrap();
    let page = image.refs(0)[0];
    let path = PathBuf::from(format!("/store/manifests/{:08x}", page.manifest.get()));
    drop(image);
    for number in [1, 3] {
        purge(&store, &mut model, number).unwrap();
    }
    disk.edit(&path, |bytes| bytes[page.offset.get() as usize + 9] ^= 1);
    let (mut doubts, mut n_freed) = (Vec::new(), 0);
    for owner in store.tenants().unwrap() {
        let options = CollectOptions { tenant: Some(owner), ..ALL };
        match store.collect(&options, &mut |_| ControlFlow::Continue(())) {
            Ok(report) => n_freed += report.n_segments,
            Err(StoreError::Doubt(what)) => doubts.push(what),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(n_freed > 0, "the other tenant's space stays");
    assert_eq!(doubts.len(), 1);
    assert!(doubts[0].ends_with(&format!("of recovery point {}", point(2))), "{}", doubts[0]);
    let records = Dice::new(1).noise(9 * RECORD);
    let is_there = |bytes: &[u8]| store.find(tenant(1), Form::Plain, &Key::of(bytes)).unwrap();
    assert!(records.chunks(RECORD).all(|record| is_there(record).is_some()), "taken in doubt");
    // The way out that the operator has: the point goes, and everything with it.
    purge(&store, &mut model, 2).unwrap();
    assert!(collect(&store).unwrap().n_segments > 0);
    assert_eq!(store.bytes_stored(tenant(1)), 0);
    check_whole(&store, &model);
    check_no_strangers(&store, &disk);
}

#[test]
fn d_11_the_torn_tail_of_a_draft_stops_no_collection_and_what_was_promised_stays() {
    // A frame's head alone, a frame without its end, one with other content, and zeros.
    for harm in 0..4_usize {
        let (disk, store, mut model) = store_with(&[(1, 1, 12), (2, 1, 6)]);
        let bytes = model[&1].volumes[&1][..3 * RECORD].to_vec();
        let keys: Vec<Key> = bytes.chunks(RECORD).map(Key::of).collect();
        let session = SessionId::from_bytes([5; 16]);
        let mut draft = store.draft(tenant(1), session, Vec::new()).unwrap();
        assert!(draft.find_many(Form::Plain, &keys).unwrap().iter().all(Option::is_some));
        draft.list(0, &list_of(&bytes, None)).unwrap();
        draft.promise().unwrap();
        let log = disk.paths().into_iter().find(|(path, _)| path.starts_with("/store/drafts"));
        let (log, promised) = log.unwrap();
        let rest = list_of(&model[&1].volumes[&1], None);
        draft.list(3, &rest[3..]).unwrap();
        drop((draft, store));
        let whole = disk.files().metadata(&log).unwrap().bytes as usize;
        disk.edit(&log, |bytes| match harm {
            0 => bytes.truncate(promised as usize + 9),
            1 => bytes.truncate(whole - 5),
            2 => bytes[whole - 5] ^= 1,
            _ => bytes[promised as usize..].fill(0),
        });
        let store = open_with(&disk, TINY).unwrap();
        purge(&store, &mut model, 1).unwrap();
        let report = collect(&store).unwrap_or_else(|error| panic!("harm {harm}: {error}"));
        assert!(report.n_segments > 0);
        let mut draft = store.resume(tenant(1), session).unwrap();
        assert_eq!(draft.n_listed(), 3, "harm {harm}");
        assert!(draft.find_many(Form::Plain, &keys).unwrap().iter().all(Option::is_some));
        check_whole(&store, &model);
    }
}

#[test]
fn what_nobody_refers_to_is_no_longer_put_aside() {
    let (disk, store, mut model) = store_with(&[(1, 1, 3), (2, 1, 6)]);
    let key = Key::of(&model[&1].volumes[&1][..RECORD]);
    let place = store.find(tenant(1), Form::Plain, &key).unwrap().unwrap();
    let path = PathBuf::from(format!("/store/segments/{:08x}", place.segment));
    disk.edit(&path, |bytes| bytes[place.place as usize * 16 + 400] ^= 1);
    assert!(store.record(tenant(1), Form::Plain, &key).is_err());
    assert!(store.has_damage(tenant(1)));
    purge(&store, &mut model, 1).unwrap();
    let report = collect(&store).unwrap();
    assert!(report.bytes_quarantined > 0, "{report:?}");
    assert!(!store.has_damage(tenant(1)), "it would be looked for for ever");
    assert!(disk.files().metadata(&path).is_err(), "it is still among the segments");
    drop(store);
    let store = open_with(&disk, TINY).unwrap();
    assert!(!store.has_damage(tenant(1)));
    check_whole(&store, &model);
}
