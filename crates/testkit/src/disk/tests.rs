//! The disk does what its contract says, and no more.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use offsite_model::{FileSystem, OpenMode};

use super::*;

const FILE: &str = "/dir/file";

/// A disk with a durable directory and a durable, empty file in it.
fn prepared(seed: u64) -> Disk {
    let disk = Disk::new(seed);
    let files = disk.files();
    files.create_dir(Path::new("/dir")).unwrap();
    files.sync_dir(Path::new("/")).unwrap();
    let file = files.open(Path::new(FILE), OpenMode::CreateNew).unwrap();
    file.sync().unwrap();
    files.sync_dir(Path::new("/dir")).unwrap();
    disk
}

fn content(files: &dyn FileSystem, path: &str) -> io::Result<Vec<u8>> {
    files.read(Path::new(path), 1 << 20)
}

#[test]
fn what_was_synced_survives_every_cut() {
    for seed in 0..200 {
        let disk = prepared(seed);
        let file = disk.files().open(Path::new(FILE), OpenMode::Write).unwrap();
        file.write_all_at(&[7; 5000], 100).unwrap();
        file.sync().unwrap();
        file.write_all_at(&[9; 5000], 10_000).unwrap();
        disk.power_cut();
        let bytes = content(&*disk.files(), FILE).unwrap();
        assert_eq!(bytes[100..5100], [7; 5000], "seed {seed}");
    }
}

#[test]
fn what_was_not_synced_is_kept_dropped_and_torn() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..400 {
        let disk = prepared(seed);
        let file = disk.files().open(Path::new(FILE), OpenMode::Write).unwrap();
        file.write_all_at(&[1; 1024], 0).unwrap();
        file.sync().unwrap();
        file.write_all_at(&[2; 1024], 0).unwrap();
        file.write_all_at(&[3; 1024], 0).unwrap();
        disk.power_cut();
        let bytes = content(&*disk.files(), FILE).unwrap();
        assert!(bytes[..512].iter().all(|byte| *byte == bytes[0]), "torn inside a sector");
        outcomes.insert((bytes[0], bytes[512]));
    }
    assert_eq!(outcomes.len(), 9, "{outcomes:?}");
}

#[test]
fn names_come_back_as_they_were_or_as_they_are() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..400 {
        let disk = prepared(seed);
        let files = disk.files();
        let made = files.open(Path::new("/dir/new"), OpenMode::CreateNew).unwrap();
        made.write_all_at(b"new", 0).unwrap();
        made.sync().unwrap();
        files.rename(Path::new("/dir/new"), Path::new(FILE)).unwrap();
        disk.power_cut();
        let files = disk.files();
        let names = files.list(Path::new("/dir")).unwrap();
        outcomes.insert((names, content(&*files, FILE).unwrap()));
    }
    let state = |names: &[&str], bytes: &[u8]| {
        (names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(), bytes.to_vec())
    };
    let possible = BTreeSet::from([
        state(&["file"], b""),
        state(&["file", "new"], b""),
        state(&["file"], b"new"),
    ]);
    assert_eq!(outcomes, possible);
}

#[test]
fn a_synced_directory_keeps_its_names() {
    for seed in 0..100 {
        let disk = prepared(seed);
        let files = disk.files();
        files.write_atomically(Path::new(FILE), b"whole").unwrap();
        disk.power_cut();
        assert_eq!(content(&*disk.files(), FILE).unwrap(), b"whole", "seed {seed}");
    }
}

#[test]
fn a_directory_that_is_lost_takes_its_files_along() {
    let mut n_lost = 0;
    for seed in 0..100 {
        let disk = Disk::new(seed);
        let files = disk.files();
        files.create_dir(Path::new("/dir")).unwrap();
        files.open(Path::new(FILE), OpenMode::CreateNew).unwrap().sync().unwrap();
        files.sync_dir(Path::new("/dir")).unwrap();
        disk.power_cut();
        let is_there = disk.files().metadata(Path::new("/dir")).is_ok();
        assert_eq!(disk.files().metadata(Path::new(FILE)).is_ok(), is_there);
        n_lost += u32::from(!is_there);
    }
    assert!(n_lost > 10, "{n_lost}");
}

#[test]
fn a_failed_sync_is_not_mended_by_a_second_one() {
    let mut n_lost = 0;
    for seed in 0..100 {
        let disk = prepared(seed);
        let file = disk.files().open(Path::new(FILE), OpenMode::Write).unwrap();
        file.write_all_at(&[5; 4096], 0).unwrap();
        let error = io::ErrorKind::Other;
        disk.fail(Fault { which: Which::Syncs, after: 0, error, for_good: false });
        file.sync().unwrap_err();
        file.sync().unwrap();
        let mut seen = [0; 4096];
        file.read_exact_at(&mut seen, 0).unwrap();
        assert_eq!(seen, [5; 4096]);
        disk.power_cut();
        n_lost += u32::from(content(&*disk.files(), FILE).unwrap() != seen);
    }
    assert!(n_lost > 50, "{n_lost}");
}

