//! D-18: a whole store as the first build of each version wrote it. Every later build opens it,
//! finds nothing wrong, restores every volume byte for byte, and goes on with it.
//!
//! `fixtures/format-N/store.zst` holds its files, `restored.txt` what must come back. They were
//! written by [`write`] with the build that froze version N, and are never written again: a version
//! of which nobody has a store any more is still read.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use offsite_model::{Digest, Key, OpenMode, SessionId, Timestamp};
use offsite_testkit::disk::Disk;

use super::scene::*;
use crate::group::{CheckedGroup, Form};
use crate::{FORMAT_VERSION, ListEntry, Settings, Store};

const SESSION: SessionId = SessionId::from_bytes([6; 16]);
const FILES_BYTES_MAX: usize = 64 << 20;
/// Runs after a handful of records, segments of a few groups.
const SETTINGS: Settings = TINY;

fn path(version: u32, name: &str) -> PathBuf {
    let version = format!("format-{version}");
    [env!("CARGO_MANIFEST_DIR"), "fixtures", &version, name].iter().collect()
}

fn promised() -> ListEntry {
    ListEntry { offset: 0, length: 9, key: Key::of(b"promised!") }
}

/// Two tenants, six points with parents, changed sizes and zeros, one of them marked as deleted,
/// runs that were merged, and a session in the middle.
fn build() -> Disk {
    let disk = Disk::new(1);
    drop(Store::create(disk.files(), Path::new(STORE), &Dice::new(1), SETTINGS).unwrap());
    let dice = Dice::new(18);
    for owner in [1, 2] {
        // Opened several times, as a store is.
        let store = open_with(&disk, SETTINGS).unwrap();
        let mut volumes = Volumes::from([(1, fresh_volume(&dice, 4)), (2, fresh_volume(&dice, 1))]);
        let mut parent: Option<(u64, Volumes)> = None;
        for round in 0..3 {
            let number = u64::from(owner) * 10 + round;
            let before = parent.as_ref().map(|(number, volumes)| (*number, volumes));
            protect(&store, owner, number, &volumes, before).unwrap();
            let next = volumes.iter().map(|(n, bytes)| (*n, next_version(&dice, bytes))).collect();
            parent = Some((number, std::mem::replace(&mut volumes, next)));
        }
        store
            .delete_point(tenant(owner), point(u64::from(owner) * 10), Timestamp::from_secs(7))
            .unwrap();
    }
    let store = open_with(&disk, SETTINGS).unwrap();
    let mut draft = store.draft(tenant(1), SESSION, b"as it was opened".to_vec()).unwrap();
    let records = [(promised().key, &b"promised!"[..])];
    draft.append(&CheckedGroup::encode(Form::Plain, &records, 1).unwrap()).unwrap();
    draft.list(0, &[promised()]).unwrap();
    draft.barrier().unwrap();
    drop((draft, store));
    disk
}

/// Every volume that can be restored, one a line.
fn restored(store: &Store) -> String {
    let mut text = String::new();
    for owner in [1, 2] {
        for found in store.points(tenant(owner)).unwrap() {
            let number = u128::from_be_bytes(found.point.to_bytes()) as u64;
            for (volume, image) in (1..).zip(&found.images) {
                let bytes = restore(store, owner, number, volume).unwrap();
                assert_eq!(bytes.len() as u64, image.bytes);
                let deleted = if found.deleted_at.is_some() { " deleted" } else { "" };
                let digest = Digest::of(&bytes);
                let n = bytes.len();
                write!(text, "tenant {owner} point {number} volume {volume} ").unwrap();
                writeln!(text, "bytes {n} blake3 {digest}{deleted}").unwrap();
            }
        }
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "fixtures are files of the repository")]
fn write(version: u32) {
    let disk = build();
    let files: Vec<(String, Vec<u8>)> = disk
        .paths()
        .iter()
        .map(|(path, _)| {
            let bytes = disk.files().read(path, FILES_BYTES_MAX as u64).unwrap();
            (path.to_str().unwrap().to_owned(), bytes)
        })
        .collect();
    let store = open_with(&disk, SETTINGS).unwrap();
    let packed = zstd::bulk::compress(&postcard::to_allocvec(&files).unwrap(), 19).unwrap();
    std::fs::create_dir_all(path(version, "").as_path()).unwrap();
    std::fs::write(path(version, "store.zst"), packed).unwrap();
    std::fs::write(path(version, "restored.txt"), restored(&store)).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "fixtures are files of the repository")]
fn unpack(version: u32) -> (Disk, String) {
    let read = |name: &str| {
        std::fs::read(path(version, name)).unwrap_or_else(|error| {
            panic!("{}: {error}; a new version's: UPDATE_EXPECT=1", path(version, name).display())
        })
    };
    let packed = zstd::bulk::decompress(&read("store.zst"), FILES_BYTES_MAX).unwrap();
    let files: Vec<(String, Vec<u8>)> = postcard::from_bytes(&packed).unwrap();
    let disk = Disk::new(2);
    let mount = disk.files();
    for folder in ["", "segments", "manifests", "runs", "drafts"] {
        mount.create_dir(&Path::new(STORE).join(folder)).unwrap();
    }
    for (path, bytes) in files {
        let file = mount.open(Path::new(&path), OpenMode::CreateNew).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
    }
    (disk, String::from_utf8(read("restored.txt")).unwrap())
}

#[test]
fn d_18_stores_of_every_version_open_and_restore() {
    if !path(FORMAT_VERSION, "store.zst").exists() && std::env::var_os("UPDATE_EXPECT").is_some() {
        write(FORMAT_VERSION);
    }
    for version in 1..=FORMAT_VERSION {
        let (disk, expected) = unpack(version);
        assert!(expected.lines().count() == 12, "{expected}");
        let store = Store::open_read_only(disk.files(), Path::new(STORE), SETTINGS).unwrap();
        assert_eq!(restored(&store), expected, "version {version}, only read");
        drop(store);
        let store = open_with(&disk, SETTINGS).unwrap();
        assert_eq!(store.alarms(), [], "version {version}");
        let report = store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap();
        assert_eq!((report.damage, report.n_points), (vec![], 6), "version {version}");
        assert_eq!(restored(&store), expected, "version {version}");
        // What was promised is held, and the session and the store go on.
        let drafts = store.drafts().unwrap();
        assert_eq!(drafts[0].opening, b"as it was opened");
        let mut draft = store.resume(tenant(1), SESSION).unwrap();
        assert_eq!(draft.listed(0, 9).unwrap(), [(0, promised())]);
        assert!(draft.find_many(Form::Plain, &[promised().key]).unwrap()[0].is_some());
        drop(draft);
        let after = Volumes::from([(1, fresh_volume(&Dice::new(3), 4))]);
        protect(&store, 1, 99, &after, None).unwrap();
        drop(store);
        let store = open_with(&disk, SETTINGS).unwrap();
        assert!(restore(&store, 1, 99, 1).unwrap() == after[&1]);
    }
}
