//! Scenes: what both halves say and keep, line by line.

use offsite_testkit::expect;

use super::cast::Duet;
use crate::pairing::source::{Ask, Failure, Order};
use crate::pairing::target::Input;

fn unreachable_when(is_cut: impl Fn(&Ask) -> bool + 'static) -> super::cast::Meddle {
    Box::new(move |call| {
        is_cut(&call.ask).then(|| Failure::Unreachable { reason: "cut".to_owned() })
    })
}

#[test]
fn a_request_is_accepted_and_becomes_a_pairing() {
    let mut duet = Duet::new();
    duet.request("hello");
    duet.later();
    duet.accept();
    duet.later();
    duet.sign();
    duet.later();
    expect![[r#"
        operator  at the source: Request
        source    keeps AwaitKey
        source    makes key 47f1af8d
        source    keeps AwaitMeeting
        source    Meet (key 47f1af8d, SelfSigned): Met
        source    keeps AwaitSubmitted
        source    Submit (key 47f1af8d, SelfSigned): Submitted
        target    keeps Pending: [Filed]
        source    keeps AwaitDecision
        source    tells Filed { request: 02020202-0202-0202-0202-020202020202, code: KZEM-AA2G-2W6C-93YM }
                  5.000000s later
        source    Poll (key 47f1af8d, SelfSigned): Pending
        target    keeps AwaitIssued: [Accepted { by: "operator", with_code: true }]
        target    orders a certificate for key 47f1af8d
                  5.000000s later
        source    Poll (key 47f1af8d, SelfSigned): Pending
        target    keeps AwaitFirstUse: [Published]
                  5.000000s later
        source    Poll (key 47f1af8d, SelfSigned): Accepted
        source    keeps AwaitArtifacts
        source    tells Accepted { message: Some("welcome") }
        source    Sync (key 47f1af8d, SelfSigned): Synced
        source    Fetch (key 47f1af8d, SelfSigned): Fetched
        source    installs key 47f1af8d
        source    keeps AwaitFirstSync
        source    Sync (key 47f1af8d, Issued): Synced
        target    keeps Active: [Active]
        source    keeps Active
        source    tells Active
    "#]].assert_eq(&duet.script());
}

#[test]
fn a_rejection_arrives_with_its_message() {
    let mut duet = Duet::new();
    duet.request("hello");
    let decision = match super::cast::accept(
        duet.target.as_ref().unwrap(),
        crate::pairing::target::TypedCode::None,
        1,
    ) {
        Input::Decide(decision) => decision,
        _ => unreachable!(),
    };
    let verdict = crate::pairing::target::Verdict::Reject { message: "who are you?".to_owned() };
    duet.row(Input::Decide(crate::pairing::target::Decision { verdict, ..decision })).unwrap();
    duet.later();
    expect![[r#"
        operator  at the source: Request
        source    keeps AwaitKey
        source    makes key 47f1af8d
        source    keeps AwaitMeeting
        source    Meet (key 47f1af8d, SelfSigned): Met
        source    keeps AwaitSubmitted
        source    Submit (key 47f1af8d, SelfSigned): Submitted
        target    keeps Pending: [Filed]
        source    keeps AwaitDecision
        source    tells Filed { request: 02020202-0202-0202-0202-020202020202, code: KZEM-AA2G-2W6C-93YM }
        target    keeps Rejected: [Rejected { by: "operator" }]
                  5.000000s later
        source    Poll (key 47f1af8d, SelfSigned): Rejected
        source    keeps Rejected
        source    tells Rejected { message: "who are you?" }
    "#]].assert_eq(&duet.script());
}

#[test]
fn a_renewal_survives_the_loss_of_every_first_answer() {
    let mut duet = Duet::active();
    duet.now = duet.now + offsite_model::Span::from_days(61);
    duet.meddle = Some(unreachable_when(|ask| matches!(ask, Ask::Renew(_))));
    duet.later();
    duet.meddle = None;
    duet.later();
    duet.sign();
    duet.later();
    expect![[r#"
                  60.000000s later
        source    Sync (key 47f1af8d, Issued): Synced
        source    keeps Active
        source    makes key b3d4f2e1
        source    keeps Active
        source    Renew (key 47f1af8d, Issued): Unreachable { reason: "cut" }
                  5.000000s later
        source    Sync (key 47f1af8d, Issued): Synced
        source    Renew (key 47f1af8d, Issued): Submitted
        target    keeps Active: [RenewalAsked]
        target    orders a certificate for key b3d4f2e1
        source    keeps Active
        source    Poll (key b3d4f2e1, SelfSigned): Pending
        target    keeps Active: [RenewalGranted]
                  5.000000s later
        source    Sync (key 47f1af8d, Issued): Synced
        source    Poll (key b3d4f2e1, SelfSigned): Accepted
        source    keeps Active
        source    Fetch (key b3d4f2e1, SelfSigned): Fetched
        source    installs key b3d4f2e1
        source    keeps Active
        source    Sync (key b3d4f2e1, Issued): Synced
        target    keeps Active: [KeyRetired { is_new_key_used: true }]
        target    closes key 47f1af8d
        source    keeps Active
        source    forgets key 47f1af8d
        source    tells Renewed
    "#]]
    .assert_eq(&duet.script());
}

#[test]
fn unpairing_an_unreachable_target_leaves_a_note() {
    let mut duet = Duet::active();
    duet.meddle = Some(unreachable_when(|_| true));
    duet.order(Order::Unpair { delete_points: false });
    duet.later();
    duet.meddle = None;
    duet.later();
    expect![[r#"
        operator  at the source: Unpair
        source    keeps AwaitForgotten
        source    Leave (key 47f1af8d, Issued): Unreachable { reason: "cut" }
                  5.000000s later
        source    Leave (key 47f1af8d, Issued): Unreachable { reason: "cut" }
                  5.000000s later
        source    Leave (key 47f1af8d, Issued): Left
        target    keeps Ended: [Ended(Source { delete_points: false })]
        target    closes key 47f1af8d
        source    keeps Ended
        source    forgets key 47f1af8d
        source    tells Left
    "#]]
    .assert_eq(&duet.script());
}

#[test]
fn a_pairing_ended_by_the_target_is_told_and_nothing_deleted() {
    let mut duet = Duet::active();
    duet.row(Input::Revoke { by: "operator".to_owned() }).unwrap();
    duet.later();
    expect![[r#"
        target    keeps Ended: [Ended(Operator("operator"))]
        target    closes key 47f1af8d
                  60.000000s later
        source    Sync (key 47f1af8d, Issued): not_paired
        source    keeps Ended
        source    tells EndedByTarget
    "#]]
    .assert_eq(&duet.script());
}

#[test]
fn a_request_nobody_decides_ends_without_an_answer() {
    let mut duet = Duet::new();
    duet.request("hello");
    duet.now = duet.now + offsite_model::Span::from_days(7);
    duet.later();
    expect![["
        operator  at the source: Request
        source    keeps AwaitKey
        source    makes key 47f1af8d
        source    keeps AwaitMeeting
        source    Meet (key 47f1af8d, SelfSigned): Met
        source    keeps AwaitSubmitted
        source    Submit (key 47f1af8d, SelfSigned): Submitted
        target    keeps Pending: [Filed]
        source    keeps AwaitDecision
        source    tells Filed { request: 02020202-0202-0202-0202-020202020202, code: KZEM-AA2G-2W6C-93YM }
                  5.000000s later
        source    Poll (key 47f1af8d, SelfSigned): request_unknown
        source    Sync (key 47f1af8d, SelfSigned): not_paired
        source    keeps Expired
        source    tells NoAnswer
    "]].assert_eq(&duet.script());
}

/// A submit that was believed lost arrives after wrong codes have locked the request, and opens it
/// again under a new id that its source was never told.
#[test]
fn a_request_that_changed_its_id_is_found_by_key() {
    let mut duet = Duet::new();
    duet.request("hello");
    for _ in 0..5 {
        let wrong = crate::pairing::target::TypedCode::Malformed;
        let decision = super::cast::accept(duet.target.as_ref().unwrap(), wrong, 1);
        duet.row(decision).unwrap_err();
    }
    let fresh = offsite_model::RequestId::from_bytes([9; 16]);
    let asked = duet.target.as_ref().unwrap().stage().pending().asked.clone();
    duet.row(Input::Submit { asked, fresh }).unwrap();
    duet.script.clear();
    duet.later();
    duet.later();
    expect![["
                  5.000000s later
        source    Poll (key 47f1af8d, SelfSigned): request_unknown
        source    Sync (key 47f1af8d, SelfSigned): Synced
        source    keeps AwaitDecision
        source    tells Filed { request: 09090909-0909-0909-0909-090909090909, code: 30FM-ZR3C-6CH7-E9CF }
                  5.000000s later
        source    Poll (key 47f1af8d, SelfSigned): Pending
    "]].assert_eq(&duet.script());
}
