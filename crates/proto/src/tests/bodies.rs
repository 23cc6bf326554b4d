//! Golden bodies of replication: one sample of each, as it was decided. A body is read, written and
//! compared as JSON; then again with a field nobody knows in every object, and with every optional
//! field left out.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::catalog::{
    AgentLists, AgentPoints, AgentStorageUsage, CanReplicate, ConsumedSeedDrive, FreeSpace,
    OfferedRepository, RecoveryPointSummary, ReplicatedAgent, VisibleAgent, VolumeImageSummary,
};
use crate::error::ErrorCode;
use crate::heal::{DamagedRecord, ReadRecords};
use crate::jobs::{MirrorStarted, MirrorWishes, StartMirror, SyncMirror};
use crate::json;
use crate::limits::PAGE_ITEMS_MAX;
use crate::page::Page;
use crate::session::{ImageType, OpenSession, SessionOpened};

const SAMPLES: &str = include_str!("../../fixtures/v1/bodies.json");

fn with_more(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Map<_, _> =
                fields.iter().map(|(name, field)| (name.clone(), with_more(field))).collect();
            fields.insert("aFieldOfALaterVersion".into(), Value::from(vec![1]));
            fields.into()
        }
        Value::Array(items) => items.iter().map(with_more).collect(),
        other => other.clone(),
    }
}

fn check<T: Serialize + DeserializeOwned>(name: &str) {
    let all: Value = serde_json::from_str(SAMPLES).unwrap();
    let sample = all.get(name).unwrap_or_else(|| panic!("no sample of {name}"));
    for given in [sample.clone(), with_more(sample)] {
        let read: T = json::from_slice(given.to_string().as_bytes())
            .unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert_eq!(&serde_json::to_value(&read).unwrap(), sample, "{name}");
    }
}

#[test]
fn bodies_are_those_that_were_decided() {
    check::<Vec<ConsumedSeedDrive>>("row 1");
    check::<Vec<ReplicatedAgent>>("row 9");
    check::<Vec<AgentStorageUsage>>("row 10");
    check::<Vec<VisibleAgent>>("row 11");
    for row in ["row 9", "row 10", "row 11"] {
        check::<AgentLists>(row);
    }
    check::<FreeSpace>("row 13");
    check::<Page<VolumeImageSummary>>("row 20");
    check::<Page<VolumeImageSummary>>("row 21");
    check::<CanReplicate>("row 22");
    check::<Page<RecoveryPointSummary>>("row 23");
    check::<u32>("row 24");
    check::<StartMirror>("row 29");
    check::<MirrorStarted>("row 29 answer");
    check::<SyncMirror>("row 30");
    check::<MirrorWishes>("row 30 answer");
    check::<bool>("row 47");
    check::<Page<AgentPoints>>("row 48");
    check::<Vec<OfferedRepository>>("row 50");
    check::<OpenSession>("row 56");
    check::<SessionOpened>("row 56 answer");
    check::<Page<DamagedRecord>>("H1");
    check::<ReadRecords>("H2");
}

#[test]
fn a_list_beyond_its_limit_is_refused() {
    let list = |n: usize| {
        let item = r#"{"agentId":"00000000-0000-0000-0000-000000000000","displayName":"","recoveryPointCount":0}"#;
        let items = vec![item; n].join(",");
        json::from_slice::<Page<AgentPoints>>(format!("{{\"items\":[{items}]}}").as_bytes())
    };
    assert_eq!(list(PAGE_ITEMS_MAX).unwrap().items.len(), PAGE_ITEMS_MAX);
    assert_eq!(list(PAGE_ITEMS_MAX + 1).unwrap_err().code, ErrorCode::BadRequest);
}

#[test]
fn null_counts_as_absent_and_unknown_words_as_neutral() {
    let all: Value = serde_json::from_str(SAMPLES).unwrap();
    let mut open = all["row 56"].clone();
    open["headerHash"] = Value::Null;
    open["parentImageId"] = Value::Null;
    open["imageType"] = "Synthetic".into();
    let read: OpenSession = json::from_slice(open.to_string().as_bytes()).unwrap();
    assert_eq!((read.header_hash, read.parent_image_id), (None, None));
    assert_eq!(read.image_type, ImageType::None);
}
