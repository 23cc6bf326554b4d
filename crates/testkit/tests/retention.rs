//! What a policy keeps, against a second implementation that is slow and plain: it asks of each
//! point by itself, and counts periods by listing them.

#![expect(clippy::unwrap_used, reason = "a test, all of it")]

use std::collections::BTreeSet;

use offsite_model::policy::{Policy, Rules};
use offsite_model::retention::{Candidate, Hold, Period, decide};
use offsite_model::{Luck, PointId, Span, Timestamp};
use offsite_testkit::SeededLuck;

const N_CASES: u32 = 5_000;

/// Whether a point came before another.
fn is_before(one: &Candidate, other: &Candidate) -> bool {
    (one.received_at, one.point.to_bytes()) < (other.received_at, other.point.to_bytes())
}

fn stays(policy: &Policy, now: Timestamp, all: &[Candidate], point: &Candidate) -> bool {
    let n_newer = all.iter().filter(|other| is_before(point, other)).count();
    if n_newer == 0 || point.hold.is_some() {
        return true;
    }
    let Policy::Keep(rules) = policy else { return true };
    if n_newer < rules.last as usize || now.since(point.received_at) < rules.min_age {
        return true;
    }
    let counts = [rules.hourly, rules.daily, rules.weekly, rules.monthly, rules.yearly];
    Period::ALL.iter().zip(counts).any(|(period, count)| {
        let own = period.of(point.received_at);
        let in_own = |other: &&Candidate| period.of(other.received_at) == own;
        let is_first = !all.iter().filter(in_own).any(|other| is_before(other, point));
        let periods: BTreeSet<i64> = all.iter().map(|other| period.of(other.received_at)).collect();
        is_first && periods.iter().filter(|other| **other > own).count() < count as usize
    })
}

fn random_case(luck: &SeededLuck) -> (Policy, Timestamp, Vec<Candidate>) {
    let count = || u32::try_from(if luck.chance(1, 2) { 0 } else { luck.below(6) }).unwrap();
    let rules = Rules {
        last: count(),
        hourly: count(),
        daily: count(),
        weekly: count(),
        monthly: count(),
        yearly: count(),
        min_age: Span::from_hours(if luck.chance(1, 2) { 0 } else { luck.below(72) }),
    };
    let policy = if luck.chance(1, 20) { Policy::KeepAll } else { Policy::Keep(rules) };
    let now = Timestamp::from_secs(1_767_225_600);
    // Dense or spread over years, some at one moment and some in the future.
    let reach = *luck.pick(&[7_200, 86_400 * 3, 86_400 * 60, 86_400 * 2_000]);
    let points = (0..luck.below(40)).map(|_| {
        let ago = i64::try_from(luck.below(reach)).unwrap() - 3_600;
        let step = *luck.pick(&[1, 3_600]);
        Candidate {
            point: PointId::random(luck),
            received_at: Timestamp::from_secs((now.as_secs() - ago) / step * step),
            hold: luck.chance(1, 20).then_some(Hold::Awaited),
        }
    });
    let points = points.collect();
    (policy, now, points)
}

#[test]
fn what_stays_is_what_each_rule_by_itself_would_keep() {
    let luck = SeededLuck::from_env_or(6);
    for case in 0..N_CASES {
        let (policy, now, points) = random_case(&luck);
        let verdicts = decide(&policy, now, &points);
        assert_eq!(verdicts.len(), points.len());
        for (point, verdict) in points.iter().zip(&verdicts) {
            assert_eq!(verdict.point, point.point);
            let stays = stays(&policy, now, &points, point);
            assert_eq!(verdict.is_kept(), stays, "case {case}, {policy}: {point:?} {verdict:?}");
        }
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
}

#[test]
fn what_went_once_is_not_missed_the_next_time() {
    let luck = SeededLuck::from_env_or(7);
    for case in 0..N_CASES {
        let (policy, now, points) = random_case(&luck);
        let kept = |points: &[Candidate]| -> Vec<Candidate> {
            let verdicts = decide(&policy, now, points);
            let kept = points.iter().zip(verdicts).filter(|(_, verdict)| verdict.is_kept());
            kept.map(|(point, _)| *point).collect()
        };
        let once = kept(&points);
        assert_eq!(kept(&once), once, "case {case}: {policy}");
    }
}
