//! A small world that never changes, and every layout in it: a sample of its bytes, and a reader
//! that takes all of them or refuses. Nothing in it depends on a compressor's version.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use offsite_model::{Key, OpenMode, SessionId, TenantId};
use offsite_testkit::disk::Disk;

use super::scene::*;
use crate::catalog::{Table, Transactions, TypedRows, Value, decode_value, encode_value};
use crate::draft::{DRAFTS, DraftRow, Log};
use crate::format::crc;
use crate::group::{CheckedGroup, Codec, Form, TableRow};
use crate::index::run::Run;
use crate::journal::{Journal, START};
use crate::layout::Place;
use crate::manifest::Image;
use crate::quarantine;
use crate::rows::{self, Entry, ImageRow, PointRow};
use crate::segment::{Segment, has_head};
use crate::{ListEntry, Settings, Store, StoreError};

type Read = Box<dyn Fn(&[u8]) -> Result<(), StoreError>>;
type Reseal = fn(&mut [u8]);

/// Where a version stands, and how the bytes are put under good checksums again.
pub(super) struct VersionAt {
    pub(super) offset: usize,
    pub(super) reseal: Reseal,
}

pub(super) struct Layout {
    pub(super) name: String,
    pub(super) sample: Vec<u8>,
    /// Takes the whole sample and nothing else.
    pub(super) read: Read,
    pub(super) versions: Vec<VersionAt>,
    /// Whether bytes behind the end are a torn tail, which opening cuts.
    pub(super) is_appended_to: bool,
}

const OWNER: TenantId = TenantId::from_bytes([1; 16]);
const SESSION: SessionId = SessionId::from_bytes([5; 16]);
const SETTINGS: Settings = Settings { recent_records_max: 1, ..SMALL };

/// One zstd frame of so many bytes `a`, written by hand (RFC 8878): a single segment, one RLE
/// block.
fn frame_of_a(n: u16) -> Vec<u8> {
    let [low, high] = (n - 256).to_le_bytes();
    let [a, b, c, _] = ((u32::from(n) << 3) | 0b11).to_le_bytes();
    vec![0x28, 0xb5, 0x2f, 0xfd, 0x60, low, high, a, b, c, b'a']
}

/// Two points of one volume, the second a patch over the first; one of them marked as deleted; a
/// closed segment with groups of every kind; a run; a session that goes on.
pub(super) fn world() -> Disk {
    let disk = Disk::new(1);
    drop(Store::create(disk.files(), Path::new(STORE), &Dice::new(1), SETTINGS).unwrap());
    let store = open_with(&disk, SETTINGS).unwrap();
    let (repeated, tail) = ([b'a'; RECORD], [b't'; 100]);
    let row = |bytes: &[u8]| TableRow { key: Key::of(bytes), raw_bytes: bytes.len() as u32 };
    let zstd = CheckedGroup::check(
        Form::Plain,
        Codec::Zstd,
        vec![row(&repeated)],
        &frame_of_a(RECORD as u16),
    );
    let plain = CheckedGroup::check(Form::Plain, Codec::None, vec![row(&tail)], &tail);
    let other = [row(b"what is encrypted"), row(b"is not looked into")].to_vec();
    let payload = b"what is encryptedis not looked into".to_vec();
    let encrypted = CheckedGroup::check(Form::Encrypted, Codec::None, other, &payload);
    let mut session = store.session(OWNER).unwrap();
    for group in [zstd, plain, encrypted] {
        session.append(&group.unwrap()).unwrap();
    }
    let mut volume = [repeated.as_slice(), &[0; RECORD], &repeated, &tail].concat();
    let before = volume.clone();
    protect_in(&mut session, 1, &Volumes::from([(1, volume.clone())]), None).unwrap();
    volume[..RECORD].fill(0);
    let volumes = Volumes::from([(1, before)]);
    protect_in(&mut session, 2, &Volumes::from([(1, volume)]), Some((1, &volumes))).unwrap();
    drop(session);
    store.delete_point(OWNER, point(1), offsite_model::Timestamp::from_secs(5_000)).unwrap();
    store.delete_point(OWNER, point(2), offsite_model::Timestamp::from_secs(5_001)).unwrap();
    store.undelete_point(OWNER, point(2), offsite_model::Timestamp::from_secs(5_002)).unwrap();
    let mut draft = store.draft(OWNER, SESSION, b"an opening".to_vec()).unwrap();
    let entries = [
        ListEntry { offset: 0, length: RECORD as u32, key: Key::of(&repeated) },
        ListEntry { offset: RECORD as u64, length: RECORD as u32, key: Key::ZERO },
    ];
    draft.find_many(Form::Plain, &[entries[0].key]).unwrap();
    draft.list(0, &entries).unwrap();
    draft
        .append(&CheckedGroup::encode(Form::Encrypted, &[(Key::of(b"?"), b"?")], 1).unwrap())
        .unwrap();
    draft.barrier().unwrap();
    drop((draft, store));
    disk
}