#[test]
fn a_cut_comes_at_its_call_and_ends_everything_open() {
    let disk = prepared(1);
    let files = disk.files();
    let file = files.open(Path::new(FILE), OpenMode::Write).unwrap();
    disk.cut_after(2);
    file.write_all_at(b"a", 0).unwrap();
    assert!(!disk.is_cut());
    file.write_all_at(b"b", 1).unwrap_err();
    assert!(disk.is_cut());
    file.sync().unwrap_err();
    files.list(Path::new("/")).unwrap_err();
    disk.power_cut();
    file.bytes().unwrap_err();
    disk.files().list(Path::new("/dir")).unwrap();
}

#[test]
fn a_kill_keeps_what_was_written_and_lets_locks_go() {
    let disk = prepared(1);
    let file = disk.files().open(Path::new(FILE), OpenMode::Write).unwrap();
    let second = disk.files().open(Path::new(FILE), OpenMode::Write).unwrap();
    assert!(file.try_lock().unwrap());
    assert!(!second.try_lock().unwrap());
    file.write_all_at(b"kept", 0).unwrap();
    disk.kill();
    assert_eq!(content(&*disk.files(), FILE).unwrap(), b"kept");
    let third = disk.files().open(Path::new(FILE), OpenMode::Write).unwrap();
    assert!(third.try_lock().unwrap());
    drop(third);
    let fourth = disk.files().open(Path::new(FILE), OpenMode::Write).unwrap();
    assert!(fourth.try_lock().unwrap());
}

#[test]
fn a_full_disk_takes_changes_in_place_only() {
    let disk = prepared(1);
    let file = disk.files().open(Path::new(FILE), OpenMode::Write).unwrap();
    file.write_all_at(&[1; 4096], 0).unwrap();
    disk.set_bytes_max(Some(disk.bytes_used()));
    file.write_all_at(&[2; 4096], 0).unwrap();
    let refused = file.write_all_at(&[2; 1], 4096).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.files().bytes_free(Path::new("/")).unwrap(), 0);
    disk.mend();
    file.write_all_at(&[2; 1], 4096).unwrap();
}

#[test]
fn holes_are_told_from_data_until_they_are_filled() {
    let disk = prepared(1);
    let file = disk.files().open(Path::new(FILE), OpenMode::Write).unwrap();
    file.write_all_at(&[1; 10], 100_000).unwrap();
    file.set_bytes(1 << 20).unwrap();
    let found = file.next_data(0).unwrap().unwrap();
    assert_eq!((found.offset, found.bytes), (98_304, 4096));
    assert_eq!(file.next_data(200_000).unwrap(), None);
    file.preallocate(0, 1 << 20).unwrap();
    assert_eq!(file.next_data(0).unwrap().unwrap().bytes, 1 << 20);
    let mut bytes = [9; 20];
    file.read_exact_at(&mut bytes, 99_995).unwrap();
    assert_eq!(bytes[..5], [0; 5]);
    assert_eq!(bytes[5..15], [1; 10]);
}

#[test]
fn the_same_seed_has_the_same_future() {
    let run = |seed| {
        let disk = prepared(seed);
        let file = disk.files().open(Path::new(FILE), OpenMode::Write).unwrap();
        file.write_all_at(&[1; 9000], 0).unwrap();
        disk.power_cut();
        content(&*disk.files(), FILE).unwrap()
    };
    assert_eq!(run(77), run(77));
    assert!((0..20).any(|seed| run(seed) != run(77)));
}

#[test]
fn a_trace_names_the_calls_in_order() {
    let disk = prepared(1);
    disk.start_trace();
    disk.mark("begin");
    disk.files().write_atomically(Path::new(FILE), b"x").unwrap();
    let calls: Vec<Call> = disk.trace().into_iter().map(|step| step.call).collect();
    let (temporary, file) = (PathBuf::from("/dir/file.tmp"), PathBuf::from(FILE));
    assert_eq!(
        calls,
        [
            Call::Mark("begin".to_owned()),
            Call::Create(temporary.clone()),
            Call::Write { path: temporary.clone(), offset: 0, bytes: 1 },
            Call::Sync(temporary.clone()),
            Call::Rename(temporary, file),
            Call::SyncDir(PathBuf::from("/dir")),
        ]
    );
}
