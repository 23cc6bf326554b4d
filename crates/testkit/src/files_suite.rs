//! What every `FileSystem` must do, as one list of cases: the real one and the simulated one both
//! run it, so that a test on the simulated disk says something about a real disk.
//!
//! **Absent:** durability. What survives a power cut can only be asked of the simulated disk.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use offsite_model::{Aligned, BLOCK_BYTES, Extent, File, FileSystem, Kind, OpenMode};

type Case = fn(&dyn FileSystem, &Path);

const CASES: &[(&str, Case)] = &[
    ("a new file is private and exclusive", new_file_is_private_and_exclusive),
    ("opening asks for what is there", opening_asks_for_what_is_there),
    ("bytes are read where they were written", bytes_are_read_where_they_were_written),
    ("whole blocks are written past the cache", whole_blocks_are_written_past_the_cache),
    ("reading stops at the end", reading_stops_at_the_end),
    ("a reader cannot write", reader_cannot_write),
    ("the length can be cut and extended", length_can_be_cut_and_extended),
    ("reserved space changes nothing", reserved_space_changes_nothing),
    ("extents cover all data", extents_cover_all_data),
    ("a lock has one holder", lock_has_one_holder),
    ("a rename replaces", rename_replaces),
    ("directories hold names", directories_hold_names),
    ("metadata tells what it is", metadata_tells_what_it_is),
    ("a removed file lives on for its holder", removed_file_lives_on),
    ("a whole file is put in place", whole_file_is_put_in_place),
    ("a long file is not read whole", long_file_is_not_read_whole),
    ("space is told", space_is_told),
];

/// Runs every case, each in a directory of its own below `directory`, which must exist.
///
/// # Panics
///
/// When a case fails.
pub fn check(files: &dyn FileSystem, directory: &Path) {
    for (index, (name, case)) in CASES.iter().enumerate() {
        eprintln!("files suite: {name}");
        let place = directory.join(format!("case-{index}"));
        files.create_dir(&place).expect("the case's directory is made");
        case(files, &place);
    }
}

fn create(files: &dyn FileSystem, path: &Path, bytes: &[u8]) -> Arc<dyn File> {
    let file = files.open(path, OpenMode::CreateNew).expect("a new file is made");
    file.write_all_at(bytes, 0).expect("a new file is written");
    file
}

fn content(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.bytes().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).expect("the whole file is read");
    bytes
}

fn kind_of<T>(result: io::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.kind(),
    }
}

fn new_file_is_private_and_exclusive(files: &dyn FileSystem, place: &Path) {
    let path = place.join("file");
    create(files, &path, b"x");
    assert_eq!(files.metadata(&path).unwrap().mode, 0o600);
    assert_eq!(kind_of(files.open(&path, OpenMode::CreateNew)), ErrorKind::AlreadyExists);
    assert_eq!(files.metadata(place).unwrap().mode, 0o700);
}

fn opening_asks_for_what_is_there(files: &dyn FileSystem, place: &Path) {
    for mode in [OpenMode::Read, OpenMode::Write] {
        assert_eq!(kind_of(files.open(&place.join("absent"), mode)), ErrorKind::NotFound);
        assert!(files.open(place, mode).is_err(), "a directory is no file");
    }
    let nowhere = place.join("absent").join("file");
    assert_eq!(kind_of(files.open(&nowhere, OpenMode::CreateNew)), ErrorKind::NotFound);
}

fn bytes_are_read_where_they_were_written(files: &dyn FileSystem, place: &Path) {
    let path = place.join("file");
    let file = create(files, &path, b"0123456789");
    file.write_all_at(b"ab", 4).unwrap();
    file.write_all_at(b"end", 12).unwrap();
    file.sync().unwrap();
    assert_eq!(content(&*file), b"0123ab6789\0\0end");
    let other = files.open(&path, OpenMode::Write).unwrap();
    other.write_all_at(b"Z", 0).unwrap();
    assert_eq!(content(&*file), b"Z123ab6789\0\0end");
}

fn reading_stops_at_the_end(files: &dyn FileSystem, place: &Path) {
    let file = create(files, &place.join("file"), b"0123");
    let mut bytes = [0; 8];
    assert_eq!(file.read_at(&mut bytes, 4).unwrap(), 0);
    assert_eq!(file.read_at(&mut bytes, 400).unwrap(), 0);
    assert_eq!(kind_of(file.read_exact_at(&mut bytes, 0)), ErrorKind::UnexpectedEof);
    file.read_exact_at(&mut bytes[..2], 2).unwrap();
    assert_eq!(&bytes[..2], b"23");
}

