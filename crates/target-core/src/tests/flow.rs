//! From the request to mutual TLS and to the end, as both flows tell it.

use std::time::Duration;

use offsite_model::Span;
use offsite_pki::{PrivateKey, request, self_signed};
use offsite_proto::error::ErrorCode;
use offsite_proto::json::Json;
use offsite_proto::pairing::{
    AgentPairingState, CheckCode, DeleteRecoveryPoints, FetchCertificate, FetchTargetCertificate,
    Greet, OfRequest, PairingState, Resolution, Submit, Unpair, UseCredentials, Validate,
};
use offsite_transport::{CallError, Connection};

use super::scene::{ROOT, Scene, decision};

#[tokio::test]
async fn a_request_becomes_a_pairing() {
    let scene = Scene::open().await;
    let mut source = scene.source();
    let answer = source.call::<Validate>(&scene, &UseCredentials(false), &()).await.unwrap();
    assert_eq!(answer.body.0.0, scene.target.identity().core);

    let answer = source.call::<Submit>(&scene, &(), &Json(source.wish())).await.unwrap();
    assert_eq!(answer.status, 202);
    let submitted = answer.body.0;
    let request = submitted.request_id.0;
    let polled = source.poll(&scene, request).await.unwrap();
    assert_eq!((polled.status, polled.body.0.resolution), (202, Resolution::Pending));
    assert!(polled.retry_after.unwrap() >= 5);
    assert_eq!(source.sync(&scene).await.unwrap().pairing_state, PairingState::Pending);

    // Both consoles show the same code, each from the keys it has seen itself.
    let target_spki = scene.target.identity().certificate.spki().as_der().to_vec();
    let code = CheckCode::of(&target_spki, source.key.spki().as_der(), request);
    assert_eq!(scene.shown(request).check_code, code.to_string());

    let mut decide = decision(request, true);
    decide.check_code = Some(code.to_string().to_lowercase().replace('-', " "));
    decide.agents = Some(vec![source.agents[0].id]);
    decide.message = Some("welcome".to_owned());
    let decided = scene.target.decide(&ROOT, &decide).unwrap();
    assert_eq!(decided.status, Resolution::Accepted);
    assert_eq!(decided.sid, Some(1));
    assert_eq!(decided.role.as_deref(), Some("non-managed replication source"));
    assert_eq!(decided.tenant.as_deref(), Some("branch office"));

    // Published last: until the certificate is there, the request is pending for its source.
    let polled = source.poll(&scene, request).await.unwrap();
    assert_eq!((polled.status, polled.body.0.resolution), (202, Resolution::Pending));
    assert_eq!(scene.target.issue_ordered(), 1);
    let polled = source.poll(&scene, request).await.unwrap();
    let resolution = polled.body.0;
    assert_eq!((polled.status, resolution.resolution), (200, Resolution::Accepted));
    assert_eq!(resolution.message.as_deref(), Some("welcome"));
    let states: Vec<_> = resolution.agents.iter().map(|agent| agent.agent_pairing_state).collect();
    assert_eq!(states, [AgentPairingState::Approved, AgentPairingState::Denied]);
    let of = OfRequest { request };
    let pem = source.call::<FetchTargetCertificate>(&scene, &of, &()).await.unwrap().body.0;
    assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 2);

    source.fetch(&scene, request).await;
    let hex: String = source.shown.sha256().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(resolution.certificate_sha256.as_deref(), Some(hex.as_str()));
    let status = source.sync(&scene).await.unwrap();
    assert_eq!(status.pairing_state, PairingState::Active);
    assert_eq!(status.slave_core_info.host_name.as_deref(), Some("vault"));
    let greeted = source.call::<Greet>(&scene, &(), &()).await.unwrap();
    assert_eq!(greeted.body.0.host_name.as_deref(), Some("vault"));

    // A second decision is told the first one.
    let again = scene.target.decide(&ROOT, &decision(request, false)).unwrap_err();
    assert_eq!(again.code, ErrorCode::AlreadyResolved);

    let gone = DeleteRecoveryPoints(false);
    for _ in 0..2 {
        let answer = source.call::<Unpair>(&scene, &gone, &()).await.unwrap();
        assert_eq!(answer.status, 204);
    }
    assert_eq!(source.sync(&scene).await, Err(ErrorCode::NotPaired));
    let audit = crate::audit::verify(&**scene.target.catalog()).unwrap();
    assert_eq!(audit.first_bad, None);
}

