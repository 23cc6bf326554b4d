//! D-08: a scrub finds what rots, puts it aside, hurts nobody meanwhile, and goes on where it
//! stopped.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;

use offsite_model::{Key, Luck, Span, Timestamp};
use offsite_testkit::disk::Disk;

use super::collect::{check_whole, collect};
use super::scene::*;
use crate::group::{CheckedGroup, Form};
use crate::{ScrubPass, Store, StoreError};

const CORRUPTIONS: usize = 20;

fn scrub(store: &Store) -> ScrubPass {
    store.scrub(&|| Timestamp::from_secs(50), &mut |_| ControlFlow::Continue(())).unwrap()
}

fn filled() -> (Disk, Store, Model) {
    let disk = Disk::new(1);
    drop(new_store(&disk));
    let store = open_with(&disk, TINY).unwrap();
    let mut model = Model::new();
    for number in 1..=12 {
        let owner = 1 + (number % 2) as u8;
        let volumes = Volumes::from([(1, Dice::new(number).noise(12 * RECORD))]);
        protect(&store, owner, number, &volumes, None).unwrap();
        model.insert(number, Expected { tenant: owner, volumes, is_deleted: false });
    }
    (disk, store, model)
}

/// Rots one byte of the payload of the group of a record.
fn rot(disk: &Disk, store: &Store, owner: u8, record: &[u8]) {
    let place = store.find(tenant(owner), Form::Plain, &Key::of(record)).unwrap().unwrap();
    let path = PathBuf::from(format!("/store/segments/{:08x}", place.segment));
    // Behind the head and the table of any group here.
    disk.edit(&path, |bytes| bytes[place.place as usize * 16 + 64 + 3 * 36 + 700] ^= 4);
}

/// Brings good copies of everything a point shows.
fn heal(store: &Store, expected: &Expected) {
    let mut session = store.session(tenant(expected.tenant)).unwrap();
    for bytes in expected.volumes.values() {
        for record in bytes.chunks(RECORD) {
            let group = CheckedGroup::encode(Form::Plain, &[(Key::of(record), record)], 1).unwrap();
            session.append(&group).unwrap();
        }
    }
    session.keep().unwrap();
}

#[test]
fn d_08_twenty_corruptions_are_found_in_one_pass_and_healed_and_the_others_read_throughout() {
    for seed in 0..8 {
        let (disk, store, model) = filled();
        let dice = Dice::new(seed);
        // Twenty groups of six of the points; a group has three records.
        let mut groups: BTreeSet<(u64, usize)> = BTreeSet::new();
        while groups.len() < CORRUPTIONS {
            groups.insert((1 + dice.below(6), dice.below(4) as usize));
        }
        let mut hurt = BTreeSet::new();
        for &(number, group) in &groups {
            let Expected { tenant: owner, volumes, .. } = &model[&number];
            rot(&disk, &store, *owner, &volumes[&1][group * 3 * RECORD..][..RECORD]);
            hurt.insert(number);
        }
        // Whoever reads another point meanwhile reads it.
        let mut n_read = 0;
        let mut progress = |_: &crate::ScrubProgress| {
            n_read += 1;
            if n_read % 9 == 0 {
                let number = 7 + n_read / 9 % 6;
                let Expected { tenant: owner, volumes, .. } = &model[&number];
                let restored = restore(&store, *owner, number, 1).unwrap();
                assert!(restored == volumes[&1], "seed {seed}: point {number}");
            }
            ControlFlow::Continue(())
        };
        let pass = store.scrub(&|| Timestamp::from_secs(50), &mut progress).unwrap();
        assert_eq!(pass.n_damaged, CORRUPTIONS as u64, "seed {seed}: {pass:?}");
        let named: BTreeSet<u64> = pass
            .damage
            .iter()
            .flat_map(|damage| &damage.points)
            .map(|(_, point)| u128::from_be_bytes(point.to_bytes()) as u64)
            .collect();
        assert_eq!(named, hurt, "seed {seed}");
        assert_eq!(store.scrub_state().unwrap().last, Some(pass));
        for (number, expected) in &model {
            let restored = restore(&store, expected.tenant, *number, 1);
            assert_eq!(restored.is_ok(), !hurt.contains(number), "seed {seed}: point {number}");
        }
        for number in hurt {
            heal(&store, &model[&number]);
        }
        assert_eq!(scrub(&store).damage, [], "seed {seed}: healed and still told");
        check(&store, &model, None);
    }
}

