//! Chains that arrive in any order, and through crashes.

use offsite_content::{Content, Part, ReadError};
use offsite_proto::catalog::PointStatus;

use super::*;
use crate::content::{Named, Opened};
use crate::replicas::PointShown;

/// Positions of the volume.
const N: usize = 6;

/// A volume over its epochs, which count from 1: what each position holds.
struct Chain {
    owner: Owner,
    epochs: Vec<[u64; N]>,
}

impl Chain {
    /// Each epoch changes two positions.
    fn of(n_epochs: u64) -> Self {
        let mut contents = [1, 2, 3, 4, 5, 6];
        let mut epochs = vec![contents];
        for epoch in 1..n_epochs {
            contents[epoch as usize % N] = 100 + epoch;
            contents[(epoch as usize * 3 + 1) % N] = 200 + epoch;
            epochs.push(contents);
        }
        Self { owner: owner(1), epochs }
    }

    fn contents(&self, epoch: u32) -> &[u64; N] {
        &self.epochs[epoch as usize - 1]
    }

    fn list(&self, epoch: u32) -> Vec<ListEntry> {
        let new = self.contents(epoch);
        let old = epoch.checked_sub(2).map(|before| &self.epochs[before as usize]);
        let changed = (0..N).filter(|at| old.is_none_or(|old| old[*at] != new[*at]));
        let entry = |at: usize| {
            let offset = at as u64 * u64::from(RECORD);
            ListEntry::record(offset, RECORD, Key::of(&bytes_of(new[at])))
        };
        changed.map(entry).collect()
    }

    fn digest(&self, epoch: u32) -> offsite_model::Digest {
        let mut digest = ListDigest::new();
        let list = self.list(epoch);
        list.iter().for_each(|entry| digest.entry(entry.offset(), entry.bytes(), &entry.key()));
        digest.finish()
    }

    fn point(epoch: u32) -> PointId {
        PointId::from_bytes([epoch as u8; 16])
    }

    fn open(&self, epoch: u32, allow_orphan: bool) -> OpenSession {
        let number = epoch as u8;
        let base = Image { owner: self.owner, number, point: number, contents: self.contents(1) };
        let mut open = base.open();
        open.record_count = Big(self.list(epoch).len() as u64);
        open.image_digest = Text(self.digest(epoch));
        open.utc_created_timestamp = Time(Timestamp::from_secs(1_800_000_000 + i64::from(epoch)));
        open.allow_orphan = allow_orphan;
        open.display_name = Some("root".to_owned());
        if epoch > 1 {
            open.image_type = ImageType::Incremental;
            open.previous_epoch_number = Some(epoch - 1);
            open.parent_image_id = Some(Text(ImageId::from_bytes([number - 1; 16])));
            open.parent_image_digest = Some(Text(self.digest(epoch - 1)));
        }
        open
    }

    /// Replicates an epoch.
    async fn send(&self, bench: &Bench, epoch: u32, allow_orphan: bool) -> Result<(), Refusal> {
        let open = self.open(epoch, allow_orphan);
        let caller = Caller { owner: self.owner, is_agent_known: true, quota_bytes: None };
        let opened = bench.replicas.open_session(caller, open)?;
        if opened.answer.state == offsite_proto::session::SessionState::Committed {
            return Ok(());
        }
        let live = bench.replicas.session_by_id(&self.owner, opened.answer.session_id.0)?;
        let (line, frames) = live.attach(StreamKind::Keys);
        let mut filling = Filling { live, line, frames, is_resumed: opened.answer.resumed };
        let list = self.list(epoch);
        let input = Input::Keys { window: 0, first_ordinal: 0, entries: list.clone() };
        filling.live.step(&bench.replicas, input, Some(filling.line));
        let wanted: Vec<bool> = loop {
            match filling.frames.recv().await {
                Some(Out::Wanted(answer)) => break answer.iter().collect(),
                Some(Out::Fail(refusal)) => return Err(refusal),
                Some(Out::Credit(_) | Out::Flushed(_)) => {}
                None => {
                    return Err(Refusal::new(ErrorCode::Internal, "the stream ended"));
                }
            }
        };
        for (ordinal, entry) in list.iter().enumerate().filter(|(at, _)| wanted[*at]) {
            let at = (entry.offset() / u64::from(RECORD)) as usize;
            let record = bytes_of(self.contents(epoch)[at]);
            let table = vec![GroupEntry::new(ordinal as u64, entry.key(), entry.bytes())];
            let rows = table_rows(&table);
            let input = Input::Group { table, is_encrypted: false, bytes: u64::from(RECORD) };
            let asked = filling.live.step(&bench.replicas, input, Some(filling.line));
            let Some(group) = asked.stage else { continue };
            let arrived = Arrived { codec: Codec::None, table: rows, payload: record.into() };
            let outcome = filling.live.append(&bench.replicas, arrived);
            filling.live.step(
                &bench.replicas,
                Input::Staged { group, outcome },
                Some(filling.line),
            );
        }
        bench.commit(&filling).await
    }

