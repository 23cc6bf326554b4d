//! The order of a commit, repeats, batches, second openers, versions.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Barrier;

use offsite_model::{Luck, OpenMode};
use offsite_testkit::disk::{Call, Disk, Step};

use super::crash::prepared;
use super::scene::*;
use crate::format::FORMAT_VERSION;
use crate::{Store, StoreError};

/// Checks that the calls between the beginning of a protect and its answer stand in the order of
/// D-01; says what is wrong otherwise.
fn check_order(trace: &[Step]) -> Result<(), String> {
    let calls: Vec<&Call> = trace.iter().map(|step| &step.call).collect();
    let first = |what: &dyn Fn(&Call) -> bool| calls.iter().position(|call| what(call));
    let last = |what: &dyn Fn(&Call) -> bool| calls.iter().rposition(|call| what(call));
    let is_in = |path: &Path, part: &str| path.starts_with(part);
    let writes = |part: &'static str| move |call: &Call| matches!(call, Call::Write { path, .. } if is_in(path, part));
    let syncs = |part: &'static str| move |call: &Call| matches!(call, Call::Sync(path) if is_in(path, part));
    let exists = first(&writes("/store/catalog")).ok_or("the catalog was not written")?;
    let answered = first(&|call| matches!(call, Call::Mark(_))).ok_or("no answer")?;
    let before = |what: &str, a: Option<usize>, b: usize| match a {
        Some(a) if a < b => Ok(()),
        _ => Err(format!("{what} comes too late or not at all")),
    };
    for (at, call) in calls.iter().enumerate() {
        let (Call::Write { path, .. } | Call::Create(path)) = call else { continue };
        let synced = first(&|later| matches!(later, Call::Sync(p) if p == path));
        let synced_last = last(&|later| matches!(later, Call::Sync(p) if p == path));
        if is_in(path, "/store/segments") || is_in(path, "/store/manifests") {
            before("a write of groups or pages", Some(at), exists)?;
            before(&format!("sync of {}", path.display()), synced_last, exists)?;
            before("the write", Some(at), synced_last.unwrap_or(0))?;
        }
        if is_in(path, "/store/segments") && matches!(call, Call::Create(_)) {
            let listed = last(&|c| *c == Call::SyncDir(PathBuf::from("/store/segments")));
            before("sync of the segments' directory", listed, exists)?;
            before("creation", Some(at), listed.unwrap_or(0))?;
        }
        if is_in(path, "/store/manifests") && matches!(call, Call::Create(_)) {
            let renamed = first(&|c| matches!(c, Call::Rename(from, _) if from == path));
            before("sync of a manifest", synced, renamed.unwrap_or(0))?;
            before("rename of a manifest", renamed, exists)?;
            let listed = last(&|c| *c == Call::SyncDir(PathBuf::from("/store/manifests")));
            before("sync of the manifests' directory", listed, exists)?;
            before("rename", renamed, listed.unwrap_or(0))?;
            // Groups that a manifest refers to are durable before it has its name.
            if let Some(groups) = last(&syncs("/store/segments")) {
                before("sync of the groups", Some(groups), renamed.unwrap_or(0))?;
            }
        }
    }
    let journal = first(&writes("/store/journal")).ok_or("the journal was not written")?;
    let durable = last(&syncs("/store/catalog")).ok_or("the catalog was not synced")?;
    before("the end of the catalog's transaction", Some(durable), journal)?;
    before("the catalog's last write", last(&writes("/store/catalog")), durable)?;
    before("the journal's sync", last(&syncs("/store/journal")), answered)?;
    before("the journal's write", Some(journal), last(&syncs("/store/journal")).unwrap_or(0))
}

#[test]
fn d_01_every_commit_keeps_the_order() {
    let mut n_commits = 0;
    for seed in 0..50 {
        let disk = Disk::new(seed);
        let store = new_store(&disk);
        let dice = Dice::new(seed);
        let mut before: Option<(u64, Volumes)> = None;
        for number in 1..=4 {
            let volumes: Volumes = match &before {
                Some((_, volumes)) => {
                    volumes.iter().map(|(n, bytes)| (*n, next_version(&dice, bytes))).collect()
                }
                None => {
                    (1..=1 + dice.below(3) as u8).map(|n| (n, fresh_volume(&dice, 4))).collect()
                }
            };
            let parent = before.as_ref().map(|(number, volumes)| (*number, volumes));
            disk.start_trace();
            protect(&store, 1, number, &volumes, parent).unwrap();
            disk.mark("answered");
            let trace = disk.trace();
            if let Err(why) = check_order(&trace) {
                panic!("seed {seed}, commit {number}: {why}\n{trace:#?}");
            }
            before = Some((number, volumes));
            n_commits += 1;
        }
    }
    assert_eq!(n_commits, 200);
}