fn files_in(disk: &Disk, folder: &str) -> Vec<PathBuf> {
    let folder = format!("{STORE}/{folder}/");
    let paths = disk.paths().into_iter().map(|(path, _)| path);
    paths.filter(|path| path.starts_with(&folder)).collect()
}

fn bytes_of(disk: &Disk, path: &Path) -> Vec<u8> {
    disk.files().read(path, 1 << 20).unwrap()
}

/// The world again, with other bytes in one file.
fn with(disk: &Disk, path: &Path, bytes: &[u8]) -> (Disk, Place) {
    let disk = disk.fork(1);
    disk.edit(path, |content| *content = bytes.to_vec());
    let place = Place::new(disk.files(), Path::new(STORE));
    (disk, place)
}

fn number_in(path: &Path) -> u32 {
    u32::from_str_radix(path.file_name().unwrap().to_str().unwrap(), 16).unwrap()
}

fn refused(what: &str) -> StoreError {
    StoreError::Damaged(what.to_owned())
}

/// Puts the checksum of the first `at` bytes at `at`.
fn seal(bytes: &mut [u8], at: usize) {
    let sum = crc(&[&bytes[..at]]).to_le_bytes();
    bytes[at..at + 4].copy_from_slice(&sum);
}

fn seal_end(bytes: &mut [u8]) {
    seal(bytes, bytes.len() - 4);
}

fn seal_footer(bytes: &mut [u8]) {
    let n = bytes.len();
    let offset = u64::from_le_bytes(bytes[n - 16..n - 8].try_into().unwrap()) as usize;
    seal_end(&mut bytes[offset..]);
}

/// The first group of a segment, whose table has one record.
fn seal_group(bytes: &mut [u8]) {
    let sum = crc(&[&bytes[64..124], &bytes[128..164]]).to_le_bytes();
    bytes[124..128].copy_from_slice(&sum);
}

/// The head of a session's log, and the head of its first frame.
fn seal_draft(bytes: &mut [u8]) {
    seal(bytes, 60);
    let sum = crc(&[&bytes[64..84], &64_u64.to_le_bytes()]).to_le_bytes();
    bytes[84..88].copy_from_slice(&sum);
}

fn seal_entry(bytes: &mut [u8]) {
    let n = u32::from_le_bytes(bytes[80..84].try_into().unwrap()) as usize;
    let sum = crc(&[&bytes[88..88 + n]]).to_le_bytes();
    bytes[84..88].copy_from_slice(&sum);
}

/// The root of the first image and the end of its manifest, at places that the sample has.
fn seal_manifest(bytes: &mut [u8]) {
    let (n, tail) = (bytes.len(), bytes.len() - 128);
    let offset = u64::from_le_bytes(bytes[tail + 16..tail + 24].try_into().unwrap()) as usize;
    let digest = offsite_model::Digest::of(&bytes[offset..tail]);
    bytes[tail + 24..tail + 56].copy_from_slice(digest.as_bytes());
    seal_end(&mut bytes[tail..n]);
}

