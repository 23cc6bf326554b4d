//! Sessions over a store on a disk of the test, spoken to as a stream speaks to them.

use std::path::Path;
use std::sync::Arc;

use offsite_exchange::replication::target::{Ending, Input, Session};
use offsite_model::{
    AgentId, CoreId, FileSystem, ImageId, JobId, Key, ListDigest, PointId, SessionId, Span,
    TenantId, Timestamp, VolumeId,
};
use offsite_proto::bitmap::Bitmap;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::group::GroupEntry;
use offsite_proto::session::{CommitToken, ImageType, OpenSession};
use offsite_proto::stream::StreamKind;
use offsite_proto::text::{Big, Text, Time};
use offsite_proto::window::ListEntry;
use offsite_store::catalog::{Catalog, MemoryCatalog, RedbCatalog};
use offsite_store::group::{Codec, Form};
use offsite_store::{ImageSpec, PointSpec, Settings, Store, StoreError};
use offsite_testkit::disk::{Disk, Fault, Which};
use offsite_testkit::{SeededLuck, SimClock};
use offsite_transport::Mutations;
use tokio::sync::mpsc;

use super::live::{Arrived, Out, lock, table_rows};
use super::{Caller, Live, Owner, Replicas};
use crate::World;

mod exactly_once;
mod holds;
mod leases;
mod orphans;
mod refused_groups;

const RECORD: u32 = 4096;

/// A target's replicas on a disk of the test.
struct Bench {
    replicas: Arc<Replicas>,
    clock: SimClock,
}

/// An image of the test: one volume whose records are made of numbers.
#[derive(Clone, Copy)]
struct Image<'a> {
    owner: Owner,
    number: u8,
    point: u8,
    contents: &'a [u64],
}

fn owner(n: u8) -> Owner {
    Owner { tenant: TenantId::from_bytes([n; 16]), source: CoreId::from_bytes([n; 16]) }
}

fn bytes_of(content: u64) -> Vec<u8> {
    content.to_le_bytes().repeat(RECORD as usize / 8)
}

impl Image<'_> {
    fn bytes(&self) -> Vec<u8> {
        self.contents.iter().flat_map(|content| bytes_of(*content)).collect()
    }

    fn list(&self) -> Vec<ListEntry> {
        let offsets = (0..).map(|at| at * u64::from(RECORD));
        let entry = |(offset, content): (u64, &u64)| {
            ListEntry::record(offset, RECORD, Key::of(&bytes_of(*content)))
        };
        offsets.zip(self.contents).map(entry).collect()
    }

    fn open(&self) -> OpenSession {
        let mut digest = ListDigest::new();
        let list = self.list();
        list.iter().for_each(|entry| digest.entry(entry.offset(), entry.bytes(), &entry.key()));
        OpenSession {
            agent_id: Text(AgentId::from_bytes([1; 16])),
            job_id: Text(JobId::from_bytes([1; 16])),
            recovery_point_id: Text(PointId::from_bytes([self.point; 16])),
            image_id: Text(ImageId::from_bytes([self.number; 16])),
            volume_driver_id: Text(VolumeId::from_bytes([4; 16])),
            epoch_number: u32::from(self.number),
            previous_epoch_number: None,
            parent_image_id: None,
            parent_image_digest: None,
            image_type: ImageType::Base,
            size_bytes: Big(list.len() as u64 * u64::from(RECORD)),
            record_size: RECORD,
            record_count: Big(list.len() as u64),
            image_digest: Text(digest.finish()),
            encryption_key_id: None,
            rollup_granularity_cell: Default::default(),
            utc_created_timestamp: Time(Timestamp::from_secs(1_800_000_000)),
            volume_image_count: 1,
            commit_token: Text(CommitToken::from_bytes([self.number; 16])),
            header_hash: None,
            volume_image_hash: None,
            allow_orphan: false,
            display_name: None,
        }
    }
}

