//! Points of tests, committed without a session: one image of zeros.

use offsite_model::{
    AgentId, ImageId, JobId, Key, ListDigest, PointId, SessionId, Timestamp, VolumeId,
};
use offsite_proto::session::{CommitToken, ImageType, OpenSession};
use offsite_proto::text::{Big, Text, Time};
use offsite_proto::window::ListEntry;
use offsite_store::catalog::Transactions as _;

use super::images::{ImageName, announce};
use super::{Owner, Replicas, draft};

const BYTES: u32 = 4096;

impl Replicas {
    /// Commits the point of this number, of an agent whose source says that it is of `taken_at`.
    pub(crate) fn plant(
        &self,
        owner: &Owner,
        agent: AgentId,
        number: u32,
        taken_at: Timestamp,
    ) -> PointId {
        let id = |kind: u8| {
            let mut bytes = [kind; 16];
            bytes.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
            bytes
        };
        let mut digest = ListDigest::new();
        digest.entry(0, BYTES, &Key::ZERO);
        let open = OpenSession {
            agent_id: Text(agent),
            job_id: Text(JobId::from_bytes(id(1))),
            recovery_point_id: Text(PointId::from_bytes(id(2))),
            image_id: Text(ImageId::from_bytes(id(3))),
            volume_driver_id: Text(VolumeId::from_bytes([4; 16])),
            epoch_number: number,
            previous_epoch_number: None,
            parent_image_id: None,
            parent_image_digest: None,
            image_type: ImageType::Base,
            size_bytes: Big(u64::from(BYTES)),
            record_size: BYTES,
            record_count: Big(1),
            image_digest: Text(digest.finish()),
            encryption_key_id: None,
            rollup_granularity_cell: Default::default(),
            utc_created_timestamp: Time(taken_at),
            volume_image_count: 1,
            commit_token: Text(CommitToken::from_bytes(id(5))),
            header_hash: None,
            volume_image_hash: None,
            allow_orphan: false,
            display_name: None,
        };
        let name =
            ImageName { owner: *owner, agent, volume: open.volume_driver_id.0, epoch: number };
        let session = SessionId::from_bytes([6; 16]);
        self.catalog.write(|rows| announce(rows, &name, &open, session)).unwrap();
        let mut begun = draft::begin(&self.store, &name, &open).unwrap();
        draft::append(&mut begun, 0, &[ListEntry::zeros(0, BYTES)]).unwrap();
        begun.promise().unwrap();
        self.publish(&mut begun, &name, &open, None).unwrap();
        begun.end().unwrap();
        open.recovery_point_id.0
    }
}