fn root_layout(disk: &Disk) -> Layout {
    let path = PathBuf::from("/store/store");
    let sample = bytes_of(disk, &path);
    let disk = disk.clone();
    let read = move |bytes: &[u8]| with(&disk, &path, bytes).1.read_root().map(drop);
    let versions = vec![VersionAt { offset: 8, reseal: seal_end }];
    Layout {
        name: "root_file".to_owned(),
        sample,
        read: Box::new(read),
        versions,
        is_appended_to: false,
    }
}

fn segment_layout(disk: &Disk, id: [u8; 16]) -> Layout {
    let path = files_in(disk, "segments").remove(0);
    let sample = bytes_of(disk, &path);
    let disk = disk.clone();
    let read = move |bytes: &[u8]| {
        let (_disk, place) = with(&disk, &path, bytes);
        let doing = || StoreError::io("read a segment");
        let n = bytes.len() as u64;
        let segment = Segment::kept(number_in(&path), OWNER, n, n, true);
        let file = segment.file(&place).map_err(doing())?;
        let is_good = has_head(&*file, segment.number, id, OWNER).map_err(doing())?
            && segment.has_good_footer(&place).map_err(doing())?;
        let contents = segment.scan(&*file, n).map_err(doing())?;
        for at in &contents.groups {
            segment.read_group(&place, *at)?;
        }
        let is_all = contents.is_whole && contents.groups.len() == 3;
        if is_good && is_all { Ok(()) } else { Err(refused("a segment")) }
    };
    let versions = vec![
        VersionAt { offset: 4, reseal: |bytes| seal(bytes, 60) },
        VersionAt { offset: 68, reseal: seal_group },
        VersionAt { offset: sample.len() - 28, reseal: seal_footer },
    ];
    Layout {
        name: "segment".to_owned(),
        sample,
        read: Box::new(read),
        versions,
        is_appended_to: false,
    }
}

fn manifest_layout(disk: &Disk, id: [u8; 16], name: &str, number: u64, row: ImageRow) -> Layout {
    let path = PathBuf::from(format!("/store/manifests/{:08x}", row.manifest));
    let sample = bytes_of(disk, &path);
    let root_offset = row.root_offset as usize;
    let disk = disk.clone();
    let read = move |bytes: &[u8]| {
        let (_disk, place) = with(&disk, &path, bytes);
        let mut row = row.clone();
        let root = bytes.get(root_offset..root_offset + row.root_bytes as usize);
        row.root_digest = *offsite_model::Digest::of(root.unwrap_or_default()).as_bytes();
        let image = Image::open(&place, row)?;
        (0..image.n_pages()).try_for_each(|page| image.load(page).map(drop))?;
        let of = [id, OWNER.to_bytes(), point(number).to_bytes()];
        if image.has_good_tail(of)? { Ok(()) } else { Err(refused("a manifest")) }
    };
    let versions = vec![
        VersionAt { offset: root_offset + 4, reseal: seal_manifest },
        VersionAt { offset: sample.len() - 124, reseal: seal_manifest },
    ];
    Layout { name: name.to_owned(), sample, read: Box::new(read), versions, is_appended_to: false }
}

/// The one page that a manifest of the world begins with.
fn page_layout(disk: &Disk, name: &str, row: &ImageRow) -> Layout {
    let path = PathBuf::from(format!("/store/manifests/{:08x}", row.manifest));
    let mut sample = bytes_of(disk, &path);
    sample.truncate(row.root_offset as usize);
    let read = |bytes: &[u8]| {
        let found = crate::manifest::page::decode(0, bytes);
        let found = found.map_err(StoreError::io("read a page"))?;
        found.map(drop).ok_or_else(|| refused("a page"))
    };
    let versions = vec![VersionAt { offset: 4, reseal: |_| () }];
    Layout { name: name.to_owned(), sample, read: Box::new(read), versions, is_appended_to: false }
}

