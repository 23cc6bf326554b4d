//! Which recovery points of an agent stay under a policy, and why: a pure function of the policy,
//! the points and the time.
//!
//! A period (an hour, a day, …) keeps the point that came **first** in it. What comes later in the
//! same period, however much of it, pushes nothing out, and what stays for a period stays as long
//! as the period counts. All times are those at which a point was *received* here; a source's own
//! times are for display, since whoever holds the source writes them as he likes.
//!
//! **Absent:** the clock, the deletion itself, and what locks a point (the target's).

use std::fmt;

use crate::id::PointId;
use crate::policy::{Policy, Rules};
use crate::time::{Span, Timestamp};

/// How far a source's time may be from ours before it is flagged.
pub const SKEW_TOLERATED: Span = Span::from_hours(24);

/// A committed point that is not deleted, for [`decide`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The point.
    pub point: PointId,
    /// When it was committed here, by our clock.
    pub received_at: Timestamp,
    /// What keeps it whatever the policy says.
    pub hold: Option<Hold>,
}

/// What keeps a point whatever the policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A lock that ends then.
    Locked {
        /// The first moment at which it may go.
        until: Timestamp,
    },
    /// A target that needs it has it not yet.
    Awaited,
}

/// Why a point stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The policy keeps everything.
    All,
    /// It is the newest of its agent, which no policy removes.
    Newest,
    /// Locked, or awaited by a target.
    Held(Hold),
    /// Younger than the minimum age.
    Young,
    /// The so-many-th of the newest, from 1.
    Last(u32),
    /// The first of the so-many-th newest period that has a point, from 1.
    First(Period, u32),
}

/// A period of the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week, from Monday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Period {
    /// Every period, shortest first.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// The number of the period that a moment lies in; a later period has a greater one.
    #[must_use]
    pub const fn of(self, at: Timestamp) -> i64 {
        let secs = at.as_secs();
        let days = secs.div_euclid(86_400);
        match self {
            Self::Hour => secs.div_euclid(3_600),
            Self::Day => days,
            // 1970-01-01 was a Thursday.
            Self::Week => days.saturating_add(3).div_euclid(7),
            Self::Month => {
                let (year, month) = year_and_month(days);
                year.saturating_mul(12).saturating_add(month)
            }
            Self::Year => year_and_month(days).0,
        }
    }

    const fn count(self, rules: &Rules) -> u32 {
        match self {
            Self::Hour => rules.hourly,
            Self::Day => rules.daily,
            Self::Week => rules.weekly,
            Self::Month => rules.monthly,
            Self::Year => rules.yearly,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }
}

/// The year, and the month from 0, of a day counted from 1970-01-01 (Gregorian, also before its
/// time). Years are counted from March, so that the leap day is the last of its year.
const fn year_and_month(days: i64) -> (i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    // Days from 0000-03-01.
    let days = days.saturating_add(719_468);
    let era = days.div_euclid(DAYS_OF_400_YEARS);
    let day_of_era = days.rem_euclid(DAYS_OF_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March = 0.
    let month = (5 * day_of_year + 2) / 153;
    let year = era * 400 + year_of_era;
    match month {
        0..=9 => (year, month + 2),
        _ => (year + 1, month - 10),
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Newest => f.write_str("newest"),
            Self::Held(Hold::Locked { .. }) => f.write_str("locked"),
            Self::Held(Hold::Awaited) => f.write_str("awaited by a target"),
            Self::Young => f.write_str("min-age"),
            Self::Last(rank) => write!(f, "last {rank}"),
            Self::First(period, rank) => write!(f, "{} {rank}", period.word()),
        }
    }
}

/// What is decided about a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The point.
    pub point: PointId,
    /// Every reason to keep it; none where it goes.
    pub why: Vec<Why>,
}

impl Verdict {
    /// Whether the point stays.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        !self.why.is_empty()
    }
}

/// What a policy says about the points of one agent, in the order in which they are given. The
/// newest always stays; points that came at the same moment are in the order of their ids.
#[must_use]
pub fn decide(policy: &Policy, now: Timestamp, points: &[Candidate]) -> Vec<Verdict> {
    let mut newest_first: Vec<usize> = (0..points.len()).collect();
    let age = |index: &usize| points.get(*index).map(|point| (point.received_at, point.point));
    newest_first.sort_by_key(|index| std::cmp::Reverse(age(index)));
    let mut verdicts: Vec<Verdict> =
        points.iter().map(|point| Verdict { point: point.point, why: Vec::new() }).collect();
    let mut keep = |index: usize, why: Why| {
        if let Some(verdict) = verdicts.get_mut(index) {
            verdict.why.push(why);
        }
    };
    if let Some(&newest) = newest_first.first() {
        keep(newest, Why::Newest);
    }
    for (index, point) in points.iter().enumerate() {
        if let Some(hold) = point.hold {
            keep(index, Why::Held(hold));
        }
        match policy {
            Policy::KeepAll => keep(index, Why::All),
            Policy::Keep(rules) if now.since(point.received_at) < rules.min_age => {
                keep(index, Why::Young);
            }
            Policy::Keep(_) => {}
        }
    }
    let Policy::Keep(rules) = policy else { return verdicts };
    for (&index, rank) in newest_first.iter().zip(1..=rules.last) {
        keep(index, Why::Last(rank));
    }
    let received = |index: usize| points.get(index).map(|point| point.received_at);
    for period in Period::ALL {
        let number = |index: usize| received(index).map(|at| period.of(at));
        let mut rank = 0;
        for (place, &index) in newest_first.iter().enumerate() {
            let older = newest_first.get(place.saturating_add(1));
            // The first of its period has its elder in another one.
            if older.is_some_and(|&older| number(older) == number(index)) {
                continue;
            }
            if rank == period.count(rules) {
                break;
            }
            rank = rank.saturating_add(1);
            keep(index, Why::First(period, rank));
        }
    }
    verdicts
}

