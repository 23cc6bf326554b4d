//! Protecting and restoring on a simulated disk: every byte comes back, and the list is the one
//! that was read.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use offsite_content::Part;
use offsite_model::{
    AgentId, Digest, FileSystem, Key, ListDigest, Luck, OpenMode, Span, TenantId, Timestamp,
    VolumeId,
};
use offsite_proto::admin::protection::Protected;
use offsite_store::{Settings as StoreSettings, Store};
use offsite_testkit::disk::Disk;
use offsite_testkit::{SeededLuck, SimClock};

use crate::error::Trouble;
use crate::hooks::Runner;
use crate::memory::{AgentRow, HooksRow, Memory, VolumeRow};
use crate::origin::Origin;
use crate::points;
use crate::progress::Progress;
use crate::protect::{Protection, Settings};
use crate::restore;

pub(super) const RECORD: usize = 4 << 10;

/// Programs that do what the test says.
#[derive(Default)]
pub(super) struct Scripted {
    pub(super) ran: Mutex<Vec<String>>,
    pub(super) failing: Mutex<Vec<&'static str>>,
}

impl Runner for Scripted {
    fn run(&self, program: &Path, variables: &[(&str, &str)], _: Span) -> Result<(), String> {
        let name = program.display().to_string();
        let value = |wanted: &str| {
            variables
                .iter()
                .find(|(name, _)| *name == wanted)
                .map_or("", |(_, value)| value)
                .to_owned()
        };
        let result = value("OFFSITE_RESULT");
        self.ran.lock().unwrap().push(format!("{name} {} {result}", value("OFFSITE_HOOK")));
        let is_failing = self.failing.lock().unwrap().contains(&name.as_str());
        if is_failing { Err("ended with status 1".to_owned()) } else { Ok(()) }
    }
}

/// A store on `disk`, volumes on the same one.
pub(super) fn protection(disk: &Disk) -> Protection {
    protection_of(disk, disk.files(), Arc::new(Scripted::default()))
}

pub(super) fn protection_of(
    disk: &Disk,
    volumes: Arc<dyn FileSystem>,
    runner: Arc<dyn Runner>,
) -> Protection {
    let luck = Arc::new(SeededLuck::new(9));
    let place = Path::new("/store");
    let settings = StoreSettings { reserve_bytes: 0, ..StoreSettings::default() };
    let store = match disk.files().metadata(place) {
        Ok(_) => Store::open(disk.files(), place, settings),
        Err(_) => Store::create(disk.files(), place, &*luck, settings),
    };
    let settings = Settings { record_bytes: RECORD as u32, n_workers: 2, ..Settings::shipped(2) };
    Protection {
        store: store.unwrap(),
        tenant: TenantId::from_bytes([4; 16]),
        files: volumes,
        clock: Arc::new(SimClock::new()),
        luck,
        runner,
        settings,
        busy: Mutex::default(),
        turn: Mutex::default(),
    }
}

/// An agent with these volumes.
pub(super) fn agent(paths: &[&str]) -> AgentRow {
    let volumes = paths.iter().zip(1..).map(|(path, number)| {
        VolumeRow::new(
            VolumeId::from_bytes([number; 16]),
            path[1..].to_owned(),
            (*path).to_owned(),
            0,
        )
    });
    AgentRow::new(
        AgentId::from_bytes([1; 16]),
        "web".to_owned(),
        volumes.collect(),
        Timestamp::from_secs(1),
    )
}

pub(super) fn write(disk: &Disk, path: &str, bytes: &[u8]) {
    let (files, path) = (disk.files(), Path::new(path));
    if files.metadata(path).is_ok() {
        files.remove(path).unwrap();
    }
    let file = files.open(path, OpenMode::CreateNew).unwrap();
    file.set_bytes(bytes.len() as u64).unwrap();
    // Zeros stay holes, so that holes and zeros that are read both occur.
    for (index, piece) in bytes.chunks(3 * RECORD).enumerate() {
        if index % 3 == 0 || piece.iter().any(|byte| *byte != 0) {
            file.write_all_at(piece, (index * 3 * RECORD) as u64).unwrap();
        }
    }
}

pub(super) fn make(protection: &Protection, agent: &AgentRow) -> Result<Protected, Trouble> {
    protection.protect(agent, None, &Progress::default())
}

pub(super) fn make_with(
    protection: &Protection,
    agent: &AgentRow,
    hooks: &HooksRow,
) -> Result<Protected, Trouble> {
    protection.protect(agent, Some(hooks), &Progress::default())
}

