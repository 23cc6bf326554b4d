//! Chains of images with few contents, so that they share records and repeat them.

use offsite_model::{
    AgentId, Digest, ImageId, JobId, Key, ListDigest, Luck as _, PointId, Timestamp,
};
use offsite_proto::session::{CommitToken, ImageType, OpenSession};
use offsite_proto::text::{Big, Text};
use offsite_proto::window::ListEntry;
use offsite_testkit::SeededLuck;

use super::storm::Plan;
use super::world::{Image, RECORD, volume};
use crate::replication::plan::Ours;
use crate::replication::source::{Listed, Place};

pub(super) fn images(plan: &Plan, luck: &SeededLuck) -> Vec<Image> {
    let mut images = Vec::new();
    let mut group = 0;
    for n in 0..plan.n_volumes {
        let n_positions = plan.n_records.max(1);
        let mut parent: Option<(u32, Digest, ImageId)> = None;
        for epoch in 0..plan.n_epochs as u32 {
            let mut list: Vec<Listed> = Vec::new();
            let mut position = 0;
            while position < n_positions {
                let is_changed = epoch == 0 || luck.chance(1, 3);
                let offset = position * u64::from(RECORD);
                let n_zeros = luck.between(1, 6).min(n_positions - position);
                if !is_changed {
                    position += 1;
                } else if luck.chance(1, 6) {
                    let entry = ListEntry::zeros(offset, n_zeros as u32 * RECORD);
                    list.push(Listed { entry, place: None });
                    position += n_zeros;
                } else {
                    // Few contents, so that images and volumes share records and repeat them.
                    let content = luck.below(n_positions * 2);
                    let key = Key::of(&content.to_le_bytes());
                    list.push(Listed {
                        entry: ListEntry::record(offset, RECORD, key),
                        place: None,
                    });
                    position += 1;
                }
            }
            place_groups(&mut list, luck, &mut group);
            let mut digest = ListDigest::new();
            for listed in &list {
                digest.entry(listed.entry.offset(), listed.entry.bytes(), &listed.entry.key());
            }
            let (name, digest) = ((volume(n), epoch), digest.finish());
            let taken_at = Timestamp::from_secs(i64::from(epoch) * 3_600);
            let mut id = [epoch as u8 + 1; 16];
            id[0] = n as u8 + 1;
            let open = OpenSession {
                agent_id: Text(AgentId::from_bytes([9; 16])),
                job_id: Text(JobId::from_bytes([8; 16])),
                recovery_point_id: Text(PointId::from_bytes([epoch as u8 + 1; 16])),
                image_id: Text(ImageId::from_bytes(id)),
                volume_driver_id: Text(name.0),
                epoch_number: epoch,
                previous_epoch_number: parent.map(|(epoch, ..)| epoch),
                parent_image_id: parent.map(|(.., id)| Text(id)),
                parent_image_digest: parent.map(|(_, digest, _)| Text(digest)),
                image_type: if parent.is_none() { ImageType::Base } else { ImageType::Incremental },
                size_bytes: Big(n_positions * u64::from(RECORD)),
                record_size: RECORD,
                record_count: Big(list.len() as u64),
                image_digest: Text(digest),
                encryption_key_id: None,
                rollup_granularity_cell: Default::default(),
                utc_created_timestamp: taken_at.into(),
                volume_image_count: plan.n_volumes as u32,
                commit_token: Text(CommitToken::from_bytes(id)),
                header_hash: None,
                volume_image_hash: None,
                allow_orphan: false,
                display_name: None,
            };
            let ours = Ours {
                name,
                digest,
                parent: parent.map(|(epoch, digest, _)| (epoch, digest)),
                taken_at,
                is_seeded: false,
            };
            images.push(Image { ours, open, list });
            parent = Some((epoch, digest, ImageId::from_bytes(id)));
        }
    }
    images
}

/// Puts runs of records into groups of up to four, as a source's own store would have them.
fn place_groups(list: &mut [Listed], luck: &SeededLuck, group: &mut u64) {
    let mut index = 0;
    while index < list.len() {
        let n = luck.between(1, 5) as usize;
        let n = list[index..].iter().take(n).take_while(|listed| !listed.entry.is_zeros()).count();
        *group += 1;
        for slot in 0..n {
            list[index + slot].place = Some(Place {
                group: *group,
                slot: slot as u8,
                n_records: n as u16,
                stored_bytes: n as u32 * 3_000,
            });
        }
        index += n.max(1);
    }
}
