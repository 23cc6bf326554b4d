//! Every kind of certificate against every row of the replication listener.
//!
//! What is expected is worked out here from the published words of the table, not from the gate's
//! code.

use offsite_model::{CoreId, RequestId, Span};
use offsite_pki::tls::ClientIdentity;
use offsite_pki::{Authority, Certificate, PrivateKey, Validity, self_signed};
use offsite_proto::endpoint::Row;
use offsite_proto::error::ErrorCode;

use offsite_transport::CallError;

use super::calls::{call, gate_word, replication_rows, values};
use super::scene::{NOON, ROOT, Scene, Source, decision};

/// What a caller is, in the words of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Keyless,
    Stranger,
    Spent,
    Pending,
    Rejected,
    /// The key of an active pairing under another certificate.
    OtherCertificate,
    Source,
    Expired,
}

struct Case {
    name: &'static str,
    kind: Kind,
    key: PrivateKey,
    shown: Certificate,
}

/// The word with which the gate refuses; none where it lets the caller in.
fn expected(row: &Row, kind: Kind) -> Option<ErrorCode> {
    use Kind::{Expired, Keyless, OtherCertificate, Pending, Rejected, Spent, Stranger};
    let words = row.access.to_string();
    let words: Vec<_> = words.split(['|', '?']).collect();
    if words.contains(&"ANON") {
        return (row.id == "44" && kind == Keyless).then_some(ErrorCode::Unauthenticated);
    }
    if kind == Keyless || words == ["ADMIN"] {
        return Some(ErrorCode::Unauthenticated);
    }
    if row.id.starts_with('P') {
        // A random request id: nobody's.
        return Some(if kind == Expired {
            ErrorCode::NotPaired
        } else {
            ErrorCode::RequestUnknown
        });
    }
    if words.contains(&"ENROLLING") {
        return match (row.id, kind) {
            (_, Stranger) | ("45", Spent) => Some(ErrorCode::NotPaired),
            ("46", Expired | OtherCertificate) => Some(ErrorCode::NotPaired),
            _ => None,
        };
    }
    match kind {
        // By demand only; and without the restore grant nothing is read back.
        Kind::Source if matches!(row.id, "38" | "H2") => Some(ErrorCode::Forbidden),
        Kind::Source => None,
        Pending | OtherCertificate => Some(ErrorCode::PairingPending),
        Rejected => Some(ErrorCode::PairingDenied),
        Stranger | Spent | Expired | Keyless => Some(ErrorCode::NotPaired),
    }
}

fn issued(authority: &Authority, key: &PrivateKey, subject: CoreId, scene: &Scene) -> Certificate {
    let validity = Validity::days(scene.now(), 90).unwrap();
    authority.issue_client(key.spki(), subject, validity, &*scene.luck).unwrap()
}

