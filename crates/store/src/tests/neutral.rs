//! What safety costs, in work and not in time: tenants that have an index each against one index
//! for all, and promises against answers that nobody keeps.
//!
//! `OFFSITE_KEYS` says how many keys are stored.

use offsite_model::{Key, Luck, SessionId};
use offsite_testkit::SeededLuck;
use offsite_testkit::disk::Disk;

use super::scene::*;
use crate::group::{CheckedGroup, Form};
use crate::{ListEntry, Settings, Store};

/// Keys on every change.
const KEYS_CI: u64 = 1_000_000;
const BATCH: u64 = 4_096;
/// Batches of each order.
const BATCHES: u64 = 32;
const TENANTS: u64 = 8;
/// Keys on one page of a run.
const ROWS_OF_PAGE: u64 = 92;
/// Commits in which the keys come, tenant after tenant.
const PARTS: u64 = 64;

/// The same records, of one tenant or of several.
struct World {
    disk: Disk,
    store: Store,
    n_keys: u64,
    n_tenants: u64,
}

/// What a batch asks for.
#[derive(Clone, Copy, Debug)]
enum Order {
    AsStored,
    AtRandom,
    Absent,
}

fn record(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

impl World {
    fn new(n_keys: u64, n_tenants: u64) -> Self {
        let disk = Disk::new(1);
        drop(new_store(&disk));
        // Few of the keys may be answered from memory.
        let recent_records_max = (n_keys / PARTS / 2) as usize;
        let store = open_with(&disk, Settings { recent_records_max, ..SMALL }).unwrap();
        let world = Self { disk, store, n_keys, n_tenants };
        (0..PARTS).for_each(|part| world.store_part(part));
        world
    }

    /// Whose a part is when there are several tenants, and here.
    fn tenant_of(&self, part: u64) -> u8 {
        1 + (part % TENANTS % self.n_tenants) as u8
    }

    fn store_part(&self, part: u64) {
        let n = self.n_keys / PARTS;
        let mut session = self.store.session(tenant(self.tenant_of(part))).unwrap();
        let whole = Dice::new(part).noise(RECORD);
        let entry = ListEntry { offset: 0, length: RECORD as u32, key: Key::of(&whole) };
        let records: Vec<[u8; 8]> = (part * n..(part + 1) * n).map(record).collect();
        for group in records.chunks(256) {
            let keyed: Vec<(Key, &[u8])> = group.iter().map(|r| (Key::of(r), &r[..])).collect();
            session.append(&CheckedGroup::encode(Form::Plain, &keyed, 1).unwrap()).unwrap();
        }
        let group = CheckedGroup::encode(Form::Plain, &[(entry.key, &whole)], 1).unwrap();
        session.append(&group).unwrap();
        let number = 1 + part;
        let mut image = session.image(image_spec(number, 1, RECORD as u64), None, None).unwrap();
        image.push(entry).unwrap();
        session.commit(point_spec(number, 1), vec![(image, None)]).unwrap();
    }

    /// A batch that one of several tenants asks for; the part that says whose it is.
    fn batch(&self, order: Order, luck: &SeededLuck) -> (u64, Vec<Key>) {
        let (n, owner) = (self.n_keys / PARTS, luck.below(TENANTS));
        let own_part = || owner + TENANTS * luck.below(PARTS / TENANTS);
        let numbers: Vec<u64> = match order {
            Order::AsStored => {
                let first = own_part() * n + luck.below(n - BATCH.min(n / 2));
                (first..first + BATCH.min(n / 2)).collect()
            }
            Order::AtRandom => (0..BATCH).map(|_| own_part() * n + luck.below(n)).collect(),
            Order::Absent => (0..BATCH).map(|_| self.n_keys + luck.below(1 << 40)).collect(),
        };
        (owner, numbers.into_iter().map(|number| Key::of(&record(number))).collect())
    }

    /// Reads of the disk that answering takes, all batches of an order together.
    fn n_reads(&self, order: Order) -> u64 {
        let (luck, before) = (SeededLuck::from_env_or(9), self.disk.n_reads());
        for _ in 0..BATCHES {
            let (owner, keys) = self.batch(order, &luck);
            let tenant = tenant(self.tenant_of(owner));
            let found = self.store.find_many(tenant, Form::Plain, &keys).unwrap();
            let is_stored = !matches!(order, Order::Absent);
            assert!(found.iter().all(|place| place.is_some() == is_stored), "{order:?}");
        }
        self.disk.n_reads() - before
    }

    /// The same answers as promises: reads, and calls that change the disk.
    fn n_promised(&self, order: Order) -> (u64, u64) {
        let luck = SeededLuck::from_env_or(9);
        let mut drafts: Vec<_> = (0..TENANTS)
            .map(|owner| {
                let session = SessionId::from_bytes([1 + owner as u8; 16]);
                self.store.draft(tenant(self.tenant_of(owner)), session, Vec::new()).unwrap()
            })
            .collect();
        let before = (self.disk.n_reads(), self.disk.n_changes());
        for _ in 0..BATCHES {
            let (owner, keys) = self.batch(order, &luck);
            let draft = &mut drafts[owner as usize];
            draft.find_many(Form::Plain, &keys).unwrap();
            let first = draft.n_listed();
            let entry = |(key, at): (&Key, u64)| ListEntry { offset: at * 8, length: 8, key: *key };
            let entries: Vec<ListEntry> = keys.iter().zip(first..).map(entry).collect();
            draft.list(first, &entries).unwrap();
            draft.promise().unwrap();
        }
        let after = (self.disk.n_reads(), self.disk.n_changes());
        drafts.into_iter().for_each(|draft| draft.end().unwrap());
        (after.0 - before.0, after.1 - before.1)
    }
}

#[test]
fn b_09_an_index_of_ones_own_costs_no_more_reads_than_one_for_all_and_promises_few_writes() {
    let n_keys = std::env::var("OFFSITE_KEYS").map_or(KEYS_CI, |n| n.parse().unwrap());
    let (common, own) = (World::new(n_keys, 1), World::new(n_keys, TENANTS));
    for order in [Order::AsStored, Order::AtRandom, Order::Absent] {
        let (of_all, of_one) = (common.n_reads(order), own.n_reads(order));
        let (promised, n_changes) = own.n_promised(order);
        println!(
            "{order:?}: {of_all} reads of one index for all, {of_one} of one's own, {promised} and \
             {n_changes} changes with promises; {BATCHES} batches of {BATCH} among {n_keys} keys"
        );
        // At least 95 % of the speed, where reads are what takes time.
        let is_neutral = |cost: u64, bar: u64| cost * 95 <= (bar + BATCHES) * 100;
        if matches!(order, Order::Absent) {
            // A filter is wrong now and then, in either world.
            let n_wrong = BATCHES * BATCH / 50;
            assert!(of_all < n_wrong && of_one < n_wrong, "{of_all} and {of_one} reads");
        } else {
            assert!(is_neutral(of_one, of_all), "{order:?}: {of_one} against {of_all} reads");
        }
        assert!(is_neutral(promised, of_one), "{order:?}: {promised} reads with promises");
        // A page that several keys of a batch share is not read for each.
        let n_pages = n_keys / TENANTS / ROWS_OF_PAGE + 32;
        assert!(of_one <= 2 * BATCHES * n_pages, "{order:?}: {of_one} reads, {n_pages} pages");
        assert!(n_changes <= 4 * BATCHES + 16, "{order:?}: {n_changes} changes");
    }
}
