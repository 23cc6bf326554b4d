//! Volumes on the simulated disk.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use offsite_model::{Aligned, Digest, FileSystem, Lanes, OpenMode};
use offsite_testkit::SeededLuck;
use offsite_testkit::disk::{Disk, Fault, Which};

use crate::{Chunk, Destination, Overwrite, Volume, VolumeError, Writer, is_zero};

const RECORD: u32 = 16 << 10;

struct Scene {
    disk: Disk,
    files: Arc<dyn FileSystem>,
    path: PathBuf,
}

/// A disk with a file of this length that holds data at these places.
fn scene(bytes: u64, written: &[(u64, &[u8])]) -> Scene {
    let disk = Disk::new(1);
    let files = disk.files();
    let path = PathBuf::from("/volume");
    let file = files.open(&path, OpenMode::CreateNew).unwrap();
    file.set_bytes(bytes).unwrap();
    for (offset, content) in written {
        file.write_all_at(content, *offset).unwrap();
    }
    Scene { disk, files, path }
}

fn chunks(volume: &Volume, chunk_bytes: u32) -> Vec<(u64, u32)> {
    volume
        .chunks(RECORD, chunk_bytes)
        .map(|chunk| chunk.map(|Chunk { offset, bytes }| (offset, bytes)).unwrap())
        .collect()
}

#[test]
fn holes_are_not_read_and_chunks_start_at_records() {
    let scene = scene(10 << 30, &[(40_000, b"x"), (5 << 30, &[1; 70_000])]);
    let volume = Volume::open(&*scene.files, &scene.path).unwrap();
    let found = chunks(&volume, 4 * RECORD);
    assert_eq!(
        found,
        [
            (2 * u64::from(RECORD), RECORD),
            (5 << 30, 4 * RECORD),
            ((5 << 30) + 4 * u64::from(RECORD), RECORD),
        ]
    );
}

#[test]
fn the_last_chunk_ends_with_the_volume() {
    let bytes = 3 * u64::from(RECORD) + 100;
    let scene = scene(bytes, &[(0, &vec![7; bytes as usize])]);
    let volume = Volume::open(&*scene.files, &scene.path).unwrap();
    assert_eq!(
        chunks(&volume, 1),
        [
            (0, RECORD),
            (RECORD.into(), RECORD),
            (2 * u64::from(RECORD), RECORD),
            (3 * u64::from(RECORD), 100),
        ]
    );
    let mut content = vec![0; 100];
    volume.read(&mut content, 3 * u64::from(RECORD)).unwrap();
    assert_eq!(content, [7; 100]);
}

#[test]
fn an_empty_volume_and_one_of_holes_have_no_chunks() {
    for bytes in [0, 1, 1 << 30] {
        let scene = scene(bytes, &[]);
        let volume = Volume::open(&*scene.files, &scene.path).unwrap();
        assert_eq!((volume.bytes(), chunks(&volume, 1 << 20)), (bytes, vec![]));
    }
}

#[test]
fn a_volume_that_changes_its_size_is_refused() {
    let scene = scene(1 << 20, &[(0, &[1; 100])]);
    let volume = Volume::open(&*scene.files, &scene.path).unwrap();
    volume.check_size().unwrap();
    let file = scene.files.open(&scene.path, OpenMode::Write).unwrap();
    file.set_bytes(1 << 19).unwrap();
    let shrunk = volume.read(&mut [0; 10], (1 << 20) - 10).unwrap_err();
    assert!(matches!(shrunk, VolumeError::Resized { bytes_now: 0x8_0000, .. }), "{shrunk}");
    file.set_bytes(1 << 21).unwrap();
    assert!(matches!(volume.check_size(), Err(VolumeError::Resized { .. })));
}

#[test]
fn what_is_no_volume_is_named() {
    let scene = scene(1, &[]);
    let error = |path: &str| Volume::open(&*scene.files, Path::new(path)).err().unwrap();
    assert!(matches!(error("/absent"), VolumeError::Missing { .. }));
    scene.files.create_dir(Path::new("/directory")).unwrap();
    assert!(matches!(error("/directory"), VolumeError::NotAVolume { .. }));
}

