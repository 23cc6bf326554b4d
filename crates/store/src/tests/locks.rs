//! Locks: what they refuse, that they come back from the journal, and who is shut out.

use std::path::Path;

use offsite_model::{AgentId, Span, Timestamp};
use offsite_testkit::disk::Disk;

use super::scene::*;
use crate::{Lock, Store, StoreError};

const fn days(compliance_days: u32, governance_days: u32) -> Lock {
    Lock { compliance_days, governance_days }
}

/// A store with point 1 of tenant 1, and when that was committed.
fn one_point() -> (Disk, Store, Timestamp) {
    let disk = Disk::new(1);
    let store = new_store(&disk);
    let volumes = Volumes::from([(1, Dice::new(1).noise(3 * RECORD))]);
    protect(&store, 1, 1, &volumes, None).unwrap();
    let committed_at = store.point(tenant(1), point(1)).unwrap().committed_at;
    (disk, store, committed_at)
}

fn agent_of(store: &Store) -> AgentId {
    store.point(tenant(1), point(1)).unwrap().agent
}

#[test]
fn c_03_a_lock_refuses_deletion_and_purge_until_its_last_moment() {
    for of_agent in [false, true] {
        for lock in [days(30, 0), days(0, 30), days(30, 7), days(7, 30)] {
            let (_disk, store, committed_at) = one_point();
            let agent = of_agent.then(|| agent_of(&store));
            let end = committed_at + Span::from_days(30);
            let early = end - Span::from_micros(1);
            store.set_lock(tenant(1), agent, lock, committed_at).unwrap();
            let refused = store.delete_point(tenant(1), point(1), early).unwrap_err();
            assert!(
                matches!(refused, StoreError::Locked { until, .. } if until == end),
                "{refused}"
            );
            store.delete_point(tenant(1), point(1), end).unwrap();
            // What was marked before is kept from purge all the same.
            let purged = store.purge(tenant(1), &[point(1)], early);
            assert!(matches!(purged, Err(StoreError::Locked { .. })), "{purged:?}");
            store.undelete_point(tenant(1), point(1), early).unwrap();
            store.delete_point(tenant(1), point(1), end).unwrap();
            store.purge(tenant(1), &[point(1)], end).unwrap();
        }
    }
}

#[test]
fn c_03_a_compliance_lock_never_gets_shorter() {
    let (_disk, store, at) = one_point();
    let agent = agent_of(&store);
    for of in [None, Some(agent)] {
        store.set_lock(tenant(1), of, days(30, 60), at).unwrap();
        for shorter in [days(0, 60), days(29, 60), days(29, 400)] {
            let refused = store.set_lock(tenant(1), of, shorter, at).unwrap_err();
            assert!(matches!(refused, StoreError::LockKept { days: 30 }), "{refused}");
        }
        store.set_lock(tenant(1), of, days(30, 0), at).unwrap();
        assert_eq!(store.lock(tenant(1), of).unwrap(), days(30, 0));
    }
    // The longer of both holds, and another tenant's is another's.
    store.set_lock(tenant(1), Some(agent), days(40, 5), at).unwrap();
    store.set_lock(tenant(2), None, days(99, 99), at).unwrap();
    assert_eq!(store.lock_of(tenant(1), agent).unwrap(), days(40, 5));
    assert_eq!(store.lock_of(tenant(1), AgentId::from_bytes([8; 16])).unwrap(), days(30, 0));
}

#[test]
fn a_lock_that_the_catalog_lost_comes_back_from_the_journal() {
    let (disk, store, at) = one_point();
    drop(store);
    let catalog = Path::new("/store/catalog");
    let old = disk.files().read(catalog, 1 << 30).unwrap();
    let store = open(&disk).unwrap();
    store.set_lock(tenant(1), None, days(30, 0), at).unwrap();
    store.set_lock(tenant(1), None, days(31, 5), at).unwrap();
    drop(store);
    disk.edit(catalog, |bytes| *bytes = old);
    let store = open(&disk).unwrap();
    assert_eq!(store.lock(tenant(1), None).unwrap(), days(31, 5));
    assert!(store.delete_point(tenant(1), point(1), at).is_err());
}

#[test]
fn a_program_that_does_not_know_locks_is_shut_out() {
    let (disk, store, at) = one_point();
    let needs = |disk: &Disk| disk.files().read(Path::new("/store/store"), 99).unwrap()[12];
    assert_eq!(needs(&disk), 0);
    store.set_lock(tenant(1), None, days(1, 0), at).unwrap();
    assert_eq!(needs(&disk), 2);
    drop(store);
    drop(open(&disk).unwrap());
    assert_eq!(needs(&disk), 2, "it stays");
}