fn whole_blocks_are_written_past_the_cache(files: &dyn FileSystem, place: &Path) {
    let file = create(files, &place.join("file"), b"beginning");
    let mut blocks = Aligned::zeroed(2 * BLOCK_BYTES);
    blocks.bytes_mut().fill(7);
    let Ok(direct) = file.past_cache() else {
        // Files in memory have none.
        return;
    };
    direct.write_all_at(blocks.bytes(), BLOCK_BYTES as u64).unwrap();
    direct.sync().unwrap();
    let found = content(&*file);
    assert!(found.starts_with(b"beginning") && found[BLOCK_BYTES..] == *blocks.bytes());
    // Some file systems take it all the same, through the cache.
    if let Err(error) = direct.write_all_at(&blocks.bytes()[..100], 0) {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(content(&*file) == found, "what was refused was not written");
    }
    let reader = files.open(&place.join("file"), OpenMode::Read).unwrap();
    let direct = reader.past_cache();
    let written = direct.and_then(|direct| direct.write_all_at(blocks.bytes(), 0));
    assert!(written.is_err(), "a reader writes past the cache");
}

fn reader_cannot_write(files: &dyn FileSystem, place: &Path) {
    let path = place.join("file");
    create(files, &path, b"kept");
    let reader = files.open(&path, OpenMode::Read).unwrap();
    assert!(reader.write_all_at(b"lost", 0).is_err());
    assert!(reader.set_bytes(0).is_err());
    assert_eq!(content(&*reader), b"kept");
}

fn length_can_be_cut_and_extended(files: &dyn FileSystem, place: &Path) {
    let file = create(files, &place.join("file"), b"0123456789");
    file.set_bytes(4).unwrap();
    assert_eq!(content(&*file), b"0123");
    file.set_bytes(6).unwrap();
    assert_eq!(content(&*file), b"0123\0\0", "what was cut away must not come back");
}

fn reserved_space_changes_nothing(files: &dyn FileSystem, place: &Path) {
    let file = create(files, &place.join("file"), b"0123");
    match file.preallocate(0, 1 << 20) {
        Err(error) if error.kind() == ErrorKind::Unsupported => return,
        result => result.unwrap(),
    }
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"0123");
    // The length may grow; what is beyond the old end reads as zeros then.
    let n = usize::try_from(file.bytes().unwrap()).unwrap();
    assert!(content(&*file)[4..n].iter().all(|&byte| byte == 0));
}

fn extents_cover_all_data(files: &dyn FileSystem, place: &Path) {
    const MIB: u64 = 1 << 20;
    let file = create(files, &place.join("file"), b"");
    assert_eq!(file.next_data(0).unwrap(), None, "an empty file has no data");
    file.set_bytes(8 * MIB).unwrap();
    file.write_all_at(&[1; 5_000], 2 * MIB).unwrap();
    file.write_all_at(&[2; 5_000], 5 * MIB + 100).unwrap();
    file.sync().unwrap();
    let mut covered: Vec<Extent> = Vec::new();
    let mut offset = 0;
    while let Some(extent) = file.next_data(offset).unwrap() {
        assert!(extent.bytes > 0 && extent.offset >= offset, "{extent:?} from {offset}");
        assert!(extent.offset + extent.bytes <= 8 * MIB, "{extent:?} is beyond the end");
        offset = extent.offset + extent.bytes;
        covered.push(extent);
    }
    for first in [2 * MIB, 5 * MIB + 100] {
        let mut at = first;
        for extent in &covered {
            if extent.offset <= at && at < extent.offset + extent.bytes {
                at = extent.offset + extent.bytes;
            }
        }
        assert!(at >= first + 5_000, "data at {first} is not in {covered:?}");
    }
    assert_eq!(file.next_data(8 * MIB).unwrap(), None);
    assert_eq!(file.next_data(u64::MAX >> 2).unwrap(), None, "far beyond the end");
    let from_within = file.next_data(2 * MIB + 10).unwrap().unwrap();
    assert_eq!(from_within.offset, 2 * MIB + 10, "asked within data, the answer starts there");
}

