//! The latest point, and the one that waits.

use offsite_model::{AgentId, Digest, ImageId, Timestamp};
use offsite_proto::text::{Big, Text, Time};

use super::*;

fn summary(id: u8, status: PointStatus) -> RecoveryPointSummary {
    RecoveryPointSummary {
        id: Text(PointId::from_bytes([id; 16])),
        agent_id: Text(AgentId::from_bytes([1; 16])),
        timestamp: Time(Timestamp::from_secs(i64::from(id))),
        volume_image_ids: Vec::new(),
        status,
        encryption_key_id: None,
        size_bytes: Big(0),
    }
}

fn image(point: u8, volume: u8, label: &str, previous: Option<u32>) -> VolumeImageSummary {
    VolumeImageSummary {
        id: Text(ImageId::from_bytes([point; 16])),
        driver_volume_id: Text(VolumeId::from_bytes([volume; 16])),
        epoch_number: point.into(),
        previous_epoch_number: previous,
        recovery_point_id: Text(PointId::from_bytes([point; 16])),
        image_digest: Text(Digest::of(b"list")),
        is_orphaned: previous.is_some(),
        is_purged: false,
        header_hash: None,
        rollup_granularity_cell: Default::default(),
        utc_created_timestamp: Time(Timestamp::from_secs(i64::from(point))),
        volume_image_hash: 0,
        display_name: Some(label.to_owned()),
    }
}

fn asked(volume: &str, point: Option<&str>) -> OfContent {
    OfContent {
        agent: "web".to_owned(),
        volume: volume.to_owned(),
        point: point.map(str::to_owned),
        from: None,
    }
}

#[test]
fn the_latest_is_the_newest_whole_point_that_has_the_volume() {
    let points = [
        summary(4, PointStatus::Orphaned),
        summary(3, PointStatus::Ok),
        summary(2, PointStatus::Ok),
        summary(1, PointStatus::Ok),
    ];
    let images = [
        image(1, 1, "root", None),
        image(2, 1, "root", None),
        image(3, 2, "boot", None),
        image(4, 1, "root", Some(3)),
    ];
    let latest = |label: &str, own| {
        point(&points, &images, own, &asked(label, None)).map(|id| id.to_bytes()[0])
    };
    assert_eq!(latest("root", None).unwrap(), 2);
    assert_eq!(latest("boot", None).unwrap(), 3);
    // Under the name that this source has for it.
    assert_eq!(latest("system", Some(VolumeId::from_bytes([1; 16]))).unwrap(), 2);
    // The newest says what there is instead.
    let newest = PointId::from_bytes([latest("data", None).unwrap(); 16]);
    let trouble = volume(&images, newest, None, "data").unwrap_err();
    assert_eq!(
        (trouble.code, &trouble.hint[..]),
        (ErrorCode::ImageUnknown, "its volumes are: boot")
    );
}

#[test]
fn an_orphaned_point_is_refused_with_the_epoch_that_is_missing() {
    let points = [summary(5, PointStatus::Orphaned), summary(1, PointStatus::Ok)];
    let images =
        [image(1, 1, "root", None), image(4, 1, "root", Some(3)), image(5, 1, "root", Some(4))];
    let id = PointId::from_bytes([5; 16]).to_string();
    let trouble = point(&points, &images, None, &asked("root", Some(&id))).unwrap_err();
    assert_eq!(trouble.code, ErrorCode::BaseMissing);
    assert!(trouble.message.ends_with("waits for an image of epoch 3"), "{}", trouble.message);
}