async fn cases(scene: &Scene) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, kind, source: Source| {
        cases.push(Case { name, kind, key: source.key, shown: source.shown });
    };
    let own = &scene.target.identity().authority;
    let other = Authority::create("elsewhere", scene.now(), &*scene.luck).unwrap();

    // Expired first, while the clock may still be moved on past them.
    for (name, kind, age) in [
        ("expired 1 d ago", Kind::Expired, Span::from_days(1)),
        ("expired 179 d ago", Kind::Expired, Span::from_days(179)),
        ("expired 181 d ago", Kind::Stranger, Span::from_days(181)),
    ] {
        scene.clock.jump_to(NOON - Span::from_days(90) - age);
        add(name, kind, scene.paired().await);
    }
    scene.clock.jump_to(NOON - Span::from_days(91));
    let gone = scene.paired().await;
    let subject = gone.shown.subject().unwrap();
    scene.target.revoke(&ROOT, subject).unwrap();
    add("expired and revoked", Kind::Spent, gone);
    scene.clock.jump_to(NOON + Span::from_days(3));
    add("not yet valid", Kind::Stranger, scene.paired().await);
    scene.clock.jump_to(NOON);

    let mut keyless = scene.source();
    keyless.name = "nobody".to_owned();
    add("no certificate", Kind::Keyless, keyless);
    add("self-signed, unknown", Kind::Stranger, scene.source());
    let pending = scene.source();
    scene.submit(&pending).await.unwrap();
    add("self-signed, pending", Kind::Pending, pending);
    let rejected = scene.source();
    let request = scene.submit(&rejected).await.unwrap().request_id.0;
    scene.target.decide(&ROOT, &decision(request, false)).unwrap();
    add("self-signed, rejected", Kind::Rejected, rejected);

    let mut source = scene.paired().await;
    source.shown = self_signed(&source.key, scene.now(), &*scene.luck).unwrap();
    add("self-signed of an active key", Kind::OtherCertificate, source);
    let mut source = scene.paired().await;
    source.shown = issued(&other, &source.key, source.shown.subject().unwrap(), scene);
    add("other authority, active key", Kind::OtherCertificate, source);
    let mut source = scene.paired().await;
    source.shown = issued(own, &source.key, source.shown.subject().unwrap(), scene);
    add("own authority, active key, another serial", Kind::OtherCertificate, source);
    let mut source = scene.paired().await;
    let validity = Validity::days(scene.now(), 90).unwrap();
    let core = source.shown.subject().unwrap();
    source.shown = own.issue_server(&source.key, core, &[], validity, &*scene.luck).unwrap();
    add("own authority, active key, for servers", Kind::OtherCertificate, source);
    let mut source = scene.source();
    source.shown = issued(own, &source.key, CoreId::random(&*scene.luck), scene);
    add("own authority, no row", Kind::Stranger, source);
    let victim = scene.paired().await;
    let mut source = scene.source();
    source.shown = issued(own, &source.key, victim.shown.subject().unwrap(), scene);
    add("own authority, another source's subject", Kind::Stranger, source);
    let mut source = scene.source();
    source.shown = issued(&other, &source.key, CoreId::random(&*scene.luck), scene);
    add("other authority, unknown key", Kind::Stranger, source);
    let revoked = scene.paired().await;
    scene.target.revoke(&ROOT, revoked.shown.subject().unwrap()).unwrap();
    add("revoked", Kind::Spent, revoked);
    add("the good one", Kind::Source, scene.paired().await);
    add("the good one, after 179 d of life", Kind::Source, scene.paired().await);
    cases
}

fn identity(case: &Case) -> ClientIdentity<'_> {
    match case.kind {
        Kind::Keyless => ClientIdentity::None,
        _ => ClientIdentity::Certified(&case.key, &case.shown),
    }
}

#[tokio::test]
async fn f_04_every_certificate_against_every_row() {
    let scene = Scene::open().await;
    let mut rows = replication_rows();
    // Row 46 ends what it is allowed to end, so it comes last.
    rows.sort_by_key(|row| row.id == "46");
    let mut n_cells = 0;
    for case in cases(&scene).await {
        for row in &rows {
            // Row 44 ends its connection, so each call has its own.
            let connection = scene.dial_with(identity(&case)).await;
            let outcome = call(&connection, row, &values(row, &*scene.luck)).await;
            let expected = expected(row, case.kind);
            assert_eq!(
                gate_word(&outcome),
                expected,
                "{} on row {}: {outcome:?}",
                case.name,
                row.id
            );
            n_cells += 1;
        }
    }
    assert_eq!(n_cells, 19 * rows.len());
}

