//! A small world: seeded volumes, what a source does with a store, and what must come back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use offsite_model::{
    AgentId, Digest, ImageId, Key, ListDigest, Luck, PointId, TenantId, Timestamp, VolumeId,
};
use offsite_testkit::disk::Disk;

use crate::group::{CheckedGroup, Form};
use crate::{
    Committed, GroupCache, ImageSpec, ListEntry, PointSpec, Session, Settings, Store, StoreError,
};

pub(super) const STORE: &str = "/store";
pub(super) const RECORD: usize = 4096;
/// Runs are written and merged after a handful of records, and no space is held back.
pub(super) const SMALL: Settings = Settings {
    recent_records_max: 8,
    reserve_bytes: 0,
    reserve_percent: 0,
    segment_bytes: 128 << 20,
    segment_records: 1 << 16,
};
/// Segments of a few records, so that every session closes some and spills their places.
pub(super) const TINY: Settings = Settings { segment_bytes: 24 << 10, segment_records: 6, ..SMALL };

/// Seeded numbers.
pub(super) struct Dice(Mutex<u64>);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed ^ 0x5eed))
    }

    pub(super) fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(super) fn noise(&self, bytes: usize) -> Vec<u8> {
        let mut noise = vec![0; bytes];
        self.fill(&mut noise);
        noise
    }
}

impl Luck for Dice {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().unwrap();
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = *state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
        }
    }
}

pub(super) fn tenant(n: u8) -> TenantId {
    TenantId::from_bytes([n; 16])
}

pub(super) fn point(n: u64) -> PointId {
    PointId::from_bytes(u128::from(n).to_be_bytes())
}

pub(super) fn volume(n: u8) -> VolumeId {
    VolumeId::from_bytes([n; 16])
}

pub(super) fn token(n: u64) -> [u8; 16] {
    u128::from(n).to_le_bytes()
}

pub(super) fn new_store(disk: &Disk) -> Store {
    Store::create(disk.files(), Path::new(STORE), &Dice::new(1), SMALL).unwrap()
}

pub(super) fn open(disk: &Disk) -> Result<Store, StoreError> {
    open_with(disk, SMALL)
}

pub(super) fn open_with(disk: &Disk, settings: Settings) -> Result<Store, StoreError> {
    Store::open(disk.files(), Path::new(STORE), settings)
}

/// Volumes of a point: their bytes.
pub(super) type Volumes = BTreeMap<u8, Vec<u8>>;

/// What a point must restore to.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) tenant: u8,
    pub(super) volumes: Volumes,
    pub(super) is_deleted: bool,
}

/// Points by number.
pub(super) type Model = BTreeMap<u64, Expected>;

/// A volume of so many records and a bit: noise, zeros and text.
pub(super) fn fresh_volume(dice: &Dice, n_records: usize) -> Vec<u8> {
    let mut bytes = vec![0; n_records * RECORD + dice.below(RECORD as u64) as usize];
    for record in bytes.chunks_mut(RECORD) {
        change(dice, record);
    }
    bytes
}

fn change(dice: &Dice, record: &mut [u8]) {
    match dice.below(4) {
        0 => record.fill(0),
        1 => record.fill(b'a' + dice.below(20) as u8),
        _ => dice.fill(record),
    }
}

/// The next version of a volume: some records changed, sometimes of another size.
pub(super) fn next_version(dice: &Dice, before: &[u8]) -> Vec<u8> {
    let mut bytes = before.to_vec();
    if dice.one_in(4) {
        let n = bytes.len() as u64 / 2 + dice.below(bytes.len() as u64 + 1);
        bytes.resize(n as usize, 7);
    }
    for record in bytes.chunks_mut(RECORD) {
        if dice.one_in(3) {
            change(dice, record);
        }
    }
    bytes
}

fn key_of(record: &[u8]) -> Key {
    if record.iter().all(|byte| *byte == 0) { Key::ZERO } else { Key::of(record) }
}

/// The list of an image: everything, or what differs from the parent.
pub(super) fn list_of(bytes: &[u8], parent: Option<&[u8]>) -> Vec<ListEntry> {
    let mut list: Vec<ListEntry> = Vec::new();
    for (position, record) in bytes.chunks(RECORD).enumerate() {
        let offset = position * RECORD;
        let before =
            parent.and_then(|parent| parent.get(offset..(offset + RECORD).min(parent.len())));
        if before == Some(record) {
            continue;
        }
        let (offset, length, key) = (offset as u64, record.len() as u32, key_of(record));
        match list.last_mut() {
            Some(last)
                if key == Key::ZERO
                    && last.key == Key::ZERO
                    && last.offset + u64::from(last.length) == offset =>
            {
                last.length += length;
            }
            _ => list.push(ListEntry { offset, length, key }),
        }
    }
    list
}

pub(super) fn digest_of(list: &[ListEntry]) -> Digest {
    let mut digest = ListDigest::new();
    list.iter().for_each(|entry| digest.entry(entry.offset, entry.length, &entry.key));
    digest.finish()
}

/// Appends the records of a volume that are not stored yet, three to a group.
pub(super) fn append_missing(
    session: &mut Session,
    bytes: &[u8],
    list: &[ListEntry],
) -> Result<(), StoreError> {
    let mut missing: Vec<(Key, &[u8])> = Vec::new();
    for entry in list.iter().filter(|entry| entry.key != Key::ZERO) {
        let is_queued = missing.iter().any(|(key, _)| *key == entry.key);
        if !is_queued && session.find(Form::Plain, &entry.key)?.is_none() {
            let start = entry.offset as usize;
            missing.push((entry.key, &bytes[start..start + entry.length as usize]));
        }
        if missing.len() == 3 {
            session.append(&CheckedGroup::encode(Form::Plain, &missing, 1)?)?;
            missing.clear();
        }
    }
    if !missing.is_empty() {
        session.append(&CheckedGroup::encode(Form::Plain, &missing, 1)?)?;
    }
    Ok(())
}

