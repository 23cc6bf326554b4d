//! A session of any size holds few places in memory: they are spilled into provisional runs.

use std::path::Path;

use offsite_model::{Key, Luck};
use offsite_testkit::disk::Disk;

use super::scene::*;
use crate::group::Form;
use crate::{Alarm, Session, Store};

/// Records of noise, none like another.
fn volume_of(seed: u64, n_records: usize) -> Vec<u8> {
    Dice::new(seed).noise(n_records * RECORD)
}

fn n_in_memory(store: &Store) -> usize {
    let index = store.core.index.read().unwrap();
    index.values().map(|tenant| tenant.recent.len()).sum()
}

fn n_runs(disk: &Disk, is_provisional: bool) -> usize {
    let paths = disk.paths().into_iter().map(|(path, _)| path);
    let paths = paths.filter(|path| path.starts_with("/store/runs"));
    paths.filter(|path| path.extension().is_some() == is_provisional).count()
}

fn append_all(session: &mut Session, bytes: &[u8]) {
    append_missing(session, bytes, &list_of(bytes, None)).unwrap();
}

fn n_found(store: &Store, bytes: &[u8]) -> usize {
    let keys = bytes.chunks(RECORD).map(Key::of);
    keys.filter(|key| store.find(tenant(1), Form::Plain, key).unwrap().is_some()).count()
}

#[test]
fn a_first_protect_of_any_size_keeps_few_places_in_memory() {
    let disk = Disk::new(1);
    drop(new_store(&disk));
    let store = open_with(&disk, TINY).unwrap();
    let bytes = volume_of(1, 1000);
    let mut session = store.session(tenant(1)).unwrap();
    for part in bytes.chunks(50 * RECORD) {
        append_all(&mut session, part);
        assert!(n_in_memory(&store) < 30, "{} places in memory", n_in_memory(&store));
    }
    assert!((1..12).contains(&n_runs(&disk, true)), "{} runs", n_runs(&disk, true));
    assert_eq!(n_runs(&disk, false), 0);
    assert_eq!(n_found(&store, &bytes), 1000);
    let volumes = Volumes::from([(1, bytes)]);
    protect_in(&mut session, 1, &volumes, None).unwrap();
    assert_eq!(n_runs(&disk, true), 0, "a commit publishes what it covers");
    assert_eq!(n_found(&store, &volumes[&1]), 1000);
    assert!(restore(&store, 1, 1, 1).unwrap() == volumes[&1]);
    drop((session, store));
    for removed in [false, true] {
        let disk = disk.fork(2);
        if removed {
            // Everything is read again from the segments, no more in memory than before.
            for (path, _) in disk.paths() {
                if path.starts_with("/store/runs") {
                    disk.files().remove(&path).unwrap();
                }
            }
        }
        let store = open_with(&disk, TINY).unwrap();
        assert_eq!(store.alarms(), []);
        assert!(n_in_memory(&store) < 30, "{} places in memory", n_in_memory(&store));
        assert_eq!(n_found(&store, &volumes[&1]), 1000);
        assert!(restore(&store, 1, 1, 1).unwrap() == volumes[&1]);
    }
}

#[test]
fn what_was_spilled_goes_with_its_session() {
    let disk = Disk::new(1);
    drop(new_store(&disk));
    let store = open_with(&disk, TINY).unwrap();
    let bytes = volume_of(1, 100);
    let mut session = store.session(tenant(1)).unwrap();
    append_all(&mut session, &bytes);
    assert!(n_runs(&disk, true) > 0);
    drop(session);
    assert_eq!(n_found(&store, &bytes), 0);
    assert_eq!(n_runs(&disk, true) + n_runs(&disk, false), 0);
    check_no_strangers(&store, &disk);
}

#[test]
fn a_run_that_a_commit_needs_in_part_loses_the_rest_only() {
    let dice = Dice::new(7);
    for case in 0..40 {
        let disk = Disk::new(case);
        drop(new_store(&disk));
        let store = open_with(&disk, TINY).unwrap();
        let bytes = volume_of(case, 100);
        let mut owner = store.session(tenant(1)).unwrap();
        let mut other = store.session(tenant(1)).unwrap();
        append_all(&mut owner, &bytes);
        let keys: Vec<Key> = bytes.chunks(RECORD).map(Key::of).collect();
        assert!(other.find_many(Form::Plain, &keys).unwrap().iter().all(Option::is_some));
        drop(owner);
        assert_eq!(n_found(&store, &bytes), 100, "the other counts on them");
        // A commit that refers to some of them, which then are the only ones that stay.
        let start = dice.below(80) as usize * RECORD;
        let part = bytes[start..start + 9 * RECORD].to_vec();
        let volumes = Volumes::from([(1, part)]);
        protect_in(&mut other, 1, &volumes, None).unwrap();
        drop(other);
        assert!((9..40).contains(&n_found(&store, &bytes)), "{}", n_found(&store, &bytes));
        assert!(restore(&store, 1, 1, 1).unwrap() == volumes[&1]);
        check_no_strangers(&store, &disk);
        drop(store);
        let store = open_with(&disk, TINY).unwrap();
        assert_eq!(store.alarms(), [], "case {case}");
        assert!(restore(&store, 1, 1, 1).unwrap() == volumes[&1]);
        check_no_strangers(&store, &disk);
    }
}

#[test]
fn a_commit_with_more_segments_than_an_entry_holds_is_whole_also_after_its_catalog_was_lost() {
    let disk = Disk::new(1);
    drop(new_store(&disk));
    let store = open_with(&disk, TINY).unwrap();
    let volumes = Volumes::from([(1, volume_of(1, 64))]);
    drop(store);
    let old_catalog = disk.files().read(Path::new("/store/catalog"), 1 << 30).unwrap();
    let store = open_with(&disk, TINY).unwrap();
    protect(&store, 1, 1, &volumes, None).unwrap();
    let n_segments = store.core.segments.read().unwrap().len();
    assert!(n_segments > 3 * crate::rows::ENTRY_SEGMENTS_MAX, "{n_segments}");
    let (head, _) = store.journal_head();
    assert!(head > 3, "{head}");
    let committed = store.outcome(tenant(1), token(1)).unwrap().unwrap();
    assert_eq!(committed.entry, head, "the commit is the last of its entries");
    drop(store);
    disk.edit(Path::new("/store/catalog"), |bytes| *bytes = old_catalog);
    let store = open_with(&disk, TINY).unwrap();
    assert_eq!(store.alarms(), [Alarm::CommitsRestored { n_entries: head }]);
    assert!(restore(&store, 1, 1, 1).unwrap() == volumes[&1]);
    check_no_strangers(&store, &disk);
}

#[test]
fn a_run_is_published_only_when_all_it_covers_is_committed() {
    let disk = Disk::new(1);
    drop(new_store(&disk));
    let store = open_with(&disk, TINY).unwrap();
    let bytes = volume_of(1, 100);
    let mut owner = store.session(tenant(1)).unwrap();
    append_all(&mut owner, &bytes);
    let volumes = Volumes::from([(1, volume_of(2, 40))]);
    protect(&store, 1, 1, &volumes, None).unwrap();
    assert!(n_runs(&disk, true) > 0);
    // The process dies here: what the owner appended is gone, and nothing speaks of it.
    let dead = disk.fork(2);
    let after = open_with(&dead, TINY).unwrap();
    assert_eq!(after.alarms(), []);
    assert_eq!(n_found(&after, &bytes), 0);
    assert!(restore(&after, 1, 1, 1).unwrap() == volumes[&1]);
    drop(owner);
}