pub(super) fn memory() -> Memory {
    Memory::new(Arc::new(offsite_store::catalog::MemoryCatalog::new()))
}

pub(super) fn n_points(protection: &Protection, agent: &AgentRow) -> usize {
    points::all(&protection.store, protection.tenant, agent.agent_id()).unwrap().len()
}

pub(super) fn read_back(
    protection: &Protection,
    label: &str,
    point: Option<&str>,
) -> Result<Vec<u8>, Trouble> {
    let agent = AgentId::from_bytes([1; 16]).to_string();
    let content = restore::open(protection, &memory(), &agent, label, point)?.content;
    let mut volume = Vec::new();
    content.in_order(&mut |part| {
        match part {
            Part::Bytes(bytes) => volume.extend_from_slice(&bytes),
            Part::Zeros(n) => volume.resize(volume.len() + n as usize, 0),
        }
        Ok::<_, Trouble>(())
    })?;
    assert_eq!(volume.len() as u64, content.bytes());
    Ok(volume)
}

/// Bytes with zeros, repetitions, text and noise in records and parts of records.
pub(super) fn content(luck: &SeededLuck, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    for piece in content.chunks_mut(RECORD) {
        match luck.below(5) {
            0 => luck.fill(piece),
            1 => piece.fill(b'a' + luck.below(3) as u8),
            2 => piece.iter_mut().step_by(97).for_each(|byte| *byte = luck.below(256) as u8),
            _ => {}
        }
    }
    content
}

/// Changes a volume as a machine does: some records written, some emptied, perhaps resized.
fn next_version(luck: &SeededLuck, mut volume: Vec<u8>) -> Vec<u8> {
    match luck.below(4) {
        0 => volume.truncate(luck.below(volume.len() as u64 + 1) as usize),
        1 => volume.resize(volume.len() + luck.below(20_000) as usize, luck.below(2) as u8),
        _ => {}
    }
    let n_records = volume.len().div_ceil(RECORD) as u64;
    for _ in 0..luck.below(6) {
        let record = luck.below(n_records) as usize;
        if let Some(piece) = volume.chunks_mut(RECORD).nth(record) {
            if luck.below(2) == 0 { piece.fill(0) } else { luck.fill(piece) }
        }
    }
    volume
}

/// The `imageDigest` by the words of the protocol, without any code of the product's.
fn image_digest(volume: &[u8], parent: Option<&[u8]>) -> Digest {
    let records = |volume: &[u8]| volume.chunks(RECORD).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let before = parent.map(records);
    let is_same_size = parent.is_some_and(|parent| parent.len() == volume.len());
    let n_inherited = parent.map_or(0, |parent| parent.len().min(volume.len()) / RECORD);
    let (mut digest, mut run) = (ListDigest::new(), None::<(usize, usize)>);
    let end_run = |digest: &mut ListDigest, run: &mut Option<(usize, usize)>| {
        if let Some((start, length)) = run.take() {
            digest.entry(start as u64, length as u32, &Key::ZERO);
        }
    };
    for (index, record) in records(volume).iter().enumerate() {
        let is_inherited = is_same_size || index < n_inherited;
        let old = before.as_ref().filter(|_| is_inherited).and_then(|before| before.get(index));
        if old == Some(record) {
            continue;
        }
        let offset = index * RECORD;
        if record.iter().all(|byte| *byte == 0) {
            match &mut run {
                Some((start, length)) if *start + *length == offset => *length += record.len(),
                _ => {
                    end_run(&mut digest, &mut run);
                    run = Some((offset, record.len()));
                }
            }
            continue;
        }
        end_run(&mut digest, &mut run);
        digest.entry(offset as u64, record.len() as u32, &Key::of(record));
    }
    end_run(&mut digest, &mut run);
    digest.finish()
}

#[test]
fn d_20_every_version_of_every_volume_comes_back() {
    for seed in 0..25 {
        let luck = SeededLuck::new(seed);
        let disk = Disk::new(seed);
        let protection = protection(&disk);
        let agent = agent(&["/a", "/b"]);
        let mut volumes = [0, 1].map(|_| {
            let bytes = luck.below(120 * RECORD as u64) as usize;
            content(&luck, bytes)
        });
        let mut made = Vec::new();
        for _ in 0..4 {
            write(&disk, "/a", &volumes[0]);
            write(&disk, "/b", &volumes[1]);
            let point = make(&protection, &agent).unwrap().point.to_string();
            made.push((point, volumes.clone()));
            volumes = volumes.map(|volume| next_version(&luck, volume));
        }
        for (point, volumes) in &made {
            for (label, volume) in ["a", "b"].iter().zip(volumes) {
                let back = read_back(&protection, label, Some(point)).unwrap();
                assert!(back == *volume, "seed {seed}, point {point}, volume {label}");
            }
        }
        assert!(
            protection
                .store
                .verify(&mut |_, _| ControlFlow::Continue(()))
                .unwrap()
                .damage
                .is_empty()
        );
    }
}

