//! Calls that change something, on a line that is cut at any of their bytes: accepting a request,
//! renewing a certificate, ending a pairing. Each happens whole or not at all, and asking again
//! says which.

use offsite_model::Luck as _;
use offsite_testkit::SeededLuck;
use offsite_tests::{Program, Scene, eventually};
use serde_json::{Value, json};

use super::cuts::Cutter;
use super::strangers::{Stranger, operator, operator_at, parsed};

/// Sources that are paired, renewed and unpaired.
const ROUNDS: u8 = 24;
const CUTS_MIN: u64 = 25;
const ROW_44: &str = "slave/pairing/request";
const ROW_46: &str = "slave/pairing?deleteRecoveryPoints=false";
const ROW_60: &str = "/api/replication/source";

/// Cuts one kind of call somewhere; every fifth is let through and tells how many bytes it has.
struct Cuts {
    cutter: Cutter,
    n_calls: u64,
    usual: u64,
}

impl Cuts {
    fn before(address: String) -> Self {
        Self { cutter: Cutter::before(address), n_calls: 0, usual: 0 }
    }

    /// Makes a call through the line that is to be cut. Its status is 0 where nothing was heard.
    fn call<T>(&mut self, luck: &SeededLuck, call: impl FnOnce(&str) -> (u16, T)) -> (u16, T) {
        let is_whole = self.n_calls.is_multiple_of(5);
        self.n_calls += 1;
        self.cutter.cut_after(if is_whole { u64::MAX - 1 } else { luck.below(self.usual) });
        let answer = call(&self.cutter.address);
        let left = self.cutter.mend();
        if is_whole && let Some(left) = left {
            self.usual = u64::MAX - 1 - left;
        }
        answer
    }
}

/// What was heard when something was asked again, on a line that is whole but perhaps crowded.
#[track_caller]
fn heard(what: &str, mut ask: impl FnMut() -> (u16, String)) -> (u16, Value) {
    eventually(what, || Some(ask()).filter(|(status, _)| *status != 0).map(parsed))
}

/// The rows of a core in the target's list of sources.
fn rows_of(target: &Program, core: &str) -> Vec<Value> {
    let listed = target.json(&["sources", "list"]);
    let rows = listed.as_array().unwrap().iter();
    rows.filter(|row| row["core_id"] == core).cloned().collect()
}

fn n_told(audit: &Value, event: &str) -> usize {
    audit.as_array().unwrap().iter().filter(|entry| entry["event"] == event).count()
}

/// Accepts over a bad line, and again over a good one; whether the first took effect.
fn accept(target: &Program, cuts: &mut Cuts, luck: &SeededLuck, request: &str) -> bool {
    let asked = |method: &str, path: &str, body: Option<&Value>| {
        eventually("the operator is heard", || {
            Some(operator(target, method, path, body)).filter(|(status, _)| *status != 0)
        })
    };
    let (_, pending) = asked("GET", "/api/replication/pending", None);
    let row = pending.as_array().unwrap().iter().find(|row| row["request_guid"] == request);
    let row = row.unwrap_or_else(|| panic!("{request} in {pending}"));
    let decision = json!({
        "request_id": row["request_id"],
        "accept": true,
        "check_code": row["check_code"],
        "digest": row["digest"],
    });
    let (status, said) =
        cuts.call(luck, |address| operator_at(address, target, "POST", ROW_60, Some(&decision)));
    assert!(matches!(status, 0 | 201), "{said}");
    let (again, said) = asked("POST", ROW_60, Some(&decision));
    match again {
        201 => assert_eq!(status, 0, "an answered decision was lost"),
        _ => assert_eq!((again, &said["error"]["code"]), (409, &json!("already_resolved"))),
    }
    again != 201
}

/// Fetches what was issued under the key of a request, and shows it from then on.
fn installed(scene: &Scene, target: &Program, mut asked: Stranger, request: &str) -> Stranger {
    let path = format!("slave/pairing/requests/{request}/certificate");
    let pem = eventually("the certificate can be fetched", || {
        let (status, pem) = asked.call(target, "GET", &path, None);
        (status == 200).then_some(pem)
    });
    asked.certificate = scene.file(&format!("{request}.crt"), pem.as_bytes());
    let sync = asked.sync_body(scene);
    let (status, synced) = heard("the first use of the certificate", || {
        asked.call(target, "POST", "slave/pairing/sync", Some(&sync))
    });
    assert_eq!((status, &synced["pairingState"]), (200, &json!("Active")), "{synced}");
    asked
}

