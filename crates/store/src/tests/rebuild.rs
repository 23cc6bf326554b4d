//! A store that lost its catalog and its index gets all its points back, and no other (C-08).

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use offsite_model::{AgentId, Luck, SessionId, Span, Timestamp};
use offsite_testkit::disk::Disk;

use super::collect::{check_whole, collect, purge};
use super::scene::*;
use crate::{Lock, RebuildAsked, Rebuilt, Store, StoreError};

const CATALOG: &str = "/store/catalog";
const JOURNAL: &str = "/store/journal";
const LOCK: Lock = Lock { compliance_days: 30, governance_days: 7 };

/// What became of a catalog, in words, and how.
type Way<'a> = (&'a str, &'a dyn Fn(&Disk));

fn rebuild_with(disk: &Disk, up_to_damage: bool) -> Result<Rebuilt, StoreError> {
    let asked = RebuildAsked {
        up_to_damage,
        progress: &mut |_, _| ControlFlow::Continue(()),
        replayed: &mut |_| {},
    };
    Store::rebuild(disk.files(), Path::new(STORE), asked)
}

fn rebuild(disk: &Disk) -> Rebuilt {
    rebuild_with(disk, false).unwrap()
}

fn files_in(disk: &Disk, folder: &str) -> Vec<PathBuf> {
    let paths = disk.paths().into_iter().map(|(path, _)| path);
    paths.filter(|path| path.starts_with(folder)).collect()
}

/// Takes catalog and key runs away.
fn lose(disk: &Disk) {
    for path in files_in(disk, "/store/runs").iter().map(PathBuf::as_path).chain([CATALOG.as_ref()])
    {
        disk.files().remove(path).unwrap();
    }
}

/// So many points of two tenants, in chains; every seventh is purged, every fifth marked, some
/// space was collected, and tenant 2 is locked.
fn prepared(n_points: u64) -> (Disk, Model, Vec<u64>) {
    let disk = Disk::new(8);
    drop(new_store(&disk));
    let store = open_with(&disk, TINY).unwrap();
    let dice = Dice::new(8);
    let (mut model, mut purged) = (Model::new(), Vec::new());
    let mut number = 0;
    while model.len() < n_points as usize {
        number += 1;
        let owner = 1 + (number % 2) as u8;
        let mut parents = model.iter().filter(|(_, point)| point.tenant == owner);
        let parent = parents.next_back().filter(|_| !dice.one_in(6));
        let volumes: Volumes = match parent {
            Some((_, parent)) => {
                parent.volumes.iter().map(|(n, bytes)| (*n, next_version(&dice, bytes))).collect()
            }
            None => (1..=1 + dice.below(2) as u8).map(|n| (n, fresh_volume(&dice, 4))).collect(),
        };
        let parent = parent.map(|(number, parent)| (*number, &parent.volumes));
        protect(&store, owner, number, &volumes, parent).unwrap();
        model.insert(number, Expected { tenant: owner, volumes, is_deleted: false });
        let at = Timestamp::from_secs(5);
        if number % 7 == 0 {
            purge(&store, &mut model, number - 2).unwrap();
            purged.push(number - 2);
        } else if number % 5 == 0 {
            store.delete_point(tenant(owner), point(number), at).unwrap();
            model.get_mut(&number).unwrap().is_deleted = true;
        }
        if number % 40 == 0 {
            collect(&store).unwrap();
        }
    }
    store.set_lock(tenant(2), None, LOCK, Timestamp::from_secs(6)).unwrap();
    (disk, model, purged)
}

/// Everything is as the model has it, and goes on.
fn check_rebuilt(disk: &Disk, model: &Model, purged: &[u64]) {
    let store = open_with(disk, TINY).unwrap();
    assert_eq!(store.alarms(), []);
    check(&store, model, None);
    // What is deleted for good does not come back, by itself or by anybody's wish.
    for number in purged {
        let owner = 1 + (number % 2) as u8;
        let gone = store.point(tenant(owner), point(*number));
        assert!(matches!(gone, Err(StoreError::PointUnknown(_))), "{gone:?}");
        assert!(store.purged_at(tenant(owner), point(*number)).unwrap().is_some());
    }
    // Locks hold.
    let agent = AgentId::from_bytes([9; 16]);
    assert_eq!(store.lock_of(tenant(2), agent).unwrap(), LOCK);
    let (number, _) = model.iter().find(|(_, p)| p.tenant == 2 && !p.is_deleted).unwrap();
    let end = store.point(tenant(2), point(*number)).unwrap().committed_at + Span::from_days(30);
    let early = end - Span::from_micros(1);
    let refused = store.delete_point(tenant(2), point(*number), early);
    assert!(matches!(refused, Err(StoreError::Locked { .. })), "{refused:?}");
    // What is alive is not collected, what is dead is, and no number comes a second time.
    let numbers =
        |folder| files_in(disk, folder).into_iter().collect::<std::collections::BTreeSet<_>>();
    let before = (numbers("/store/segments"), numbers("/store/manifests"));
    collect(&store).unwrap();
    check_whole(&store, model);
    let volumes = Volumes::from([(1, fresh_volume(&Dice::new(3), 3))]);
    protect(&store, 1, 9_999, &volumes, None).unwrap();
    let last = before.0.iter().chain(&before.1).filter_map(|path| path.file_name()).max();
    let new = files_in(disk, "/store/manifests").into_iter().filter(|p| !before.1.contains(p));
    for path in new {
        assert!(path.file_name() > last, "{} is used again", path.display());
    }
    drop(store);
    let store = open(disk).unwrap();
    assert_eq!(store.alarms(), []);
    check_no_strangers(&store, disk);
    check(&store, model, Some((9_999, &Expected { tenant: 1, volumes, is_deleted: false })));
}

