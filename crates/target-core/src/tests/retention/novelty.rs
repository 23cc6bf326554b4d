//! What an agent sends is far more new than usual: a person is told, and nothing follows.

use offsite_proto::admin::target::ReadStatus;
use offsite_proto::group::Codec;

use super::{DAY, Vault};
use crate::tests::wire::{Image, Wire, group};

/// Records of the volume.
const N: u64 = 200;

/// Sends the volume as it is on a day: that day's own records in these places, which are sent, and
/// in the others what they held on the first.
async fn send(vault: &Vault, day: u8, changed: std::ops::Range<u64>) {
    let own = |at: u64| u64::from(day) * 1_000 + at;
    let contents = (0..N).map(|at| if changed.contains(&at) { own(at) } else { 1_000 + at });
    let image = Image { number: day, contents: contents.collect() };
    let wire = Wire::open(vault.scene(), &vault.source, &image).await.unwrap();
    wire.offer(&image).await;
    let new: Vec<(u64, u64)> = changed.map(|at| (at, own(at))).collect();
    let groups: Vec<_> = new.chunks(64).map(|new| group(new, Codec::None, false, None)).collect();
    wire.send(&groups).await.unwrap();
    wire.commit().await.unwrap();
}

#[tokio::test]
async fn c_11_a_machine_that_is_suddenly_new_is_told_at_once_and_nothing_is_deleted() {
    let vault = Vault::open().await;
    let told = || vault.n_audited("novelty_unusual");
    send(&vault, 1, 0..N).await;
    for day in 2..=18 {
        vault.pass(DAY);
        // One in a hundred, and on one day four times as much.
        send(&vault, day, 0..if day == 16 { 8 } else { 2 }).await;
        assert_eq!(told(), 0, "day {day} is a usual one");
    }
    vault.pass(DAY);
    let before = vault.all_restored();
    send(&vault, 19, 0..N).await;
    // No time has passed.
    assert_eq!(told(), 1);
    let status = vault.ask::<ReadStatus>((), ()).await.unwrap().0;
    let alarm = &status.alarms[0];
    let facts: Vec<(&str, &str)> =
        alarm.facts.iter().map(|fact| (&*fact.name, &*fact.value)).collect();
    assert_eq!(alarm.what, "novelty_unusual");
    assert!(facts.contains(&("new_percent", "100.00")), "{facts:?}");
    assert!(facts.contains(&("usual_percent", "1.00")), "{facts:?}");
    send(&vault, 20, 0..N).await;
    assert_eq!(told(), 1, "once a day");
    vault.pass(DAY.times(30));
    let after = vault.all_restored();
    assert_eq!(after.len(), before.len() + 2);
    assert!(before.iter().all(|point| after.contains(point)), "one is gone, or another now");
    assert_eq!((vault.n_audited("point_purged"), vault.n_audited("deletion_asked")), (0, 0));
    assert!(vault.ask::<ReadStatus>((), ()).await.unwrap().0.alarms.is_empty(), "it is long ago");
}