#[test]
fn e_11_a_token_has_one_answer_for_ever() {
    let (base, model) = prepared();
    let disk = base.fork(1);
    let store = open(&disk).unwrap();
    let first = store.outcome(tenant(1), token(2)).unwrap().unwrap();
    let (one, two) = (&model[&1].volumes, &model[&2].volumes);
    for _ in 0..5 {
        let again = protect(&store, 1, 2, two, Some((1, one))).unwrap();
        assert!(again.is_repeat);
        assert_eq!((again.entry, again.committed_at), (first.entry, first.committed_at));
    }
    // The same token for other content, and the same point under another token.
    let other = Volumes::from([(1, fresh_volume(&Dice::new(8), 3))]);
    let refused = protect(&store, 1, 2, &other, None);
    assert!(matches!(refused, Err(StoreError::AlreadyExists(_))), "{refused:?}");
    let mut session = store.session(tenant(1)).unwrap();
    let list = list_of(&other[&1], None);
    append_missing(&mut session, &other[&1], &list).unwrap();
    let mut image = session.image(image_spec(2, 1, other[&1].len() as u64), None, None).unwrap();
    list.iter().try_for_each(|entry| image.push(*entry)).unwrap();
    let spec = crate::PointSpec { token: token(999), ..point_spec(2, 2) };
    let refused = session.commit(spec, vec![(image, None)]);
    assert!(matches!(refused, Err(StoreError::AlreadyExists(_))), "{refused:?}");
    drop(session);
    check(&store, &model, None);
    drop(store);
    check_no_strangers(&open(&disk).unwrap(), &disk);
}

#[test]
fn a_point_is_complete_when_its_last_image_is_committed() {
    let disk = Disk::new(1);
    let store = new_store(&disk);
    let dice = Dice::new(2);
    let bytes = [fresh_volume(&dice, 3), fresh_volume(&dice, 4)];
    for (n, bytes) in (1_u8..).zip(&bytes) {
        let mut session = store.session(tenant(1)).unwrap();
        let list = list_of(bytes, None);
        append_missing(&mut session, bytes, &list).unwrap();
        let mut image = session.image(image_spec(7, n, bytes.len() as u64), None, None).unwrap();
        list.iter().try_for_each(|entry| image.push(*entry)).unwrap();
        let spec = crate::PointSpec { token: token(u64::from(n)), ..point_spec(7, 2) };
        session.commit(spec, vec![(image, None)]).unwrap();
        assert_eq!(store.point(tenant(1), point(7)).unwrap().is_complete(), n == 2);
    }
    drop(store);
    let store = open(&disk).unwrap();
    assert!(restore(&store, 1, 7, 1).unwrap() == bytes[0]);
    assert!(restore(&store, 1, 7, 2).unwrap() == bytes[1]);
}

#[test]
fn commits_that_arrive_together_all_succeed() {
    let disk = Disk::new(1);
    let store = new_store(&disk);
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (store, barrier) = (store.clone(), &barrier);
            scope.spawn(move || {
                let dice = Dice::new(thread);
                for round in 0..6 {
                    let volumes = Volumes::from([(1, fresh_volume(&dice, 3))]);
                    let number = 100 * (thread + 1) + round;
                    barrier.wait();
                    protect(&store, 1 + (thread % 2) as u8, number, &volumes, None).unwrap();
                    let restored = restore(&store, 1 + (thread % 2) as u8, number, 1).unwrap();
                    assert!(restored == volumes[&1]);
                }
            });
        }
    });
    assert_eq!(store.journal_head().0, 24);
    drop(store);
    let store = open(&disk).unwrap();
    assert_eq!(store.journal_head().0, 24);
    assert_eq!(store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap().damage, []);
}

#[test]
fn a_session_that_ends_without_a_commit_leaves_nothing_unless_another_counts_on_it() {
    let disk = Disk::new(1);
    let store = new_store(&disk);
    let bytes = Dice::new(4).noise(4 * RECORD);
    let list = list_of(&bytes, None);
    let n_segments = || {
        let paths = disk.paths().into_iter();
        paths.filter(|(path, _)| path.starts_with("/store/segments")).count()
    };
    let mut first = store.session(tenant(1)).unwrap();
    append_missing(&mut first, &bytes, &list).unwrap();
    drop(first);
    assert_eq!(n_segments(), 0);
    assert_eq!(store.find(tenant(1), crate::group::Form::Plain, &list[0].key).unwrap(), None);

    let mut first = store.session(tenant(1)).unwrap();
    append_missing(&mut first, &bytes, &list).unwrap();
    // The second is told "have" for everything, then the first goes away.
    let mut second = store.session(tenant(1)).unwrap();
    append_missing(&mut second, &bytes, &list).unwrap();
    drop(first);
    protect_in(&mut second, 1, &Volumes::from([(1, bytes.clone())]), None).unwrap();
    drop(second);
    drop(store);
    disk.power_cut();
    let store = open(&disk).unwrap();
    assert!(restore(&store, 1, 1, 1).unwrap() == bytes);
}