    /// The whole volume at an epoch, as it comes out of the store.
    fn read(&self, bench: &Bench, epoch: u32) -> Vec<u8> {
        let store = bench.replicas.store.clone();
        let (tenant, volume) = (self.owner.tenant, VolumeId::from_bytes([4; 16]));
        let image = store.image(tenant, Self::point(epoch), volume).unwrap();
        let mut bytes = Vec::new();
        let read = Content::new(store, tenant, image, 1).in_order(&mut |part| {
            match part {
                Part::Zeros(n) => bytes.extend(std::iter::repeat_n(0, n as usize)),
                Part::Bytes(more) => bytes.extend_from_slice(&more),
            }
            Ok::<_, ReadError>(())
        });
        read.unwrap();
        bytes
    }

    /// What is shown: epoch and whether it is whole; all whole ones are read and compared.
    fn shown(&self, bench: &Bench) -> Vec<(u32, bool)> {
        let points = points(bench, &self.owner);
        let shown = points.iter().rev().map(|point| {
            let epoch = point.images[0].name.epoch;
            let is_whole = point.status == PointStatus::Ok;
            if is_whole {
                let expected = self.contents(epoch).iter().flat_map(|content| bytes_of(*content));
                assert!(self.read(bench, epoch) == expected.collect::<Vec<_>>(), "epoch {epoch}");
            }
            (epoch, is_whole)
        });
        shown.collect()
    }
}

fn points(bench: &Bench, owner: &Owner) -> Vec<PointShown> {
    bench.replicas.points_with_orphans(owner, None).unwrap()
}

/// All orders of so many.
fn orders(n: u32) -> Vec<Vec<u32>> {
    let mut orders = vec![Vec::new()];
    for next in 1..=n {
        let longer = |order: Vec<u32>| {
            (0..=order.len()).map(move |at| {
                let mut longer = order.clone();
                longer.insert(at, next);
                longer
            })
        };
        orders = orders.into_iter().flat_map(longer).collect();
    }
    orders
}

#[tokio::test]
async fn a_chain_becomes_whole_in_whatever_order_it_arrives() {
    let chain = Chain::of(5);
    for order in orders(5) {
        let bench = Bench::new(&Disk::new(1));
        let mut sent = Vec::new();
        for &epoch in &order {
            chain.send(&bench, epoch, true).await.unwrap();
            sent.push(epoch);
            sent.sort_unstable();
            let is_whole = |epoch: &u32| (1..=*epoch).all(|before| sent.contains(&before));
            let expected: Vec<_> = sent.iter().map(|epoch| (*epoch, is_whole(epoch))).collect();
            assert_eq!(chain.shown(&bench), expected, "{order:?} after {epoch}");
            let n_whole = expected.iter().filter(|(_, is_whole)| *is_whole).count();
            assert_eq!(bench.replicas.points(&chain.owner, None).unwrap().len(), n_whole);
            let waiting = bench.replicas.waiting_images(&chain.owner, chain_agent()).unwrap();
            assert_eq!(waiting.len(), sent.len() - n_whole);
        }
        // Nothing of a draft is left where nobody waits.
        let drafts = || bench.replicas.store.drafts().unwrap().len();
        until(&bench, || drafts() == 0).await;
    }
}

