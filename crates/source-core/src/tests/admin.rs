//! The local socket: who may speak, and that each call of its table has a handler.

use std::sync::Arc;

use http::HeaderMap;
use offsite_proto::admin::source::ROWS;
use offsite_proto::endpoint::Values;
use offsite_proto::error::ErrorCode;
use offsite_testkit::SimClock;
use offsite_transport::{Gate, Origin, Place};
use tokio_util::sync::CancellationToken;

use super::scene::Scene;
use crate::admin::{Admin, OwnerOnly, router};
use crate::keeper::Keeper;
use crate::replicate::Replicator;

#[tokio::test]
async fn every_call_of_the_table_has_a_handler() {
    let scene = Scene::start(&SimClock::new());
    let protection = Arc::new(super::protect::protection(&scene.disk));
    let replicator = Replicator::new(
        Arc::clone(&scene.means),
        Arc::clone(&protection),
        crate::config::Settings::shipped(),
    );
    let upkeep = offsite_upkeep::Settings::default();
    let keeper = Keeper::new(Arc::clone(&protection), scene.means.memory.clone(), upkeep);
    let admin = Admin {
        means: Arc::clone(&scene.means),
        files: scene.disk.files(),
        protection,
        keeper: Arc::new(keeper),
        await_max: offsite_model::Span::from_days(30),
        replicator: Arc::new(replicator),
        jobs: crate::jobs::Jobs::default(),
        handle: scene.handle.clone(),
        version: "0.1.0",
        since: offsite_model::Span::ZERO,
        stop: CancellationToken::new(),
    };
    let router = router(Arc::new(admin), 0).unwrap();
    assert_eq!(router.not_implemented(), Vec::<&str>::new());
}

#[tokio::test]
async fn only_the_owner_and_root_give_orders() {
    let gate = OwnerOnly { owner: 1_000 };
    for (address, may) in [
        (Place::Local { uid: 1_000 }, true),
        (Place::Local { uid: 0 }, true),
        (Place::Local { uid: 1_001 }, false),
        (Place::Network("127.0.0.1".parse().unwrap()), false),
    ] {
        let origin =
            Origin { address, peer: None, request: String::new(), connection: 1, http2: false };
        let admitted = gate.admit(&ROWS[0], &Values::new(), &origin, &HeaderMap::new()).await;
        assert_eq!(admitted.is_ok(), may, "{address}");
        assert!(admitted.map_or_else(|refusal| refusal.code == ErrorCode::Forbidden, |_| true));
    }
}