#[test]
fn a_restore_overwrites_nothing_unasked() {
    let scene = scene(100, &[(0, &[9; 100])]);
    let open = |overwrite| Destination::open(&*scene.files, &scene.path, 50, overwrite);
    assert!(matches!(open(Overwrite::Never), Err(VolumeError::Exists { .. })));
    assert_eq!(scene.files.read(&scene.path, 100).unwrap(), [9; 100]);

    let destination = open(Overwrite::Allowed).unwrap();
    destination.write(&[3; 10], 40).unwrap();
    destination.write_zeros(0, 40).unwrap();
    destination.sync().unwrap();
    assert!(destination.write(&[3; 10], 41).is_err(), "beyond the end");
    assert!(destination.write(&[3; 10], u64::MAX).is_err());
    scene.disk.power_cut();
    let restored = scene.disk.files().read(&scene.path, 100).unwrap();
    assert_eq!(restored, [vec![0; 40], vec![3; 10]].concat());
}

#[test]
fn zeros_are_told_from_anything_else() {
    for bytes in [0, 1, 63, 64, 65, 4096, 5000] {
        let mut content = vec![0_u8; bytes];
        assert!(is_zero(&content));
        for place in [0, bytes / 2, bytes.saturating_sub(1)] {
            if let Some(byte) = content.get_mut(place) {
                *byte = 1;
                assert!(!is_zero(&content), "{bytes} bytes, a one at {place}");
                content[place] = 0;
            }
        }
    }
}

#[test]
fn a_writer_puts_every_part_in_its_place_and_hashes_the_whole() {
    let disk = Disk::new(2);
    let (files, path) = (disk.files(), PathBuf::from("/back"));
    let destination = Destination::open(&*files, &path, 300_007, Overwrite::Never).unwrap();
    let mut writer = Writer::start(destination).unwrap();
    let (head, tail) = (vec![7_u8; 100_000], vec![9_u8; 7]);
    assert!(writer.bytes(head.clone()) && writer.zeros(200_000));
    assert!(writer.bytes(tail.clone()));
    let digest = writer.finish().unwrap();
    // Durable when it says so.
    disk.power_cut();
    let whole = [head, vec![0; 200_000], tail].concat();
    let file = disk.files().open(&path, OpenMode::Read).unwrap();
    let mut back = vec![1; whole.len()];
    file.read_exact_at(&mut back, 0).unwrap();
    assert!(back == whole);
    assert_eq!(digest, Some(Digest::of(&whole)));
}

/// Pieces of all lengths, some in memory that a disk takes as it lies, and holes.
#[test]
fn pieces_of_all_lengths_and_holes_come_back_as_they_were() {
    let luck = SeededLuck::from_env_or(4);
    for round in 0..20_u64 {
        let (disk, path) = (Disk::new(luck.seed() + round), PathBuf::from("/back"));
        let mut whole = Vec::new();
        let mut parts = Vec::new();
        while whole.len() < 6 << 20 {
            let n = match luck.between(0, 3) {
                0 => luck.between(1, 5_000) as usize,
                1 => 4096 * luck.between(1, 40) as usize,
                _ => 4096 * luck.between(64, 364) as usize,
            };
            if luck.chance(1, 4) {
                parts.push(Err(n));
                whole.resize(whole.len() + n, 0);
            } else {
                let mut piece = Aligned::zeroed(n);
                piece.bytes_mut().copy_from_slice(&luck.bytes(n));
                whole.extend_from_slice(piece.bytes());
                parts.push(Ok(piece));
            }
        }
        let files = disk.files();
        let bytes = whole.len() as u64;
        let destination = Destination::open(&*files, &path, bytes, Overwrite::Never).unwrap();
        let mut writer = Writer::start(destination).unwrap();
        for part in parts {
            assert!(match part {
                Ok(piece) => writer.bytes(Piece(piece)),
                Err(n) => writer.zeros(n as u64),
            });
        }
        let digest = writer.finish().unwrap();
        files.sync_dir(Path::new("/")).unwrap();
        disk.power_cut();
        let file = disk.files().open(&path, OpenMode::Read).unwrap();
        let mut back = vec![1; whole.len()];
        file.read_exact_at(&mut back, 0).unwrap();
        assert!(back == whole, "round {round}");
        assert_eq!(digest, Some(Digest::of(&whole)));
    }
}

