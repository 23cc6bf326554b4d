//! Decisions across power cuts: exactly once, whatever is cut.

use std::path::Path;
use std::sync::Arc;

use offsite_exchange::pairing::target::Stage;
use offsite_model::{CoreId, Luck, RequestId};
use offsite_pki::{Authority, Certificate, Presented, PrivateKey, Validity};
use offsite_proto::error::ErrorCode;
use offsite_store::catalog::{CatalogError, Transactions};
use offsite_testkit::disk::Disk;
use offsite_testkit::{SeededLuck, SimClock};
use offsite_transport::{Origin, PeerKey, Place};

use super::scene::{NOON, ROOT, Source, decision, settings};
use crate::failure::Failure;
use crate::principal::{Principal, TenantScope};
use crate::submit::Submission;
use crate::{Identity, Target, World, audit, storage_list, tenants};

const DIRECTORY: &str = "/data";

struct Keys {
    core: CoreId,
    authority: String,
    certificate: Certificate,
}

fn keys(luck: &SeededLuck) -> Keys {
    let authority = Authority::create("vault", NOON, luck).unwrap();
    let core = CoreId::random(luck);
    let key = PrivateKey::generate().unwrap();
    let validity = Validity::days(NOON, 397).unwrap();
    let certificate = authority.issue_server(&key, core, &[], validity, luck).unwrap();
    Keys { core, authority: authority.to_pem().to_string(), certificate }
}

fn open(disk: &Disk, keys: &Keys, luck: &Arc<SeededLuck>) -> Result<Arc<Target>, CatalogError> {
    let world = World {
        clock: Arc::new(SimClock::starting_at(NOON)),
        luck: Arc::clone(luck) as Arc<dyn Luck>,
        files: disk.files(),
    };
    let identity = Identity {
        core: keys.core,
        authority: Authority::from_pem(&keys.authority).unwrap(),
        certificate: keys.certificate.clone(),
    };
    Target::open(Path::new(DIRECTORY), settings(), identity, world)
}

fn n_told(target: &Target, event: &str) -> usize {
    let told = target.register().look(|rows| Ok(audit::newest(rows, &TenantScope::All, 100)?));
    told.unwrap().iter().filter(|kept| kept.event == event).count()
}

/// A disk on which one request waits for its decision.
fn waiting(keys: &Keys, luck: &Arc<SeededLuck>) -> (Disk, RequestId) {
    let golden = Disk::new(luck.next());
    golden.files().create_dir(Path::new(DIRECTORY)).unwrap();
    golden.files().sync_dir(Path::new("/")).unwrap();
    let source = Source::new(&**luck, NOON);
    let request = {
        let target = open(&golden, keys, luck).unwrap();
        let deed = target.deed(&ROOT);
        target
            .catalog()
            .write(|rows| storage_list::add(rows, &deed, "main", "/srv/offsite"))
            .map_err(|failure: Failure| failure)
            .unwrap();
        let presented = Presented::from_chain(&[source.shown.as_der().clone()]).unwrap();
        let origin = Origin {
            address: Place::Network("127.0.0.1".parse().unwrap()),
            peer: Some(PeerKey::from(presented)),
            request: "0".repeat(16),
            connection: 1,
            http2: true,
        };
        let submission = Submission::read(source.wish(), &origin).unwrap();
        target.submit(&Principal::Anon, origin.peer.as_ref().unwrap(), &submission).unwrap();
        target.pending_for(&ROOT).unwrap()[0].request_guid.0
    };
    golden.kill();
    (golden, request)
}

#[test]
fn a_22_a_decision_takes_effect_exactly_once() {
    let luck = Arc::new(SeededLuck::from_env_or(22));
    let keys = keys(&luck);
    let (golden, request) = waiting(&keys, &luck);
    let (mut n_before, mut n_between, mut n_after) = (0, 0, 0);
    for _ in 0..2_000 {
        let disk = golden.fork(luck.next());
        let cut_at = luck.between(0, 60);
        disk.cut_after(cut_at);
        let answered = open(&disk, &keys, &luck).map(|target| {
            let answered = target.decide(&ROOT, &decision(request, true)).is_ok();
            target.issue_ordered();
            answered
        });
        disk.power_cut();

        // Started again: the operator repeats the call, because he does not know.
        let target = open(&disk, &keys, &luck).unwrap();
        let stage = target.register().peers().unwrap()[0].machine.stage().clone();
        match &stage {
            Stage::Pending(_) => n_before += 1,
            Stage::AwaitIssued(_) => n_between += 1,
            _ => n_after += 1,
        }
        let again = target.decide(&ROOT, &decision(request, true));
        let was_taken = !matches!(stage, Stage::Pending(_));
        match again {
            Ok(_) => assert!(!was_taken, "decided twice"),
            Err(refusal) => {
                assert!(was_taken, "{refusal}");
                assert_eq!(refusal.code, ErrorCode::AlreadyResolved);
            }
        }
        assert!(was_taken || !answered.unwrap_or(false), "an answered decision was lost");
        target.find_orders().unwrap();
        target.issue_ordered();
        let row = target.register().peers().unwrap().remove(0);
        let paired = row.paired().expect("accepted, and no certificate");
        let certificate = Certificate::from_pem(&paired.live.issued.certificate_pem).unwrap();
        assert_eq!(certificate.serial().as_bytes(), paired.live.order.serial);
        match &stage {
            Stage::AwaitIssued(waiting) => assert_eq!(waiting.order, paired.live.order),
            Stage::AwaitFirstUse(before) => assert_eq!(before.live, paired.live),
            _ => {}
        }
        assert_eq!(n_told(&target, "request_accepted"), 1);
        assert_eq!(n_told(&target, "certificate_issued"), 1);
        let n_tenants = target.register().look(|rows| Ok(tenants::list(rows)?.len()));
        assert_eq!(n_tenants.unwrap(), 1);
        assert_eq!(target.register().systems().unwrap().len(), 1);
        assert_eq!(audit::verify(&**target.catalog()).unwrap().first_bad, None);
    }
    assert!(n_before > 100 && n_between > 20 && n_after > 100, "{n_before} {n_between} {n_after}");
}