/// A session that a test fills.
struct Filling {
    live: Arc<Live>,
    line: u64,
    frames: mpsc::Receiver<Out>,
    is_resumed: bool,
}

impl Bench {
    fn new(disk: &Disk) -> Self {
        Self::over(disk, Arc::new(MemoryCatalog::new())).unwrap()
    }

    /// A target as it starts over what is on the disk, its catalog included.
    fn started(disk: &Disk) -> Self {
        Self::try_started(disk).unwrap()
    }

    /// The same on a disk that may fail.
    fn try_started(disk: &Disk) -> Result<Self, String> {
        Self::try_started_with(disk, SeededLuck::from_env_or(1))
    }

    /// The same, drawing other ids than another life of the target has drawn.
    fn try_started_with(disk: &Disk, luck: SeededLuck) -> Result<Self, String> {
        let catalog = RedbCatalog::open(&*disk.files(), Path::new("/catalog"));
        let catalog = Arc::new(catalog.map_err(|error| error.to_string())?);
        let (place, settings) = (Path::new("/store"), Settings::default());
        let bench = Self::on(disk.files(), place, catalog, settings, luck);
        let bench = bench.map_err(|error| error.to_string())?;
        bench.replicas.tidy_up().map_err(|error| error.to_string())?;
        Ok(bench)
    }

    fn over(disk: &Disk, catalog: Arc<dyn Catalog>) -> Result<Self, StoreError> {
        let (place, luck) = (Path::new("/store"), SeededLuck::from_env_or(1));
        Self::on(disk.files(), place, catalog, Settings::default(), luck)
    }

    fn on(
        files: Arc<dyn FileSystem>,
        place: &Path,
        catalog: Arc<dyn Catalog>,
        settings: Settings,
        luck: SeededLuck,
    ) -> Result<Self, StoreError> {
        let store = match Store::open(Arc::clone(&files), place, settings) {
            Ok(store) => store,
            Err(_) => Store::create(Arc::clone(&files), place, &luck, settings)?,
        };
        let clock = SimClock::starting_at(Timestamp::from_secs(1_800_000_000));
        let world = World { clock: Arc::new(clock.clone()), luck: Arc::new(luck), files };
        let (rules, mutations) = (Default::default(), Mutations::new());
        Ok(Self { replicas: Replicas::over(store, world, catalog, rules, mutations, 2), clock })
    }

    fn open(&self, image: &Image<'_>) -> Result<Filling, Refusal> {
        let caller = Caller { owner: image.owner, is_agent_known: true, quota_bytes: None };
        let opened = self.replicas.open_session(caller, image.open())?;
        let id: SessionId = opened.answer.session_id.0;
        let live = self.replicas.session_by_id(&image.owner, id)?;
        let (line, frames) = live.attach(StreamKind::Keys);
        Ok(Filling { live, line, frames, is_resumed: opened.answer.resumed })
    }

    /// Offers the list; per record whether it is wanted.
    async fn offer(&self, filling: &mut Filling, image: &Image<'_>) -> Vec<bool> {
        let input = Input::Keys { window: 0, first_ordinal: 0, entries: image.list() };
        filling.live.step(&self.replicas, input, Some(filling.line));
        loop {
            match filling.frames.recv().await.unwrap() {
                Out::Wanted(answer) => return answer.iter().collect(),
                Out::Fail(refusal) => panic!("{refusal}"),
                Out::Credit(_) | Out::Flushed(_) => {}
            }
        }
    }

    /// Sends a record under its ordinal.
    fn send(&self, filling: &Filling, image: &Image<'_>, ordinal: usize) {
        let record = bytes_of(image.contents[ordinal]);
        let offset = ordinal as u64 * u64::from(RECORD);
        let entry = ListEntry::record(offset, RECORD, Key::of(&record));
        let table = vec![GroupEntry::new(ordinal as u64, entry.key(), entry.bytes())];
        let rows = table_rows(&table);
        let input = Input::Group { table, is_encrypted: false, bytes: u64::from(RECORD) };
        let asked = filling.live.step(&self.replicas, input, Some(filling.line));
        let Some(group) = asked.stage else { return };
        let arrived = Arrived { codec: Codec::None, table: rows, payload: record.into() };
        let outcome = filling.live.append(&self.replicas, arrived);
        filling.live.step(&self.replicas, Input::Staged { group, outcome }, Some(filling.line));
    }

