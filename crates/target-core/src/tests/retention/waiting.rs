//! Images that wait for a parent that never comes: an operator can let them go, and a source
//! cannot.

use std::ops::ControlFlow;

use offsite_model::{PointId, Span};
use offsite_proto::admin::target::{
    ChangeTenant, DeletePoint, OfPoint, Point, PurgePoint, SetTenant, ShowPoint, UndeletePoint,
};
use offsite_proto::catalog::{DeleteAgent, ListImages, OfAgent, VolumeImageSummary};
use offsite_proto::error::ErrorCode;
use offsite_proto::json::Json;
use offsite_proto::page::Paged;
use offsite_proto::session::{ImageType, OpenSession, SessionState};
use offsite_store::CollectOptions;

use super::locks::tenant_of;
use super::policies::set;
use super::{DAY, Vault};
use crate::tests::wire::{Image, Wire};

/// The second epoch of the volume whose first is the image of this number.
fn child() -> Image {
    Image { number: 2, contents: (1..=40).collect() }
}

fn announced(vault: &Vault, parent: &Image) -> OpenSession {
    let (mut open, parent) = (child().open(&vault.source), parent.open(&vault.source));
    open.volume_driver_id = parent.volume_driver_id;
    open.image_type = ImageType::Incremental;
    open.epoch_number = 2;
    open.previous_epoch_number = Some(1);
    open.parent_image_id = Some(parent.image_id);
    open.parent_image_digest = Some(parent.image_digest);
    open.allow_orphan = true;
    open
}

fn parent() -> Image {
    Image { number: 1, contents: (101..=140).collect() }
}

/// A child that waits for its parent; its point.
async fn waiting(vault: &Vault) -> PointId {
    let open = announced(vault, &parent());
    let wire = Wire::open_as(vault.scene(), &vault.source, open.clone()).await.unwrap();
    wire.offer(&child()).await;
    wire.send(&child().groups()).await.unwrap();
    wire.commit().await.unwrap();
    open.recovery_point_id.0
}

async fn shown(vault: &Vault, point: PointId) -> Result<Point, ErrorCode> {
    vault.ask::<ShowPoint>(OfPoint(point), ()).await.map(|point| point.0)
}

/// What the source is told of its images.
async fn told(vault: &Vault) -> Vec<VolumeImageSummary> {
    let of = Paged { of: OfAgent { agent: vault.agent(0) }, after: None };
    vault.source.call::<ListImages>(vault.scene(), &of, &()).await.unwrap().body.0.items
}

/// Bytes of the store after everything that can be freed was freed.
fn bytes_kept(vault: &Vault) -> u64 {
    let store = vault.replicas().store.clone();
    let all = CollectOptions { live_percent: 100, ..CollectOptions::default() };
    store.collect(&all, &mut |_| ControlFlow::Continue(())).unwrap();
    store.bytes_in_all()
}

#[tokio::test]
async fn what_waits_in_vain_goes_as_a_point_does_and_is_not_sent_again() {
    let vault = Vault::open().await;
    let empty = bytes_kept(&vault);
    let point = waiting(&vault).await;
    let full = bytes_kept(&vault);
    assert!(full > empty + 40 * 4096, "{full} after {empty}");
    assert_eq!(shown(&vault, point).await.unwrap().state, "orphaned");
    vault.pass(DAY.times(60));
    assert_eq!(shown(&vault, point).await.unwrap().state, "orphaned", "it waits for ever");

    let deleted = vault.ask::<DeletePoint>(OfPoint(point), ()).await.unwrap().0;
    assert!(deleted.state == "deleted" && deleted.purge_at.is_some(), "{deleted:?}");
    // A second time marks nothing, and nothing has gone.
    vault.ask::<DeletePoint>(OfPoint(point), ()).await.unwrap();
    assert_eq!(vault.n_audited("deletion_asked"), 1);
    assert_eq!(bytes_kept(&vault), full);
    vault.pass(Span::from_hours(14 * 24 - 2));
    assert_eq!(shown(&vault, point).await.unwrap().state, "deleted");
    vault.pass(Span::from_hours(4));
    assert_eq!(shown(&vault, point).await.map(drop), Err(ErrorCode::PointUnknown));
    assert_eq!(vault.n_audited("point_purged"), 1);
    let left = bytes_kept(&vault);
    assert!(left < empty + 4096, "{left} bytes of {full} stay, {empty} were there before");

    // The source is told that it is gone for good, and is answered as it was when it landed.
    let listed = told(&vault).await;
    assert!(listed.len() == 1 && listed[0].is_purged && listed[0].is_orphaned, "{listed:?}");
    let open = announced(&vault, &parent());
    let again = Wire::open_as(vault.scene(), &vault.source, open).await.unwrap();
    assert_eq!(again.opened.state, SessionState::Committed);
    // What comes to the source's mind later is taken.
    vault.send(&parent()).await;
    assert_eq!(vault.n_live(), 1);
    assert!(bytes_kept(&vault) > empty + 40 * 4096);
}

