//! Collecting and scrubbing by timetable and at a pace, over a store on a simulated disk.

use std::path::Path;
use std::sync::Mutex;

use offsite_model::{
    AgentId, Clock, ImageId, Key, Luck, PointId, Span, TenantId, Timestamp, VolumeId,
};
use offsite_store::group::{CheckedGroup, Form};
use offsite_store::{
    ImageSpec, ListEntry, PointSpec, Settings as StoreSettings, Store, StoreError,
};
use offsite_testkit::disk::Disk;
use offsite_testkit::{SeededLuck, SimClock};

use crate::{CollectSettings, Due, Settings, Surroundings, Turn, collect, scrub, state};

const RECORD: usize = 4096;
const TENANT: TenantId = TenantId::from_bytes([1; 16]);
/// What one look at the progress takes, by the clock of the world.
const LOOK: Span = Span::from_millis(10);

/// A world whose clock runs when something is done, and when somebody waits.
struct World {
    clock: SimClock,
    waited: Mutex<Span>,
    /// Looks after which the work is to stop.
    looks_left: Mutex<u32>,
}

impl World {
    fn new() -> Self {
        let (clock, waited) =
            (SimClock::starting_at(Timestamp::from_secs(1_000_000)), Mutex::default());
        Self { clock, waited, looks_left: Mutex::new(u32::MAX) }
    }
}

impl Surroundings for World {
    fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    fn pause(&self, span: Span) {
        self.clock.advance(span);
        let mut waited = self.waited.lock().unwrap();
        *waited = Span::from_micros(waited.as_micros() + span.as_micros());
    }

    fn is_stopped(&self) -> bool {
        let mut left = self.looks_left.lock().unwrap();
        *left = left.saturating_sub(1);
        *left == 0
    }

    fn is_busy(&self) -> bool {
        false
    }

    fn show(&self, _: &'static str, _: u64, _: u64) {
        self.clock.advance(LOOK);
    }
}

fn store() -> Store {
    let disk = Disk::new(1);
    let settings =
        StoreSettings { reserve_bytes: 0, reserve_percent: 0, ..StoreSettings::default() };
    Store::create(disk.files(), Path::new("/store"), &SeededLuck::new(1), settings).unwrap()
}

/// A point of so many records that do not compress.
fn protect(store: &Store, number: u8, n_records: usize) -> PointId {
    let mut bytes = vec![0; n_records * RECORD];
    SeededLuck::new(number.into()).fill(&mut bytes);
    let mut session = store.session(TENANT).unwrap();
    let spec = ImageSpec {
        image: ImageId::from_bytes([number; 16]),
        volume: VolumeId::from_bytes([1; 16]),
        bytes: bytes.len() as u64,
        record_bytes: RECORD as u32,
        form: Form::Plain,
    };
    let mut image = session.image(spec, None, None).unwrap();
    for (n, record) in (0_u64..).zip(bytes.chunks(RECORD)) {
        let key = Key::of(record);
        session.append(&CheckedGroup::encode(Form::Plain, &[(key, record)], 1).unwrap()).unwrap();
        let offset = n * RECORD as u64;
        image.push(ListEntry { offset, length: RECORD as u32, key }).unwrap();
    }
    let point = PointId::from_bytes([number; 16]);
    let spec = PointSpec {
        point,
        agent: AgentId::from_bytes([9; 16]),
        taken_at: Timestamp::from_secs(1),
        committed_at: Timestamp::from_secs(1),
        n_images: 1,
        token: [number; 16],
        note: Vec::new(),
    };
    session.commit(spec, vec![(image, None)]).unwrap();
    point
}

fn purge(store: &Store, point: PointId) {
    store.delete_point(TENANT, point, Timestamp::from_secs(2)).unwrap();
    store.purge(TENANT, &[point], Timestamp::from_secs(3)).unwrap();
}