    async fn commit(&self, filling: &Filling) -> Result<(), Refusal> {
        match filling.live.end(&self.replicas, Input::End { commit: true })? {
            Ending::Done => Ok(()),
            Ending::Running => filling.live.outcome(None).await.map(|_| ()),
        }
    }

    /// What the store gives back of an image's point, whole.
    fn bytes_of(&self, image: &Image<'_>) -> Vec<u8> {
        let (store, open, tenant) = (&self.replicas.store, image.open(), image.owner.tenant);
        let at = (open.recovery_point_id.0, open.volume_driver_id.0);
        let stored = store.image(tenant, at.0, at.1).unwrap();
        let list = stored.list(0).map(Result::unwrap);
        list.flat_map(|entry| store.record(tenant, Form::Plain, &entry.key).unwrap()).collect()
    }

    /// A whole transfer; per record whether it was wanted.
    async fn transfer(&self, image: &Image<'_>) -> Result<Vec<bool>, Refusal> {
        let mut filling = self.open(image)?;
        let wanted = self.offer(&mut filling, image).await;
        for (ordinal, _) in wanted.iter().enumerate().filter(|(_, wanted)| **wanted) {
            self.send(&filling, image, ordinal);
        }
        self.commit(&filling).await.map(|()| wanted)
    }
}

#[tokio::test]
async fn another_content_of_a_point_is_refused_by_its_right_name() {
    let bench = Bench::new(&Disk::new(1));
    let image = Image { owner: owner(1), number: 1, point: 1, contents: &[1, 2, 3] };
    bench.transfer(&image).await.unwrap();
    let other = Image { number: 2, contents: &[4, 5], ..image };
    let refused = bench.transfer(&other).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::AlreadyExists, "{refused}");
}

/// Waits until so many records of a session are durable.
async fn until_durable(bench: &Bench, filling: &Filling, n: u64) {
    let mut changes = filling.live.changes();
    bench.clock.advance(Span::from_secs(11));
    bench.replicas.tick();
    loop {
        changes.borrow_and_update();
        let bitmap = filling.live.look(Session::bitmap);
        let mut n_durable = 0;
        Bitmap::read(&bitmap).unwrap().runs(|run| n_durable += run.count).unwrap();
        if n_durable >= n {
            return;
        }
        changes.changed().await.unwrap();
    }
}

#[tokio::test]
async fn e_09_what_a_barrier_kept_is_not_wanted_after_a_power_cut() {
    let disk = Disk::new(1);
    let image = Image { owner: owner(1), number: 1, point: 1, contents: &[1, 2, 3, 4] };
    let bench = Bench::new(&disk);
    let mut filling = bench.open(&image).unwrap();
    assert_eq!(bench.offer(&mut filling, &image).await, [true; 4]);
    bench.send(&filling, &image, 0);
    bench.send(&filling, &image, 1);
    until_durable(&bench, &filling, 2).await;
    bench.send(&filling, &image, 2);
    disk.power_cut();
    let bench = Bench::new(&disk);
    let mut filling = bench.open(&image).unwrap();
    assert!(filling.is_resumed);
    assert_eq!(bench.offer(&mut filling, &image).await, [false, false, true, true]);
    bench.send(&filling, &image, 2);
    bench.send(&filling, &image, 3);
    bench.commit(&filling).await.unwrap();
    assert_eq!(bench.replicas.points(&image.owner, None).unwrap().len(), 1);
}