#[tokio::test]
async fn a_14_an_expired_certificate_renews_and_asks_and_nothing_else() {
    for (age, revoked, may) in
        [(1, false, true), (179, false, true), (181, false, false), (1, true, false)]
    {
        let scene = Scene::open().await;
        let source = scene.paired().await;
        if revoked {
            scene.target.revoke(&ROOT, source.shown.subject().unwrap()).unwrap();
        }
        scene.clock.jump_to(source.shown.not_after() + Span::from_days(age));
        let state = source.sync(&scene).await;
        assert_eq!(state.is_ok(), may, "{age} d, revoked {revoked}: {state:?}");
        for row in replication_rows() {
            if matches!(row.id, "44" | "45") || row.access.to_string().contains("ANON") {
                continue;
            }
            let connection = source.dial(&scene).await;
            let outcome = call(&connection, row, &values(row, &*scene.luck)).await;
            let is_poll = row.id.starts_with('P') && !may;
            let admin = row.access.to_string() == "ADMIN";
            // A goodbye to a pairing that has ended is answered like the first one.
            let wanted = match row.id {
                "46" if revoked => 204,
                _ if admin => 401,
                _ if is_poll => 404,
                _ => 403,
            };
            let status = outcome.unwrap_or_else(|(status, _)| status);
            assert_eq!(status, wanted, "{age} d on row {}", row.id);
        }
        let mut renewing = scene.source();
        renewing.core = source.core;
        let body = offsite_proto::json::Json(renewing.wish());
        let renewed = source.call::<offsite_proto::pairing::Submit>(&scene, &(), &body).await;
        assert_eq!(renewed.is_ok(), may, "{age} d, revoked {revoked}");
        scene.target.issue_ordered();
        if may {
            let request = renewed.unwrap().body.0.request_id.0;
            renewing.fetch(&scene, request).await;
            renewing.sync(&scene).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_21_a_closed_door_looks_like_no_door() {
    let scene = Scene::open().await;
    let paired = scene.paired().await;
    let stranger = scene.source();
    scene.target.close_pairing(&ROOT).unwrap();
    let missing = Row { path: "/replicationcomms/slave/nothing/here", ..offsite_proto::rows::R37 };
    for row in replication_rows() {
        if !row.access.to_string().contains("ANON") {
            continue;
        }
        for identity in
            [ClientIdentity::None, ClientIdentity::Certified(&stranger.key, &stranger.shown)]
        {
            for with_credentials in ["false", "true", "nonsense"] {
                let mut values = values(row, &*scene.luck);
                if row.query.contains(&"useCredentials") {
                    values.insert("useCredentials", with_credentials);
                }
                let connection = scene.dial_with(identity).await;
                let outcome = call(&connection, row, &values).await;
                if row.id == "N10" {
                    assert_eq!(outcome, Ok(200));
                    continue;
                }
                let connection = scene.dial_with(identity).await;
                let nowhere = call(&connection, &missing, &Default::default()).await;
                assert_eq!(nowhere.as_ref().unwrap_err().0, 404);
                assert_eq!(outcome, nowhere, "row {}", row.id);
            }
        }
    }
    assert_eq!(scene.submit(&stranger).await.unwrap_err(), ErrorCode::RouteUnknown);
    // Who is paired goes on, renewal included.
    paired.sync(&scene).await.unwrap();
    scene.target.open_pairing(&ROOT, Some(10)).unwrap();
    scene.submit(&stranger).await.unwrap();
    scene.advance(Span::from_secs(600));
    assert_eq!(scene.submit(&scene.source()).await.unwrap_err(), ErrorCode::RouteUnknown);
}

#[tokio::test]
async fn a_06_five_ways_to_know_nothing_are_one_answer() {
    let scene = Scene::open().await;
    let row = &offsite_proto::rows::P1;
    let asking = |request: RequestId| {
        let mut values = offsite_proto::endpoint::Values::new();
        values.insert("requestId", request.to_string());
        values
    };
    let other = scene.source();
    let others = scene.submit(&other).await.unwrap().request_id.0;
    let expired = scene.source();
    let lapsed = scene.submit(&expired).await.unwrap().request_id.0;
    scene.advance(Span::from_secs(7 * 86_400 - 1));
    let own = scene.source();
    let mine = scene.submit(&own).await.unwrap().request_id.0;
    let withdrawn = scene.source();
    let taken_back = scene.submit(&withdrawn).await.unwrap().request_id.0;
    let gone = offsite_proto::pairing::DeleteRecoveryPoints(false);
    withdrawn.call::<offsite_proto::pairing::Unpair>(&scene, &gone, &()).await.unwrap();
    let purged = scene.source();
    let rejected = scene.submit(&purged).await.unwrap().request_id.0;
    scene.target.decide(&ROOT, &decision(rejected, false)).unwrap();
    scene.advance(Span::from_secs(1));
    let paired = scene.paired().await;
    scene
        .target
        .register()
        .step(|step| {
            let row = step.peer_named(offsite_proto::operator::RequestName::Id(rejected))?.unwrap();
            step.remove_peer(&row)?;
            Ok(())
        })
        .unwrap();

    let stranger = scene.source();
    let classes = [
        (&stranger, mine),
        (&own, others),
        (&expired, lapsed),
        (&withdrawn, taken_back),
        (&purged, rejected),
        (&paired, mine),
    ];
    let mut first = None;
    for (source, request) in classes {
        let connection = source.dial(&scene).await;
        for round in 0..300 {
            // The swept table and the unswept one look the same.
            if round == 150 {
                scene.target.keep_house(true).unwrap();
            }
            let request = if round % 2 == 0 { request } else { RequestId::random(&*scene.luck) };
            let outcome = call(&connection, row, &asking(request)).await;
            let first = first.get_or_insert_with(|| outcome.clone());
            assert_eq!(outcome, *first);
        }
    }
    assert_eq!(first.unwrap().unwrap_err().0, 404);
    assert!(own.poll(&scene, mine).await.is_ok());
}

#[tokio::test]
async fn a_15_revocation_bites_at_once() {
    for round in 0..5 {
        // A new connection, a kept one, a stream in the middle of its body, a resumption.
        let scene = Scene::open().await;
        let source = scene.paired().await;
        let kept = source.dial(&scene).await;
        let row = &offsite_proto::rows::R45;
        let agents = &offsite_proto::rows::R09;
        let nothing = offsite_proto::endpoint::Values::new();
        assert_eq!(gate_word(&call(&kept, agents, &nothing).await), None);
        let (sender, body) = offsite_transport::Outgoing::stream();
        let streaming = source.dial(&scene).await;
        let beside = streaming.clone();
        let upload = tokio::spawn({
            let values = values(row, &*scene.luck);
            async move {
                let media = http::HeaderValue::from_static("application/json");
                let outcome = streaming.stream(row, &values, media, body, 1 << 20).await;
                matches!(outcome, Err(CallError::Transport { .. }))
            }
        });
        sender.send("{".into()).await.unwrap();
        // The upload's own task asks first.
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
        // A later stream of the same connection is answered, so the upload was let in before it.
        assert_eq!(gate_word(&call(&beside, agents, &nothing).await), None);
        assert_eq!(scene.connections.n_open(), 2);
        assert!(!upload.is_finished(), "round {round}: the body was not waited for");
        scene.target.revoke(&ROOT, source.shown.subject().unwrap()).unwrap();
        let wait = std::time::Duration::from_secs(5);
        let is_cut = tokio::time::timeout(wait, upload).await.expect("the stream went on").unwrap();
        assert!(is_cut);
        drop(sender);
        let after = kept.call::<offsite_proto::pairing::Greet>(&(), &()).await;
        assert!(after.is_err(), "the kept connection still answers");
        // Resumption is off on both sides, so a second handshake is a new one and is judged anew.
        let again = source.dial(&scene).await;
        let outcome = call(&again, agents, &nothing).await;
        assert_eq!(gate_word(&outcome), Some(ErrorCode::NotPaired));
        assert_eq!(source.sync(&scene).await, Err(ErrorCode::NotPaired));
    }
}

#[tokio::test]
async fn a_15_a_connection_that_was_not_cut_is_refused_all_the_same() {
    let scene = Scene::open().await;
    let source = scene.paired().await;
    let kept = source.dial(&scene).await;
    let agents = &offsite_proto::rows::R09;
    let nothing = offsite_proto::endpoint::Values::new();
    assert_eq!(gate_word(&call(&kept, agents, &nothing).await), None);
    // The row ends without anybody cutting the connection: the check of each request has to see it.
    let subject = source.shown.subject().unwrap();
    scene
        .target
        .register()
        .step(|step| {
            let row = step.peer_of_subject(subject)?.unwrap();
            step.remove_peer(&row)?;
            Ok(())
        })
        .unwrap();
    assert_eq!(gate_word(&call(&kept, agents, &nothing).await), Some(ErrorCode::NotPaired));
    let n_left = scene.target.register().look(|rows| {
        let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        Ok(rows
            .scan(crate::peers::tables::KEYS, all, offsite_store::catalog::Order::Ascending, 9)?
            .len())
    });
    assert_eq!(n_left.unwrap(), 0);
}
