//! D-06: bytes that rot, files that are exchanged or cut. Everything is found, nothing wrong is
//! served, nothing panics.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use offsite_model::Luck;
use offsite_testkit::disk::Disk;

use super::crash::prepared;
use super::scene::*;
use crate::format::{GroupHead, RecordRow};
use crate::group::{CheckedGroup, Form};
use crate::{Alarm, Damage, Store};

/// A store with a few more points, so that there are several files of each sort.
fn well_filled() -> (Disk, Model) {
    let (disk, mut model) = prepared();
    let store = open(&disk).unwrap();
    let dice = Dice::new(3);
    let mut before = (2, model[&2].volumes.clone());
    for number in 10..14 {
        let volumes: Volumes =
            before.1.iter().map(|(n, bytes)| (*n, next_version(&dice, bytes))).collect();
        protect(&store, 1, number, &volumes, Some((before.0, &before.1))).unwrap();
        let expected = Expected { tenant: 1, volumes: volumes.clone(), is_deleted: false };
        model.insert(number, expected);
        before = (number, volumes);
    }
    drop(store);
    (disk, model)
}

fn files_in(disk: &Disk, folder: &str) -> Vec<(PathBuf, u64)> {
    let paths = disk.paths().into_iter();
    paths.filter(|(path, bytes)| path.starts_with(folder) && *bytes > 0).collect()
}

/// Damages a file in one of five ways; whether anything changed.
fn spoil(disk: &Disk, dice: &Dice, folder: &str) -> bool {
    let files = files_in(disk, folder);
    let (path, bytes) = files[dice.below(files.len() as u64) as usize].clone();
    let at = dice.below(bytes) as usize;
    let mut is_changed = true;
    match dice.below(5) {
        0 => disk.edit(&path, |content| content[at] ^= 1 << dice.below(8)),
        1 => disk.edit(&path, |content| content.truncate(at)),
        2 => disk.edit(&path, |content| {
            let end = content.len().min(at + 64);
            is_changed = content[at..end].iter().any(|byte| *byte != 0);
            content[at..end].fill(0);
        }),
        3 => disk.edit(&path, |content| {
            let (from, to) = (at / 512 * 512, dice.below(bytes) as usize / 512 * 512);
            let block = content[from..content.len().min(from + 512)].to_vec();
            let end = content.len().min(to + block.len());
            is_changed = content[to..end] != block[..end - to];
            content[to..end].copy_from_slice(&block[..end - to]);
        }),
        _ => {
            let mut others = files.iter().filter(|(other, n)| *n == bytes && *other != path);
            match others.next_back() {
                Some((other, _)) => disk.swap(&path, other),
                None => disk.edit(&path, |content| content[at] ^= 0x80),
            }
        }
    }
    is_changed
}

/// Restores everything: the numbers of the points that fail. Wrong bytes end the test.
fn failing_points(store: &Store, model: &Model) -> BTreeSet<u64> {
    let mut failing = BTreeSet::new();
    for (number, expected) in model {
        for (volume, bytes) in &expected.volumes {
            match restore(store, expected.tenant, *number, *volume) {
                Ok(restored) => assert!(restored == *bytes, "wrong bytes of point {number}"),
                Err(_) => drop(failing.insert(*number)),
            }
        }
    }
    failing
}

fn spoil_and_look(base: &Disk, model: &Model, folder: &str, seed: u64) -> Option<Vec<Damage>> {
    let disk = base.fork(seed);
    let dice = Dice::new(seed);
    if !spoil(&disk, &dice, folder) {
        return None;
    }
    // Refusing to open with an error is finding it, too.
    let Ok(store) = open(&disk) else { return Some(Vec::new()) };
    let failing = failing_points(&store, model);
    let report = store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap();
    let is_found = !report.damage.is_empty() || !store.alarms().is_empty();
    // The journal's last entry is in the catalog, too: a torn tail is mended without a word.
    let journal = |disk: &Disk| disk.files().read(Path::new("/store/journal"), 1 << 20).unwrap();
    let is_mended = folder == "/store/journal" && journal(&disk) == journal(base);
    assert!(is_found || is_mended, "{folder}, seed {seed}: not found");
    let named: BTreeSet<u64> = report
        .damage
        .iter()
        .flat_map(|damage| &damage.points)
        .map(|(_, point)| u128::from_be_bytes(point.to_bytes()) as u64)
        .collect();
    assert_eq!(named, failing, "{folder}, seed {seed}: {:?}", report.damage);
    Some(report.damage)
}

#[test]
fn d_06_damage_to_segments_and_manifests_is_found_and_named() {
    let (base, model) = well_filled();
    let mut n_hurt = 0;
    for seed in 0..150 {
        for folder in ["/store/segments", "/store/manifests"] {
            let found = spoil_and_look(&base, &model, folder, seed);
            let hurts = |damage: &Damage| !damage.points.is_empty();
            n_hurt += u32::from(found.is_some_and(|found| found.iter().any(hurts)));
        }
    }
    assert!(n_hurt > 100, "{n_hurt}: damage that hurts nobody shows nothing");
}

