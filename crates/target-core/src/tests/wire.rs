//! A source's side of a session over HTTP, as thin as it can be: lists, groups and what comes back.

use http::HeaderValue;
use offsite_model::{ImageId, JobId, Key, ListDigest, PointId, VolumeId};
use offsite_proto::endpoint::{Params as _, StreamEndpoint, Values};
use offsite_proto::error::{ErrorBody, ErrorCode, Refusal};
use offsite_proto::group::{Codec, Group, GroupEntry};
use offsite_proto::json::{Json, from_slice};
use offsite_proto::session::{
    CommitToken, End, EndSession, ImageType, InSession, OfferKeys, Open, OpenSession, SendRecords,
    SessionOpened,
};
use offsite_proto::stream::{Decoder, Encoder, Frame, Opcode, StreamKind};
use offsite_proto::text::{Big, Text, Time};
use offsite_proto::window::{KeyWindow, ListEntry, Wanted};
use offsite_transport::{Connection, Outgoing};

use super::scene::{NOON, Scene, Source, code_of};

/// Bytes of the records of these tests.
pub(super) const RECORD: u32 = 4096;
/// Records of a group of these tests.
const GROUP_RECORDS: usize = 64;

/// An image whose records are made of numbers.
pub(super) struct Image {
    pub(super) number: u8,
    pub(super) contents: Vec<u64>,
}

/// A record that holds this number over and over.
pub(super) fn record(content: u64) -> Vec<u8> {
    content.to_le_bytes().repeat(RECORD as usize / 8)
}

impl Image {
    fn list(&self) -> Vec<ListEntry> {
        let entry = |(at, content): (usize, &u64)| {
            let key = Key::of(&record(*content));
            ListEntry::record(at as u64 * u64::from(RECORD), RECORD, key)
        };
        self.contents.iter().enumerate().map(entry).collect()
    }

    /// As it is announced by this source.
    pub(super) fn open(&self, source: &Source) -> OpenSession {
        let (list, mut digest) = (self.list(), ListDigest::new());
        list.iter().for_each(|entry| digest.entry(entry.offset(), entry.bytes(), &entry.key()));
        let bytes = |kind: u8| {
            let mut bytes = [self.number; 16];
            bytes[0] = kind;
            bytes
        };
        OpenSession {
            agent_id: source.agents[0].id,
            job_id: Text(JobId::from_bytes(bytes(1))),
            recovery_point_id: Text(PointId::from_bytes(bytes(2))),
            image_id: Text(ImageId::from_bytes(bytes(3))),
            volume_driver_id: Text(VolumeId::from_bytes(bytes(4))),
            epoch_number: 1,
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
            utc_created_timestamp: Time(NOON),
            volume_image_count: 1,
            commit_token: Text(CommitToken::from_bytes(bytes(5))),
            header_hash: None,
            volume_image_hash: None,
            allow_orphan: false,
            display_name: None,
        }
    }

    /// Its records as groups that are not compressed.
    pub(super) fn groups(&self) -> Vec<Vec<u8>> {
        let numbered: Vec<(u64, u64)> = (0..).zip(self.contents.iter().copied()).collect();
        let chunks = numbered.chunks(GROUP_RECORDS);
        chunks.map(|records| group(records, Codec::None, false, None)).collect()
    }
}

/// A group of these ordinals and numbers, with another payload than theirs where one is given.
pub(super) fn group(
    records: &[(u64, u64)],
    codec: Codec,
    is_encrypted: bool,
    payload: Option<&[u8]>,
) -> Vec<u8> {
    let raw: Vec<u8> = records.iter().flat_map(|(_, content)| record(*content)).collect();
    let entry = |(ordinal, content): &(u64, u64)| {
        GroupEntry::new(*ordinal, Key::of(&record(*content)), RECORD)
    };
    let table: Vec<GroupEntry> = records.iter().map(entry).collect();
    let raw_bytes = u32::try_from(raw.len()).unwrap();
    let payload = payload.unwrap_or(&raw);
    let mut bytes = Vec::new();
    Group { codec, is_encrypted, raw_bytes, table: &table, payload }.write(&mut bytes);
    bytes
}

