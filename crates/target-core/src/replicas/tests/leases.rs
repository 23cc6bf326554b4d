//! What sessions left behind goes when its lease is over, and not before.

use super::*;

/// Lets time pass as the housekeeping sees it: a count every five minutes.
fn pass(bench: &Bench, hours: u64) -> usize {
    let mut n_ended = 0;
    for _ in 0..hours * 12 {
        bench.clock.advance(Span::from_secs(300));
        n_ended += bench.replicas.end_abandoned().unwrap();
    }
    n_ended
}

const IMAGE: Image<'static> = Image {
    owner: Owner { tenant: TenantId::from_bytes([1; 16]), source: CoreId::from_bytes([1; 16]) },
    number: 1,
    point: 1,
    contents: &[1, 2, 3, 4],
};

/// A session that brought half of its image, durable.
async fn half(bench: &Bench) -> Filling {
    let mut filling = bench.open(&IMAGE).unwrap();
    bench.offer(&mut filling, &IMAGE).await;
    bench.send(&filling, &IMAGE, 0);
    bench.send(&filling, &IMAGE, 1);
    until_durable(bench, &filling, 2).await;
    filling
}

#[tokio::test]
async fn d_11_what_nobody_came_back_for_is_freed_when_its_lease_is_over() {
    let disk = Disk::new(1);
    let bench = Bench::started(&disk);
    let stored = |bench: &Bench| bench.replicas.store.bytes_stored(IMAGE.owner.tenant);
    drop(half(&bench).await);
    drop(bench);
    disk.power_cut();
    // A start begins no new lease: what is left of it goes on.
    let bench = Bench::started(&disk);
    assert_eq!((bench.replicas.end_abandoned().unwrap(), pass(&bench, 13)), (0, 0));
    drop(bench);
    disk.power_cut();
    let bench = Bench::started(&disk);
    assert_eq!((bench.replicas.end_abandoned().unwrap(), pass(&bench, 10)), (0, 0));
    assert!(stored(&bench) > u64::from(RECORD));
    assert_eq!(pass(&bench, 2), 1);
    assert_eq!((stored(&bench), bench.replicas.store.drafts().unwrap().len()), (0, 0));
    // Who comes back now begins anew.
    let mut filling = bench.open(&IMAGE).unwrap();
    assert!(!filling.is_resumed);
    assert_eq!(bench.offer(&mut filling, &IMAGE).await, [true; 4]);
    (0..4).for_each(|ordinal| bench.send(&filling, &IMAGE, ordinal));
    bench.commit(&filling).await.unwrap();
}

#[tokio::test]
async fn d_11_the_time_a_target_was_switched_off_or_its_clock_jumped_is_not_counted() {
    let disk = Disk::new(1);
    let bench = Bench::started(&disk);
    drop(half(&bench).await);
    drop(bench);
    disk.power_cut();
    let bench = Bench::started(&disk);
    assert_eq!((bench.replicas.end_abandoned().unwrap(), pass(&bench, 1)), (0, 0));
    bench.clock.jump_to(Timestamp::from_secs(2_100_000_000));
    assert_eq!(pass(&bench, 1), 0);
    assert!(bench.open(&IMAGE).unwrap().is_resumed);
}

#[tokio::test]
async fn d_11_the_draft_of_a_session_at_work_has_no_lease() {
    let bench = Bench::started(&Disk::new(1));
    let mut filling = half(&bench).await;
    for _ in 0..10 {
        // Alive by a word now and then, and nothing brought for ten days.
        assert_eq!(pass(&bench, 23), 0);
        bench.replicas.tick();
        filling = bench.open(&IMAGE).unwrap();
        assert!(filling.is_resumed);
        assert_eq!(bench.offer(&mut filling, &IMAGE).await, [false, false, true, true]);
    }
    bench.send(&filling, &IMAGE, 2);
    bench.send(&filling, &IMAGE, 3);
    bench.commit(&filling).await.unwrap();
}

#[tokio::test]
async fn a_session_that_expired_can_be_gone_on_with_for_another_lease_and_no_longer() {
    let bench = Bench::started(&Disk::new(1));
    let filling = half(&bench).await;
    let name = filling.live.name;
    assert_eq!(pass(&bench, 25), 0);
    bench.replicas.tick();
    assert!(!filling.live.look(|machine| machine.stage().is_live()));
    assert_eq!(pass(&bench, 23), 0);
    assert!(bench.replicas.transferred(&name).is_ok());
    assert_eq!(pass(&bench, 2), 1);
    let refused = bench.replicas.transferred(&name).unwrap_err();
    assert_eq!(refused.code, ErrorCode::ImageUnknown);
    assert!(!bench.open(&IMAGE).unwrap().is_resumed);
}

#[tokio::test]
async fn d_12_a_target_that_was_stopped_and_replaced_answers_lease_lost_and_nothing_is_lost() {
    for round in 0..5 {
        let (disk, catalog) = (Disk::new(round), Arc::new(MemoryCatalog::new()));
        let stopped = Bench::over(&disk, Arc::clone(&catalog) as Arc<dyn Catalog>).unwrap();
        let filling = half(&stopped).await;
        (2..4).for_each(|ordinal| stopped.send(&filling, &IMAGE, ordinal));
        // As on another machine, which does not see the lock.
        disk.files().remove(Path::new("/store/lock")).unwrap();
        let next = Bench::over(&disk, catalog).unwrap();
        let lost = stopped.commit(&filling).await.unwrap_err();
        assert_eq!((lost.code, lost.retryable), (ErrorCode::LeaseLost, true), "{lost}");
        assert!(next.replicas.points(&IMAGE.owner, None).unwrap().is_empty());
        // What a barrier kept is gone on from.
        let mut filling = next.open(&IMAGE).unwrap();
        assert!(filling.is_resumed);
        assert_eq!(next.offer(&mut filling, &IMAGE).await, [false, false, true, true]);
        (2..4).for_each(|ordinal| next.send(&filling, &IMAGE, ordinal));
        next.commit(&filling).await.unwrap();
        assert_eq!(next.replicas.points(&IMAGE.owner, None).unwrap().len(), 1);
        assert!(next.bytes_of(&IMAGE) == IMAGE.bytes());
    }
}
