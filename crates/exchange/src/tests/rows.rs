//! The rows of the reliability requirements that two machines alone can show.

use offsite_model::{Luck, RequestId, Span, Timestamp};
use offsite_proto::error::ErrorCode;
use offsite_proto::pairing::CheckCode;
use offsite_testkit::SeededLuck;

use super::cast::{Duet, POLICY, START, accept, asked, signed, target_key};
use crate::pairing::source::{Ask, Cause, Failure, Stage as SourceStage};
use crate::pairing::target::{
    Audit, Effect, Input, Reply, Stage, Standing, Step, Target, TypedCode,
};
use crate::pairing::{Moment, PublicKey, Rules};

fn at(now: Timestamp) -> Moment {
    Moment { now, luck: 0 }
}

fn source_key() -> PublicKey {
    PublicKey::from_der("key of the source")
}

fn filed() -> Target {
    let fresh = RequestId::from_bytes([1; 16]);
    Target::submitted(source_key(), asked("a"), fresh, at(START), &Rules::shipped()).row
}

fn step(row: &Target, input: Input, now: Timestamp) -> Step {
    row.step(input, at(now), &Rules::shipped()).unwrap()
}

fn refused(step: &Step) -> Option<ErrorCode> {
    step.effects.iter().find_map(|effect| match effect {
        Effect::Reply(Err(refusal)) => Some(refusal.code),
        _ => None,
    })
}

fn right_code(row: &Target) -> TypedCode {
    TypedCode::Code(row.check_code(&target_key()))
}

/// 100 rounds of submits, same and changed, against acceptances of what was seen at some time.
#[test]
fn a_03_no_certificate_for_content_that_was_not_shown() {
    let luck = SeededLuck::from_env_or(3);
    let contents = ["a", "b", "c"];
    let (mut n_stale, mut n_void, mut n_published) = (0, 0, 0);
    for round in 0..100_u8 {
        let mut row = filed();
        let mut shown: Vec<(String, Input)> = Vec::new();
        let mut accepted = None;
        let mut orders = Vec::new();
        for turn in 0..24_u8 {
            let content = row.stage().pending().asked.wish.comments.clone();
            let is_pending = matches!(row.stage(), Stage::Pending(_));
            let (decided_on, input) = match luck.below(4) {
                0 => {
                    let code = right_code(&row);
                    shown.push((content.clone(), accept(&row, code, round ^ turn.rotate_left(3))));
                    continue;
                }
                1 if !shown.is_empty() => {
                    let (content, input) = luck.pick(&shown).clone();
                    (Some(content), input)
                }
                2 if !orders.is_empty() => (None, Input::Issued(signed(luck.pick(&orders)))),
                _ => {
                    let fresh = RequestId::from_bytes([luck.below(255) as u8; 16]);
                    (None, Input::Submit { asked: asked(luck.pick::<&str>(&contents)), fresh })
                }
            };
            let next = step(&row, input, START);
            if let Some(decided_on) = decided_on {
                if is_pending && decided_on != content {
                    assert_eq!(refused(&next), Some(ErrorCode::RequestChanged));
                    n_stale += 1;
                } else if is_pending {
                    assert_eq!(refused(&next), None);
                    accepted = Some(decided_on);
                } else {
                    assert_eq!(refused(&next), Some(ErrorCode::AlreadyResolved));
                }
            }
            for effect in &next.effects {
                match effect {
                    Effect::Issue(order) => orders.push(order.clone()),
                    Effect::Persist(audits)
                        if audits.contains(&Audit::Changed { is_approval_void: true }) =>
                    {
                        accepted = None;
                        n_void += 1;
                    }
                    Effect::Persist(audits) if audits.contains(&Audit::Published) => {
                        let content = next.row.stage().pending().asked.wish.comments.clone();
                        assert_eq!(
                            accepted.as_ref(),
                            Some(&content),
                            "a certificate for content not shown"
                        );
                        n_published += 1;
                    }
                    _ => {}
                }
            }
            assert_eq!(
                next.row.stage().pending().request,
                RequestId::from_bytes([1; 16]),
                "one request"
            );
            row = next.row;
        }
    }
    // The race took place in all its forms.
    assert!(n_stale > 50 && n_void > 20 && n_published > 20, "{n_stale} {n_void} {n_published}");
}

