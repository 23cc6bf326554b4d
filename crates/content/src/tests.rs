//! What was stored comes back whole and in order, and what does not is told.

use std::path::Path;

use offsite_model::{AgentId, ImageId, Key, ListDigest, PointId, TenantId, Timestamp, VolumeId};
use offsite_store::group::{CheckedGroup, Form};
use offsite_store::{ImageSpec, ListEntry, PointSpec, Settings, Store};
use offsite_testkit::SeededLuck;
use offsite_testkit::disk::Disk;

use crate::{Content, Part, ReadError};

const RECORD: usize = 4096;
const TENANT: TenantId = TenantId::from_bytes([1; 16]);

/// A volume of more than a few windows: noise, and a hole after every few records.
fn volume(luck: &SeededLuck, n_records: usize) -> Vec<u8> {
    let mut bytes = luck.bytes(n_records * RECORD + 77);
    for (index, record) in bytes.chunks_mut(RECORD).enumerate() {
        if index % 700 > 640 {
            record.fill(0);
        }
    }
    bytes
}

/// The list of a volume, zeros put together.
fn list_of(bytes: &[u8]) -> Vec<ListEntry> {
    let mut list: Vec<ListEntry> = Vec::new();
    for (index, record) in bytes.chunks(RECORD).enumerate() {
        let (offset, length) = ((index * RECORD) as u64, record.len() as u32);
        let is_zeros = record.iter().all(|byte| *byte == 0);
        let key = if is_zeros { Key::ZERO } else { Key::of(record) };
        match list.last_mut() {
            Some(last) if key == Key::ZERO && last.key == Key::ZERO => last.length += length,
            _ => list.push(ListEntry { offset, length, key }),
        }
    }
    list
}

/// A store that holds one volume in groups of sixteen records that stand side by side.
fn stored(disk: &Disk, luck: &SeededLuck, bytes: &[u8]) -> Content {
    stored_with_step(disk, luck, bytes, 1)
}

/// The same in groups of records that stand so many records apart.
fn stored_with_step(disk: &Disk, luck: &SeededLuck, bytes: &[u8], step: usize) -> Content {
    let settings = Settings { reserve_bytes: 0, ..Settings::default() };
    let store = Store::create(disk.files(), Path::new("/store"), luck, settings).unwrap();
    let list = list_of(bytes);
    let mut session = store.session(TENANT).unwrap();
    let records: Vec<(Key, &[u8])> = list
        .iter()
        .filter(|entry| entry.key != Key::ZERO)
        .map(|entry| (entry.key, &bytes[entry.offset as usize..][..entry.length as usize]))
        .collect();
    let records: Vec<_> = (0..step).flat_map(|at| records.iter().skip(at).step_by(step)).collect();
    for group in records.chunks(16) {
        let group: Vec<(Key, &[u8])> = group.iter().map(|record| **record).collect();
        session.append(&CheckedGroup::encode(Form::Plain, &group, 1).unwrap()).unwrap();
    }
    let (point, volume) = (PointId::from_bytes([2; 16]), VolumeId::from_bytes([3; 16]));
    let spec = ImageSpec {
        image: ImageId::from_bytes([4; 16]),
        volume,
        bytes: bytes.len() as u64,
        record_bytes: RECORD as u32,
        form: Form::Plain,
    };
    let mut image = session.image(spec, None, None).unwrap();
    let mut digest = ListDigest::new();
    for entry in &list {
        digest.entry(entry.offset, entry.length, &entry.key);
        image.push(*entry).unwrap();
    }
    let spec = PointSpec {
        point,
        agent: AgentId::from_bytes([5; 16]),
        taken_at: Timestamp::from_secs(1),
        committed_at: Timestamp::from_secs(2),
        n_images: 1,
        token: [6; 16],
        note: Vec::new(),
    };
    session.commit(spec, vec![(image, Some(digest.finish()))]).unwrap();
    let image = store.image(TENANT, point, volume).unwrap();
    Content::new(store, TENANT, image, 3)
}

fn read_back(content: &Content) -> Result<Vec<u8>, ReadError> {
    let mut volume = Vec::new();
    content.in_order(&mut |part| {
        match part {
            Part::Bytes(bytes) => volume.extend_from_slice(&bytes),
            Part::Zeros(n) => volume.resize(volume.len() + n as usize, 0),
        }
        Ok::<_, ReadError>(())
    })?;
    Ok(volume)
}

#[test]
fn a_volume_of_many_windows_comes_back_in_order() {
    let luck = SeededLuck::from_env_or(1);
    for n_records in [0, 1, 640, 9_000] {
        let bytes = volume(&luck, n_records);
        let content = stored(&Disk::new(luck.seed()), &luck, &bytes);
        assert!(read_back(&content).unwrap() == bytes, "{n_records} records");
        let n_zeros: u64 = list_of(&bytes)
            .iter()
            .filter(|entry| entry.key == Key::ZERO)
            .map(|entry| u64::from(entry.length))
            .sum();
        assert_eq!(content.data_bytes().unwrap() + n_zeros, bytes.len() as u64);
    }
}