fn chain_agent() -> AgentId {
    AgentId::from_bytes([1; 16])
}

/// Waits for work that goes on after its answer.
async fn until(bench: &Bench, is_so: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if is_so() {
            return;
        }
        bench.replicas.pool.run(|| ()).await;
        tokio::task::yield_now().await;
    }
    panic!("it did not come about");
}

#[tokio::test]
async fn without_leave_an_image_does_not_come_before_its_parent() {
    let (chain, bench) = (Chain::of(4), Bench::new(&Disk::new(1)));
    let refused = chain.send(&bench, 2, false).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::BaseMissing, "{refused}");
    chain.send(&bench, 3, true).await.unwrap();
    // An orphan is no parent either, unless its child may wait with it.
    let refused = chain.send(&bench, 4, false).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::BaseMissing, "{refused}");
    chain.send(&bench, 4, true).await.unwrap();
    assert_eq!(chain.shown(&bench), [(3, false), (4, false)]);
}

#[tokio::test]
async fn an_orphan_is_not_read_and_says_what_it_waits_for() {
    let (chain, bench) = (Chain::of(5), Bench::new(&Disk::new(1)));
    for epoch in [1, 5, 4] {
        chain.send(&bench, epoch, true).await.unwrap();
    }
    let all = points(&bench, &chain.owner);
    let sentence = "volume root waits for its epoch 3, which is not here";
    assert_eq!(all[0].waits_for, [sentence]);
    assert_eq!(all[1].waits_for, [sentence]);
    let agent = chain_agent();
    let open = |point: &str| {
        let named = Named { agent: "web", volume: "root", point };
        Opened::of(&bench.replicas, &chain.owner, agent, &named)
    };
    let refused = open(&Chain::point(5).to_string()).map(|_| ()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::BaseMissing);
    assert!(refused.message.contains("epoch 3"), "{refused}");
    // The latest that can be read is meant.
    assert_eq!(open("latest").unwrap_or_else(|e| panic!("{e}")).point, Chain::point(1));
}

#[tokio::test]
async fn the_latest_point_of_a_volume_is_the_newest_that_has_it() {
    let bench = Bench::new(&Disk::new(1));
    let image = Image { owner: owner(1), number: 1, point: 1, contents: &[1, 2, 3] };
    bench.transfer(&image).await.unwrap();
    // A later point of the agent has another volume.
    let chain = Chain::of(3);
    let mut open = chain.open(2, false);
    open.image_type = ImageType::Base;
    (open.previous_epoch_number, open.parent_image_id, open.parent_image_digest) =
        (None, None, None);
    open.volume_driver_id = Text(VolumeId::from_bytes([5; 16]));
    open.display_name = Some("boot".to_owned());
    open.record_count = Big(1);
    open.size_bytes = Big(u64::from(RECORD));
    let mut digest = ListDigest::new();
    digest.entry(0, RECORD, &Key::of(&bytes_of(1)));
    open.image_digest = Text(digest.finish());
    let caller = Caller { owner: owner(1), is_agent_known: true, quota_bytes: None };
    let opened = bench.replicas.open_session(caller, open).unwrap();
    let live = bench.replicas.session_by_id(&owner(1), opened.answer.session_id.0).unwrap();
    let (line, frames) = live.attach(StreamKind::Keys);
    let mut filling = Filling { live, line, frames, is_resumed: false };
    let boot = Image { contents: &[1], ..image };
    assert_eq!(bench.offer(&mut filling, &boot).await, [false]);
    bench.commit(&filling).await.unwrap();
    let latest = |volume: &str| {
        let named = Named { agent: "web", volume, point: "latest" };
        Opened::of(&bench.replicas, &owner(1), chain_agent(), &named).map(|opened| opened.point)
    };
    assert_eq!(latest("boot").unwrap(), Chain::point(2));
    let root = VolumeId::from_bytes([4; 16]).to_string();
    assert_eq!(latest(&root).unwrap(), Chain::point(1));
    let refused = latest("data").unwrap_err();
    assert_eq!(refused.code, ErrorCode::ImageUnknown);
    assert!(refused.message.ends_with("it has: boot"), "{refused}");
}

