//! Points that are purged, and space that is collected, between "you need not send this" and the
//! commit that counts on it: over real files and beside real threads.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use offsite_daemon::SystemFiles;
use offsite_store::{CollectOptions, CollectReport};

use super::super::draft;
use super::*;

/// Segments of a few records, so that a collection finds some that are dead and some to empty.
const TINY: Settings = Settings {
    recent_records_max: 8,
    reserve_bytes: 0,
    reserve_percent: 0,
    segment_bytes: 24 << 10,
    segment_records: 6,
};
const EVERYTHING: CollectOptions = CollectOptions {
    live_percent: 100,
    moved_bytes_max: u64::MAX,
    filter_bytes_max: 1 << 20,
    level: 1,
    tenant: None,
    n_threads: 2,
};
const OWNER: Owner =
    Owner { tenant: TenantId::from_bytes([1; 16]), source: CoreId::from_bytes([1; 16]) };

/// A store in a folder, with a first point, and a second image on its way that shares half of it.
struct Place {
    folder: tempfile::TempDir,
    bench: Bench,
    catalog: Arc<dyn Catalog>,
    first: Vec<u64>,
    second: Vec<u64>,
    n_freed: u64,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let catalog: Arc<dyn Catalog> = Arc::new(MemoryCatalog::new());
        let bench = Self::open(folder.path().join("store"), &catalog, 1);
        let first: Vec<u64> = (1..=120).collect();
        let second = (1..=120).map(|n| if n % 2 == 0 { n } else { n + 1_000 }).collect();
        let place = Self { folder, bench, catalog, first, second, n_freed: 0 };
        place.bench.transfer(&place.first()).await.unwrap();
        place
    }

    fn open(store: PathBuf, catalog: &Arc<dyn Catalog>, seed: u64) -> Bench {
        let luck = SeededLuck::new(seed);
        Bench::on(Arc::new(SystemFiles), &store, Arc::clone(catalog), TINY, luck).unwrap()
    }

    fn first(&self) -> Image<'_> {
        Image { owner: OWNER, number: 1, point: 1, contents: &self.first }
    }

    fn second(&self) -> Image<'_> {
        Image { owner: OWNER, number: 2, point: 2, contents: &self.second }
    }

    /// The second image is offered; half of it is held, which is what it counts on.
    async fn promised(&self) -> Filling {
        let mut filling = self.bench.open(&self.second()).unwrap();
        let wanted = self.bench.offer(&mut filling, &self.second()).await;
        assert_eq!(wanted.iter().filter(|wanted| **wanted).count(), 60, "half is held");
        filling
    }

    fn send_new(&self, filling: &Filling) {
        (0..120).step_by(2).for_each(|ordinal| self.bench.send(filling, &self.second(), ordinal));
    }

    /// The first point goes for good, and then all space that nobody counts on.
    fn purge_and_collect(&mut self) {
        purge(&self.bench.replicas.store, 1);
        self.n_freed += collect(&self.bench.replicas.store).n_segments;
    }

    /// The target is started again over the same files.
    async fn restart(self) -> Self {
        let Self { folder, bench, catalog, first, second, n_freed } = self;
        // Whoever works for a session has the store, until the target stops.
        let left = bench.replicas.mutations.finish(std::time::Duration::from_secs(60)).await;
        assert_eq!(left, 0, "work that does not end");
        // Other ids than before.
        let seed = bench.replicas.world.luck.below(1 << 32);
        drop(bench);
        let bench = Self::open(folder.path().join("store"), &catalog, seed);
        Self { folder, bench, catalog, first, second, n_freed }
    }

    /// What was committed is whole after another collection, and after a restart and a third.
    async fn check(mut self) -> u64 {
        for _ in 0..2 {
            // The second time nobody is left who was told of anything.
            self.n_freed += collect(&self.bench.replicas.store).n_segments;
            assert!(self.bench.bytes_of(&self.second()) == self.second().bytes());
            let store = &self.bench.replicas.store;
            let report = store.verify(&mut |_, _| ControlFlow::Continue(())).unwrap();
            assert_eq!(report.damage, []);
            self = self.restart().await;
        }
        self.n_freed
    }
}