#[test]
fn c_08_a_store_without_catalog_and_runs_gets_back_all_its_points_and_no_other() {
    let (base, model, purged) = prepared(100);
    let ways: [Way<'_>; 7] = [
        ("removed", &|_| {}),
        ("an opening was tried", &|disk| drop(open(disk).map(drop).unwrap_err())),
        ("cut", &|disk| {
            drop(open(disk).map(drop));
            disk.edit(CATALOG.as_ref(), |bytes| bytes.truncate(bytes.len() / 2));
        }),
        ("rotten", &|disk| {
            drop(open(disk).map(drop));
            disk.edit(CATALOG.as_ref(), |bytes| bytes[4096..].fill(0x55));
        }),
        ("noise", &|disk| disk.files().write_atomically(CATALOG.as_ref(), &[7; 9_000]).unwrap()),
        ("empty", &|disk| disk.files().write_atomically(CATALOG.as_ref(), &[]).unwrap()),
        ("a crash tore the journal", &|disk| {
            disk.edit(JOURNAL.as_ref(), |bytes| bytes.extend([9; 30]));
        }),
    ];
    for (way, harm) in ways {
        let disk = base.fork(1);
        lose(&disk);
        harm(&disk);
        let rebuilt = rebuild(&disk);
        let n_deleted = model.values().filter(|expected| expected.is_deleted).count() as u64;
        assert_eq!(rebuilt.n_points, 100, "{way}: {rebuilt:?}");
        assert_eq!((rebuilt.n_deleted, rebuilt.n_locks), (n_deleted, 1), "{way}");
        assert_eq!(rebuilt.n_purged, purged.len() as u64, "{way}");
        assert!(rebuilt.in_doubt.is_empty() && rebuilt.missing.is_empty(), "{way}: {rebuilt:?}");
        check_rebuilt(&disk, &model, &purged);
    }
}

#[test]
fn c_08_a_rebuild_that_is_cut_anywhere_is_begun_again() {
    let (base, model, purged) = prepared(8);
    lose(&base);
    let n_calls = {
        let disk = base.fork(0);
        rebuild(&disk);
        disk.n_changes()
    };
    for n in 0..n_calls {
        let disk = base.fork(n);
        disk.cut_after(n);
        drop(rebuild_with(&disk, false));
        if n % 2 == 0 {
            disk.kill()
        } else {
            disk.power_cut()
        }
        let again = rebuild_with(&disk, false).unwrap_or_else(|error| panic!("{n}: {error}"));
        assert!(!again.is_catalog_new || again.n_points == 8, "{n}: {again:?}");
        check_rebuilt(&disk, &model, &purged);
    }
}

/// Point 50 is committed, and then the journal and the catalog say nothing of it.
fn doubtful() -> (Disk, Model, Vec<u64>) {
    let (disk, model, purged) = prepared(8);
    let read = |path: &str| disk.files().read(path.as_ref(), 1 << 30).unwrap();
    let (catalog, journal) = (read(CATALOG), read(JOURNAL));
    let store = open(&disk).unwrap();
    let volumes = Volumes::from([(1, fresh_volume(&Dice::new(4), 5))]);
    protect(&store, 1, 50, &volumes, None).unwrap();
    drop(store);
    disk.edit(JOURNAL.as_ref(), |bytes| *bytes = journal);
    disk.edit(CATALOG.as_ref(), |bytes| *bytes = catalog);
    (disk, model, purged)
}