fn run_layout(disk: &Disk, id: [u8; 16]) -> Layout {
    let path = files_in(disk, "runs").remove(0);
    let sample = bytes_of(disk, &path);
    let disk = disk.clone();
    let read = move |bytes: &[u8]| {
        let (_disk, place) = with(&disk, &path, bytes);
        let failed = |error| crate::upkeep::run_error(number_in(&path), error);
        let (_, run) = Run::open(&place, number_in(&path), id).map_err(failed)?;
        run.entries().try_for_each(|entry| entry.map(drop)).map_err(failed)
    };
    let versions = vec![VersionAt { offset: 4, reseal: |bytes| seal(bytes, 4092) }];
    Layout {
        name: "key_run".to_owned(),
        sample,
        read: Box::new(read),
        versions,
        is_appended_to: false,
    }
}

fn journal_layout(disk: &Disk, id: [u8; 16]) -> Layout {
    let path = PathBuf::from("/store/journal");
    let sample = bytes_of(disk, &path);
    let disk = disk.clone();
    let read = move |bytes: &[u8]| {
        let (_disk, place) = with(&disk, &path, bytes);
        let (_, found) = Journal::open(&place, id, START)?;
        let is_all = found.is_known && found.entries.len() == 5;
        if is_all { Ok(()) } else { Err(refused("the journal")) }
    };
    let versions = vec![
        VersionAt { offset: 4, reseal: |bytes| seal(bytes, 76) },
        VersionAt { offset: 88, reseal: seal_entry },
    ];
    Layout {
        name: "journal".to_owned(),
        sample,
        read: Box::new(read),
        versions,
        is_appended_to: true,
    }
}

fn draft_layout(disk: &Disk, id: [u8; 16]) -> Layout {
    let path = files_in(disk, "drafts").remove(0);
    let sample = bytes_of(disk, &path);
    let disk = disk.clone();
    let read = move |bytes: &[u8]| {
        let (disk, place) = with(&disk, &path, bytes);
        let kept = Log::kept(&place, (number_in(&path), None), (id, OWNER));
        let kept = kept.map_err(StoreError::io("read the log of a session"))?;
        let kept: BTreeSet<u32> =
            kept.unwrap_or_default().segments.iter().map(|kept| kept.0).collect();
        let store = open_with(&disk, SETTINGS)?;
        let mut draft = store.resume(OWNER, SESSION)?;
        let is_all = kept.len() == 1 && draft.listed(0, 9)?.len() == 2;
        if is_all { Ok(()) } else { Err(refused("the log of a session")) }
    };
    let versions = vec![VersionAt { offset: 4, reseal: seal_draft }];
    Layout {
        name: "draft".to_owned(),
        sample,
        read: Box::new(read),
        versions,
        is_appended_to: true,
    }
}

fn value_layout<T: Value + 'static>(name: &str, table: Table, value: &T) -> Layout {
    let sample = encode_value(table, value).unwrap();
    let read = move |bytes: &[u8]| Ok(decode_value::<T>(table, bytes).map(drop)?);
    let versions = vec![VersionAt { offset: 0, reseal: |_| () }];
    let name = format!("value_{name}");
    Layout { name, sample, read: Box::new(read), versions, is_appended_to: false }
}

fn value<T: Value>(store: &Store, table: Table, key: &[u8]) -> T {
    let found = store.catalog().read::<_, StoreError>(|rows| Ok(rows.value::<T>(table, key)?));
    found.unwrap().unwrap()
}