pub(super) fn point_spec(number: u64, n_images: u32) -> PointSpec {
    PointSpec {
        point: point(number),
        agent: AgentId::from_bytes([9; 16]),
        taken_at: Timestamp::from_secs(number as i64),
        committed_at: Timestamp::from_secs(1_000 + number as i64),
        n_images,
        token: token(number),
        note: b"a note".to_vec(),
    }
}

pub(super) fn image_spec(number: u64, volume_number: u8, bytes: u64) -> ImageSpec {
    let mut image = token(number);
    image[15] = volume_number;
    ImageSpec {
        image: ImageId::from_bytes(image),
        volume: volume(volume_number),
        bytes,
        record_bytes: RECORD as u32,
        form: Form::Plain,
    }
}

/// Protects volumes as a point, on top of a parent where there is one.
pub(super) fn protect(
    store: &Store,
    tenant_number: u8,
    number: u64,
    volumes: &Volumes,
    parent: Option<(u64, &Volumes)>,
) -> Result<Committed, StoreError> {
    let mut session = store.session(tenant(tenant_number))?;
    protect_in(&mut session, number, volumes, parent)
}

pub(super) fn protect_in(
    session: &mut Session,
    number: u64,
    volumes: &Volumes,
    parent: Option<(u64, &Volumes)>,
) -> Result<Committed, StoreError> {
    let mut images = Vec::new();
    for (volume, bytes) in volumes {
        let before = parent.and_then(|(number, volumes)| Some((number, volumes.get(volume)?)));
        let list = list_of(bytes, before.map(|(_, bytes)| &bytes[..]));
        append_missing(session, bytes, &list)?;
        let spec = image_spec(number, *volume, bytes.len() as u64);
        let mut image = session.image(spec, before.map(|(number, _)| point(number)), None)?;
        list.iter().try_for_each(|entry| image.push(*entry))?;
        images.push((image, Some(digest_of(&list))));
    }
    session.commit(point_spec(number, volumes.len() as u32), images)
}

/// Restores a volume through list, plan and fetches.
pub(super) fn restore(
    store: &Store,
    tenant_number: u8,
    number: u64,
    volume_number: u8,
) -> Result<Vec<u8>, StoreError> {
    let tenant = tenant(tenant_number);
    let image = store.image(tenant, point(number), volume(volume_number))?;
    let list = image.list(0).collect::<Result<Vec<_>, _>>()?;
    let mut bytes = vec![0xee; image.bytes() as usize];
    for entry in list.iter().filter(|entry| entry.key == Key::ZERO) {
        let start = entry.offset as usize;
        bytes[start..start + entry.length as usize].fill(0);
    }
    let cache = GroupCache::default();
    for fetch in store.plan(tenant, &image, &list)? {
        fetch.read(store, &cache, &mut bytes[..])?;
    }
    Ok(bytes)
}

/// Every point of the model is listed and restores; no other point is listed, except `in_flight`,
/// which is absent or whole.
pub(super) fn check(store: &Store, model: &Model, in_flight: Option<(u64, &Expected)>) {
    for tenant_number in 1..=2 {
        for found in store.points(tenant(tenant_number)).unwrap() {
            let number = u128::from_be_bytes(found.point.to_bytes()) as u64;
            let expected = model.get(&number).or_else(|| {
                in_flight.filter(|(flying, _)| *flying == number).map(|(_, expected)| expected)
            });
            let expected = expected.unwrap_or_else(|| panic!("phantom point {number}"));
            assert_eq!(expected.tenant, tenant_number);
            assert!(found.is_complete(), "point {number} is listed in part");
            assert_eq!(found.note, b"a note");
            for (volume, bytes) in &expected.volumes {
                let restored = restore(store, tenant_number, number, *volume).unwrap();
                assert!(restored == *bytes, "point {number}, volume {volume}: wrong bytes");
            }
            let outcome = store.outcome(tenant(tenant_number), token(number)).unwrap();
            assert_eq!(outcome.unwrap().point, point(number));
        }
    }
    for (number, expected) in model {
        let found = store.point(tenant(expected.tenant), point(*number));
        let found = found.unwrap_or_else(|error| panic!("lost point {number}: {error}"));
        let is_in_flight = in_flight.is_some_and(|(flying, _)| flying == *number);
        assert!(
            found.deleted_at.is_some() == expected.is_deleted || is_in_flight,
            "lost mark of point {number}"
        );
    }
}

/// Every file is one that the store should have: nothing leaked.
pub(super) fn check_no_strangers(store: &Store, disk: &Disk) {
    let (mut segments, mut manifests) = (0, 0);
    for (path, bytes) in disk.paths() {
        let path = path.to_str().unwrap();
        assert!(!path.ends_with(".tmp"), "{path} was left");
        segments += u32::from(path.starts_with("/store/segments/"));
        manifests += u32::from(path.starts_with("/store/manifests/"));
        let number = u32::from_str_radix(&path[path.len() - 8..], 16);
        if path.starts_with("/store/segments/") {
            let segment = store.core.segment(number.unwrap()).expect("a stranger");
            assert_eq!(segment.bytes_committed(), bytes, "{path} has a tail");
        }
    }
    let counts = crate::recover::count_rows(&store.core.catalog);
    assert_eq!((segments, manifests), counts, "files and rows differ");
}