/// Row 46 is answered before anything is cut, and what the source opens after its goodbye is
/// answered like anybody's calls, never with a hang-up.
#[tokio::test]
async fn a_goodbye_cuts_what_was_open_and_nothing_later() {
    let scene = Scene::open().await;
    let source = scene.paired().await;
    let (asking, beside) = (source.dial(&scene).await, source.dial(&scene).await);
    let is_answered = async |connection: &Connection| {
        let answer = connection.call::<Greet>(&(), &()).await;
        !matches!(answer, Err(CallError::Transport { .. }))
    };
    assert!(is_answered(&beside).await);
    let gone = DeleteRecoveryPoints(false);
    assert_eq!(asking.call::<Unpair>(&gone, &()).await.unwrap().status, 204);
    let later = source.dial(&scene).await;
    assert!(is_answered(&later).await);
    let cut = async {
        while is_answered(&beside).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), cut).await.unwrap();
    // All that was to be cut is cut now: this connection was not among it.
    assert!(is_answered(&later).await);
}

#[tokio::test]
async fn a_rejection_reaches_the_source_in_the_operators_words() {
    let scene = Scene::open().await;
    let source = scene.source();
    let request = scene.submit(&source).await.unwrap().request_id.0;
    let bare = offsite_proto::operator::Decide { message: None, ..decision(request, false) };
    let refused = scene.target.decide(&ROOT, &bare).unwrap_err();
    assert_eq!(refused.code, ErrorCode::MessageRequired);
    scene.target.decide(&ROOT, &decision(request, false)).unwrap();
    let polled = source.poll(&scene, request).await.unwrap().body.0;
    assert_eq!(polled.resolution, Resolution::Rejected);
    assert_eq!(polled.message.as_deref(), Some("not today"));
    let status = source.sync(&scene).await.unwrap();
    assert_eq!(
        (status.pairing_state, status.message.as_deref()),
        (PairingState::Rejected, Some("not today"))
    );
    let of = OfRequest { request };
    let fetched = source.call::<FetchCertificate>(&scene, &of, &()).await;
    assert_eq!(fetched.err(), Some(ErrorCode::PairingDenied));
    assert_eq!(scene.submit(&source).await.unwrap_err(), ErrorCode::AlreadyExists);
}

#[tokio::test]
async fn a_request_is_withdrawn_and_lapses() {
    let scene = Scene::open().await;
    let source = scene.source();
    let request = scene.submit(&source).await.unwrap().request_id.0;
    for _ in 0..2 {
        source.call::<Unpair>(&scene, &DeleteRecoveryPoints(false), &()).await.unwrap();
    }
    assert_eq!(source.poll(&scene, request).await.err(), Some(ErrorCode::RequestUnknown));
    assert!(scene.target.register().peers().unwrap().is_empty());

    let source = scene.source();
    let request = scene.submit(&source).await.unwrap().request_id.0;
    scene.advance(Span::from_days(7));
    assert_eq!(source.poll(&scene, request).await.err(), Some(ErrorCode::RequestUnknown));
    scene.target.keep_house(true).unwrap();
    let late = scene.target.decide(&ROOT, &decision(request, true)).unwrap_err();
    assert_eq!(late.code, ErrorCode::RequestExpired);
    assert!(scene.target.register().peers().unwrap().is_empty());
}

#[tokio::test]
async fn a_certificate_is_renewed_with_a_new_key() {
    let scene = Scene::open().await;
    let mut source = scene.paired().await;
    let old_key = std::mem::replace(&mut source.key, PrivateKey::generate().unwrap());
    let mut wish = source.wish();
    wish.client_certificate = request::make(&source.key).unwrap();
    let fresh = self_signed(&source.key, scene.now(), &*scene.luck).unwrap();
    let old = super::scene::Source {
        core: source.core,
        key: old_key,
        shown: std::mem::replace(&mut source.shown, fresh),
        name: source.name.clone(),
        agents: Vec::new(),
    };
    let request = old.call::<Submit>(&scene, &(), &Json(wish)).await.unwrap().body.0.request_id.0;
    assert_eq!(scene.target.issue_ordered(), 1);
    // Both keys are good until the new one is used.
    assert_eq!(old.sync(&scene).await.unwrap().pairing_state, PairingState::Active);
    source.fetch(&scene, request).await;
    assert_eq!(source.sync(&scene).await.unwrap().pairing_state, PairingState::Active);
    assert_eq!(old.sync(&scene).await, Err(ErrorCode::NotPaired));
}