#[test]
fn d_06_damage_to_runs_and_journal_is_found_and_hurts_no_point() {
    let (base, model) = well_filled();
    assert!(!files_in(&base, "/store/runs").is_empty());
    for seed in 0..60 {
        for folder in ["/store/runs", "/store/journal"] {
            let found = spoil_and_look(&base, &model, folder, seed);
            let hurts = |damage: &Damage| !damage.points.is_empty();
            assert!(!found.is_some_and(|found| found.iter().any(hurts)), "{folder} {seed}");
        }
    }
}

#[test]
fn d_06_damage_to_the_root_file_is_refused() {
    let (base, _) = well_filled();
    for seed in 0..64 {
        let disk = base.fork(seed);
        disk.edit(Path::new("/store/store"), |bytes| bytes[seed as usize] ^= 1);
        assert!(open(&disk).is_err(), "byte {seed}");
    }
}

#[test]
fn d_06_damage_to_the_catalog_serves_nothing_wrong() {
    let (base, model) = well_filled();
    let mut n_refused = 0;
    for seed in 0..150 {
        let disk = base.fork(seed);
        spoil(&disk, &Dice::new(seed), "/store/catalog");
        match open(&disk) {
            // Free pages are under no checksum and mean nothing.
            Ok(store) => assert_eq!(failing_points(&store, &model), BTreeSet::new()),
            Err(_) => n_refused += 1,
        }
    }
    assert!(n_refused > 30, "{n_refused}");
}

#[test]
fn d_06_bytes_that_agree_with_their_own_checksums_are_still_compared_with_their_keys() {
    let (base, model) = well_filled();
    let disk = base.fork(1);
    let number = |content: &[u8], at: usize| {
        u32::from_le_bytes(content[at..at + 4].try_into().unwrap()) as usize
    };
    let mut n_spoiled = 0;
    for (path, _) in files_in(&base, "/store/segments") {
        disk.edit(&path, |content| {
            // The first group whose payload is its records; both checksums are made good again.
            let mut head = 64;
            while content[head..].starts_with(b"OFGR") {
                let payload = head + 64 + 36 * number(content, head + 8);
                let end = payload + number(content, head + 16);
                if content[head + 5] == 0 {
                    content[payload] ^= 1;
                    let sum = crate::format::crc(&[&content[payload..end]]).to_le_bytes();
                    content[head + 28..head + 32].copy_from_slice(&sum);
                    let parts = [&content[head..head + 60], &content[head + 64..payload]];
                    let sum = crate::format::crc(&parts).to_le_bytes();
                    content[head + 60..head + 64].copy_from_slice(&sum);
                    n_spoiled += 1;
                    break;
                }
                head = end.next_multiple_of(16);
            }
        });
    }
    assert!(n_spoiled > 0);
    let store = open(&disk).unwrap();
    assert!(!failing_points(&store, &model).is_empty());
    assert!(!store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap().damage.is_empty());
}

#[test]
fn d_06_missing_files_are_named() {
    let (base, model) = well_filled();
    for folder in ["/store/segments", "/store/manifests"] {
        let disk = base.fork(1);
        let (path, _) = files_in(&disk, folder)[0].clone();
        disk.files().remove(&path).unwrap();
        let store = open(&disk).unwrap();
        let failing = failing_points(&store, &model);
        assert!(failing.contains(&1), "{failing:?}");
        assert!(!store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap().damage.is_empty());
    }
    let disk = base.fork(1);
    disk.files().remove(Path::new("/store/journal")).unwrap();
    let store = open(&disk).unwrap();
    assert_eq!(store.alarms(), [Alarm::JournalDamaged]);
    check(&store, &model, None);
}

#[test]
fn a_catalog_that_lost_its_last_commits_gets_them_back_from_the_journal() {
    let (base, mut model) = prepared();
    let old_catalog = base.files().read(Path::new("/store/catalog"), 1 << 30).unwrap();
    let store = open(&base).unwrap();
    let volumes = Volumes::from([(1, fresh_volume(&Dice::new(1), 3))]);
    protect(&store, 1, 70, &volumes, None).unwrap();
    protect(&store, 2, 71, &volumes, None).unwrap();
    drop(store);
    base.edit(Path::new("/store/catalog"), |bytes| *bytes = old_catalog);
    let store = open(&base).unwrap();
    assert_eq!(store.alarms(), [Alarm::CommitsRestored { n_entries: 2 }]);
    for (number, tenant) in [(70, 1), (71, 2)] {
        let expected = Expected { tenant, volumes: volumes.clone(), is_deleted: false };
        model.insert(number, expected);
    }
    check(&store, &model, None);
    assert_eq!(store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap().damage, []);
    // And the chain goes on.
    protect(&store, 1, 72, &volumes, None).unwrap();
    drop(store);
    assert_eq!(open(&base).unwrap().alarms(), []);
}