#[test]
fn a_collection_moves_no_faster_than_it_may() {
    for bytes_per_sec in [0, 100_000] {
        let (store, world) = (store(), World::new());
        let gone = protect(&store, 1, 300);
        // Half of it stays, in the same segment.
        let mut session = store.session(TENANT).unwrap();
        let mut bytes = vec![0; 300 * RECORD];
        SeededLuck::new(1).fill(&mut bytes);
        let spec = ImageSpec {
            image: ImageId::from_bytes([7; 16]),
            volume: VolumeId::from_bytes([1; 16]),
            bytes: 150 * RECORD as u64,
            record_bytes: RECORD as u32,
            form: Form::Plain,
        };
        let mut image = session.image(spec, None, None).unwrap();
        for (n, record) in (0_u64..150).zip(bytes.chunks(RECORD)) {
            let (offset, length) = (n * RECORD as u64, RECORD as u32);
            image.push(ListEntry { offset, length, key: Key::of(record) }).unwrap();
        }
        let spec = PointSpec {
            point: PointId::from_bytes([7; 16]),
            agent: AgentId::from_bytes([9; 16]),
            taken_at: Timestamp::from_secs(1),
            committed_at: Timestamp::from_secs(1),
            n_images: 1,
            token: [7; 16],
            note: Vec::new(),
        };
        session.commit(spec, vec![(image, None)]).unwrap();
        drop(session);
        purge(&store, gone);
        let settings = CollectSettings { bytes_per_sec, ..CollectSettings::default() };
        let began = world.clock.uptime();
        let now = world.clock.now();
        let done = collect(&store, &[TENANT], &settings, now, &world).unwrap();
        assert!(done.bytes_moved.0 >= 150 * RECORD as u64, "{done:?}");
        assert!(done.bytes_freed.0 > 290 * RECORD as u64, "{done:?}");
        let secs = world.clock.uptime().as_secs() - began.as_secs();
        // Read and written once each.
        let secs_min = if bytes_per_sec == 0 { 0 } else { 2 * 150 * RECORD as u64 / 100_000 };
        assert!(secs >= secs_min, "{secs} s in place of {secs_min}");
        assert_eq!(*world.waited.lock().unwrap() == Span::ZERO, bytes_per_sec == 0);
        assert_eq!(state(&store).unwrap().collected.unwrap().bytes_freed, done.bytes_freed);
    }
}

#[test]
fn d_08_a_scrub_reads_for_a_tenth_of_the_time() {
    let (store, world) = (store(), World::new());
    protect(&store, 1, 400);
    let began = world.clock.uptime();
    let done = scrub(&store, 10, &world).unwrap();
    assert_eq!((done.damaged, done.groups), (0, 400));
    let all = world.clock.uptime().as_micros() - began.as_micros();
    let worked = all - world.waited.lock().unwrap().as_micros();
    assert!(worked >= 400 * LOOK.as_micros(), "{worked} µs");
    assert!(worked * 100 <= all * 11, "{worked} of {all} µs");
}

#[test]
fn what_is_due_is_what_was_not_done_for_so_long() {
    let (store, world) = (store(), World::new());
    let settings = Settings::default();
    let due = |settings: &Settings| {
        let due = Due::at(&store, world.clock.now(), settings).unwrap();
        (due.collect, due.scrub)
    };
    assert_eq!(due(&settings), (true, true), "never done");
    protect(&store, 1, 20);
    let now = world.clock.now();
    collect(&store, &[TENANT], &settings.collect, now, &world).unwrap();
    assert_eq!(due(&settings), (false, true));
    // One that is stopped is due until it has come to its end.
    *world.looks_left.lock().unwrap() = 4;
    let stopped = scrub(&store, 10, &world);
    assert!(matches!(stopped, Err(StoreError::Interrupted)), "{stopped:?}");
    assert!(state(&store).unwrap().scrubbing.is_some());
    assert_eq!(due(&settings), (false, true));
    *world.looks_left.lock().unwrap() = u32::MAX;
    scrub(&store, 10, &world).unwrap();
    assert_eq!(due(&settings), (false, false));
    world.clock.advance(Span::from_hours(24));
    assert_eq!(due(&settings), (true, false));
    world.clock.advance(Span::from_days(29));
    assert_eq!(due(&settings), (true, true));
    // Switched off, nothing is due, whatever was begun.
    let mut off = settings;
    (off.collect.every, off.scrub.every) = (Span::ZERO, Span::ZERO);
    assert_eq!(due(&off), (false, false));
}

#[test]
fn one_has_the_turn_until_he_gives_it_back() {
    let turn = Turn::default();
    let taken = turn.take().unwrap();
    assert!(turn.take().is_none());
    drop(taken);
    assert!(turn.take().is_some());
}