#[tokio::test]
async fn e_09_a_disk_that_is_full_for_a_moment_does_not_cost_what_was_promised() {
    let image = Image { owner: owner(1), number: 1, point: 1, contents: &[1, 2, 3, 4] };
    let mut n_refused = 0;
    for after in 0.. {
        let disk = Disk::new(after);
        let bench = Bench::new(&disk);
        let mut filling = bench.open(&image).unwrap();
        bench.offer(&mut filling, &image).await;
        bench.send(&filling, &image, 0);
        until_durable(&bench, &filling, 1).await;
        disk.power_cut();
        let bench = Bench::new(&disk);
        let error = std::io::ErrorKind::StorageFull;
        disk.fail(Fault { which: Which::Changes, after, error, for_good: false });
        let opened = bench.open(&image);
        disk.mend();
        let refused = match opened {
            Ok(filling) => {
                assert!(filling.is_resumed, "change {after}: begun anew");
                break;
            }
            Err(refused) => refused,
        };
        assert_eq!(refused.code, ErrorCode::RepositoryUnavailable, "{refused}");
        assert!(refused.retryable && !refused.to_string().contains("/store"), "{refused}");
        n_refused += 1;
        // Once more as soon as there is room, at the latest by another life of the target.
        let opened = bench.open(&image).or_else(|_| {
            disk.kill();
            Bench::new(&disk).open(&image)
        });
        let resumed = opened.unwrap_or_else(|refused| panic!("change {after}: {refused}"));
        assert!(resumed.is_resumed, "change {after}: begun anew");
    }
    assert!(n_refused > 3, "resuming changes the disk {n_refused} times");
}

#[tokio::test]
async fn b_08_nothing_is_answered_as_held_when_its_hold_cannot_be_kept() {
    let disk = Disk::new(1);
    let bench = Bench::new(&disk);
    let first = Image { owner: owner(1), number: 1, point: 1, contents: &[1, 2, 3] };
    bench.transfer(&first).await.unwrap();
    let second = Image { number: 2, point: 2, contents: &[3, 2, 9], ..first };
    let mut filling = bench.open(&second).unwrap();
    let error = std::io::ErrorKind::Other;
    disk.fail(Fault { which: Which::Syncs, after: 0, error, for_good: true });
    let input = Input::Keys { window: 0, first_ordinal: 0, entries: second.list() };
    filling.live.step(&bench.replicas, input, Some(filling.line));
    // The stream says what happened instead of an answer.
    match filling.frames.recv().await.unwrap() {
        Out::Fail(refusal) => assert!(refusal.retryable, "{refusal}"),
        other => panic!("{other:?}"),
    }
    assert!(filling.live.look(|machine| machine.stage().leaves_draft()));
}

/// Everything that a tenant is told while it transfers an image.
async fn told(bench: &Bench, image: &Image<'_>) -> Vec<String> {
    let mut told = Vec::new();
    let caller = Caller { owner: image.owner, is_agent_known: true, quota_bytes: Some(1 << 30) };
    let opened = bench.replicas.open_session(caller, image.open()).unwrap();
    told.push(format!("{:?}", opened.answer));
    let mut filling = bench.open(image).unwrap();
    let wanted = bench.offer(&mut filling, image).await;
    told.push(format!("{wanted:?}"));
    told.push(format!("{:?}", bench.commit(&filling).await));
    told.push(format!("{:?}", filling.live.look(Session::bitmap)));
    for ordinal in 0..wanted.len() {
        bench.send(&filling, image, ordinal);
    }
    until_durable(bench, &filling, wanted.len() as u64).await;
    told.push(format!("{:?}", filling.live.look(Session::bitmap)));
    told.push(format!("{:?}", bench.commit(&filling).await));
    told.push(format!("{:?}", bench.replicas.quotas.left(&image.owner)));
    told.push(format!("{:?}", bench.replicas.points(&image.owner, None).unwrap()));
    told
}

