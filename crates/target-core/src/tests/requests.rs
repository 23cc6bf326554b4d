//! Who may file a request, what an approval is bound to, and how many strangers there may be.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use offsite_exchange::pairing::target::Stage;
use offsite_model::Span;
use offsite_pki::{Presented, PrivateKey};
use offsite_proto::error::ErrorCode;
use offsite_proto::json::Json;
use offsite_proto::pairing::{AddAgents, Submit, SubmitRequest, VerifyAgents};
use offsite_store::catalog::{MemoryCatalog, RedbCatalog};
use offsite_testkit::disk::Disk;
use offsite_testkit::{SeededLuck, SimClock};
use offsite_transport::{Origin, PeerKey, Place};

use super::scene::{NOON, ROOT, Scene, Source, decision, settings, target_over};
use crate::accounts::enrolment;
use crate::failure::Failure;
use crate::names::tests::CORPUS;
use crate::principal::Principal;
use crate::submit::Submission;
use crate::{Target, tenants};

async fn submit(scene: &Scene, source: &Source, wish: SubmitRequest) -> Result<u16, ErrorCode> {
    source.call::<Submit>(scene, &(), &Json(wish)).await.map(|answer| answer.status)
}

fn n_rows(target: &Target) -> usize {
    target.register().peers().unwrap().len()
}

#[tokio::test]
async fn a_01_only_the_key_of_the_handshake_files_a_request() {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let scene = Scene::open().await;
    for _ in 0..200 {
        let source = scene.source();
        // One character of the request changed.
        let mut wish = source.wish();
        let mut pem = wish.client_certificate.into_bytes();
        let start = pem.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        // Behind the last whole group the bits of a character may mean nothing.
        let end = pem.iter().rposition(|byte| byte.is_ascii_alphanumeric()).unwrap() - 40;
        let place = usize::try_from(scene.luck.between(start as u64, end as u64)).unwrap();
        if pem[place] == b'\n' {
            continue;
        }
        let before = pem[place];
        while pem[place] == before {
            pem[place] = *scene.luck.pick(ALPHABET);
        }
        wish.client_certificate = String::from_utf8(pem).unwrap();
        assert!(submit(&scene, &source, wish).await.is_err());
        // Another key's request.
        let mut wish = source.wish();
        let other = PrivateKey::generate().unwrap();
        wish.client_certificate = offsite_pki::request::make(&other).unwrap();
        assert_eq!(submit(&scene, &source, wish).await, Err(ErrorCode::Unauthenticated));
        // Nobody's certificate.
        let bare = scene.dial_bare().await;
        let refused = bare.call::<Submit>(&(), &Json(source.wish())).await.unwrap_err();
        assert_eq!(super::scene::code_of(&refused), ErrorCode::Unauthenticated);
    }
    assert_eq!(n_rows(&scene.target), 0);
    // A request that was captured, sent again under another key.
    let honest = scene.source();
    let captured = honest.wish();
    assert_eq!(submit(&scene, &honest, captured.clone()).await, Ok(202));
    let before = scene.target.register().peers().unwrap();
    for _ in 0..200 {
        let thief = scene.source();
        let stolen = submit(&scene, &thief, captured.clone()).await;
        assert_eq!(stolen, Err(ErrorCode::Unauthenticated));
    }
    assert_eq!(scene.target.register().peers().unwrap(), before);
    // Over a pairing's certificate the new key proves itself, and a captured one is taken already.
    let paired = scene.paired().await;
    let replayed = submit(&scene, &paired, captured).await;
    assert_eq!(replayed, Err(ErrorCode::AlreadyExists));
}