fn purge(store: &Store, point: u8) {
    let (point, at) = (PointId::from_bytes([point; 16]), Timestamp::from_secs(1));
    store.delete_point(OWNER.tenant, point, at).unwrap();
    store.purge(OWNER.tenant, &[point], at).unwrap();
}

fn collect(store: &Store) -> CollectReport {
    store.collect(&EVERYTHING, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// What is held stays, though nothing but the session counts on it.
async fn between() -> u64 {
    let mut place = Place::new().await;
    let filling = place.promised().await;
    place.purge_and_collect();
    place.send_new(&filling);
    place.bench.commit(&filling).await.unwrap();
    drop(filling);
    place.check().await
}

/// So it does across a restart of the target, before which the point went.
async fn across_a_restart() -> u64 {
    let place = Place::new().await;
    drop(place.promised().await);
    purge(&place.bench.replicas.store, 1);
    let mut place = place.restart().await;
    place.n_freed += collect(&place.bench.replicas.store).n_segments;
    let filling = place.promised().await;
    assert!(filling.is_resumed);
    place.send_new(&filling);
    place.bench.commit(&filling).await.unwrap();
    drop(filling);
    place.check().await
}

/// And when the source was away for longer than its session lives.
async fn behind_a_session_that_expired() -> u64 {
    let mut place = Place::new().await;
    let filling = place.promised().await;
    place.bench.clock.advance(Span::from_hours(25));
    place.bench.replicas.tick();
    place.purge_and_collect();
    let late = place.bench.commit(&filling).await.unwrap_err();
    assert_eq!(late.code, ErrorCode::SessionExpired, "{late}");
    let filling = place.promised().await;
    assert!(filling.is_resumed);
    place.send_new(&filling);
    place.bench.commit(&filling).await.unwrap();
    drop(filling);
    place.check().await
}

/// Collection without end, and the point going at any moment of the transfer.
async fn beside_threads() -> u64 {
    let place = Place::new().await;
    let (store, is_over) = (place.bench.replicas.store.clone(), Arc::new(AtomicBool::new(false)));
    let n_freed = Arc::new(AtomicU64::new(0));
    let collector = std::thread::spawn({
        let (store, is_over, n_freed) = (store.clone(), Arc::clone(&is_over), Arc::clone(&n_freed));
        move || {
            while !is_over.load(Ordering::SeqCst) {
                n_freed.fetch_add(collect(&store).n_segments, Ordering::SeqCst);
            }
        }
    });
    let filling = place.promised().await;
    let purger = std::thread::spawn(move || purge(&store, 1));
    place.send_new(&filling);
    place.bench.commit(&filling).await.unwrap();
    purger.join().unwrap();
    is_over.store(true, Ordering::SeqCst);
    collector.join().unwrap();
    drop(filling);
    n_freed.load(Ordering::SeqCst) + place.check().await
}

/// Whoever has lost the promise is told so, and that asking again helps.
async fn after_the_promise_was_lost() -> u64 {
    let mut place = Place::new().await;
    let filling = place.promised().await;
    place.send_new(&filling);
    let session = draft::id_of(&filling.live.name);
    place.bench.replicas.store.end_draft(OWNER.tenant, session).unwrap();
    place.purge_and_collect();
    let lost = place.bench.commit(&filling).await.unwrap_err();
    assert_eq!((lost.code, lost.retryable), (ErrorCode::LeaseLost, true), "{lost}");
    assert!(place.bench.replicas.points(&OWNER, None).unwrap().is_empty());
    drop(filling);
    // Asked again, nothing is held any more of what was.
    let wanted = place.bench.transfer(&place.second()).await.unwrap();
    assert!((1..120).step_by(2).all(|ordinal| wanted[ordinal]), "{wanted:?}");
    place.check().await
}

#[tokio::test]
async fn b_08_five_collections_between_a_promise_and_its_commit_break_no_point() {
    let freed = [
        between().await,
        across_a_restart().await,
        behind_a_session_that_expired().await,
        beside_threads().await,
        after_the_promise_was_lost().await,
    ];
    assert!(freed.iter().all(|n_segments| *n_segments > 0), "segments that went: {freed:?}");
}
