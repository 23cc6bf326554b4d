//! The allowed moves of both machines: every state that can be reached, with every input, as the
//! drawings promise.
//!
//! What is not printed either stays where it is or is refused as an illegal move. The walk also
//! proves that every state can be kept and read again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use offsite_model::{CoreId, RequestId, Span};
use offsite_proto::error::ErrorCode;
use offsite_proto::pairing::PairingState;
use offsite_testkit::expect;

use super::cast::{START, accept, asked, signed, target_key, wish};
use crate::pairing::source::{
    Acceptance, Answer, Artifacts, Effect, Failure, Input, Order, Source, Status, Submission,
    Ticket,
};
use crate::pairing::target::{self, Decision, Target, TypedCode, Verdict};
use crate::pairing::{Moment, PublicKey, Rules};

/// More states than this are a mistake: a counter has become part of a stage.
const STATES_MAX: usize = 20_000;

type Moves = BTreeMap<&'static str, BTreeMap<&'static str, BTreeSet<&'static str>>>;

fn note(moves: &mut Moves, from: &'static str, input: &'static str, to: &'static str) {
    let row = moves.entry(from).or_default();
    if from != to {
        row.entry(input).or_default().insert(to);
    }
}

/// One line per stage and goal: the inputs that lead there.
fn print(moves: &Moves) -> String {
    let mut text = String::new();
    for (from, row) in moves {
        let mut by_goal: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (input, goals) in row {
            goals.iter().for_each(|goal| by_goal.entry(goal).or_default().push(input));
        }
        if by_goal.is_empty() {
            writeln!(text, "{from}: stays").unwrap();
        }
        for (goal, inputs) in by_goal {
            writeln!(text, "{from} -> {goal}: {}", inputs.join(", ")).unwrap();
        }
    }
    text.trim_end().to_owned()
}

fn key(n: u8) -> PublicKey {
    PublicKey::from_der(vec![n])
}

fn request(n: u8) -> RequestId {
    RequestId::from_bytes([n; 16])
}

fn artifacts(of: u8) -> Artifacts {
    Artifacts {
        certificate_pem: String::new(),
        target_pem: String::new(),
        certificate_sha256: [1; 32],
        target_certificate_sha256: [2; 32],
        certificate_key: key(of),
        target_key: target_key(),
        is_signed_by_authority: true,
        not_before: START,
        not_after: START + Span::from_days(90),
    }
}

fn answers() -> Vec<(&'static str, Result<Answer, Failure>)> {
    let submission = Submission {
        request: request(1),
        target_core: CoreId::from_bytes([7; 16]),
        stated_target_key: target_key(),
        poll_after_secs: 5,
        // Long ago, so that the walk also gives up on a target that cannot be reached.
        expires_at: START - Span::from_days(10),
    };
    let other_key = Submission { stated_target_key: key(9), ..submission.clone() };
    let status = |request, days| Status {
        state: PairingState::Active,
        request,
        message: None,
        server_time: START + Span::from_days(days),
    };
    let refused =
        |code| Err(Failure::Refused { code, message: String::new(), retry_after_secs: None });
    let acceptance = Acceptance {
        message: None,
        certificate_sha256: [1; 32],
        target_certificate_sha256: [2; 32],
        agents: Vec::new(),
    };
    vec![
        (
            "met",
            Ok(Answer::Met { target_key: target_key(), target_core: CoreId::from_bytes([7; 16]) }),
        ),
        ("submitted", Ok(Answer::Submitted(submission))),
        ("submitted (other key stated)", Ok(Answer::Submitted(other_key))),
        ("pending", Ok(Answer::Pending { retry_after_secs: None })),
        ("accepted", Ok(Answer::Accepted(acceptance))),
        ("rejected", Ok(Answer::Rejected { message: String::new() })),
        ("fetched", Ok(Answer::Fetched(Box::new(artifacts(1))))),
        ("fetched (second key)", Ok(Answer::Fetched(Box::new(artifacts(2))))),
        ("synced", Ok(Answer::Synced(status(Some(request(1)), 0)))),
        ("synced (renewal due)", Ok(Answer::Synced(status(Some(request(2)), 61)))),
        ("synced (no request)", Ok(Answer::Synced(status(None, 0)))),
        (
            "synced (ended)",
            Ok(Answer::Synced(Status { state: PairingState::Ended, ..status(None, 0) })),
        ),
        ("left", Ok(Answer::Left)),
        ("unreachable", Err(Failure::Unreachable { reason: String::new() })),
        ("unreadable", Err(Failure::Unreadable { reason: String::new() })),
        ("other target key", Err(Failure::TargetKeyChanged { seen: key(9) })),
        ("busy", refused(ErrorCode::Busy)),
        ("not_paired", refused(ErrorCode::NotPaired)),
        ("request_unknown", refused(ErrorCode::RequestUnknown)),
        ("pairing_denied", refused(ErrorCode::PairingDenied)),
        ("already_exists", refused(ErrorCode::AlreadyExists)),
        ("bad_request", refused(ErrorCode::BadRequest)),
    ]
}