#[test]
fn d_19_a_file_cut_under_a_reader_is_an_error() {
    let (base, model) = prepared();
    for seed in 0..20 {
        let disk = base.fork(seed);
        let store = open(&disk).unwrap();
        let dice = Dice::new(seed);
        for folder in ["/store/segments", "/store/manifests", "/store/runs"] {
            for (path, bytes) in files_in(&disk, folder) {
                disk.edit(&path, |content| content.truncate(dice.below(bytes) as usize));
            }
        }
        assert!(!failing_points(&store, &model).is_empty());
    }
}

/// Flips the first byte of every group's payload, in every segment; how many groups.
fn damage_every_group(disk: &Disk, store: &Store) -> usize {
    let core = &store.core;
    let segments: Vec<_> = core.segments.read().unwrap().values().cloned().collect();
    let mut n_groups = 0;
    for segment in segments {
        let contents = segment.contents(&core.place).unwrap();
        let path = core.place.file(crate::layout::Folder::Segments, segment.number);
        n_groups += contents.groups.len();
        disk.edit(&path, |bytes| {
            for at in contents.groups {
                let of_group = contents.records.iter().filter(|(_, _, place)| place.place == at);
                let table = of_group.count() * size_of::<RecordRow>();
                bytes[at as usize * 16 + size_of::<GroupHead>() + table] ^= 1;
            }
        });
    }
    n_groups
}

#[test]
fn b_07_what_is_damaged_is_missing_until_a_good_copy_comes() {
    for seed in 0..20 {
        let disk = Disk::new(seed);
        let store = new_store(&disk);
        let dice = Dice::new(seed);
        let mut model = Model::new();
        let mut volumes = Volumes::from([(1, fresh_volume(&dice, 12))]);
        let mut before = None;
        for number in 1..=3 {
            let parent = before.as_ref().map(|(number, volumes)| (*number, volumes));
            protect(&store, 1, number, &volumes, parent).unwrap();
            let expected = Expected { tenant: 1, volumes: volumes.clone(), is_deleted: false };
            model.insert(number, expected);
            let next = Volumes::from([(1, next_version(&dice, &volumes[&1]))]);
            before = Some((number, std::mem::replace(&mut volumes, next)));
        }
        let n_groups = damage_every_group(&disk, &store);
        let report = store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap();
        assert_eq!(report.damage.len(), n_groups, "seed {seed}: {:?}", report.damage);
        assert!(store.has_damage(tenant(1)) && !store.has_damage(tenant(2)), "seed {seed}");
        let missing = |store: &Store, number: u64| {
            let (point, parent) = (point(number), (number > 1).then(|| point(number - 1)));
            let mut missing = Vec::new();
            let mut tell = |ordinal, entry| missing.push((ordinal, entry));
            store.missing(tenant(1), point, volume(1), parent, &mut tell).unwrap();
            missing
        };
        // It stays missing through a restart, and nobody is told "have".
        drop(store);
        let store = open(&disk).unwrap();
        assert!(store.has_damage(tenant(1)), "seed {seed}");
        let lost: Vec<Vec<_>> = (1..=3).map(|number| missing(&store, number)).collect();
        assert!(!lost[0].is_empty(), "seed {seed}");
        for (_, entry) in lost.iter().flatten() {
            assert_eq!(store.find(tenant(1), Form::Plain, &entry.key).unwrap(), None);
        }
        // A good copy of each, from what the machine still has.
        let mut session = store.session(tenant(1)).unwrap();
        for (number, lost) in (1..=3).zip(&lost) {
            for (_, entry) in lost {
                let bytes = &model[&number].volumes[&1];
                let record = &bytes[entry.offset as usize..][..entry.length as usize];
                let group = CheckedGroup::encode(Form::Plain, &[(entry.key, record)], 1).unwrap();
                session.append(&group).unwrap();
            }
        }
        session.keep().unwrap();
        drop(session);
        check(&store, &model, None);
        drop(store);
        let store = open(&disk).unwrap();
        assert!((1..=3).all(|number| missing(&store, number).is_empty()), "seed {seed}");
        check(&store, &model, None);
        assert_eq!(
            store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap().damage,
            [],
            "seed {seed}"
        );
        // Runs that were written and merged since must not lead to the damaged copy.
        for number in 4..=9 {
            let volumes = Volumes::from([(1, fresh_volume(&dice, 9))]);
            protect(&store, 1, number, &volumes, None).unwrap();
            model.insert(number, Expected { tenant: 1, volumes, is_deleted: false });
        }
        check(&store, &model, None);
    }
}