#[tokio::test]
async fn b_01_what_a_tenant_is_told_does_not_depend_on_another() {
    // Half of what B sends is what A stored, half is nobody's.
    const N: u64 = 2_000;
    let a_s: Vec<u64> = (0..N).collect();
    let b_s: Vec<u64> = (0..2 * N).collect();
    let a = Image { owner: owner(1), number: 1, point: 1, contents: &a_s };
    let b = Image { owner: owner(2), number: 1, point: 1, contents: &b_s };
    let (with, without) = (Bench::new(&Disk::new(1)), Bench::new(&Disk::new(1)));
    assert_eq!(with.transfer(&a).await.unwrap(), vec![true; N as usize]);
    let mask = |told: Vec<String>, bench: &Bench| -> Vec<String> {
        // Sessions are numbered at random; the rest of an id is the caller's own.
        let ids: Vec<SessionId> = lock(&bench.replicas.sessions).order.iter().copied().collect();
        let hide = |text: String| {
            ids.iter().fold(text, |text, id| text.replace(&id.to_string(), "SESSION"))
        };
        told.into_iter().map(hide).collect()
    };
    let (seen, alone) = (told(&with, &b).await, told(&without, &b).await);
    let (seen, alone) = (mask(seen, &with), mask(alone, &without));
    assert_eq!(seen, alone);
    assert!(seen[1].matches("true").count() == 2 * N as usize, "{}", seen[1]);
}

#[tokio::test]
async fn b_04_naming_anothers_keys_is_naming_keys_that_are_nowhere() {
    let bench = Bench::new(&Disk::new(1));
    let a_s: Vec<u64> = (0..1_000).collect();
    let a = Image { owner: owner(1), number: 1, point: 1, contents: &a_s };
    bench.transfer(&a).await.unwrap();
    let nowhere: Vec<u64> = (5_000..6_000).collect();
    let mut answers = Vec::new();
    for (number, contents) in [(1, &a_s), (2, &nowhere)] {
        let image = Image { owner: owner(2), number, point: number, contents };
        let mut filling = bench.open(&image).unwrap();
        let wanted = bench.offer(&mut filling, &image).await;
        let refused = bench.commit(&filling).await.unwrap_err();
        // Without a word of the rules, the store says the same.
        filling.live.step(&bench.replicas, Input::End { commit: false }, None);
        answers.push((wanted, refused.code, refused.to_string(), format!("{:?}", refused.detail)));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].1, ErrorCode::Incomplete);
    assert!(bench.replicas.points(&owner(2), None).unwrap().is_empty());
    // Nor does a place in the index that is another's answer to the store's own commit.
    for contents in [&a_s, &nowhere] {
        let refused = commit_unchecked(&bench, owner(2).tenant, contents);
        assert!(matches!(refused, StoreError::UnknownRecord { .. }), "{refused}");
    }
    // No path of any route holds a key.
    for row in offsite_proto::rows::ALL {
        assert!(!row.path.contains("{key}") && !row.query.contains(&"key"), "{}", row.id);
    }
}

/// A commit that no machine has looked at.
fn commit_unchecked(bench: &Bench, tenant: TenantId, contents: &[u64]) -> StoreError {
    let store = &bench.replicas.store;
    let image = Image { owner: owner(2), number: 9, point: 9, contents };
    let open = image.open();
    let mut session = store.session(tenant).unwrap();
    let spec = ImageSpec {
        image: open.image_id.0,
        volume: open.volume_driver_id.0,
        bytes: open.size_bytes.0,
        record_bytes: RECORD,
        form: Form::Plain,
    };
    let mut writer = session.image(spec, None, None).unwrap();
    for entry in image.list() {
        let (offset, length, key) = (entry.offset(), entry.bytes(), entry.key());
        writer.push(offsite_store::ListEntry { offset, length, key }).unwrap();
    }
    let point = PointSpec {
        point: open.recovery_point_id.0,
        agent: open.agent_id.0,
        taken_at: open.utc_created_timestamp.0,
        committed_at: open.utc_created_timestamp.0,
        n_images: 1,
        token: [9; 16],
        note: Vec::new(),
    };
    session.commit(point, vec![(writer, Some(open.image_digest.0))]).unwrap_err()
}
