//! A source's credentials can never reduce what is held.

use std::net::IpAddr;

use http::HeaderValue;
use offsite_model::{AgentId, Luck as _, Span};
use offsite_proto::admin::target::{OfPoint, UndeletePoint};
use offsite_proto::catalog::{CountPoints, DeleteAgent, OfAgent};
use offsite_proto::endpoint::{Body as _, Method, Segment, Values};
use offsite_proto::error::ErrorCode;
use offsite_proto::json::Json;
use offsite_proto::pairing::{DeleteRecoveryPoints, Unpair};
use offsite_testkit::SeededLuck;
use offsite_transport::{CallError, Outgoing};

use super::super::calls::replication_rows;
use super::{DAY, Vault, images};
use crate::tests::wire::{Image, Wire};

async fn counted(vault: &Vault) -> u32 {
    let of = OfAgent { agent: vault.agent(0) };
    vault.source.call::<CountPoints>(vault.scene(), &of, &()).await.unwrap().body.0
}

async fn delete_all(vault: &Vault) -> Result<(), ErrorCode> {
    let of = OfAgent { agent: vault.agent(0) };
    vault.source.call::<DeleteAgent>(vault.scene(), &of, &()).await.map(drop)
}

#[tokio::test]
async fn c_02_what_a_source_deletes_is_listed_restores_and_comes_back() {
    let vault = Vault::open().await;
    for image in images(20) {
        vault.send(&image).await;
    }
    let before = vault.all_restored();
    assert_eq!((before.len(), counted(&vault).await), (20, 20));
    for _ in 0..2 {
        delete_all(&vault).await.unwrap();
    }
    // At once out of the source's view, not out of the operator's.
    assert_eq!(counted(&vault).await, 0);
    vault.pass(DAY.times(13));
    let listed = vault.listed().await;
    assert_eq!(listed.len(), 20);
    assert!(listed.iter().all(|point| point.state == "deleted" && point.purge_at.is_some()));
    assert_eq!(vault.all_restored(), before);
    for point in &listed {
        let undeleted = vault.ask::<UndeletePoint>(OfPoint(point.id.0), ()).await.unwrap().0;
        assert_eq!(undeleted.state, "ok");
    }
    vault.pass(DAY.times(30));
    assert_eq!((vault.all_restored(), counted(&vault).await), (before, 20));
    assert_eq!(vault.n_audited("deletion_asked"), 1, "the repeat marked nothing");
    assert_eq!(vault.n_audited("deletion_undone"), 20);
    assert_eq!(vault.n_audited("bulk_deletion"), 1);
    assert_eq!(vault.n_audited("point_purged"), 0);
}

#[tokio::test]
async fn what_is_deleted_goes_after_its_time_and_is_not_sent_again() {
    let vault = Vault::open().await;
    for image in images(3) {
        vault.send(&image).await;
    }
    delete_all(&vault).await.unwrap();
    vault.pass(Span::from_hours(14 * 24 - 2));
    assert_eq!(vault.points().len(), 3);
    vault.pass(Span::from_hours(4));
    assert!(vault.points().is_empty());
    assert_eq!(vault.n_audited("point_purged"), 1);
    assert_eq!(counted(&vault).await, 0);
    // The source still has them and offers them: they are told as purged, and a session that is
    // opened all the same is answered as it was then.
    let of = offsite_proto::page::Paged { of: OfAgent { agent: vault.agent(0) }, after: None };
    let listed =
        vault.source.call::<offsite_proto::catalog::ListImages>(vault.scene(), &of, &()).await;
    let listed = listed.unwrap().body.0.items;
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|image| image.is_purged && image.is_orphaned));
    for image in images(3) {
        let wire = Wire::open(vault.scene(), &vault.source, &image).await.unwrap();
        assert_eq!(wire.opened.state, offsite_proto::session::SessionState::Committed);
        wire.commit().await.unwrap();
    }
    assert!(vault.points().is_empty());
    // What is new is taken.
    vault.send(&Image { number: 9, contents: vec![9] }).await;
    assert_eq!(counted(&vault).await, 1);
}