#[tokio::test]
async fn a_01_what_is_out_of_bounds_is_not_stored() {
    let scene = Scene::open().await;
    let source = scene.source();
    let changes: [fn(&mut SubmitRequest); 8] = [
        |wish| wish.master_core_info.host_name = "x".repeat(257),
        |wish| wish.master_core_info.host_name = String::new(),
        |wish| wish.agents[0].display_name = "a\u{1b}[2J".to_owned(),
        |wish| wish.agents[1].id = wish.agents[0].id,
        |wish| wish.agents = vec![wish.agents[0].clone(); 501],
        |wish| wish.comments = "x".repeat(1_025),
        |wish| wish.customer_id = "a\nb".to_owned(),
        |wish| wish.client_certificate.push_str(&" ".repeat(9_000)),
    ];
    for change in changes {
        let mut wish = source.wish();
        change(&mut wish);
        assert_eq!(submit(&scene, &source, wish).await, Err(ErrorCode::BadRequest));
    }
    assert_eq!(n_rows(&scene.target), 0);
    let agents = AddAgents {
        agents: vec![source.agents[0].clone(), source.agents[0].clone()],
        comments: String::new(),
        customer_id: String::new(),
        email_address: String::new(),
    };
    let verdicts = source.call::<VerifyAgents>(&scene, &(), &Json(agents)).await.unwrap().body.0;
    assert_eq!(verdicts.iter().map(|verdict| verdict.ok).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_03_an_approval_is_bound_to_what_was_shown() {
    let scene = Scene::open().await;
    let (mut n_accepted, mut n_stale) = (0, 0);
    for round in 0..100 {
        let mut source = scene.source();
        let request = scene.submit(&source).await.unwrap().request_id.0;
        let shown = scene.shown(request);
        if round % 4 != 0 {
            source.name = format!("branch {round}");
        }
        let mut decide = decision(request, true);
        decide.digest = Some(shown.digest.clone());
        let target = Arc::clone(&scene.target);
        let accepting = async move {
            // Every third round at once, every third a little later, every third when all is over.
            for _ in 0..round % 3 * 20 {
                tokio::task::yield_now().await;
            }
            tokio::task::spawn_blocking(move || target.decide(&ROOT, &decide)).await
        };
        let accepted = if round % 3 == 2 {
            scene.submit(&source).await.unwrap();
            accepting.await
        } else {
            let (again, accepted) = tokio::join!(scene.submit(&source), accepting);
            again.unwrap();
            accepted
        };
        scene.target.issue_ordered();
        let row = scene.target.register().of_key(source.key.spki().thumbprint().as_bytes());
        let row = row.unwrap().expect("the request is gone");
        let is_as_shown = row.asked().host_name == shown.source_name;
        match accepted.unwrap() {
            Ok(_) => n_accepted += 1,
            Err(refusal) => {
                assert_eq!(refusal.code, ErrorCode::RequestChanged);
                n_stale += 1;
            }
        }
        let has_certificate = row.paired().is_some();
        assert!(!has_certificate || is_as_shown, "a certificate for what nobody saw");
        assert!(round % 4 != 0 || has_certificate, "the same content voided an approval");
        if !has_certificate {
            // Makes room; the address has a few places only.
            scene.target.decide(&ROOT, &decision(request, false)).unwrap();
        }
    }
    assert_eq!(n_rows(&scene.target), 100);
    // Both orders of the race occurred, or this test has shown half of what it says.
    assert!(n_accepted >= 25 && n_stale >= 20, "{n_accepted} {n_stale}");

    let mut source = scene.source();
    let request = scene.submit(&source).await.unwrap().request_id.0;
    let mut stale = decision(request, true);
    stale.digest = Some(scene.shown(request).digest);
    source.agents.pop();
    scene.submit(&source).await.unwrap();
    let refused = scene.target.decide(&ROOT, &stale).unwrap_err();
    assert_eq!((refused.code, refused.code.status()), (ErrorCode::RequestChanged, 409));
    assert_eq!(scene.target.issue_ordered(), 0);
}

#[tokio::test]
async fn a_04_wrong_codes_are_refused_and_lock_the_request() {
    let scene = Scene::open().await;
    let mut n_wrong = 0;
    for _ in 0..4 {
        let source = scene.source();
        let request = scene.submit(&source).await.unwrap().request_id.0;
        let right = scene.shown(request).check_code;
        let mut decide = decision(request, true);
        for attempt in 0..5 {
            let mut wrong = right.clone().into_bytes();
            let place = usize::try_from(scene.luck.between(0, 3)).unwrap();
            wrong[place] = if wrong[place] == b'7' { b'8' } else { b'7' };
            let wrong = String::from_utf8(wrong).unwrap();
            decide.check_code = Some(if attempt == 4 { "1234".to_owned() } else { wrong });
            let refused = scene.target.decide(&ROOT, &decide).unwrap_err();
            assert_eq!(refused.code, ErrorCode::CheckCodeMismatch);
            n_wrong += 1;
        }
        assert!(scene.shown(request).locked);
        // The sixth entry is the right one, and too late; without a code is no way around.
        for code in [Some(right.clone()), None] {
            decide.check_code = code;
            let refused = scene.target.decide(&ROOT, &decide).unwrap_err();
            assert_eq!(refused.code, ErrorCode::CheckCodeMismatch);
        }
        assert_eq!(scene.target.issue_ordered(), 0);
        // The source submits again: a new id, a new code, and the old id leads nowhere.
        let anew = scene.submit(&source).await.unwrap().request_id.0;
        assert_ne!(anew, request);
        let shown = scene.shown(anew);
        assert_ne!(shown.check_code, right);
        let gone = scene.target.decide(&ROOT, &decision(request, true)).unwrap_err();
        assert_eq!(gone.code, ErrorCode::RequestUnknown);
        scene.accept(anew).unwrap();
    }
    assert_eq!(n_wrong, 20);
    let told = scene
        .target
        .register()
        .look(|rows| Ok(crate::audit::newest(rows, &crate::principal::TenantScope::All, 500)?));
    let n_told = told.unwrap().iter().filter(|kept| kept.event == "check_code_entered").count();
    assert_eq!(n_told, 20);
}

#[tokio::test]
async fn a_04_the_setting_demands_the_code_of_everybody() {
    let mut settings = settings();
    settings.pairing.require_check_code = true;
    let scene = Scene::with(settings).await;
    let source = scene.source();
    let request = scene.submit(&source).await.unwrap().request_id.0;
    let refused = scene.target.decide(&ROOT, &decision(request, true)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::CheckCodeMismatch);
    assert!(!scene.shown(request).locked);
    scene.accept(request).unwrap();
}

#[tokio::test]
async fn a_10_messages_come_back_as_typed_or_are_refused() {
    let scene = Scene::open().await;
    for (message, is_good, ..) in CORPUS {
        let source = scene.source();
        let request = scene.submit(&source).await.unwrap().request_id.0;
        let mut decide = decision(request, false);
        decide.message = Some((*message).to_owned());
        match scene.target.decide(&ROOT, &decide) {
            Ok(_) => {
                assert!(is_good, "{message:?} was taken");
                let told = source.poll(&scene, request).await.unwrap().body.0.message;
                assert_eq!(told.as_deref(), Some(*message));
                assert_eq!(source.sync(&scene).await.unwrap().message.as_deref(), Some(*message));
            }
            Err(refusal) if message.is_empty() => {
                assert_eq!(refusal.code, ErrorCode::MessageRequired);
            }
            Err(refusal) => {
                assert!(!is_good, "{message:?} was refused");
                assert_eq!(refusal.code, ErrorCode::BadRequest);
            }
        }
        if scene.target.pending_for(&ROOT).unwrap().len() > 50 {
            scene.advance(Span::from_days(8));
            scene.target.keep_house(false).unwrap();
        }
    }
}

#[tokio::test]
async fn a_11_hostile_names_are_refused_or_flagged() {
    let scene = Scene::open().await;
    for (name, _, is_good, is_flagged) in CORPUS {
        let mut source = scene.source();
        source.agents[0].display_name = (*name).to_owned();
        let outcome = scene.submit(&source).await;
        assert_eq!(outcome.is_ok(), *is_good, "{name:?}");
        let Ok(submitted) = outcome else { continue };
        let shown = scene.shown(submitted.request_id.0);
        assert_eq!(!shown.warnings.is_empty(), *is_flagged, "{name:?}");
        assert_eq!(shown.agents[0].display_name, *name);
        let bytes = offsite_proto::endpoint::Body::encode(&Json(vec![shown]));
        assert!(!bytes.iter().any(|byte| *byte < 0x20 || *byte == 0x7f), "{name:?}");
        let decided = scene.target.decide(&ROOT, &decision(submitted.request_id.0, false));
        decided.unwrap();
    }
    // What the audit log keeps of them has no control character either.
    let kept = scene
        .target
        .register()
        .look(|rows| Ok(crate::audit::newest(rows, &crate::principal::TenantScope::All, 5_000)?));
    for entry in kept.unwrap() {
        assert!(entry.facts.iter().all(|(_, fact)| !fact.contains(char::is_control)));
    }
}

fn origin(source: &Source, address: IpAddr) -> Origin {
    let presented = Presented::from_chain(&[source.shown.as_der().clone()]).unwrap();
    Origin {
        address: Place::Network(address),
        peer: Some(PeerKey::from(presented)),
        request: "0".repeat(16),
        connection: 1,
        http2: true,
    }
}

#[tokio::test]
async fn a_07_a_flood_of_strangers_has_a_fixed_budget() {
    let luck = Arc::new(SeededLuck::from_env_or(7));
    let clock = SimClock::starting_at(NOON);
    let disk = Disk::new(7);
    let directory = std::path::Path::new("/data");
    disk.files().create_dir(directory).unwrap();
    let catalog = RedbCatalog::open(&*disk.files(), &directory.join("catalog")).unwrap();
    let shipped = crate::config::Settings::shipped("vault");
    let (target, _) = target_over(Arc::new(catalog), shipped, &clock, &luck);
    let code = {
        let deed = target.deed(&ROOT);
        offsite_store::catalog::Transactions::write(&**target.catalog(), |rows| {
            let tenant = tenants::add(rows, &deed, "customer")?;
            enrolment::add(rows, &deed, tenant.id, None, "for the branch")
        })
        .map_err(|failure: Failure| failure)
        .unwrap()
    };
    let before = disk.bytes_used();
    let first = Source::new(&*luck, NOON);
    let put = |source: &Source, wish: SubmitRequest, address: IpAddr| {
        let origin = origin(source, address);
        let submission = Submission::read(wish, &origin)?;
        target.submit(&Principal::Anon, origin.peer.as_ref().unwrap(), &submission)
    };
    put(&first, first.wish(), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1))).unwrap();
    let mut n_taken = 1;
    for index in 0..5_000_u32 {
        let mut source = Source::new(&*luck, NOON);
        let mut wish = source.wish();
        if index % 50 == 0 {
            // As large as a body may be.
            let agent = &source.agents[0];
            source.agents = (0..400)
                .map(|_| offsite_proto::pairing::AgentDescription {
                    id: offsite_model::AgentId::random(&*luck).into(),
                    display_name: "x".repeat(200),
                    host_name: "y".repeat(200),
                    ..agent.clone()
                })
                .collect();
            wish.agents = source.agents.clone();
        }
        let address = Ipv4Addr::new(127, 0, (index / 250) as u8, (index % 250) as u8);
        match put(&source, wish, IpAddr::V4(address)) {
            Ok(_) => n_taken += 1,
            Err(refusal) => {
                assert_eq!(refusal.code, ErrorCode::Busy);
                assert!(refusal.retry_after_secs.is_some());
            }
        }
    }
    assert_eq!(n_taken, 256 - 32);
    assert_eq!(n_rows(&target), n_taken);
    let grown = disk.bytes_used() - before;
    assert!(grown <= 64 << 20, "the flood took {grown} bytes of disk");
    // The first one was not put out, and may still look after its request.
    put(&first, first.wish(), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1))).unwrap();
    // Who has a code finds a place in the reserved pool, from a flooded address too.
    let honest = Source::new(&*luck, NOON);
    let mut wish = honest.wish();
    wish.enrolment_code = Some(code.1.expose().to_owned());
    put(&honest, wish.clone(), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))).unwrap();
    // The code is good for one key.
    let second = Source::new(&*luck, NOON);
    wish.client_certificate = second.wish().client_certificate;
    let refused = put(&second, wish, IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3))).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
}