/// Whether the time that a source gives a point is so far from when it came that a person should
/// know. It also is after a long outage; nothing is decided by it.
#[must_use]
pub fn is_time_odd(taken_at: Timestamp, received_at: Timestamp) -> bool {
    taken_at.since(received_at) > SKEW_TOLERATED || received_at.since(taken_at) > SKEW_TOLERATED
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds after 1970 of a date, counted day by day.
    fn date(year: i64, month: i64, day: i64) -> i64 {
        let is_leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let days_of = |year: i64, month: i64| match month {
            4 | 6 | 9 | 11 => 30,
            2 if is_leap(year) => 29,
            2 => 28,
            _ => 31,
        };
        let mut days = 0;
        for earlier in 1970..year {
            days += if is_leap(earlier) { 366 } else { 365 };
        }
        for earlier in 1..month {
            days += days_of(year, earlier);
        }
        (days + day - 1) * 86_400
    }

    #[test]
    fn periods_are_those_of_the_calendar() {
        for year in 1970..2405 {
            for month in 1..=12 {
                let first = Timestamp::from_secs(date(year, month, 1));
                let before = first - Span::from_micros(1);
                assert_eq!(Period::Month.of(first), year * 12 + month - 1);
                assert_eq!(Period::Month.of(before), year * 12 + month - 2);
                let of_before = if month == 1 { year - 1 } else { year };
                assert_eq!((Period::Year.of(first), Period::Year.of(before)), (year, of_before));
            }
        }
        // 2026-11-23 is a Monday.
        let monday = Timestamp::from_secs(date(2026, 11, 23));
        let sunday = monday - Span::from_micros(1);
        assert_eq!(Period::Week.of(monday), Period::Week.of(sunday) + 1);
        assert_eq!(Period::Week.of(monday), Period::Week.of(monday + Span::from_days(6)));
        assert_eq!(Period::Day.of(monday), Period::Day.of(sunday) + 1);
        assert_eq!(Period::Hour.of(monday), Period::Hour.of(sunday) + 1);
        for extreme in [i64::MIN, i64::MAX] {
            let years = Period::Year.of(Timestamp::from_micros(extreme));
            assert!((-300_000..300_000).contains(&years), "{years}");
        }
    }

    fn shown(policy: &str, received_hours: &[u64]) -> String {
        let start = Timestamp::from_secs(date(2026, 11, 23));
        let points: Vec<Candidate> = received_hours
            .iter()
            .zip(1..)
            .map(|(&hours, id)| Candidate {
                point: PointId::from_bytes([id; 16]),
                received_at: start + Span::from_hours(hours),
                hold: None,
            })
            .collect();
        let now = start + Span::from_hours(received_hours.last().copied().unwrap_or_default());
        let verdicts = decide(&policy.parse().unwrap(), now, &points);
        let why = verdicts.iter().map(|verdict| {
            verdict.why.iter().map(ToString::to_string).collect::<Vec<_>>().join("+")
        });
        why.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn each_rule_keeps_what_it_says() {
        assert_eq!(shown("last=0", &[0, 1, 2]), ", , newest");
        assert_eq!(shown("all", &[0, 1]), "all, newest+all");
        assert_eq!(shown("last=2", &[0, 1, 2]), ", last 2, newest+last 1");
        // The first of each day, and a day without points does not count.
        assert_eq!(shown("daily=2", &[0, 20, 30, 40, 100, 101]), ", , daily 2, , daily 1, newest");
        assert_eq!(shown("weekly=1 min-age=1h", &[0, 1, 2]), "weekly 1, , newest+min-age");
    }

    #[test]
    fn a_hold_keeps_whatever_the_policy_says() {
        let point = |id: u8, hold| Candidate {
            point: PointId::from_bytes([id; 16]),
            received_at: Timestamp::from_secs(i64::from(id)),
            hold,
        };
        let until = Timestamp::from_secs(99);
        let points =
            [point(1, Some(Hold::Locked { until })), point(2, Some(Hold::Awaited)), point(3, None)];
        let none = "last=0".parse().unwrap();
        let verdicts = decide(&none, Timestamp::from_secs(100), &points);
        assert!(verdicts.iter().all(Verdict::is_kept), "{verdicts:?}");
        assert_eq!(decide(&none, until, &[]), []);
    }

    #[test]
    fn a_time_more_than_a_day_away_is_odd() {
        let now = Timestamp::from_secs(date(2026, 1, 1));
        assert!(!is_time_odd(now, now + SKEW_TOLERATED) && !is_time_odd(now + SKEW_TOLERATED, now));
        let far = SKEW_TOLERATED.as_micros() + 1;
        assert!(is_time_odd(now, now + Span::from_micros(far)));
        assert!(is_time_odd(now + Span::from_micros(far), now));
    }
}