fn lock_has_one_holder(files: &dyn FileSystem, place: &Path) {
    let path = place.join("lock");
    let first = create(files, &path, b"");
    let second = files.open(&path, OpenMode::Write).unwrap();
    assert!(first.try_lock().unwrap());
    assert!(!second.try_lock().unwrap(), "two holders");
    drop(first);
    assert!(second.try_lock().unwrap(), "a dropped file lets its lock go");
    let [third, fourth] = [OpenMode::Read; 2].map(|mode| files.open(&path, mode).unwrap());
    assert!(!third.try_lock_shared().unwrap(), "shared with one that is alone");
    assert!(files.lock_holder(&path).is_some(), "it is held");
    drop(second);
    assert!(third.try_lock_shared().unwrap() && fourth.try_lock_shared().unwrap());
    let alone = files.open(&path, OpenMode::Write).unwrap();
    assert!(!alone.try_lock().unwrap(), "alone beside two that share");
    drop((third, fourth));
    assert_eq!(files.lock_holder(&path), None);
    assert!(alone.try_lock().unwrap());
}

fn rename_replaces(files: &dyn FileSystem, place: &Path) {
    let (old, new) = (place.join("old"), place.join("new"));
    create(files, &old, b"newer");
    create(files, &new, b"older");
    files.rename(&old, &new).unwrap();
    files.sync_dir(place).unwrap();
    assert_eq!(files.read(&new, 100).unwrap(), b"newer");
    assert_eq!(kind_of(files.metadata(&old)), ErrorKind::NotFound);
    assert_eq!(kind_of(files.rename(&old, &new)), ErrorKind::NotFound);
}

fn directories_hold_names(files: &dyn FileSystem, place: &Path) {
    let directory = place.join("directory");
    files.create_dir(&directory).unwrap();
    assert_eq!(kind_of(files.create_dir(&directory)), ErrorKind::AlreadyExists);
    assert_eq!(kind_of(files.create_dir(&place.join("a").join("b"))), ErrorKind::NotFound);
    for name in ["b", "a", "c"] {
        create(files, &directory.join(name), b"");
    }
    files.create_dir(&directory.join("d")).unwrap();
    assert_eq!(files.list(&directory).unwrap(), ["a", "b", "c", "d"]);
    assert_eq!(kind_of(files.list(&place.join("absent"))), ErrorKind::NotFound);
    assert_eq!(kind_of(files.remove_dir(&directory)), ErrorKind::DirectoryNotEmpty);
    for name in ["a", "b", "c"] {
        files.remove(&directory.join(name)).unwrap();
    }
    assert!(files.remove(&directory.join("d")).is_err(), "a directory is not removed as a file");
    files.remove_dir(&directory.join("d")).unwrap();
    assert_eq!(kind_of(files.remove(&directory.join("a"))), ErrorKind::NotFound);
    files.remove_dir(&directory).unwrap();
    assert_eq!(kind_of(files.sync_dir(&directory)), ErrorKind::NotFound);
}

fn metadata_tells_what_it_is(files: &dyn FileSystem, place: &Path) {
    let path: PathBuf = place.join("file");
    create(files, &path, b"12345");
    let file = files.metadata(&path).unwrap();
    assert_eq!((file.kind, file.bytes), (Kind::File, 5));
    let directory = files.metadata(place).unwrap();
    assert_eq!((directory.kind, directory.bytes), (Kind::Directory, 0));
    assert_eq!(directory.owner, file.owner);
    assert_eq!(kind_of(files.metadata(&place.join("absent"))), ErrorKind::NotFound);
}

fn removed_file_lives_on(files: &dyn FileSystem, place: &Path) {
    let path = place.join("file");
    let file = create(files, &path, b"still here");
    files.remove(&path).unwrap();
    assert_eq!(content(&*file), b"still here");
    create(files, &path, b"another");
    assert_eq!(content(&*file), b"still here");
}

fn whole_file_is_put_in_place(files: &dyn FileSystem, place: &Path) {
    let path = place.join("file");
    // A crash of an earlier attempt leaves its temporary file behind.
    create(files, &place.join("file.tmp"), b"rest of a crash");
    files.write_atomically(&path, b"first").unwrap();
    files.write_atomically(&path, b"second").unwrap();
    assert_eq!(files.read(&path, 100).unwrap(), b"second");
    assert_eq!(files.metadata(&path).unwrap().mode, 0o600);
    assert_eq!(files.list(place).unwrap(), ["file"]);
}

fn long_file_is_not_read_whole(files: &dyn FileSystem, place: &Path) {
    let path = place.join("file");
    create(files, &path, b"12345");
    assert_eq!(files.read(&path, 5).unwrap(), b"12345");
    assert_eq!(kind_of(files.read(&path, 4)), ErrorKind::InvalidData);
}

fn space_is_told(files: &dyn FileSystem, place: &Path) {
    let (free, total) = (files.bytes_free(place).unwrap(), files.bytes_total(place).unwrap());
    assert!(free > 0 && free <= total, "{free} of {total}");
}