#[test]
fn a_07_one_address_has_four_places() {
    let luck = Arc::new(SeededLuck::from_env_or(8));
    let clock = SimClock::starting_at(NOON);
    let shipped = crate::config::Settings::shipped("vault");
    let (target, _) = target_over(Arc::new(MemoryCatalog::new()), shipped, &clock, &luck);
    let put = |address: &str| {
        let source = Source::new(&*luck, NOON);
        let origin = origin(&source, address.parse().unwrap());
        let submission = Submission::read(source.wish(), &origin).unwrap();
        target.submit(&Principal::Anon, origin.peer.as_ref().unwrap(), &submission).is_ok()
    };
    // One IPv4 address, in both forms; one /56 of IPv6; a neighbour of each.
    let taken: Vec<_> =
        ["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2"]
            .map(put)
            .to_vec();
    assert_eq!(taken, [true, true, true, true, false, true]);
    let taken: Vec<_> = (0..5).map(|index| put(&format!("2001:db8:0:{index:x}::1"))).collect();
    assert_eq!(taken, [true, true, true, true, false]);
    assert!(put("2001:db8:0:100::1"));
    // A place that is given back can be taken again.
    clock.advance(Span::from_days(7));
    target.keep_house(false).unwrap();
    assert!(put("10.0.0.1"));
    let stages = target.register().peers().unwrap();
    assert!(stages.iter().all(|row| matches!(row.machine.stage(), Stage::Pending(_))));
}