#[test]
fn a_04_wrong_codes_are_refused_and_lock_until_the_next_submit() {
    let mut row = filed();
    let wrong = CheckCode::of(
        b"somebody in the middle",
        source_key().as_der(),
        RequestId::from_bytes([1; 16]),
    );
    assert_ne!(TypedCode::Code(wrong), right_code(&row), "a code names the keys of both ends");
    for typed in
        [TypedCode::Code(wrong), TypedCode::Malformed, TypedCode::Code(wrong), TypedCode::Malformed]
    {
        let next = step(&row, accept(&row, typed, 1), START);
        assert_eq!(refused(&next), Some(ErrorCode::CheckCodeMismatch));
        row = next.row;
        assert!(!row.stage().pending().is_locked);
    }
    // A missing code where one is demanded is refused, and counts as no guess.
    let missing = step(&row, accept(&row, TypedCode::Missing, 1), START);
    assert_eq!(refused(&missing), Some(ErrorCode::CheckCodeMismatch));
    assert_eq!(missing.row, row);
    row = step(&row, accept(&row, TypedCode::Code(wrong), 1), START).row;
    assert!(row.stage().pending().is_locked);
    // The sixth entry is right and comes too late; so does going without.
    for typed in [right_code(&row), TypedCode::None] {
        assert_eq!(
            refused(&step(&row, accept(&row, typed, 1), START)),
            Some(ErrorCode::CheckCodeMismatch)
        );
    }
    let old_code = row.check_code(&target_key());
    let fresh = RequestId::from_bytes([2; 16]);
    row = step(&row, Input::Submit { asked: asked("a"), fresh }, START).row;
    assert_ne!(row.check_code(&target_key()), old_code);
    assert_eq!(row.stage().pending().request, fresh);
    let code = right_code(&row);
    let accepted = step(&row, accept(&row, code, 1), START);
    assert_eq!(refused(&accepted), None);
    assert_eq!(accepted.row.stage().name(), "AwaitIssued");
}