/// Renews over a bad line, and again over a good one.
fn renew(
    scene: &Scene,
    target: &Program,
    cuts: &mut Cuts,
    luck: &SeededLuck,
    source: &Stranger,
    next: Stranger,
) -> Stranger {
    let (status, said) =
        cuts.call(luck, |address| source.call_at(address, "POST", ROW_44, Some(&next.request)));
    assert!(matches!(status, 0 | 202), "{said}");
    let ask = || source.call(target, "POST", ROW_44, Some(&next.request));
    let (again, asked) = heard("the renewal is asked again", ask);
    assert_eq!(again, 202, "{asked}");
    let request = asked["requestId"].as_str().unwrap().to_owned();
    if status == 202 {
        let first: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(first["requestId"], asked["requestId"], "asked again it is another request");
    }
    installed(scene, target, next, &request)
}

/// Ends the pairing over a bad line, and again over a good one; whether the first took effect.
fn unpair(
    scene: &Scene,
    target: &Program,
    cuts: &mut Cuts,
    luck: &SeededLuck,
    source: &Stranger,
) -> bool {
    let (status, said) = cuts.call(luck, |address| source.call_at(address, "DELETE", ROW_46, None));
    assert!(matches!(status, 0 | 204), "{said}");
    let sync = source.sync_body(scene);
    let state = || {
        heard("the state of the pairing", || {
            source.call(target, "POST", "slave/pairing/sync", Some(&sync))
        })
    };
    let (standing, told) = state();
    match standing {
        200 => {
            assert_eq!((status, &told["pairingState"]), (0, &json!("Active")), "{told}");
            let ask = || source.call(target, "DELETE", ROW_46, None);
            let (again, said) = heard("the end is asked for again", ask);
            assert_eq!(again, 204, "{said}");
        }
        _ => assert_eq!((standing, &told["error"]["code"]), (403, &json!("not_paired"))),
    }
    assert_eq!(state().0, 403, "asked again, it is not ended");
    standing != 200
}

#[test]
fn e_14_an_acceptance_a_renewal_and_an_end_that_are_cut_off_happen_whole_or_not_at_all() {
    let (scene, luck) = (Scene::new(), SeededLuck::from_env_or(14));
    let target = scene.target("target");
    let daemon = target.serve();
    let mut operators = Cuts::before(target.address("operator"));
    let [mut renewals, mut ends] = [(); 2].map(|()| Cuts::before(target.address("replication")));
    let (mut n_accepted, mut n_ended) = (0, 0);
    for round in 1..=ROUNDS {
        let source = Stranger::numbered(&scene, &format!("source-{round}"), round);
        let core = source.core.clone();
        let (_, filed) = heard("the request is filed", || {
            source.call(&target, "POST", ROW_44, Some(&source.request))
        });
        let request = filed["requestId"].as_str().unwrap().to_owned();
        n_accepted += u64::from(accept(&target, &mut operators, &luck, &request));
        let source = installed(&scene, &target, source, &request);
        assert_eq!(rows_of(&target, &core).len(), 1, "one acceptance made several sources");
        // The same core with another key.
        let next = Stranger::numbered(&scene, &format!("next-{round}"), round);
        let source = renew(&scene, &target, &mut renewals, &luck, &source, next);
        let rows = rows_of(&target, &core);
        assert_eq!((rows.len(), &rows[0]["state"]), (1, &json!("active")), "{rows:?}");
        n_ended += u64::from(unpair(&scene, &target, &mut ends, &luck, &source));
        let rows = rows_of(&target, &core);
        assert_eq!((rows.len(), &rows[0]["state"]), (1, &json!("ended")), "{rows:?}");
    }
    let n_cuts = [&operators, &renewals, &ends].map(|cuts| cuts.cutter.n_cuts());
    println!(
        "{n_cuts:?} cuts; of {ROUNDS} each, {n_accepted} accepted and {n_ended} ended at once"
    );
    assert!(n_cuts.iter().sum::<u64>() >= CUTS_MIN, "{n_cuts:?} cuts");
    // Each of them stands in the log once, and the log is whole.
    let audit = target.json(&["audit", "list", "--limit", "1000"]);
    let n_rounds = usize::from(ROUNDS);
    for event in ["request_accepted", "certificate_renewed", "source_unpaired"] {
        assert_eq!(n_told(&audit, event), n_rounds, "{event} in {audit}");
    }
    assert!(target.json(&["audit", "verify"])["first_bad"].is_null());
    daemon.stop();
}
