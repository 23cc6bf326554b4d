//! Sessions over the routers: what is another's is not there.

use std::path::Path;
use std::sync::Arc;

use offsite_model::{Digest, FileSystem, ImageId, JobId, ListDigest, PointId, VolumeId};
use offsite_proto::catalog::{AskFreeSpace, CountPoints, ListImages, OfAgent};
use offsite_proto::error::ErrorCode;
use offsite_proto::json::Json;
use offsite_proto::page::Paged;
use offsite_proto::session::{
    CommitToken, End, EndSession, ImageType, InSession, OfImage, OfSession, Open, OpenSession,
    StartEnd, TransferredBlocks, TransferredBlocksOfImage,
};
use offsite_proto::text::{Big, Text, Time};
use offsite_store::Store;
use offsite_testkit::disk::Disk;

use super::scene::{NOON, Scene, Source};

/// A target with a store on a disk of the test.
pub(super) async fn scene() -> Scene {
    let scene = Scene::open().await;
    let files: Arc<dyn FileSystem> = Disk::new(1).files();
    let directory = Path::new("/store");
    let store = Store::create(Arc::clone(&files), directory, &*scene.luck, Default::default());
    scene.target.keep_in(store.unwrap(), files, 2).unwrap();
    scene
}

fn image(source: &Source) -> OpenSession {
    OpenSession {
        agent_id: source.agents[0].id,
        job_id: Text(JobId::from_bytes([1; 16])),
        recovery_point_id: Text(PointId::from_bytes([2; 16])),
        image_id: Text(ImageId::from_bytes([3; 16])),
        volume_driver_id: Text(VolumeId::from_bytes([4; 16])),
        epoch_number: 1,
        previous_epoch_number: None,
        parent_image_id: None,
        parent_image_digest: None,
        image_type: ImageType::Base,
        size_bytes: Big(8192),
        record_size: 4096,
        record_count: Big(2),
        image_digest: Text(Digest::of(b"list")),
        encryption_key_id: None,
        rollup_granularity_cell: Default::default(),
        utc_created_timestamp: Time(NOON),
        volume_image_count: 1,
        commit_token: Text(CommitToken::from_bytes([5; 16])),
        header_hash: None,
        volume_image_hash: None,
        allow_orphan: false,
        display_name: None,
    }
}

#[tokio::test]
async fn g_11_what_is_anothers_is_not_there() {
    let scene = scene().await;
    let (ours, theirs) = (scene.paired().await, scene.paired().await);
    let open = image(&ours);
    let opened = ours.call::<Open>(&scene, &(), &Json(open.clone())).await.unwrap();
    assert_eq!(opened.status, 201);
    let again = ours.call::<Open>(&scene, &(), &Json(open.clone())).await.unwrap();
    assert_eq!((again.status, again.body.0.resumed), (200, true));
    assert_eq!(again.body.0.session_id, opened.body.0.session_id);
    let session = opened.body.0.session_id.0;
    let of = OfSession { session };
    ours.call::<TransferredBlocks>(&scene, &of, &()).await.unwrap();
    let refused = theirs.call::<TransferredBlocks>(&scene, &of, &()).await.unwrap_err();
    assert_eq!(refused, ErrorCode::SessionUnknown);

    // An agent of another is as unknown as one of nobody.
    let agent = open.agent_id.0;
    let asked = theirs.call::<Open>(&scene, &(), &Json(open.clone())).await.unwrap_err();
    assert_eq!(asked, ErrorCode::AgentUnknown);
    let of = OfAgent { agent };
    let space = theirs.call::<AskFreeSpace>(&scene, &of, &()).await.unwrap_err();
    let count = theirs.call::<CountPoints>(&scene, &of, &()).await.unwrap_err();
    let images = theirs.call::<ListImages>(&scene, &Paged::first(of), &()).await.unwrap_err();
    let blocks = OfImage { agent, volume: open.volume_driver_id.0, epoch: 1 };
    let blocks = theirs.call::<TransferredBlocksOfImage>(&scene, &blocks, &()).await.unwrap_err();
    assert_eq!([space, count, images, blocks], [ErrorCode::AgentUnknown; 4]);

    // The ids of a path belong together, whichever is wrong.
    let path = InSession { agent, job: open.job_id.0, session };
    let other_job = InSession { job: JobId::from_bytes([9; 16]), ..path };
    let other_agent = InSession { agent: theirs.agents[0].id.0, ..path };
    for path in [other_job, other_agent] {
        let params = EndSession { session: path, commit: false };
        let refused = ours.call::<End>(&scene, &params, &()).await.unwrap_err();
        assert_eq!(refused, ErrorCode::SessionUnknown);
    }
    let theirs_end = EndSession { session: path, commit: false };
    let refused = theirs.call::<End>(&scene, &theirs_end, &()).await.unwrap_err();
    assert_eq!(refused, ErrorCode::SessionUnknown);
}

#[tokio::test]
async fn an_incomplete_session_is_not_committed() {
    let scene = scene().await;
    let source = scene.paired().await;
    let mut open = image(&source);
    open.image_digest = Text(ListDigest::new().finish());
    let opened = source.call::<Open>(&scene, &(), &Json(open.clone())).await.unwrap();
    let session = InSession {
        agent: open.agent_id.0,
        job: open.job_id.0,
        session: opened.body.0.session_id.0,
    };
    let commit = EndSession { session, commit: true };
    let refused = source.call::<StartEnd>(&scene, &commit, &()).await.unwrap_err();
    assert_eq!(refused, ErrorCode::Incomplete);
    let abort = EndSession { session, commit: false };
    for _ in 0..2 {
        assert_eq!(source.call::<End>(&scene, &abort, &()).await.unwrap().status, 204);
    }
    let refused = source.call::<End>(&scene, &commit, &()).await.unwrap_err();
    assert_eq!(refused, ErrorCode::WrongState);
}