#[tokio::test]
async fn what_was_let_go_does_not_join_its_chain_until_it_is_taken_back() {
    let vault = Vault::open().await;
    let point = waiting(&vault).await;
    vault.ask::<DeletePoint>(OfPoint(point), ()).await.unwrap();
    vault.send(&parent()).await;
    assert_eq!((vault.n_live(), shown(&vault, point).await.unwrap().state), (1, "deleted".into()));
    let back = vault.ask::<UndeletePoint>(OfPoint(point), ()).await.unwrap().0;
    assert_eq!((vault.n_live(), &*back.state), (2, "ok"), "its parent had come meanwhile");
    let again = vault.ask::<UndeletePoint>(OfPoint(point), ()).await;
    assert_eq!(again.map(drop), Err(ErrorCode::WrongState));
    vault.pass(DAY.times(30));
    assert_eq!((vault.n_live(), vault.all_restored().len()), (2, 2));
}

#[tokio::test]
async fn c_01_no_source_lets_go_of_what_waits_and_no_lock_is_passed_by() {
    let vault = Vault::open().await;
    let point = waiting(&vault).await;
    let of = OfAgent { agent: vault.agent(0) };
    vault.source.call::<DeleteAgent>(vault.scene(), &of, &()).await.unwrap();
    let open = announced(&vault, &parent());
    // Nor by opening it again, and ending that.
    drop(Wire::open_as(vault.scene(), &vault.source, open).await.unwrap());
    vault.pass(DAY.times(30));
    assert_eq!(shown(&vault, point).await.unwrap().state, "orphaned");
    let lock = Json(ChangeTenant { lock_days: Some(60), ..ChangeTenant::default() });
    vault.ask::<SetTenant>(tenant_of(&vault), lock).await.unwrap();
    let refused = vault.ask::<DeletePoint>(OfPoint(point), ()).await;
    assert_eq!(refused.map(drop), Err(ErrorCode::RetentionLocked));
    let refused = vault.ask::<PurgePoint>(OfPoint(point), ()).await;
    assert_eq!(refused.map(drop), Err(ErrorCode::WrongState));
    vault.pass(DAY.times(31));
    assert_eq!(vault.ask::<DeletePoint>(OfPoint(point), ()).await.unwrap().0.state, "deleted");
}

#[tokio::test]
async fn a_policy_lets_go_of_what_waits_once_newer_points_are_whole() {
    let vault = Vault::open().await;
    let point = waiting(&vault).await;
    set(&vault, "last=1").await.unwrap();
    vault.pass(DAY.times(3));
    assert_eq!(shown(&vault, point).await.unwrap().state, "orphaned", "it is all there is");
    vault.plant(1_000, vault.scene().now());
    vault.pass(DAY);
    assert_eq!(shown(&vault, point).await.unwrap().state, "deleted");
    assert_eq!(vault.n_live(), 1, "it took the place of no whole point");
    vault.pass(DAY.times(15));
    assert_eq!(shown(&vault, point).await.map(drop), Err(ErrorCode::PointUnknown));
    assert_eq!(vault.n_live(), 1);
}