/// An open session.
pub(super) struct Wire {
    pub(super) connection: Connection,
    pub(super) opened: SessionOpened,
    pub(super) path: InSession,
}

impl Wire {
    pub(super) async fn open(
        scene: &Scene,
        source: &Source,
        image: &Image,
    ) -> Result<Self, ErrorCode> {
        Self::open_as(scene, source, image.open(source)).await
    }

    /// The same with another announcement than the image's own.
    pub(super) async fn open_as(
        scene: &Scene,
        source: &Source,
        open: OpenSession,
    ) -> Result<Self, ErrorCode> {
        let connection = source.dial(scene).await;
        let opened = connection.call::<Open>(&(), &Json(open.clone())).await;
        let opened = opened.map_err(|error| code_of(&error))?.body.0;
        let (agent, job) = (open.agent_id.0, open.job_id.0);
        let path = InSession { agent, job, session: opened.session_id.0 };
        Ok(Self { connection, opened, path })
    }

    /// Sends these frames and reads the answer to its end.
    async fn speak<E: StreamEndpoint>(
        &self,
        (up, down): (StreamKind, StreamKind),
        (opcode, payloads): (Opcode, &[Vec<u8>]),
    ) -> Result<Vec<Frame>, Refusal> {
        let mut encoder = Encoder::new(up, self.path.session);
        payloads.iter().for_each(|payload| encoder.frame(0, opcode, &[payload]).unwrap());
        // Windows, or the records of groups, whose number stands first in each.
        let items = payloads.iter().map(|payload| match up {
            StreamKind::Keys => 1,
            _ => u64::from(u32::from_le_bytes(payload[..4].try_into().unwrap())),
        });
        let bytes = payloads.iter().map(|payload| payload.len() as u64).sum();
        let end = offsite_proto::stream::End { items: items.sum(), bytes }.write();
        encoder.frame(0, Opcode::End, &[&end]).unwrap();
        let mut values = Values::new();
        self.path.write(&mut values);
        let media = HeaderValue::from_static(up.media_type());
        let body = Outgoing::whole(encoder.take());
        let answer = self.connection.stream(E::ROW, &values, media, body, 1 << 24).await;
        let mut body = answer.map_err(|error| panic!("row {}: {error}", E::ROW.id)).unwrap().body;
        let (mut decoder, mut frames) = (Decoder::new(down, self.path.session), Vec::new());
        while let Ok(Some(piece)) = body.next().await {
            decoder.push(&piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                if frame.opcode == Opcode::Fail {
                    return Err(from_slice::<ErrorBody>(&frame.payload).unwrap().error);
                }
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    /// Offers the list of an image, as one window; per record whether it is wanted.
    pub(super) async fn offer(&self, image: &Image) -> Vec<bool> {
        let entries = image.list();
        let window = KeyWindow { window: 0, first_ordinal: 0, entries: &entries }.write();
        let kinds = (StreamKind::Keys, StreamKind::Wanted);
        let frames = self.speak::<OfferKeys>(kinds, (Opcode::Keys, &[window])).await.unwrap();
        let answers = frames.iter().filter(|frame| frame.opcode == Opcode::Wanted);
        let answers = answers.map(|frame| Wanted::read(&frame.payload).unwrap());
        answers.flat_map(|answer| answer.iter().collect::<Vec<_>>()).collect()
    }

    /// Sends groups, each in a frame of its own; what the target said against them.
    pub(super) async fn send(&self, groups: &[Vec<u8>]) -> Result<(), Refusal> {
        let kinds = (StreamKind::Records, StreamKind::Receipt);
        self.speak::<SendRecords>(kinds, (Opcode::Records, groups)).await.map(drop)
    }

    pub(super) async fn commit(&self) -> Result<(), ErrorCode> {
        let end = EndSession { session: self.path, commit: true };
        self.connection.call::<End>(&end, &()).await.map(drop).map_err(|error| code_of(&error))
    }
}