/// Pieces of all lanes in turns, crooked ones among them.
#[test]
fn lanes_in_turns_come_back_as_one_volume() {
    let luck = SeededLuck::from_env_or(6);
    let bytes = (130 << 20) + 4_321_u64;
    let lanes = Lanes::several(bytes, RECORD);
    assert_eq!(lanes.ranges().count(), 3);
    let (disk, path) = (Disk::new(luck.seed()), PathBuf::from("/back"));
    let files = disk.files();
    let destination = Destination::open(&*files, &path, bytes, Overwrite::Never).unwrap();
    let mut writer = Writer::in_lanes(destination, lanes).unwrap();
    let mut whole = vec![0_u8; bytes as usize];
    let mut left: Vec<_> = lanes.ranges().collect();
    while !left.is_empty() {
        let lane = luck.between(0, left.len() as u64 - 1) as usize;
        let range = &mut left[lane];
        let n = luck.between(1, 3 << 20).min(range.end - range.start) as usize;
        let at = range.start as usize;
        writer.go_to(range.start);
        if luck.chance(1, 3) {
            assert!(writer.zeros(n as u64));
        } else {
            let piece = luck.bytes(n);
            whole[at..at + n].copy_from_slice(&piece);
            assert!(writer.bytes(piece));
        }
        range.start += n as u64;
        left.retain(|range| range.start < range.end);
    }
    assert_eq!(writer.finish().unwrap(), Some(Digest::of(&whole)));
    files.sync_dir(Path::new("/")).unwrap();
    disk.power_cut();
    let file = disk.files().open(&path, OpenMode::Read).unwrap();
    let mut back = vec![1; whole.len()];
    file.read_exact_at(&mut back, 0).unwrap();
    assert!(back == whole);
}

/// Two threads write: what one cannot is not made up for by the other.
#[test]
fn what_one_thread_cannot_write_ends_the_writing() {
    let disk = Disk::new(8);
    let files = disk.files();
    let lanes = Lanes::several(1 << 40, RECORD);
    let destination =
        Destination::open(&*files, Path::new("/back"), lanes.bytes(), Overwrite::Never).unwrap();
    let error = ErrorKind::Other;
    disk.fail(Fault { which: Which::Changes, after: 0, error, for_good: false });
    let mut writer = Writer::in_lanes(destination, lanes).unwrap();
    let mut goes_on = writer.bytes(vec![5; 1 << 20]);
    for _ in 0..1 << 24 {
        goes_on = goes_on && writer.zeros(1);
    }
    assert!(!goes_on, "the other thread goes on");
    assert!(matches!(writer.finish(), Err(VolumeError::Io { .. })));
}

#[test]
fn half_a_volume_has_no_digest() {
    let disk = Disk::new(7);
    let files = disk.files();
    let open =
        |path: &str| Destination::open(&*files, Path::new(path), 300, Overwrite::Never).unwrap();
    let mut cut = Writer::start(open("/cut")).unwrap();
    assert!(cut.bytes(vec![1; 299]));
    assert_eq!(cut.finish().unwrap(), None);
    let mut gap = Writer::start(open("/gap")).unwrap();
    gap.go_to(1);
    assert!(gap.bytes(vec![1; 299]));
    assert_eq!(gap.finish().unwrap(), None);
}

struct Piece(Aligned);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

#[test]
fn a_writer_that_the_disk_failed_never_says_that_it_is_done() {
    let disk = Disk::new(3);
    let files = disk.files();
    let bytes = 8 << 20;
    let destination =
        Destination::open(&*files, Path::new("/back"), bytes, Overwrite::Never).unwrap();
    disk.set_bytes_max(Some(1 << 20));
    let mut writer = Writer::start(destination).unwrap();
    let mut goes_on = true;
    for _ in 0..8 {
        goes_on = goes_on && writer.bytes(vec![5; 1 << 20]);
    }
    assert!(matches!(writer.finish(), Err(VolumeError::Io { .. })));
}
