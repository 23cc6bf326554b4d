//! another key than the remembered one aborts, raises an alarm, and gets nothing.

use std::path::Path;

use offsite_proto::admin::source::{Connection, State};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_testkit::SimClock;

use super::fake::{Decision, Fake};
use super::scene::Scene;

/// When the key is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    FirstPoll,
    LaterPoll,
    Download,
    FirstUse,
    MuchLater,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_05_another_key_aborts_with_an_alarm_and_gets_nothing() {
    use When::{Download, FirstPoll, FirstUse, LaterPoll, MuchLater};
    for when in [FirstPoll, LaterPoll, Download, FirstUse, MuchLater] {
        let clock = SimClock::new();
        let (fake, _stop) = Fake::start(&clock).await;
        let mut scene = Scene::start(&clock);
        scene.request(&fake.url()).await.unwrap();
        let polled = |fake: &Fake| fake.state().calls.iter().filter(|row| **row == "P1").count();
        match when {
            FirstPoll => assert_eq!(polled(&fake), 0),
            LaterPoll => {
                let change = scene.pairing().change;
                scene.wake();
                scene.settled("polled", |pairing| pairing.change > change + 1).await;
                assert_eq!(polled(&fake), 1);
            }
            // The row in question is refused for a while, so that the key changes exactly before
            // it.
            Download => {
                fake.state().decision = Decision::Accept;
                fake.state().refuse.insert("P2", Refusal::new(ErrorCode::Busy, "busy"));
                scene.until("downloading", |_| fake.state().calls.contains(&"P2")).await;
            }
            FirstUse => {
                fake.state().decision = Decision::Accept;
                fake.state().refuses_issued = true;
                let disk = scene.disk.clone();
                let is_installed = move || {
                    let names = disk.files().list(Path::new("/keys")).unwrap();
                    names.iter().any(|name| name.ends_with(".pem"))
                };
                scene
                    .until("refused once", |pairing| {
                        is_installed() && pairing.state == State::Accepted
                    })
                    .await;
            }
            MuchLater => {
                fake.state().decision = Decision::Accept;
                scene.until("active", |pairing| pairing.state == State::Active).await;
            }
        }
        let before = scene.pairing().state;
        let pinned = scene.pairing().target_fingerprint;
        let seen = fake.swap_key();
        fake.state().refuse.clear();
        fake.state().refuses_issued = false;
        fake.state().calls.clear();
        let alarmed = scene.until("alarmed", |pairing| pairing.alarm).await;
        assert_eq!(alarmed.connection, Connection::AuthenticationError, "{when:?}");
        assert_eq!(alarmed.state, before, "{when:?}");
        assert_eq!(alarmed.target_fingerprint, pinned, "{when:?}");
        let message = alarmed.message.as_deref().unwrap();
        assert!(message.contains("nothing was sent"), "{alarmed:?}");
        assert!(message.contains(&seen.thumbprint().to_string()), "{alarmed:?}");
        assert!(alarmed.next.as_deref().unwrap().contains("telephone"), "{alarmed:?}");
        // Time passes, and the daemon starts again: still nothing is sent.
        scene.wakes.add_permits(10);
        let scene = scene.restart().await;
        scene.wakes.add_permits(10);
        assert!(scene.pairing().alarm, "{when:?}");
        let refused = scene.request(&fake.url()).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::WrongState, "{when:?}");
        assert_eq!(fake.state().calls, Vec::<&str>::new(), "{when:?}: something was sent");
        let reset = scene.reset().await.unwrap();
        assert!(!reset.given_up.is_empty(), "{when:?}");
        assert!(scene.key_files().is_empty(), "{when:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_05_an_alarm_that_was_a_mistake_is_taken_back() {
    let clock = SimClock::new();
    let (fake, _stop) = Fake::start(&clock).await;
    let mut scene = Scene::start(&clock);
    scene.request(&fake.url()).await.unwrap();
    fake.swap_key();
    scene.until("alarmed", |pairing| pairing.alarm).await;
    fake.restore_key();
    let on = scene.retry().await.unwrap();
    assert!(!on.alarm);
    fake.state().decision = Decision::Accept;
    scene.until("active", |pairing| pairing.state == State::Active).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_05_a_stated_key_that_is_not_the_proven_one_raises_the_alarm() {
    let clock = SimClock::new();
    let (fake, _stop) = Fake::start(&clock).await;
    let scene = Scene::start(&clock);
    fake.state().stated_key = Some("3059".repeat(20));
    let trouble = scene.request(&fake.url()).await.unwrap_err();
    assert_eq!(trouble.code, ErrorCode::TargetChanged);
    assert!(scene.pairing().alarm);
    assert_eq!(scene.pairing().check_code, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_do_not_fit_are_never_installed() {
    let clock = SimClock::new();
    for (signs_wrongly, word) in [(true, "did not sign"), (false, "not this source's")] {
        let (fake, _stop) = Fake::start(&clock).await;
        let mut scene = Scene::start(&clock);
        {
            let mut state = fake.state();
            state.decision = Decision::Accept;
            state.signs_wrongly = signs_wrongly;
            let other = offsite_pki::PrivateKey::generate().unwrap();
            state.issues_for = (!signs_wrongly).then(|| other.spki().clone());
        }
        scene.request(&fake.url()).await.unwrap();
        let alarmed = scene.until("alarmed", |pairing| pairing.alarm).await;
        assert!(alarmed.message.as_deref().unwrap().contains(word), "{alarmed:?}");
        assert!(scene.key_files().iter().all(|name| name.ends_with(".key")));
        assert_eq!(fake.n_active(), 0);
    }
}
