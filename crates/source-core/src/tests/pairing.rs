//! From the request to the active pairing and to its end, over real TLS.

use offsite_proto::admin::source::{Connection, State};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::pairing::{CheckCode, Reason};
use offsite_testkit::SimClock;

use super::fake::{Decision, Fake};
use super::scene::Scene;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_becomes_an_active_pairing_without_a_person_at_the_source() {
    let clock = SimClock::new();
    let (fake, _stop) = Fake::start(&clock).await;
    let mut scene = Scene::start(&clock);
    let filed = scene.request(&fake.url()).await.unwrap();
    assert_eq!((filed.state, filed.connection), (State::Pending, Connection::Online));
    assert_eq!(filed.target, Some(fake.address.to_string()));
    assert_eq!(filed.agents, ["web"]);
    // The code is computed from the key that the handshake proved.
    let key = scene.means.memory.pairings().unwrap()[0].1.machine.stage().keys()[0].clone();
    let code = CheckCode::of(fake.spki.as_der(), key.as_der(), filed.request_id.unwrap().0);
    assert_eq!(filed.check_code, Some(code.to_string()));
    let submitted = fake.state().last_submit.clone().unwrap();
    assert_eq!(submitted.customer_id, "c-1");
    assert_eq!(submitted.agents[0].logical_bytes.0, 4_096);
    // Rows 59, 37, 49, 51 in any order, then 44.
    let mut calls = fake.state().calls.clone();
    assert_eq!(calls.pop(), Some("44"));
    calls.sort_unstable();
    assert_eq!(calls, ["37", "49", "51", "59"]);

    for _ in 0..3 {
        let change = scene.pairing().change;
        scene.wake();
        scene.settled("polled", |pairing| pairing.change > change + 1).await;
    }
    assert_eq!(scene.pairing().state, State::Pending);
    fake.state().decision = Decision::Accept;
    let active = scene.until("active", |pairing| pairing.state == State::Active).await;
    assert_eq!(active.check_code, None);
    assert!(active.certificate_ends_at.is_some() && active.message.is_none(), "{active:?}");
    assert_eq!(fake.n_active(), 1);
    assert_eq!(scene.key_files().len(), 1, "{:?}", scene.key_files());
    assert!(scene.key_files()[0].ends_with(".pem"));

    // Row 45 tells what the target is called; a name that is no plain line is not taken.
    assert_eq!(active.target, Some(fake.address.to_string()));
    for (told, shown) in [("vault", "vault"), ("va\u{1b}[2Jult", "vault")] {
        fake.state().summary.host_name = Some(told.to_owned());
        let change = scene.pairing().change;
        scene.wake();
        scene.settled("synced", |pairing| pairing.change > change + 1).await;
        assert_eq!(scene.pairing().target.as_deref(), Some(shown));
        assert_eq!(scene.pairing().address, Some(fake.address.to_string()));
    }

    // A restart goes on with what is installed, and knows the name.
    let mut scene = scene.restart().await;
    assert_eq!(scene.pairing().target.as_deref(), Some("vault"));
    let again = scene.until("online", |pairing| pairing.connection == Connection::Online).await;
    assert_eq!(again.state, State::Active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejection_is_shown_in_the_operators_words_and_ends_the_polling() {
    let clock = SimClock::new();
    let (fake, _stop) = Fake::start(&clock).await;
    let mut scene = Scene::start(&clock);
    scene.request(&fake.url()).await.unwrap();
    fake.state().decision = Decision::Reject("call me: 555-1234 \u{1F4DE}".to_owned());
    let rejected = scene.until("rejected", |pairing| pairing.state == State::Rejected).await;
    assert_eq!(rejected.message.as_deref(), Some("call me: 555-1234 \u{1F4DE}"));
    assert!(rejected.is_resolved());
    let n_calls = fake.state().calls.len();
    scene.wake();
    // The next request starts over, with another key.
    fake.state().decision = Decision::Accept;
    let again = scene.pair(&fake.url()).await;
    assert_ne!(again.fingerprint, rejected.fingerprint);
    assert_eq!(fake.state().calls[n_calls..].iter().filter(|row| **row == "44").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_nobody_decides_ends_without_an_answer() {
    let clock = SimClock::new();
    let (fake, _stop) = Fake::start(&clock).await;
    let mut scene = Scene::start(&clock);
    scene.request(&fake.url()).await.unwrap();
    fake.revoke_all();
    let expired = scene.until("expired", |pairing| pairing.state == State::Expired).await;
    assert!(expired.message.unwrap().contains("no answer"));
    assert!(expired.next.unwrap().contains("pair request"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_away_keeps_the_request_pending() {
    let clock = SimClock::new();
    let (fake, stop) = Fake::start(&clock).await;
    let mut scene = Scene::start(&clock);
    scene.request(&fake.url()).await.unwrap();
    fake.stop();
    drop(stop);
    let away =
        scene.until("unreachable", |pairing| pairing.connection == Connection::Unreachable).await;
    assert_eq!(away.state, State::Pending);
    assert!(away.message.unwrap().contains("trying again"));
    assert!(away.check_code.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_meeting_that_fails_leaves_nothing_behind() {
    let clock = SimClock::new();
    let (fake, _stop) = Fake::start(&clock).await;
    let scene = Scene::start(&clock);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let trouble = scene.request(&url).await.unwrap_err();
    assert_eq!(trouble.code, ErrorCode::TargetUnreachable);
    assert!(trouble.message.contains("nothing listens"), "{}", trouble.message);
    assert!(!trouble.hint.is_empty());
    assert!(scene.handle.pairings().is_empty());
    // The key has seen nobody, and the next request uses it.
    let kept = scene.key_files();
    assert_eq!(kept.len(), 1);

    fake.state().summary.protocol_min = 7;
    fake.state().summary.protocol_max = 9;
    let trouble = scene.request(&fake.url()).await.unwrap_err();
    assert_eq!(trouble.code, ErrorCode::VersionUnsupported);
    assert!(trouble.message.contains("7 to 9"), "{}", trouble.message);
    fake.state().summary.protocol_min = 1;

    fake.state().can_pair.can_pair = false;
    fake.state().can_pair.reasons =
        vec![Reason { code: ErrorCode::VersionUnsupported, message: "too old".to_owned() }];
    let trouble = scene.request(&fake.url()).await.unwrap_err();
    assert!(trouble.message.contains("too old"), "{}", trouble.message);
    fake.state().can_pair.can_pair = true;

    let closed = Refusal::new(ErrorCode::RouteUnknown, "there is no such path");
    fake.state().refuse.insert("59", closed);
    let trouble = scene.request(&fake.url()).await.unwrap_err();
    assert_eq!(trouble.code, ErrorCode::RouteUnknown);
    assert!(trouble.hint.contains("closed pairing"), "{}", trouble.hint);
    assert!(!fake.state().calls.contains(&"44"));
    assert_eq!((scene.key_files(), scene.handle.pairings().len()), (kept, 0));
    let trouble = scene.request_for(&fake.url(), "nobody").await.unwrap_err();
    assert_eq!(trouble.code, ErrorCode::AgentUnknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_target_is_named() {
    use std::io::{Read, Write};
    let clock = SimClock::new();
    let scene = Scene::start(&clock);
    for (greeting, word) in [
        (&b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"[..], "plain http"),
        (b"220 mail.example ESMTP\r\n", "tls"),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hello = [0; 5];
            stream.read_exact(&mut hello).unwrap();
            stream.write_all(greeting).unwrap();
            // Until the caller hangs up.
            drop(std::io::copy(&mut stream, &mut std::io::sink()));
        });
        let trouble = scene.request(&url).await.unwrap_err();
        assert_eq!(trouble.code, ErrorCode::NotATarget, "{}", trouble.message);
        assert!(trouble.message.contains(word), "{}", trouble.message);
        other.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_target_is_a_remark_and_no_obstacle() {
    let clock = SimClock::new();
    let (fake, _stop) = Fake::start(&clock).await;
    let scene = Scene::start(&clock);
    fake.state().summary.version = offsite_proto::version::ProductVersion::from_package("0.0.9");
    let filed = scene.request(&fake.url()).await.unwrap();
    assert!(filed.message.unwrap().contains("older"));
    assert!(filed.check_code.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_03_a_changed_request_goes_to_the_same_key() {
    let clock = SimClock::new();
    let (fake, _stop) = Fake::start(&clock).await;
    let mut scene = Scene::start(&clock);
    let first = scene.request(&fake.url()).await.unwrap();
    let second = scene.request_for(&fake.url(), "db").await.unwrap();
    assert_eq!(first.fingerprint, second.fingerprint);
    assert_eq!(first.request_id, second.request_id);
    assert_eq!(second.agents, ["db"]);
    assert_eq!(fake.state().last_submit.clone().unwrap().agents[0].display_name, "db");
    assert_eq!(scene.handle.pairings().len(), 1);
    fake.state().decision = Decision::Accept;
    scene.until("active", |pairing| pairing.state == State::Active).await;
    let trouble = scene.request(&fake.url()).await.unwrap_err();
    assert_eq!(trouble.code, ErrorCode::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_lead_to_the_same_place() {
    let clock = SimClock::new();
    let (fake, _stop) = Fake::start(&clock).await;
    for row in ["44", "P1", "P2", "P3", "45"] {
        let mut scene = Scene::start(&clock);
        {
            let mut state = fake.state();
            state.decision = Decision::Accept;
            state.lose = vec![row, row];
        }
        let active = scene.pair(&fake.url()).await;
        assert!(fake.state().lose.is_empty(), "{row} was never lost");
        assert_eq!(scene.key_files().len(), 1, "{row}");
        assert!(active.message.is_none(), "{row}: {active:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_13_a_renewal_changes_the_key_and_locks_nobody_out() {
    let clock = SimClock::new();
    let (fake, _stop) = Fake::start(&clock).await;
    fake.state().decision = Decision::Accept;
    let mut scene = Scene::start(&clock);
    let mut key = scene.pair(&fake.url()).await.fingerprint;
    fake.state().decision = Decision::Wait;
    for lost in [&[][..], &["44"], &["P1"], &["P2"], &["45"], &["44", "45", "P3"]] {
        fake.state().lose = lost.to_vec();
        scene.renew().await.unwrap();
        let renewed =
            scene.until("renewed", |pairing| pairing.fingerprint != key && !pairing.renewing).await;
        assert_eq!(renewed.state, State::Active, "{lost:?}");
        assert_eq!(fake.n_active(), 1, "{lost:?}");
        assert_eq!(scene.key_files().len(), 1, "{lost:?}: {:?}", scene.key_files());
        key = renewed.fingerprint;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_is_told_until_the_target_has_heard_it() {
    let clock = SimClock::new();
    let (fake, _stop) = Fake::start(&clock).await;
    let mut scene = Scene::start(&clock);
    scene.request(&fake.url()).await.unwrap();
    let gone = scene.withdraw().await.unwrap();
    assert_eq!(gone.state, State::Ended);
    assert_eq!(gone.message.as_deref(), Some("the request is withdrawn"));
    assert!(scene.key_files().is_empty());

    fake.state().decision = Decision::Accept;
    scene.pair(&fake.url()).await;
    let target = fake.address.to_string();
    fake.state().refuse.insert("46", Refusal::new(ErrorCode::Busy, "busy"));
    let untold = scene.end(&target, true).await.unwrap();
    assert_eq!(untold.state, State::Ended);
    assert!(untold.message.unwrap().contains("busy"));
    fake.state().refuse.clear();
    let told = scene
        .until("told", |pairing| pairing.message.as_deref() == Some("the pairing is ended"))
        .await;
    assert_eq!(told.state, State::Ended);
    assert_eq!(fake.state().deleted_points, Some(true));
    assert!(scene.key_files().is_empty());
    assert_eq!(scene.end("elsewhere:1", false).await.unwrap_err().code, ErrorCode::SystemUnknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pairing_that_the_target_ended_stops_and_deletes_nothing() {
    let clock = SimClock::new();
    let (fake, _stop) = Fake::start(&clock).await;
    fake.state().decision = Decision::Accept;
    let mut scene = Scene::start(&clock);
    scene.pair(&fake.url()).await;
    fake.revoke_all();
    let ended = scene.until("ended", |pairing| pairing.state == State::Ended).await;
    assert!(ended.message.unwrap().contains("nothing was deleted"));
    assert_eq!(scene.key_files().len(), 1);
    let given_up = scene.reset().await.unwrap();
    assert!(given_up.given_up.is_empty());
    assert!(scene.key_files().is_empty());
    assert_eq!(scene.pairing().state, State::Unpaired);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_do_not_fit_are_explained() {
    let clock = SimClock::new();
    let (fake, _stop) = Fake::start(&clock).await;
    let mut scene = Scene::start(&clock);
    assert_eq!(scene.withdraw().await.unwrap_err().code, ErrorCode::SystemUnknown);
    scene.request(&fake.url()).await.unwrap();
    let trouble = scene.renew().await.unwrap_err();
    assert_eq!(trouble.code, ErrorCode::WrongState);
    assert!(trouble.message.contains("pending"), "{}", trouble.message);
    let trouble = scene.reset().await.unwrap_err();
    assert!(trouble.hint.contains("withdraw"), "{}", trouble.hint);
    fake.state().decision = Decision::Accept;
    scene.until("active", |pairing| pairing.state == State::Active).await;
    assert_eq!(scene.withdraw().await.unwrap_err().code, ErrorCode::WrongState);
    let trouble = scene.reset().await.unwrap_err();
    assert!(trouble.hint.contains("unpair"), "{}", trouble.hint);
}