#[test]
fn d_16_the_list_is_that_of_the_protocol() {
    for seed in 0..200 {
        let luck = SeededLuck::new(1_000 + seed);
        let disk = Disk::new(seed);
        let protection = protection(&disk);
        let agent = agent(&["/a"]);
        let first = content(&luck, luck.below(40 * RECORD as u64) as usize);
        let second = next_version(&luck, first.clone());
        let mut parent = None;
        for volume in [&first, &second] {
            write(&disk, "/a", volume);
            make(&protection, &agent).unwrap();
            let kept = points::newest(&protection.store, protection.tenant, agent.agent_id());
            let shown = kept.unwrap().unwrap().view();
            let expected = image_digest(volume, parent);
            assert_eq!(shown.volumes[0].digest.0, expected, "seed {seed}");
            parent = Some(volume.as_slice());
        }
    }
}

/// Whatever of it was noted when the point was made, and whatever has gone since.
#[test]
fn d_16_an_image_is_announced_as_the_list_that_is_sent() {
    let mut n_kinds = [0_u32; 3];
    for seed in 0..100 {
        let luck = SeededLuck::new(2_000 + seed);
        let disk = Disk::new(seed);
        let (protection, memory) = (protection(&disk), memory());
        let (store, tenant) = (&protection.store, protection.tenant);
        let agent = agent(&["/a"]);
        let images = || crate::origin::images(store, tenant, &memory, agent.agent_id()).unwrap();
        let mut volume = content(&luck, 1 + luck.below(40 * RECORD as u64) as usize);
        for _ in 0..5 {
            write(&disk, "/a", &volume);
            make(&protection, &agent).unwrap();
            volume = next_version(&luck, volume);
            match luck.below(4) {
                0 => drop(images()),
                1 => {
                    let kept = points::all(store, tenant, agent.agent_id()).unwrap();
                    let any = &kept[luck.below(kept.len() as u64) as usize].point;
                    if any.deleted_at.is_none() {
                        points::delete(store, tenant, any.point, Timestamp::from_secs(9)).unwrap();
                    }
                }
                _ => {}
            }
        }
        let sizes: Vec<u64> = images().iter().map(|image| image.open.size_bytes.0).collect();
        for (index, image) in images().iter().enumerate() {
            let mut origin = Origin::new(store.clone(), tenant, image);
            let listed = origin.read(0, u64::MAX).unwrap();
            assert_eq!(listed.len() as u64, image.open.record_count.0, "seed {seed}");
            let mut digest = ListDigest::new();
            for entry in listed.iter().map(|listed| &listed.entry) {
                digest.entry(entry.offset(), entry.bytes(), &entry.key());
            }
            assert_eq!(digest.finish(), image.open.image_digest.0, "seed {seed}");
            let is_resized = index > 0 && sizes[index] != sizes[index - 1];
            n_kinds[if index == 0 { 0 } else { 1 + usize::from(is_resized) }] += 1;
        }
    }
    assert!(n_kinds.iter().all(|n| *n > 50), "{n_kinds:?}");
}

#[test]
fn a_note_that_would_be_too_long_leaves_its_lists_out() {
    let big = offsite_proto::text::Big(u64::MAX);
    let parent = Some(offsite_proto::text::Text(offsite_model::PointId::from_bytes([7; 16])));
    let list = points::ListNote { parent, entries: big };
    let note = |n_lists: usize| points::Note {
        agent: "web".to_owned(),
        sequence: 1,
        labels: vec!["a label".to_owned(); 256],
        new_bytes: big,
        stored_bytes: big,
        lists: vec![list.clone(); n_lists],
    };
    let read = |note: &points::Note| {
        let bytes = note.encode();
        assert!(bytes.len() <= offsite_store::NOTE_BYTES_MAX, "{} bytes", bytes.len());
        offsite_proto::json::from_slice::<points::Note>(&bytes).unwrap()
    };
    assert_eq!(read(&note(256)), note(256));
    assert_eq!(read(&note(2_000)), note(0));
}

