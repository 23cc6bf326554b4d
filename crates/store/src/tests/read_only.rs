//! Reading a store without writing a byte: on a disk that refuses, after crashes, beside readers.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use offsite_model::{FileSystem, Luck, OpenMode, Timestamp};
use offsite_testkit::disk::Disk;

use super::crash::prepared;
use super::scene::*;
use crate::catalog::Transactions;
use crate::{Overlay, Store, StoreError};

fn open_read_only(disk: &Disk) -> Result<Store, StoreError> {
    Store::open_read_only(disk.files(), Path::new(STORE), SMALL)
}

#[test]
fn a_store_is_read_without_a_single_change_also_after_a_crash() {
    let (base, model) = prepared();
    let mut n_in_disorder = 0;
    for seed in 0..150 {
        let disk = base.fork(seed);
        let dice = Dice::new(seed);
        disk.cut_after(1 + dice.below(140));
        let mut in_flight = None;
        if let Ok(store) = open_with(&disk, TINY) {
            let volumes = Volumes::from([(1, fresh_volume(&dice, 9))]);
            // Cut in most rounds: what is left then needs putting in order.
            drop(protect(&store, 1, 50, &volumes, None));
            in_flight = Some((50, Expected { tenant: 1, volumes, is_deleted: false }));
        }
        disk.power_cut();
        let before = disk.paths();
        disk.set_read_only(true);
        disk.start_trace();
        let n_changes = disk.n_changes();
        let store = open_read_only(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let in_flight = in_flight.as_ref().map(|(number, expected)| (*number, expected));
        check(&store, &model, in_flight);
        let report = store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap();
        assert_eq!((report.damage, store.alarms()), (vec![], vec![]), "seed {seed}");
        let seen = store.points(tenant(1)).unwrap();
        drop(store);
        assert_eq!(disk.n_changes(), n_changes, "seed {seed}: {:?}", disk.trace());
        assert_eq!(disk.paths(), before);
        // The same as the opening that may write.
        disk.set_read_only(false);
        let store = open(&disk).unwrap();
        assert_eq!(store.points(tenant(1)).unwrap(), seen);
        n_in_disorder += u32::from(disk.paths().len() != before.len());
    }
    assert!(n_in_disorder > 20, "{n_in_disorder}");
}

#[test]
fn readers_share_a_store_and_exclude_a_writer() {
    let (disk, model) = prepared();
    let (first, second) = (open_read_only(&disk).unwrap(), open_read_only(&disk).unwrap());
    let refused = open(&disk).err().unwrap();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
    drop(first);
    check(&second, &model, None);
    drop(second);
    let writer = open(&disk).unwrap();
    let refused = open_read_only(&disk).err().unwrap();
    assert_eq!(refused.to_string(), "the store is in use by process 7 (somebody); stop that first");
    drop(writer);
    open_read_only(&disk).unwrap();
}

#[test]
fn what_would_write_is_refused() {
    let (disk, model) = prepared();
    let store = open_read_only(&disk).unwrap();
    let volumes = Volumes::from([(1, fresh_volume(&Dice::new(1), 3))]);
    let read_only = |result: Result<(), StoreError>| {
        assert!(matches!(result, Err(StoreError::ReadOnly)), "{result:?}");
    };
    read_only(protect(&store, 1, 60, &volumes, None).map(drop));
    read_only(store.delete_point(tenant(1), point(1), Timestamp::from_secs(1)));
    read_only(store.undelete_point(tenant(1), point(1), Timestamp::from_secs(1)));
    let session = offsite_model::SessionId::from_bytes([1; 16]);
    read_only(store.draft(tenant(1), session, Vec::new()).map(drop));
    store.catalog().write::<_, crate::catalog::CatalogError>(|_| Ok(())).unwrap_err();
    check(&store, &model, None);
}

#[test]
fn verify_ends_when_it_is_told_to() {
    let (disk, _) = prepared();
    let store = open(&disk).unwrap();
    let mut n_told = 0;
    store
        .verify(&mut |_, _| {
            n_told += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(n_told > 10, "{n_told}");
    for stop in 1..=n_told {
        let mut n = 0;
        let ended = store.verify(&mut |_, _| {
            n += 1;
            if n == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(ended, Err(StoreError::Interrupted)));
        assert_eq!(n, stop);
    }
}

/// The same calls on an overlay and on a fork of what lies below it have the same outcome.
#[test]
fn an_overlay_answers_as_a_disk_that_was_written() {
    for seed in 0..60 {
        let below = Disk::new(seed);
        let dice = Dice::new(seed);
        let paths: Vec<_> = (0..5).map(|n| format!("/{n}")).collect();
        for path in &paths[..3] {
            let file = below.files().open(Path::new(path), OpenMode::CreateNew).unwrap();
            file.write_all_at(&dice.noise(dice.below(20_000) as usize), 0).unwrap();
        }
        let other = below.fork(seed);
        let overlay: Arc<dyn FileSystem> = Arc::new(Overlay::new(below.files()));
        let (n_changes, both) = (below.n_changes(), [overlay, other.files()]);
        for _ in 0..60 {
            let path = &paths[dice.below(5) as usize];
            let to = &paths[dice.below(5) as usize];
            let (path, to) = (Path::new(path), Path::new(to));
            let (kind, place) = (dice.below(6), dice.below(20_000));
            let noise = dice.noise(dice.below(9_000) as usize);
            let done = both.each_ref().map(|files| {
                let open = |mode| files.open(path, mode);
                let done = match kind {
                    0 => open(OpenMode::CreateNew).and_then(|file| file.write_all_at(&noise, 0)),
                    1 => files.remove(path),
                    2 if path != to => files.rename(path, to),
                    3 => open(OpenMode::Write).and_then(|file| file.set_bytes(place)),
                    _ => open(OpenMode::Write).and_then(|file| file.write_all_at(&noise, place)),
                };
                done.map_err(|error| error.kind())
            });
            assert_eq!(done[0], done[1], "seed {seed}, call {kind}");
        }
        let seen = both.map(|files| {
            let names = files.list(Path::new("/")).unwrap();
            let read = |name| files.read(&Path::new("/").join(name), 1 << 20).unwrap();
            names.into_iter().map(|name| (name.clone(), read(name))).collect::<Vec<_>>()
        });
        assert!(seen[0] == seen[1], "seed {seed}");
        assert_eq!(below.n_changes(), n_changes);
    }
}