fn inputs(ticket: Option<Ticket>) -> Vec<(&'static str, Input)> {
    let ask = |target: &str, comments| {
        Input::Operator(Order::Request { target: target.to_owned(), wish: wish(comments) })
    };
    let mut inputs = vec![
        ("start", Input::Start),
        ("woken", Input::Woken),
        ("request", ask("target", "a")),
        ("request (other wish)", ask("target", "b")),
        ("request (other target)", ask("elsewhere", "a")),
        ("withdraw", Input::Operator(Order::Withdraw)),
        ("unpair", Input::Operator(Order::Unpair { delete_points: false })),
        ("resume", Input::Operator(Order::Resume)),
        ("forget", Input::Operator(Order::Forget)),
        ("key made", Input::KeyMade(key(1))),
        ("second key made", Input::KeyMade(key(2))),
        ("installed", Input::Installed(key(1))),
        ("installed (second key)", Input::Installed(key(2))),
    ];
    if let Some(ticket) = ticket {
        let answers = answers().into_iter();
        inputs.extend(answers.map(|(name, answer)| (name, Input::Answered(ticket, answer))));
    }
    inputs
}

#[test]
fn the_source_leaves_its_drawing_nowhere() {
    let at = Moment { now: START, luck: 0 };
    let rules = Rules::shipped();
    let mut moves = Moves::new();
    let mut seen = BTreeSet::new();
    let mut queue = VecDeque::from([(Source::new(), None)]);
    while let Some((source, ticket)) = queue.pop_front() {
        let kept = postcard::to_stdvec(&source).unwrap();
        assert_eq!(postcard::from_bytes::<Source>(&kept).unwrap(), source);
        let from = source.stage().name();
        moves.entry(from).or_default();
        for (name, input) in inputs(ticket) {
            let Ok(step) = source.step(input, at, &rules) else { continue };
            let to = step.source.stage().name();
            note(&mut moves, from, name, to);
            let is_kept = step.effects.contains(&Effect::Persist);
            let is_volatile = |name| matches!(name, "AwaitInstalled");
            assert!(
                from == to || is_kept || is_volatile(to) || is_volatile(from),
                "{from} -> {to}: not kept"
            );
            let called = step.effects.iter().rev().find_map(|effect| match effect {
                Effect::Call(call) => Some(call.ticket),
                _ => None,
            });
            // States differ by what is waited for and whether a call is under way, not by how often
            // that was tried.
            let state = format!("{:?} {}", step.source.stage(), called.is_some());
            // An alarm over an alarm cannot be: asides send nothing.
            assert!(state.matches("Alarmed").count() <= 2, "{state}");
            if seen.insert(state) {
                queue.push_back((step.source, called));
            }
            assert!(seen.len() < STATES_MAX);
        }
    }
    expect![["
        Active -> Alarmed: fetched, fetched (second key), other target key
        Active -> AwaitForgotten: unpair
        Active -> Ended: already_exists, not_paired, request_unknown, synced (ended), synced (no request)
        Alarmed -> Active: resume
        Alarmed -> AwaitArtifacts: resume
        Alarmed -> AwaitDecision: resume
        Alarmed -> AwaitFirstSync: resume
        Alarmed -> AwaitForgotten: resume
        Alarmed -> AwaitKey: request, request (other target), request (other wish)
        Alarmed -> AwaitMeeting: resume
        Alarmed -> AwaitSubmitted: resume
        Alarmed -> Unpaired: forget
        AwaitArtifacts -> Alarmed: fetched, fetched (second key), other target key
        AwaitArtifacts -> AwaitDecision: pairing_denied
        AwaitArtifacts -> AwaitForgotten: withdraw
        AwaitArtifacts -> AwaitInstalled: fetched, fetched (second key)
        AwaitArtifacts -> Ended: not_paired, request_unknown
        AwaitDecision -> Alarmed: other target key
        AwaitDecision -> AwaitArtifacts: accepted
        AwaitDecision -> AwaitForgotten: withdraw
        AwaitDecision -> AwaitSubmitted: request, request (other target), request (other wish)
        AwaitDecision -> Expired: not_paired, request_unknown, synced (ended), synced (no request), unreachable, unreadable
        AwaitDecision -> Rejected: rejected
        AwaitFirstSync -> Active: synced, synced (no request), synced (renewal due)
        AwaitFirstSync -> Alarmed: other target key
        AwaitFirstSync -> AwaitForgotten: unpair, withdraw
        AwaitFirstSync -> Ended: not_paired, synced (ended)
        AwaitForgotten -> Alarmed: other target key
        AwaitForgotten -> Ended: left, not_paired, pairing_denied, request_unknown
        AwaitForgotten -> Unpaired: forget
        AwaitForgotten -> Withdrawn: left, not_paired, pairing_denied, request_unknown
        AwaitInstalled -> AwaitArtifacts: start, woken
        AwaitInstalled -> AwaitFirstSync: installed, installed (second key)
        AwaitInstalled -> AwaitForgotten: withdraw
        AwaitKey -> AwaitMeeting: key made, second key made
        AwaitKey -> Unpaired: withdraw
        AwaitMeeting -> Alarmed: other target key
        AwaitMeeting -> AwaitSubmitted: met
        AwaitMeeting -> Refused: already_exists, bad_request, not_paired, pairing_denied, request_unknown
        AwaitMeeting -> Unpaired: withdraw
        AwaitSubmitted -> Alarmed: other target key, submitted (other key stated)
        AwaitSubmitted -> AwaitDecision: already_exists, bad_request, not_paired, pairing_denied, request_unknown, submitted
        AwaitSubmitted -> AwaitForgotten: withdraw
        AwaitSubmitted -> Refused: already_exists, bad_request, not_paired, pairing_denied, request_unknown
        Ended -> Active: resume
        Ended -> AwaitArtifacts: resume
        Ended -> AwaitFirstSync: resume
        Ended -> AwaitKey: request, request (other target), request (other wish)
        Ended -> Unpaired: forget
        Expired -> AwaitKey: request, request (other target), request (other wish)
        Expired -> Unpaired: forget
        Refused -> AwaitKey: request, request (other target), request (other wish)
        Refused -> Unpaired: forget
        Rejected -> AwaitKey: request, request (other target), request (other wish)
        Rejected -> Unpaired: forget
        Unpaired -> AwaitKey: request, request (other target), request (other wish)
        Withdrawn -> AwaitKey: request, request (other target), request (other wish)
        Withdrawn -> Unpaired: forget
    "]].assert_eq(&print(&moves));
}

/// An input made for the row it is tried on; none where it cannot be made.
type Tried = Box<dyn Fn(&Target) -> Option<target::Input>>;

fn rows() -> Vec<(&'static str, Tried)> {
    use target::Input as In;
    fn any(input: In) -> Tried {
        Box::new(move |_| Some(input.clone()))
    }
    let wrong = TypedCode::Malformed;
    let reject = |row: &Target| match accept(row, TypedCode::None, 1) {
        In::Decide(decision) => {
            let verdict = Verdict::Reject { message: "no".to_owned() };
            Some(In::Decide(Decision { verdict, ..decision }))
        }
        _ => None,
    };
    let ordered = |row: &Target| match row.stage() {
        target::Stage::AwaitIssued(waiting) => Some(waiting.order.clone()),
        target::Stage::Active(paired) => {
            paired.renewal.as_ref().map(|renewal| renewal.order().clone())
        }
        _ => None,
    };
    vec![
        ("start", any(In::Start)),
        ("submit (same)", any(In::Submit { asked: asked("a"), fresh: request(2) })),
        ("submit (changed)", any(In::Submit { asked: asked("b"), fresh: request(2) })),
        (
            "accept",
            Box::new(|row| Some(accept(row, TypedCode::Code(row.check_code(&target_key())), 1))),
        ),
        ("accept (no code)", Box::new(|row| Some(accept(row, TypedCode::None, 1)))),
        ("accept (wrong code)", Box::new(move |row| Some(accept(row, wrong, 1)))),
        ("reject", Box::new(reject)),
        ("issued", Box::new(move |row| ordered(row).map(|order| In::Issued(signed(&order))))),
        (
            "issue failed",
            Box::new(move |row| {
                ordered(row)
                    .map(|order| In::IssueFailed { serial: order.serial, reason: String::new() })
            }),
        ),
        ("poll", any(In::Poll { key: key(1), request: request(1) })),
        ("fetch", any(In::Fetch { key: key(1), request: request(1) })),
        ("sync", any(In::Sync { key: key(1) })),
        ("used", any(In::Used { key: key(1) })),
        ("used (new key)", any(In::Used { key: key(2) })),
        ("renew", any(In::Renew { by: key(1), key: key(2), fresh: request(3), serial: [2; 16] })),
        ("leave", any(In::Leave { key: key(1), delete_points: false })),
        ("leave (stranger)", any(In::Leave { key: key(9), delete_points: false })),
        ("revoke", any(In::Revoke { by: "operator".to_owned() })),
    ]
}

#[test]
fn the_target_leaves_its_drawing_nowhere() {
    let rules = Rules::shipped();
    let early = Moment { now: START, luck: 0 };
    let late = Moment { now: START + Span::from_days(8), luck: 0 };
    let first = Target::submitted(key(1), asked("a"), request(1), early, &rules).row;
    let mut moves = Moves::new();
    let mut seen = BTreeSet::new();
    let mut queue = VecDeque::from([first]);
    while let Some(row) = queue.pop_front() {
        let kept = postcard::to_stdvec(&row).unwrap();
        assert_eq!(postcard::from_bytes::<Target>(&kept).unwrap(), row);
        let from = row.stage().name();
        moves.entry(from).or_default();
        let inputs = rows();
        let steps = inputs.iter().filter_map(|(name, input)| Some((*name, input(&row)?, early)));
        for (name, input, at) in steps.chain([("time", target::Input::Woken, late)]) {
            let Ok(step) = row.step(input, at, &rules) else { continue };
            note(&mut moves, from, name, step.row.stage().name());
            let is_kept = matches!(step.effects.first(), Some(target::Effect::Persist(_)));
            assert!(
                is_kept || step.row == row,
                "{from}: {name} changes the row and does not keep it"
            );
            let state = format!("{:?}", step.row);
            if seen.insert(state) {
                queue.push_back(step.row);
            }
            assert!(seen.len() < STATES_MAX);
        }
    }
    expect![["
        Active -> Ended: leave, revoke
        AwaitFirstUse -> Active: used
        AwaitFirstUse -> Ended: leave, revoke
        AwaitIssued -> AwaitFirstUse: issued
        AwaitIssued -> Ended: leave, revoke
        AwaitIssued -> Pending: issue failed, submit (changed), submit (same)
        Ended: stays
        Expired: stays
        Pending -> AwaitIssued: accept, accept (no code)
        Pending -> Expired: time
        Pending -> Rejected: reject
        Pending -> Withdrawn: leave
        Rejected: stays
        Withdrawn: stays
    "]]
    .assert_eq(&print(&moves));
}