#[test]
fn d_08_pages_runs_and_the_journal_are_read_too() {
    for folder in ["/store/manifests", "/store/runs", "/store/journal"] {
        let (disk, store, _) = filled();
        let files = disk.paths().into_iter().filter(|(path, _)| path.starts_with(folder));
        let (path, bytes) = files.max().unwrap();
        disk.edit(&path, |content| content[bytes as usize / 2] ^= 1);
        let pass = scrub(&store);
        assert!(pass.n_damaged > 0, "{folder}: {pass:?}");
        let hurts = pass.damage.iter().any(|damage| !damage.points.is_empty());
        assert_eq!(hurts, folder == "/store/manifests", "{pass:?}");
    }
}

#[test]
fn d_08_a_pass_that_is_stopped_anywhere_goes_on_where_it_was() {
    let (disk, store, model) = filled();
    rot(&disk, &store, 2, &model[&1].volumes[&1][..RECORD]);
    let in_all = scrub(&store);
    let (mut store, mut n_calls, mut n_stops) = (store, 0_u64, 0);
    let pass = loop {
        let mut left = 7;
        let mut progress = |_: &crate::ScrubProgress| {
            n_calls += 1;
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        match store.scrub(&|| Timestamp::from_secs(50), &mut progress) {
            Ok(pass) => break pass,
            Err(StoreError::Interrupted) => n_stops += 1,
            Err(error) => panic!("{error}"),
        }
        let running = store.scrub_state().unwrap().running.unwrap();
        assert_eq!(running.began_at, Timestamp::from_secs(50));
        if n_stops % 3 == 0 {
            drop(store);
            disk.power_cut();
            store = open_with(&disk, TINY).unwrap();
        }
        assert!(n_stops < 400, "it never ends");
    };
    assert!(n_stops > 10, "{n_stops}");
    // Each segment and each point was read once, and what was known before is not told as new.
    assert_eq!((pass.n_segments, pass.n_points), (in_all.n_segments, in_all.n_points));
    assert_eq!((pass.bytes, pass.n_groups), (in_all.bytes, in_all.n_groups));
    assert_eq!(pass.damage, in_all.damage);
    assert!(n_calls < 3 * 200, "{n_calls}");
}

#[test]
fn d_08_what_was_healed_is_emptied_into_quarantine_and_lies_there_for_its_time() {
    let (disk, store, model) = filled();
    let bytes = &model[&1].volumes[&1];
    let place = store.find(tenant(2), Form::Plain, &Key::of(&bytes[..RECORD])).unwrap().unwrap();
    rot(&disk, &store, 2, &bytes[..RECORD]);
    let name = format!("{:08x}", place.segment);
    let is_in = |folder: &str| {
        disk.files().metadata(&PathBuf::from(format!("/store/{folder}/{name}"))).is_ok()
    };
    scrub(&store);
    // Not healed: it stays where it is, and everything else is collected.
    let report = collect(&store).unwrap();
    assert_eq!(report.kept[&crate::Kept::PutAside].0, 1, "{report:?}");
    assert!(is_in("segments") && !is_in("quarantine"));
    heal(&store, &model[&1]);
    let report = collect(&store).unwrap();
    assert!(report.bytes_quarantined > 0, "{report:?}");
    assert!(!is_in("segments") && is_in("quarantine"), "deleted, or left");
    let day = Span::from_hours(24);
    let at = |hours: i64| Timestamp::from_secs(hours * 3_600);
    assert_eq!(store.clear_quarantine(at(100), day).unwrap().n_segments, 1);
    // Time that runs backwards, and a restart, bring its end no nearer.
    assert_eq!(store.clear_quarantine(at(1), day).unwrap().n_removed, 0);
    drop(store);
    let store = open_with(&disk, TINY).unwrap();
    assert_eq!(store.clear_quarantine(at(123), day).unwrap().n_removed, 0);
    assert!(is_in("quarantine"));
    assert_eq!(store.clear_quarantine(at(124), day).unwrap().n_removed, 1);
    assert!(!is_in("quarantine"));
    check_whole(&store, &model);
}

#[test]
fn d_08_a_crash_between_row_and_rename_deletes_nothing_that_is_damaged() {
    let (disk, store, model) = filled();
    let bytes = &model[&1].volumes[&1];
    let place = store.find(tenant(2), Form::Plain, &Key::of(&bytes[..RECORD])).unwrap().unwrap();
    rot(&disk, &store, 2, &bytes[..RECORD]);
    scrub(&store);
    heal(&store, &model[&1]);
    // A reader keeps the file until the store is closed without an end.
    let reading = store.reading();
    let report = collect(&store).unwrap();
    assert!(report.bytes_waiting > 0, "{report:?}");
    disk.power_cut();
    drop((reading, store));
    let store = open_with(&disk, TINY).unwrap();
    let path = PathBuf::from(format!("/store/quarantine/{:08x}", place.segment));
    assert!(disk.files().metadata(&path).is_ok(), "a damaged segment was deleted");
    assert!(!store.has_damage(tenant(2)));
    check_whole(&store, &model);
}