/// One call of a source that means harm: a row, its own and foreign ids, and any body.
///
/// Whether it was answered.
async fn random_call(
    vault: &Vault,
    luck: &SeededLuck,
    connection: &offsite_transport::Connection,
) -> bool {
    let rows = replication_rows();
    let row = loop {
        let row = *luck.pick(&rows);
        // The end of the pairing ends the test; it comes last.
        if row.id != "46" {
            break row;
        }
    };
    let image = Image { number: 1 + luck.below(10) as u8, contents: vec![luck.below(4), 1_000] };
    let open = image.open(&vault.source);
    let mut asked = Values::new();
    for segment in row.segments() {
        let Segment::Parameter(name) = segment else { continue };
        let own = match name {
            "agentId" => vault.agent(luck.below(2) as usize).to_string(),
            "volumeDriverId" => open.volume_driver_id.to_string(),
            "recoveryPointId" => open.recovery_point_id.to_string(),
            "jobId" => open.job_id.to_string(),
            "epochNumber" | "skipCount" | "maxCount" | "dataSize" => luck.below(3).to_string(),
            _ => AgentId::random(luck).to_string(),
        };
        let is_own = luck.chance(15, 16);
        asked.insert(name, if is_own { own } else { AgentId::random(luck).to_string() });
    }
    for query in row.query {
        asked.insert(query, *luck.pick(&["true", "false", "True", "all", "storage", "x"]));
    }
    let body = match (row.method, luck.below(3)) {
        (Method::Get | Method::Delete, _) => Outgoing::empty(),
        (_, 0) => Outgoing::whole("{}"),
        (_, 1) => Outgoing::whole(luck.bytes(luck.below(200) as usize)),
        // Row 56 with another content under a known epoch, and the like.
        _ => Outgoing::whole(Json(open).encode()),
    };
    let json = HeaderValue::from_static("application/json");
    match connection.stream(row, &asked, json, body, 1 << 22).await {
        Ok(answer) => {
            drop(answer.body.whole().await);
            true
        }
        Err(CallError::Refused(..)) => true,
        // Some rows end their connection.
        Err(CallError::Transport { .. }) => false,
    }
}

#[tokio::test]
async fn c_01_no_calls_of_a_source_reduce_or_alter_what_was_committed() {
    let n_calls = std::env::var("OFFSITE_CALLS").map_or(5_000, |n| n.parse().unwrap());
    let luck = SeededLuck::from_env_or(11);
    let vault = Vault::open().await;
    for image in images(8) {
        vault.send(&image).await;
    }
    let before = vault.all_restored();
    let mut connection = vault.source.dial(vault.scene()).await;
    let mut n_answered = 0;
    while n_answered < n_calls {
        if random_call(&vault, &luck, &connection).await {
            n_answered += 1;
        } else {
            connection = vault.source.dial(vault.scene()).await;
        }
        // Sessions that it left open end, and then what it wishes deleted is marked.
        if n_answered % (n_calls / 10) == 0 {
            vault.pass(Span::from_hours(25));
            vault.replicas().tick();
        }
    }
    assert!(vault.n_audited("deletion_asked") > 0, "its wishes were never let through");
    let everything = DeleteRecoveryPoints(true);
    vault.source.call::<Unpair>(vault.scene(), &everything, &()).await.unwrap();
    vault.pass(DAY.times(2));
    let after = vault.all_restored();
    for point in &before {
        assert!(after.contains(point), "{point:?} is another now, or gone");
    }
}

#[tokio::test]
async fn c_11_a_key_from_a_new_address_and_many_deletions_are_told_and_nothing_follows() {
    let vault = Vault::open().await;
    for image in images(12) {
        vault.send(&image).await;
    }
    let before = vault.all_restored();
    let peer = vault.peer();
    let target = &vault.scene().target;
    assert_eq!(vault.n_audited("address_first_seen"), 0, "the first of all is no news");
    let calls = |address: [u8; 4]| target.note_address(&peer, IpAddr::from(address));
    calls([127, 0, 0, 1]).await;
    for _ in 0..3 {
        calls([192, 0, 2, 7]).await;
    }
    assert_eq!(vault.n_audited("address_first_seen"), 1);
    delete_all(&vault).await.unwrap();
    assert_eq!(vault.n_audited("bulk_deletion"), 1);
    vault.pass(DAY);
    assert_eq!((vault.all_restored(), counted(&vault).await), (before, 0));
}

#[tokio::test]
async fn c_09_another_content_under_a_points_id_is_refused() {
    let luck = SeededLuck::from_env_or(9);
    let vault = Vault::open().await;
    for image in images(5) {
        vault.send(&image).await;
    }
    let before = vault.all_restored();
    for round in 0..50 {
        let number = 1 + luck.below(5) as u8;
        let contents = (0..1 + luck.below(5)).map(|_| 5_000 + luck.below(100)).collect();
        let other = Image { number, contents };
        let refused = Wire::open(vault.scene(), &vault.source, &other).await.err();
        assert_eq!(refused, Some(ErrorCode::AlreadyExists), "round {round}");
    }
    assert_eq!(vault.all_restored(), before);
}