#[test]
fn a_barrier_syncs_what_was_appended() {
    let disk = Disk::new(1);
    let store = new_store(&disk);
    let bytes = Dice::new(4).noise(4 * RECORD);
    let mut session = store.session(tenant(1)).unwrap();
    append_missing(&mut session, &bytes, &list_of(&bytes, None)).unwrap();
    disk.start_trace();
    session.barrier().unwrap();
    let n_syncs = disk.trace().iter().filter(|step| matches!(step.call, Call::Sync(_))).count();
    assert_eq!(n_syncs, 1);
}

#[test]
fn d_12_a_second_opener_is_refused() {
    let (base, model) = prepared();
    let disk = base.fork(1);
    let store = open(&disk).unwrap();
    for _ in 0..5 {
        assert!(matches!(open(&disk), Err(StoreError::InUse { holder: Some(_) })));
    }
    check(&store, &model, None);
    drop(store);
    open(&disk).unwrap();
}

#[test]
fn d_12_a_writer_that_lost_the_store_is_fenced() {
    for round in 0..5 {
        let (base, model) = prepared();
        let disk = base.fork(round);
        let files = disk.files();
        let old = open(&disk).unwrap();
        // As through a bind mount that does not share locks: the lock file is another one.
        files.remove(Path::new("/store/lock")).unwrap();
        let new = open(&disk).unwrap();
        let volumes = Volumes::from([(1, fresh_volume(&Dice::new(round), 3))]);
        let refused = protect(&old, 1, 60, &volumes, None);
        assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
        let refused = protect(&old, 1, 61, &volumes, None);
        assert!(matches!(refused, Err(StoreError::Poisoned)), "{refused:?}");
        protect(&new, 1, 62, &volumes, None).unwrap();
        drop(old);
        drop(new);
        let store = open(&disk).unwrap();
        let mut model = model.clone();
        model.insert(62, Expected { tenant: 1, volumes, is_deleted: false });
        check(&store, &model, None);
    }
}

#[test]
fn d_18_an_unknown_version_is_refused_and_nothing_is_touched() {
    let (base, _) = prepared();
    for version in [0, FORMAT_VERSION + 1, 7, u32::MAX] {
        let disk = base.fork(1);
        disk.edit(Path::new("/store/store"), |bytes| {
            bytes[8..12].copy_from_slice(&version.to_le_bytes());
        });
        let before = disk.n_changes();
        let refused = open(&disk).err().unwrap();
        assert_eq!(
            refused.to_string(),
            format!(
                "the store has format version {version}, this program knows {FORMAT_VERSION}; use \
                    the program that wrote it, or a newer one"
            )
        );
        assert_eq!(disk.n_changes(), before);
    }
}

#[test]
fn a_store_is_made_only_where_nothing_is() {
    let disk = Disk::new(1);
    let files = disk.files();
    let create = |path: &str| Store::create(disk.files(), Path::new(path), &Dice::new(1), SMALL);
    files.create_dir(Path::new("/foreign")).unwrap();
    files.open(Path::new("/foreign/photos.zip"), OpenMode::CreateNew).unwrap();
    let refused = create("/foreign").err().unwrap();
    assert_eq!(
        refused.to_string(),
        "/foreign is not empty (it holds \"photos.zip\"); a store is made in an empty directory"
    );
    assert_eq!(files.list(Path::new("/foreign")).unwrap(), ["photos.zip"]);
    let missing = Store::open(disk.files(), Path::new("/foreign"), SMALL).err().unwrap();
    assert_eq!(missing.to_string(), "there is no store in /foreign");
    let missing = Store::open(disk.files(), Path::new("/nowhere"), SMALL).err().unwrap();
    assert_eq!(missing.to_string(), "there is no store in /nowhere");
    drop(create("/store").unwrap());
    let refused = create("/store").err().unwrap();
    assert_eq!(refused.to_string(), "there is a store in /store already");
}

#[test]
fn a_read_only_disk_is_an_error_that_says_so() {
    let (base, _) = prepared();
    let disk = base.fork(1);
    disk.set_read_only(true);
    let refused = open(&disk).err().unwrap();
    assert!(refused.to_string().starts_with("cannot lock /store/lock"), "{refused}");
}