#[test]
fn what_did_not_change_is_not_stored_again() {
    let disk = Disk::new(1);
    let protection = protection(&disk);
    let agent = agent(&["/a"]);
    let luck = SeededLuck::new(3);
    let mut volume = content(&luck, 300 * RECORD + 17);
    write(&disk, "/a", &volume);
    let first = make(&protection, &agent).unwrap();
    assert!(first.new_bytes.0 > 0 && first.stored_bytes.0 > 0);
    let again = make(&protection, &agent).unwrap();
    assert_eq!((again.new_bytes.0, again.stored_bytes.0), (0, 0), "{again:?}");
    luck.fill(&mut volume[5 * RECORD..6 * RECORD]);
    // A copy elsewhere is found by its key.
    volume.copy_within(5 * RECORD..6 * RECORD, 90 * RECORD);
    write(&disk, "/a", &volume);
    let changed = make(&protection, &agent).unwrap();
    assert_eq!(changed.new_bytes.0, RECORD as u64, "{changed:?}");
    assert!(read_back(&protection, "a", None).unwrap() == volume);
}

#[test]
fn a_volume_keeps_its_record_size_along_its_chain() {
    let disk = Disk::new(1);
    let mut protection = protection(&disk);
    let agent = agent(&["/a"]);
    let volume = content(&SeededLuck::new(5), 100 * RECORD);
    write(&disk, "/a", &volume);
    make(&protection, &agent).unwrap();
    protection.settings.record_bytes = 64 << 10;
    let again = make(&protection, &agent).unwrap();
    assert_eq!(again.new_bytes.0, 0, "other records would all be new");
    assert!(read_back(&protection, "a", None).unwrap() == volume);
}

#[test]
fn a_deleted_point_is_neither_listed_nor_built_upon() {
    let disk = Disk::new(1);
    let protection = protection(&disk);
    let agent = agent(&["/a"]);
    write(&disk, "/a", b"one");
    let first = make(&protection, &agent).unwrap();
    write(&disk, "/a", b"two");
    let second = make(&protection, &agent).unwrap();
    let (store, tenant) = (&protection.store, protection.tenant);
    let deleted = points::delete(store, tenant, second.point.0, Timestamp::from_secs(9)).unwrap();
    assert_eq!(deleted.state, "deleted");
    assert!(points::delete(store, tenant, second.point.0, Timestamp::from_secs(9)).is_err());
    let listed = points::list(store, tenant, &memory(), &agent.agent_id().to_string()).unwrap();
    assert_eq!(listed.iter().map(|point| point.id).collect::<Vec<_>>(), [first.point]);
    assert_eq!(read_back(&protection, "a", None).unwrap(), b"one", "latest is the one that stays");
    // The number of a deleted point is not used again, else `latest` could name an older one.
    write(&disk, "/a", b"three");
    make(&protection, &agent).unwrap();
    assert_eq!(read_back(&protection, "a", None).unwrap(), b"three");
}

#[test]
fn verify_ends_when_the_work_is_cancelled() {
    let disk = Disk::new(1);
    let protection = protection(&disk);
    write(&disk, "/a", &content(&SeededLuck::new(1), 50 * RECORD));
    make(&protection, &agent(&["/a"])).unwrap();
    let progress = Progress::default();
    assert_eq!(crate::verify::verify(&protection, &progress).unwrap().damaged, 0);
    progress.cancel();
    let trouble = crate::verify::verify(&protection, &progress).unwrap_err();
    assert_eq!(trouble.message, "interrupted before it was done");
}

#[test]
fn the_latest_point_of_a_volume_is_the_newest_that_has_it() {
    let disk = Disk::new(SeededLuck::from_env_or(1).next());
    write(&disk, "/root", &[1; 2 * RECORD]);
    write(&disk, "/boot", &[2; RECORD]);
    let protection = protection(&disk);
    let both = make(&protection, &agent(&["/root", "/boot"])).unwrap();
    let one = make(&protection, &agent(&["/root"])).unwrap();
    let (store, tenant, agent) = (&protection.store, protection.tenant, agent(&[]).agent_id());
    let latest = |volume: &str| {
        points::find(store, tenant, agent, volume, Some("latest")).unwrap().point.point
    };
    assert_eq!(latest("boot"), both.point.0);
    assert_eq!(latest("root"), one.point.0);
    // Where no point has it, the newest says what there is.
    assert_eq!(latest("data"), one.point.0);
    store.delete_point(tenant, both.point.0, Timestamp::from_secs(2)).unwrap();
    assert_eq!(latest("boot"), one.point.0);
}