#[test]
fn c_08_a_manifest_that_the_journal_does_not_name_is_in_doubt_and_shown_to_nobody() {
    let (disk, model, purged) = doubtful();
    lose(&disk);
    let n_segments = files_in(&disk, "/store/segments").len();
    let rebuilt = rebuild(&disk);
    assert_eq!((rebuilt.n_points, rebuilt.in_doubt.len()), (8, 1), "{rebuilt:?}");
    let image = rebuilt.in_doubt[0];
    assert_eq!((image.tenant, image.point), (tenant(1), point(50)));
    assert_eq!(image.image, image_spec(50, 1, 0).image);
    let aside = files_in(&disk, "/store/doubt");
    assert!(aside.len() >= 2, "its manifest and its segment: {aside:?}");
    assert_eq!(files_in(&disk, "/store/segments").len() + aside.len() - 1, n_segments);
    check_rebuilt(&disk, &model, &purged);
    assert_eq!(files_in(&disk, "/store/doubt"), aside, "opening leaves it alone");
    // It is told of again; the check above has added a point.
    lose(&disk);
    let again = rebuild(&disk);
    assert_eq!((again.n_points, again.in_doubt), (9, rebuilt.in_doubt));
}

#[test]
fn c_08_a_journal_that_is_damaged_before_its_end_is_refused_and_believed_up_to_there_if_asked() {
    let (base, model, _) = prepared(8);
    lose(&base);
    let journal = base.files().read(JOURNAL.as_ref(), 1 << 30).unwrap();
    let mut n_fewer = 0;
    for at in (100..journal.len()).step_by(journal.len() / 40) {
        let disk = base.fork(at as u64);
        disk.edit(JOURNAL.as_ref(), |bytes| bytes[at] ^= 4);
        let before = disk.paths();
        match rebuild_with(&disk, false) {
            Err(StoreError::Damaged(what)) => assert!(what.contains("journal"), "{what}"),
            // The last entry alone cannot be told from one that a crash tore.
            Ok(rebuilt) => {
                assert!(rebuilt.bytes_behind > 0, "byte {at}: {rebuilt:?}");
                continue;
            }
            Err(error) => panic!("byte {at}: {error}"),
        }
        let left = |paths: Vec<(PathBuf, u64)>| {
            let is_lock = |path: &Path| path.ends_with("lock");
            paths.into_iter().filter(|(path, _)| !is_lock(path)).collect::<Vec<_>>()
        };
        assert_eq!(left(disk.paths()), left(before), "byte {at}: something was changed");
        let rebuilt = rebuild_with(&disk, true).unwrap();
        let kept = disk.files().read("/store/journal.old".as_ref(), 1 << 30).unwrap();
        assert_eq!(kept.len(), journal.len());
        let store = open(&disk).unwrap();
        // What is listed is what was committed; the others are in doubt, none is lost.
        for owner in [1, 2] {
            for found in store.points(tenant(owner)).unwrap() {
                let number = u128::from_be_bytes(found.point.to_bytes()) as u64;
                let Some(expected) = model.get(&number) else { continue };
                for (n, bytes) in &expected.volumes {
                    if let Ok(restored) = restore(&store, owner, number, *n) {
                        assert!(restored == *bytes, "byte {at}: wrong bytes of point {number}");
                    }
                }
            }
        }
        for (number, expected) in &model {
            let is_listed = store.point(tenant(expected.tenant), point(*number)).is_ok();
            let is_in_doubt = rebuilt.in_doubt.iter().any(|image| image.point == point(*number));
            assert!(is_listed || is_in_doubt, "byte {at}: point {number} is nowhere");
            n_fewer += u32::from(!is_listed);
        }
    }
    assert!(n_fewer > 20, "{n_fewer}");
}

#[test]
fn c_08_drafts_end_with_the_catalog_and_an_open_store_or_a_missing_journal_is_refused() {
    let (disk, model, purged) = prepared(8);
    let store = open(&disk).unwrap();
    let id = SessionId::from_bytes([5; 16]);
    drop(store.draft(tenant(1), id, b"opening".to_vec()).unwrap());
    let refused = rebuild_with(&disk, false);
    assert!(matches!(refused, Err(StoreError::InUse { .. })), "{refused:?}");
    drop(store);
    // A whole catalog stays: only the index is made anew.
    assert_eq!(rebuild(&disk), Rebuilt::default());
    assert!(files_in(&disk, "/store/runs").is_empty());
    assert_eq!(open(&disk).unwrap().drafts().unwrap().len(), 1);
    lose(&disk);
    let other = disk.fork(1);
    rebuild(&disk);
    let store = open(&disk).unwrap();
    assert_eq!(store.drafts().unwrap(), []);
    assert!(files_in(&disk, "/store/drafts").is_empty());
    drop(store);
    check_rebuilt(&disk, &model, &purged);
    other.files().remove(JOURNAL.as_ref()).unwrap();
    let refused = rebuild_with(&other, false);
    assert!(matches!(&refused, Err(StoreError::Damaged(what)) if what.contains("missing")));
}