#[tokio::test]
async fn an_orphan_has_no_lease() {
    let (chain, bench) = (Chain::of(3), Bench::new(&Disk::new(1)));
    chain.send(&bench, 3, true).await.unwrap();
    for _ in 0..2 * 24 * 30 {
        bench.clock.advance(Span::from_secs(3_600));
        assert_eq!(bench.replicas.end_abandoned().unwrap(), 0);
    }
    for epoch in [1, 2] {
        chain.send(&bench, epoch, false).await.unwrap();
    }
    assert_eq!(chain.shown(&bench), [(1, true), (2, true), (3, true)]);
}

#[tokio::test]
async fn a_parent_with_another_content_leaves_the_orphan_waiting() {
    let (chain, bench) = (Chain::of(3), Bench::new(&Disk::new(1)));
    let mut other = Chain::of(3);
    other.epochs[1][0] = 999;
    for epoch in [1, 3] {
        chain.send(&bench, epoch, true).await.unwrap();
    }
    other.send(&bench, 2, false).await.unwrap();
    assert_eq!(other.shown(&bench), [(1, true), (2, true), (3, false)]);
    let all = points(&bench, &chain.owner);
    let sentence = "volume root: its parent, epoch 2, is here with another content";
    assert_eq!(all[0].waits_for, [sentence]);
    // The same epoch with another content does not take its place.
    let refused = other.send(&bench, 3, true).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::AlreadyExists, "{refused}");
    // The source that asks again hears the same as before.
    chain.send(&bench, 3, true).await.unwrap();
}

#[tokio::test]
async fn an_orphan_counts_for_the_quota() {
    let (chain, bench) = (Chain::of(3), Bench::new(&Disk::new(1)));
    chain.send(&bench, 3, true).await.unwrap();
    bench.replicas.quotas.set(&chain.owner, Some(1 << 20));
    let left = bench.replicas.quotas.left(&chain.owner).unwrap().unwrap();
    assert!(left < (1 << 20) - u64::from(RECORD), "{left}");
}

#[tokio::test]
async fn d_03_orphans_outlive_power_cuts_and_find_their_parent_whatever_is_cut() {
    let luck = SeededLuck::from_env_or(1);
    let chain = Chain::of(5);
    let golden = Disk::new(luck.next());
    {
        let bench = Bench::started(&golden);
        for epoch in [1, 5, 3, 4] {
            chain.send(&bench, epoch, true).await.unwrap();
        }
    }
    golden.power_cut();
    let mut n_adopted_at_start = 0;
    for after in 0.. {
        let disk = golden.fork(luck.next());
        let bench = Bench::started(&disk);
        assert_eq!(chain.shown(&bench), [(1, true), (3, false), (4, false), (5, false)]);
        disk.cut_after(after);
        let told = chain.send(&bench, 2, false).await;
        let was_cut = disk.is_cut();
        disk.power_cut();
        drop(bench);
        // Once more right behind it, while the target starts.
        disk.cut_after(after % 40);
        drop(Bench::try_started(&disk));
        disk.power_cut();
        let bench = Bench::started(&disk);
        let shown = chain.shown(&bench);
        if shown.iter().any(|(epoch, _)| *epoch == 2) {
            assert_eq!(shown, [1, 2, 3, 4, 5].map(|epoch| (epoch, true)), "cut after {after}");
            n_adopted_at_start += usize::from(told.is_err());
        } else {
            assert!(told.is_err(), "cut after {after}: acknowledged and gone");
            assert_eq!(shown, [(1, true), (3, false), (4, false), (5, false)]);
            chain.send(&bench, 2, false).await.unwrap();
            let all = [1, 2, 3, 4, 5].map(|epoch| (epoch, true));
            assert_eq!(chain.shown(&bench), all, "cut after {after}");
        }
        if !was_cut {
            assert!(n_adopted_at_start > 0, "{n_adopted_at_start}");
            return;
        }
    }
}
