//! E-13: five hundred sources wait for a target that restarts; each is the real machine, the target
//! is arithmetic.

use std::collections::BTreeMap;

use offsite_exchange::pairing::source::{
    Answer, Ask, Effect, Failure, Input, Order, Source, Step, Submission,
};
use offsite_exchange::pairing::{Moment, PublicKey, Wish};
use offsite_model::{CoreId, Luck, RequestId, Span, Timestamp};
use offsite_testkit::SeededLuck;

use crate::config::Settings;

const N_SOURCES: u64 = 500;
/// Long enough for polls to have grown to their longest pause.
const DOWN_AT_SECS: i64 = 3_600;

/// Runs one source and counts its calls per second after the target came back; returns when it was
/// first answered again.
fn run(index: u64, away_secs: i64, luck: &SeededLuck, n_calls: &mut BTreeMap<i64, u32>) -> i64 {
    let rules = Settings::shipped().rules();
    let up_at = DOWN_AT_SECS + away_secs;
    // All of them asked within the same minute.
    let mut now =
        Timestamp::from_micros(i64::try_from(luck.below(Span::from_secs(60).as_micros())).unwrap());
    let wish = Wish {
        agents: Vec::new(),
        customer_id: String::new(),
        email_address: String::new(),
        comments: String::new(),
        use_seed_drive: false,
        enrolment_code: None,
    };
    let order = Order::Request { target: "target:1".to_owned(), wish };
    let mut source = Source::new();
    let mut inputs = vec![Input::Operator(order)];
    let mut back = None;
    while now < Timestamp::from_secs(up_at + 300) {
        let Some(input) = inputs.pop() else { panic!("source {index} waits for nothing") };
        let at = Moment { now, luck: u16::try_from(luck.below(65_536)).unwrap() };
        let Step { source: next, effects } = source.step(input, at, &rules).unwrap();
        source = next;
        for effect in effects {
            match effect {
                Effect::MakeKey => inputs.push(Input::KeyMade(PublicKey::from_der(b"k".to_vec()))),
                Effect::WakeAfter(pause) => {
                    now = now + pause;
                    inputs.push(Input::Woken);
                }
                Effect::Call(call) => {
                    let secs = now.as_secs();
                    let is_away = secs >= DOWN_AT_SECS && secs < up_at;
                    if secs >= up_at {
                        *n_calls.entry(secs).or_default() += 1;
                        back.get_or_insert(secs);
                    }
                    let target_key = PublicKey::from_der(b"t".to_vec());
                    let outcome = match call.ask {
                        _ if is_away => Err(Failure::Unreachable { reason: "away".to_owned() }),
                        Ask::Meet(_) => {
                            Ok(Answer::Met { target_key, target_core: CoreId::from_bytes([0; 16]) })
                        }
                        Ask::Submit(_) => Ok(Answer::Submitted(Submission {
                            request: RequestId::from_bytes([0; 16]),
                            target_core: CoreId::from_bytes([0; 16]),
                            stated_target_key: target_key,
                            poll_after_secs: 5,
                            expires_at: now + Span::from_days(7),
                        })),
                        _ => Ok(Answer::Pending { retry_after_secs: None }),
                    };
                    inputs.push(Input::Answered(call.ticket, outcome));
                }
                _ => {}
            }
        }
    }
    back.unwrap()
}

#[test]
fn e_13_no_stampede_after_a_restart() {
    for seed in 0..5 {
        for away_secs in [3, 20, 60, 600] {
            let luck = SeededLuck::new(seed);
            let mut n_calls = BTreeMap::new();
            let last_back = (0..N_SOURCES)
                .map(|index| run(index, away_secs, &luck, &mut n_calls))
                .max()
                .unwrap();
            let busiest = n_calls.values().max().copied().unwrap();
            assert!(
                busiest <= 50,
                "seed {seed}, away {away_secs} s: {busiest} calls in one second"
            );
            let late = last_back - (DOWN_AT_SECS + away_secs);
            assert!(
                late <= 90,
                "seed {seed}, away {away_secs} s: the last one came after {late} s"
            );
        }
    }
}

#[test]
fn pauses_have_jitter_and_bounds() {
    let rules = Settings::shipped().rules();
    for luck in [0, 1, 30_000, u16::MAX] {
        let (source, ticket) = waiting(luck);
        for (retry_after_secs, least, most) in
            [(None, 5, 75), (Some(0), 5, 75), (Some(30), 30, 36), (Some(u32::MAX), 3_600, 4_320)]
        {
            let answer = Ok(Answer::Pending { retry_after_secs });
            let at = Moment { now: Timestamp::from_secs(10), luck };
            let input = Input::Answered(ticket, answer);
            let step = source.step(input, at, &rules).unwrap();
            let pause = step.effects.iter().find_map(|effect| match effect {
                Effect::WakeAfter(pause) => Some(pause.as_secs()),
                _ => None,
            });
            let pause = pause.unwrap();
            assert!(pause >= least && pause <= most, "{retry_after_secs:?}: {pause} s");
        }
    }
}

/// A machine whose first poll is under way.
fn waiting(luck: u16) -> (Source, offsite_exchange::pairing::source::Ticket) {
    let rules = Settings::shipped().rules();
    let at = Moment { now: Timestamp::from_secs(0), luck };
    let wish = Wish {
        agents: Vec::new(),
        customer_id: String::new(),
        email_address: String::new(),
        comments: String::new(),
        use_seed_drive: false,
        enrolment_code: None,
    };
    let mut source = Source::new();
    let mut input = Input::Operator(Order::Request { target: "target:1".to_owned(), wish });
    loop {
        let Step { source: next, effects } = source.step(input, at, &rules).unwrap();
        source = next;
        let target_key = PublicKey::from_der(b"t".to_vec());
        let target_core = CoreId::from_bytes([0; 16]);
        let next = effects.into_iter().find_map(|effect| match effect {
            Effect::MakeKey => Some(Ok(Input::KeyMade(PublicKey::from_der(b"k".to_vec())))),
            Effect::WakeAfter(_) => Some(Ok(Input::Woken)),
            Effect::Call(call) => Some(match call.ask {
                Ask::Meet(_) => {
                    let met = Answer::Met { target_key: target_key.clone(), target_core };
                    Ok(Input::Answered(call.ticket, Ok(met)))
                }
                Ask::Submit(_) => {
                    let submission = Submission {
                        request: RequestId::from_bytes([0; 16]),
                        target_core,
                        stated_target_key: target_key.clone(),
                        poll_after_secs: 5,
                        expires_at: Timestamp::from_secs(604_800),
                    };
                    Ok(Input::Answered(call.ticket, Ok(Answer::Submitted(submission))))
                }
                _ => Err(call.ticket),
            }),
            _ => None,
        });
        match next.unwrap() {
            Ok(next) => input = next,
            Err(ticket) => return (source, ticket),
        }
    }
}