/// Every layout of the store.
pub(super) fn all() -> Vec<Layout> {
    let disk = world();
    let copy = disk.fork(1);
    let store = Store::open_read_only(copy.files(), Path::new(STORE), SETTINGS).unwrap();
    let id = store.id();
    let points: [PointRow; 2] =
        [1, 2].map(|number| value(&store, rows::POINTS, &rows::point_key(OWNER, point(number))));
    let [full, patch] = points.each_ref().map(|point| point.images[0].clone());
    let segment = number_in(&files_in(&disk, "segments")[0]);
    let mut layouts = vec![
        root_layout(&disk),
        segment_layout(&disk, id),
        manifest_layout(&disk, id, "manifest_full", 1, full.clone()),
        manifest_layout(&disk, id, "manifest_patch", 2, patch.clone()),
        page_layout(&disk, "page_full", &full),
        page_layout(&disk, "page_patch", &patch),
        run_layout(&disk, id),
        journal_layout(&disk, id),
        draft_layout(&disk, id),
    ];
    let state: rows::StateRow = value(&store, rows::STATE, rows::STATE_KEY);
    let token: rows::TokenRow = value(&store, rows::TOKENS, &rows::token_key(OWNER, token(1)));
    let draft: DraftRow = value(&store, DRAFTS, &SESSION.to_bytes());
    let in_segments: rows::SegmentRow = value(&store, rows::SEGMENTS, &rows::number_key(segment));
    let key = rows::number_key(full.manifest);
    let in_manifests: rows::ManifestRow = value(&store, rows::MANIFESTS, &key);
    let several = Entry {
        number: 6,
        previous: [7; 32],
        happening: rows::Happening::Segments {
            tenant: OWNER.to_bytes(),
            segments: vec![(8, 9, true), (10, 11, false)],
        },
    };
    let later = |happening| rows::LaterEntry(Entry { number: 7, previous: [8; 32], happening });
    let tenant = OWNER.to_bytes();
    let purge = later(rows::Happening::Purge { tenant, point: [9; 16], at: 10 });
    let (gone, unused) = (vec![11, 12], vec![13]);
    let collect = later(rows::Happening::Collect { tenant, segments: gone, manifests: unused });
    let lock = crate::Lock { compliance_days: 15, governance_days: 16 };
    let set = rows::LockEntry(Entry {
        number: 8,
        previous: [9; 32],
        happening: rows::Happening::Lock { tenant, agent: [10; 16], lock, at: 11 },
    });
    layouts.extend([
        value_layout("later_lock", rows::ENTRIES, &set),
        value_layout("lock", crate::locks::LOCKS, &lock),
        value_layout("later_purge", rows::ENTRIES, &purge),
        value_layout("later_collect", rows::ENTRIES, &collect),
        value_layout("collect", rows::COLLECT, &rows::CollectRow { epoch: 14 }),
        value_layout("state", rows::STATE, &state),
        value_layout("point", rows::POINTS, &points[0]),
        value_layout("token", rows::TOKENS, &token),
        value_layout("segment", rows::SEGMENTS, &in_segments),
        value_layout("manifest", rows::MANIFESTS, &in_manifests),
        value_layout("later_draft", DRAFTS, &draft),
        value_layout("entry", rows::ENTRIES, &several),
        value_layout("damaged", quarantine::DAMAGED, &quarantine::DamagedRow {}),
    ]);
    layouts
}

/// Keys of the catalog's tables.
pub(super) fn keys() -> [(String, Vec<u8>); 5] {
    let key = |name: &str, bytes: &[u8]| (format!("key_{name}"), bytes.to_vec());
    [
        key("state", rows::STATE_KEY),
        key("point", &rows::point_key(OWNER, point(0x0102))),
        key("token", &rows::token_key(OWNER, token(0x0102))),
        key("number", &rows::number_key(0x0102)),
        key("damaged", &quarantine::row_key(OWNER, (0x0102, 0x0304))),
    ]
}

/// Whether the world itself is one that opens and is whole.
#[test]
fn the_world_is_sound() {
    let disk = world();
    assert!(disk.files().open(Path::new("/store/store"), OpenMode::Read).is_ok());
    let store = open_with(&disk, SETTINGS).unwrap();
    assert_eq!(store.alarms(), []);
    let go_on = &mut |_, _| std::ops::ControlFlow::Continue(());
    let report = store.verify(go_on).unwrap();
    assert_eq!((report.damage, report.n_points), (vec![], 2));
}