#[test]
fn a_05_another_target_key_stops_everything() {
    type Moments = [(&'static str, fn(&Ask) -> bool, u32); 4];
    let moments: Moments = [
        ("first poll", |ask| matches!(ask, Ask::Poll(_)), 0),
        ("later poll", |ask| matches!(ask, Ask::Poll(_)), 1),
        ("download", |ask| matches!(ask, Ask::Fetch(_)), 0),
        ("first call over mutual TLS", |ask| matches!(ask, Ask::Sync(Some(_))), 1),
    ];
    for (name, is_it, n_before) in moments {
        let mut duet = Duet::new();
        let n_seen = std::cell::Cell::new(0);
        duet.meddle = Some(Box::new(move |call| {
            assert!(
                call.pin == Some(target_key()) || matches!(call.ask, Ask::Meet(_)),
                "the pin goes with each call"
            );
            if !is_it(&call.ask) {
                return None;
            }
            n_seen.set(n_seen.get() + 1);
            let seen = PublicKey::from_der("imposter");
            (n_seen.get() > n_before).then_some(Failure::TargetKeyChanged { seen })
        }));
        duet.request("hello");
        if n_before == 1 {
            duet.later();
        }
        if !matches!(duet.source.stage(), SourceStage::Alarmed(_)) {
            duet.accept();
            duet.sign();
            duet.later();
        }
        let SourceStage::Alarmed(alarmed) = duet.source.stage() else {
            panic!("{name}: {}", duet.script());
        };
        assert_eq!(
            alarmed.cause,
            Cause::TargetKeyChanged(PublicKey::from_der("imposter")),
            "{name}"
        );
        // Nothing more is sent: no timer, and waking changes nothing.
        assert_eq!(duet.wake, None, "{name}");
        duet.meddle = Some(Box::new(|call| panic!("sent after the alarm: {call:?}")));
        duet.hear(crate::pairing::source::Input::Woken);
        duet.hear(crate::pairing::source::Input::Start);
    }
}

#[test]
fn a_05_what_nobody_announced_is_not_installed() {
    type Tamper = fn(&mut crate::pairing::source::Artifacts);
    let other = || PublicKey::from_der("other");
    let cases: [(Tamper, Cause); 5] = [
        (
            |artifacts| artifacts.target_key = PublicKey::from_der("other"),
            Cause::TargetKeyDisagrees(other()),
        ),
        (
            |artifacts| artifacts.certificate_key = PublicKey::from_der("other"),
            Cause::CertificateOfAnotherKey,
        ),
        (|artifacts| artifacts.is_signed_by_authority = false, Cause::CertificateNotSigned),
        (|artifacts| artifacts.certificate_sha256[31] ^= 1, Cause::DigestDiffers),
        (|artifacts| artifacts.target_certificate_sha256[0] ^= 1, Cause::DigestDiffers),
    ];
    for (tamper, cause) in cases {
        let mut duet = Duet::new();
        duet.tamper = Some(Box::new(tamper));
        duet.request("hello");
        duet.accept();
        duet.sign();
        duet.later();
        let SourceStage::Alarmed(alarmed) = duet.source.stage() else {
            panic!("{}", duet.script())
        };
        assert_eq!(alarmed.cause, cause);
        assert!(!duet.script().contains("installs"), "{}", duet.script());
        // The operator lets it go on, and the right thing arrives.
        duet.tamper = None;
        duet.order(crate::pairing::source::Order::Resume);
        assert_eq!(duet.source.stage().name(), "Active");
    }
}

#[test]
fn a_06_answers_go_to_the_key_that_asked() {
    let row = filed();
    let request = row.stage().pending().request;
    let stranger = PublicKey::from_der("stranger");
    let answers = |row: &Target, key: &PublicKey, request: RequestId, now: Timestamp| {
        let poll = step(row, Input::Poll { key: key.clone(), request }, now).effects;
        let fetch = step(row, Input::Fetch { key: key.clone(), request }, now).effects;
        let replies = poll.into_iter().chain(fetch);
        replies.filter(|effect| matches!(effect, Effect::Reply(_))).collect::<Vec<_>>()
    };
    let of_stranger = answers(&row, &stranger, request, START);
    assert!(
        matches!(&of_stranger[0], Effect::Reply(Err(refusal)) if refusal.code == ErrorCode::RequestUnknown)
    );
    // Another's request, an unknown one, a lapsed one and a withdrawn one look the same.
    assert_eq!(answers(&row, &source_key(), RequestId::from_bytes([9; 16]), START), of_stranger);
    assert_eq!(answers(&row, &source_key(), request, START + Span::from_days(8)), of_stranger);
    let left = step(&row, Input::Leave { key: source_key(), delete_points: false }, START).row;
    assert_eq!(answers(&left, &source_key(), request, START), of_stranger);
    // And the right key gets its own.
    assert_ne!(answers(&row, &source_key(), request, START), of_stranger);
}

/// The row of an active pairing and the serial number of its certificate.
fn active() -> (Target, [u8; 16]) {
    let row = filed();
    let code = right_code(&row);
    let row = step(&row, accept(&row, code, 5), START).row;
    let Stage::AwaitIssued(waiting) = row.stage() else { panic!("{row:?}") };
    let row = step(&row, Input::Issued(signed(&waiting.order)), START).row;
    (step(&row, Input::Used { key: source_key() }, START).row, [5; 16])
}

#[test]
fn a_14_an_expired_certificate_may_renew_for_180_days() {
    let (row, serial) = active();
    let end = START + Rules::shipped().certificate_life;
    let standing = |row: &Target, days| {
        row.standing(&source_key(), Some(&serial), end + Span::from_days(days), &Rules::shipped())
    };
    assert_eq!(standing(&row, 0), Standing::Source { is_first_use: false });
    assert_eq!(standing(&row, 1), Standing::Expired { is_first_use: false });
    assert_eq!(standing(&row, 179), Standing::Expired { is_first_use: false });
    assert_eq!(standing(&row, 181), Standing::None);
    let revoked = step(&row, Input::Revoke { by: "operator".to_owned() }, START).row;
    assert_eq!(standing(&revoked, 1), Standing::Gone);
    // Self-signed, or of another serial number: not the certificate of this row.
    for other in [None, Some([6; 16])] {
        let standing = row.standing(&source_key(), other.as_ref(), START, &Rules::shipped());
        assert_eq!(standing, Standing::Enrolling { is_rejected: false });
    }
}

#[test]
fn a_13_an_old_key_dies_with_the_first_use_of_the_new_or_after_a_day() {
    let (row, serial) = active();
    let new = PublicKey::from_der("new key");
    let fresh = RequestId::from_bytes([8; 16]);
    let renew = Input::Renew { by: source_key(), key: new.clone(), fresh, serial: [6; 16] };
    let asked_once = step(&row, renew.clone(), START);
    let Some(Effect::Issue(order)) =
        asked_once.effects.iter().find(|effect| matches!(effect, Effect::Issue(_)))
    else {
        panic!("{asked_once:?}")
    };
    // Asked again, it is the same request, and nothing more is signed.
    let again = step(&asked_once.row, renew, START);
    assert_eq!(again.row, asked_once.row);
    assert!(again.effects.contains(&Effect::Reply(Ok(Reply::Submitted {
        request: fresh,
        expires_at: START + Rules::shipped().request_life,
        poll_after_secs: 5,
    }))));
    let row = step(&asked_once.row, Input::Issued(signed(order)), START).row;
    let old =
        |row: &Target, now| row.standing(&source_key(), Some(&serial), now, &Rules::shipped());
    let next = |row: &Target, now| row.standing(&new, Some(&[6; 16]), now, &Rules::shipped());
    let almost = START + Span::from_hours(24) - Span::from_secs(1);
    assert_eq!(old(&row, almost), Standing::Source { is_first_use: false });
    assert_eq!(next(&row, almost), Standing::Source { is_first_use: true });
    // Nobody has told the row that time has passed: the gate knows by itself.
    let later = START + Span::from_hours(24);
    assert_eq!(old(&row, later), Standing::None);
    assert_eq!(next(&row, later), Standing::Source { is_first_use: true });
    let over = step(&row, Input::Woken, later);
    assert!(over.effects.contains(&Effect::Close(source_key())), "{over:?}");
    assert_eq!(old(&over.row, START), Standing::None);
    let used = step(&row, Input::Used { key: new.clone() }, START);
    assert!(used.effects.contains(&Effect::Close(source_key())));
    assert_eq!(old(&used.row, START), Standing::None);
    assert_eq!(next(&used.row, START), Standing::Source { is_first_use: false });
}

#[test]
fn a_16_a_day_of_skew_is_borne_and_more_is_named() {
    for hours in (-48..=48).step_by(12) {
        let mut duet = Duet::new();
        duet.skew_secs = hours * 3_600;
        duet.request("hello");
        duet.accept();
        duet.sign();
        duet.later();
        let script = duet.script();
        if hours.abs() <= 24 {
            assert_eq!(duet.source.stage().name(), "Active", "{hours} h: {script}");
        } else {
            assert_eq!(duet.source.stage().name(), "AwaitArtifacts", "{hours} h: {script}");
            let named = format!("ClocksDiffer {{ skew_secs: {} }}", hours * 3_600);
            assert!(script.contains(&named), "{hours} h: {script}");
            // Set right, it goes on by itself.
            duet.skew_secs = 0;
            duet.later();
            assert_eq!(duet.source.stage().name(), "Active", "{hours} h: {}", duet.script());
        }
    }
}

#[test]
fn a_22_a_second_decision_is_told_the_first() {
    let row = filed();
    let code = right_code(&row);
    let first = accept(&row, code, 1);
    let accepted = step(&row, first.clone(), START).row;
    let again = step(&accepted, first, START + Span::from_secs(9));
    assert_eq!(again.row, accepted);
    let refusal = again.effects.iter().find_map(|effect| match effect {
        Effect::Reply(Err(refusal)) => Some(refusal.clone()),
        _ => None,
    });
    let refusal = refusal.unwrap();
    assert_eq!(refusal.code, ErrorCode::AlreadyResolved);
    let detail = refusal.detail.unwrap();
    assert_eq!(detail["status"], "accepted");
    assert_eq!(detail["resolved_at"], "2027-01-15T08:00:00Z");
}

#[test]
fn a_request_is_decided_on_everything_it_shows() {
    let row = filed();
    let key = source_key();
    let digest = row.digest(&POLICY);
    let mut variants = vec![asked("b")];
    let vary = |change: fn(&mut crate::pairing::Asked)| {
        let mut asked = asked("a");
        change(&mut asked);
        asked
    };
    variants.push(vary(|asked| asked.host_name.push('x')));
    variants.push(vary(|asked| asked.version.major += 1));
    variants.push(vary(|asked| asked.core_id = offsite_model::CoreId::from_bytes([9; 16])));
    variants.push(vary(|asked| asked.wish.customer_id.push('x')));
    variants.push(vary(|asked| asked.wish.email_address.push('x')));
    variants.push(vary(|asked| asked.wish.use_seed_drive = true));
    variants.push(vary(|asked| asked.wish.agents[0].display_name.push('x')));
    variants.push(vary(|asked| asked.wish.agents[0].host_name.push('x')));
    variants.push(vary(|asked| asked.wish.agents[0].logical_bytes += 1));
    variants.push(vary(|asked| asked.wish.agents.clear()));
    for variant in &variants {
        assert_ne!(variant.digest(&key, &POLICY), digest, "{variant:?}");
    }
    assert_ne!(asked("a").digest(&PublicKey::from_der("other"), &POLICY), digest);
    assert_ne!(asked("a").digest(&key, &offsite_model::Digest::of(b"other policy")), digest);
    assert_eq!(asked("a").digest(&key, &POLICY), digest);
}