/// Noise at both ends of every lane, and a hole over a boundary.
#[test]
fn lanes_come_in_turns_each_in_its_order() {
    let luck = SeededLuck::from_env_or(7);
    let n = (130 << 20) + 77;
    let mut bytes = vec![0; n];
    for start in [0, (60 << 20) - 3, (66 << 20) + 9, 128 << 20] {
        let noise = luck.bytes(2 << 20);
        bytes[start..start + noise.len()].copy_from_slice(&noise);
    }
    let content = stored(&Disk::new(luck.seed()), &luck, &bytes);
    let lanes = content.lanes();
    let mut next: Vec<u64> = lanes.ranges().map(|range| range.start).collect();
    let (mut volume, mut n_turns, mut before) = (vec![1; n], 0, 0);
    content
        .in_lanes(&lanes, &mut |offset, part| {
            let lane = lanes.at(offset);
            assert_eq!(next[lane], offset, "lane {lane}");
            let n = match &part {
                Part::Bytes(bytes) => bytes.len(),
                Part::Zeros(n) => *n as usize,
            };
            let place = &mut volume[offset as usize..offset as usize + n];
            match part {
                Part::Bytes(bytes) => place.copy_from_slice(&bytes),
                Part::Zeros(_) => place.fill(0),
            }
            next[lane] += n as u64;
            n_turns += usize::from(lane != before);
            before = lane;
            Ok::<_, ReadError>(())
        })
        .unwrap();
    assert!(volume == bytes);
    assert_eq!(next, lanes.ranges().map(|range| range.end).collect::<Vec<_>>());
    assert!(n_turns > next.len(), "{n_turns} turns: one lane after the other");
}

/// Short holes are everywhere in a file system; what lies around one is mostly in one group.
#[test]
fn holes_in_a_group_do_not_have_it_read_again() {
    let luck = SeededLuck::from_env_or(5);
    let mut bytes = luck.bytes(4_096 * RECORD);
    for (index, record) in bytes.chunks_mut(RECORD).enumerate() {
        if index % 5 == 4 || index % 200 > 160 {
            record.fill(0);
        }
    }
    let disk = Disk::new(luck.seed());
    let content = stored(&disk, &luck, &bytes);
    let (mut n_zeros, mut volume) = (0_u64, Vec::new());
    let before = disk.n_reads();
    content
        .in_order(&mut |part| {
            match part {
                Part::Bytes(bytes) => volume.extend_from_slice(&bytes),
                Part::Zeros(n) => {
                    n_zeros += n;
                    volume.resize(volume.len() + n as usize, 0);
                }
            }
            Ok::<_, ReadError>(())
        })
        .unwrap();
    assert!(volume == bytes);
    let n_groups = list_of(&bytes).iter().filter(|entry| entry.key != Key::ZERO).count() / 16;
    // Header, table and payload of each, those at the ends of windows twice; pages of the list.
    let n_reads = disk.n_reads() - before;
    assert!(n_reads < n_groups as u64 * 7 / 2, "{n_reads} reads for {n_groups} groups");
    // The long holes alone: a short one is not worth a piece.
    assert_eq!(n_zeros, 20 * 39 * RECORD as u64);
}

/// What changed on one day shares groups, wherever in the volume it stands.
#[test]
fn a_group_of_records_from_everywhere_is_decoded_once() {
    let luck = SeededLuck::from_env_or(8);
    // Three windows, and every group has records in all of them.
    let bytes = luck.bytes(3_072 * RECORD);
    let disk = Disk::new(luck.seed());
    let content = stored_with_step(&disk, &luck, &bytes, 3_072 / 16);
    // Two that read at the same time may want the same group at the same time.
    let content = Content { n_threads: 1, ..content };
    let before = disk.n_reads();
    assert!(read_back(&content).unwrap() == bytes);
    let (n_groups, n_reads) = (3_072 / 16, disk.n_reads() - before);
    // Header, table and payload of each; pages of the list and of the index.
    assert!(n_reads < n_groups * 3 + 50, "{n_reads} reads for {n_groups} groups");
}

#[test]
fn damage_ends_the_reading() {
    let luck = SeededLuck::from_env_or(2);
    let disk = Disk::new(luck.seed());
    let content = stored(&disk, &luck, &volume(&luck, 4_000));
    let (path, n) = disk.paths().into_iter().max_by_key(|(_, bytes)| *bytes).unwrap();
    disk.edit(&path, |bytes| bytes[n as usize / 2] ^= 1);
    let read = read_back(&content);
    assert!(matches!(read, Err(ReadError::Store(_))), "{:?}", read.map(|bytes| bytes.len()));
}

#[test]
fn a_sink_that_has_enough_is_asked_no_more() {
    let luck = SeededLuck::from_env_or(3);
    let content = stored(&Disk::new(luck.seed()), &luck, &volume(&luck, 9_000));
    let mut n_asked = 0;
    let read = content.in_order(&mut |_| {
        n_asked += 1;
        Err(ReadError::Lost)
    });
    assert!(matches!(read, Err(ReadError::Lost)));
    assert_eq!(n_asked, 1);
}
