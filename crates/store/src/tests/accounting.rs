//! Whose space it is: it adds up, and one tenant's does not depend on another's.

use offsite_model::{AgentId, Key, Timestamp};
use offsite_testkit::disk::Disk;

use super::collect::collect;
use super::scene::*;
use crate::group::{CheckedGroup, Form};
use crate::{PointSpec, Store, TenantSpace};

const RECORDS: usize = 24;

/// A point of an agent; records are found or stored, three to a group.
fn protect_for(store: &Store, owner: u8, agent: u8, number: u64, bytes: &[u8]) {
    let mut session = store.session(tenant(owner)).unwrap();
    let list = list_of(bytes, None);
    append_missing(&mut session, bytes, &list).unwrap();
    let mut image = session.image(image_spec(number, 1, bytes.len() as u64), None, None).unwrap();
    list.iter().for_each(|entry| image.push(*entry).unwrap());
    let agent = AgentId::from_bytes([agent; 16]);
    let spec = PointSpec { agent, ..point_spec(number, 1) };
    session.commit(spec, vec![(image, None)]).unwrap();
}

fn account(store: &Store, owner: u8) -> TenantSpace {
    let space = store.account(tenant(owner), &mut || true).unwrap();
    let exclusive: u64 = space.agents.values().map(|agent| agent.exclusive_bytes).sum();
    let parts = exclusive + space.shared_bytes + space.list_bytes + space.other_bytes;
    assert_eq!(parts, space.bytes, "{space:?}");
    space
}

fn files(disk: &Disk) -> u64 {
    super::collect::bytes_of_files(disk)
}

#[test]
fn b_01_space_adds_up_to_the_store_and_no_tenant_is_told_of_another() {
    let own = Dice::new(1).noise(RECORDS * RECORD);
    let other = Dice::new(2).noise(RECORDS * RECORD);
    let both = Dice::new(3).noise(RECORDS * RECORD);
    let mut told = Vec::new();
    for with_other in [false, true] {
        let disk = Disk::new(1);
        drop(new_store(&disk));
        let store = open(&disk).unwrap();
        // Two agents, with a third of the records of each in common.
        protect_for(&store, 1, 7, 1, &[&own[..], &both].concat());
        protect_for(&store, 1, 8, 2, &[&both[..], &other].concat());
        if with_other {
            protect_for(&store, 2, 7, 3, &[&own[..], &both].concat());
        }
        let space = account(&store, 1);
        let all: u64 = store
            .tenants()
            .unwrap()
            .into_iter()
            .map(|owner| store.account(owner, &mut || true).unwrap().bytes)
            .sum();
        assert_eq!(all, files(&disk), "it does not add up to the store");
        let payload = (RECORDS * RECORD) as u64;
        for agent in space.agents.values() {
            assert_eq!((agent.n_points, agent.n_deleted), (1, 0));
            assert_eq!(agent.logical_bytes, 2 * payload);
            // Heads and lists are shared out with the records, and a filter may be wrong.
            assert!(agent.exclusive_bytes.abs_diff(payload) < payload / 8, "{space:?}");
            assert!(agent.shared_bytes.abs_diff(payload) < payload / 8, "{space:?}");
        }
        assert!(space.shared_bytes.abs_diff(payload) < payload / 8, "{space:?}");
        told.push(space);
    }
    assert_eq!(told[0], told[1], "a tenant's figures depend on another's data");
}

#[test]
fn what_no_point_shows_is_told_apart_and_goes_with_a_collection() {
    let disk = Disk::new(1);
    drop(new_store(&disk));
    let store = open(&disk).unwrap();
    protect_for(&store, 1, 7, 1, &Dice::new(1).noise(RECORDS * RECORD));
    protect_for(&store, 1, 7, 2, &Dice::new(2).noise(RECORDS * RECORD));
    let at = Timestamp::from_secs(9);
    store.delete_point(tenant(1), point(1), at).unwrap();
    let agent = AgentId::from_bytes([7; 16]);
    let marked = account(&store, 1).agents[&agent];
    assert_eq!((marked.n_points, marked.n_deleted), (1, 1));
    store.purge(tenant(1), &[point(1)], at).unwrap();
    let purged = account(&store, 1);
    assert!(purged.other_bytes >= (RECORDS * RECORD) as u64, "{purged:?}");
    collect(&store).unwrap();
    let left = account(&store, 1);
    assert!(left.other_bytes < RECORD as u64, "{left:?}");
    assert_eq!(left.bytes, files(&disk));
    // What a session has brought is nobody's until its commit.
    let mut session = store.session(tenant(1)).unwrap();
    let record = Dice::new(3).noise(RECORD);
    let group = CheckedGroup::encode(Form::Plain, &[(Key::of(&record), &record[..])], 1).unwrap();
    session.append(&group).unwrap();
    assert!(account(&store, 1).other_bytes >= RECORD as u64);
    let stopped = store.account(tenant(1), &mut || false);
    assert!(stopped.is_err(), "{stopped:?}");
}
