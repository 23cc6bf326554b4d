//! A retention policy as plain data, and its one text form.
//!
//! ```text
//! last=7 hourly=24 daily=14 weekly=8 monthly=12 yearly=3 min-age=3d
//! all
//! ```
//!
//! **Absent:** which points stay under it (`retention`), locks and soft deletion (the target's).

use std::fmt;
use std::str::FromStr;

use crate::time::Span;

/// The largest number behind a word of a policy.
pub const COUNT_MAX: u32 = 10_000;
/// The longest minimum age: ten years.
pub const MIN_AGE_MAX: Span = Span::from_days(3_650);

/// What of an agent's recovery points stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Every point stays: what holds where nobody said anything.
    #[default]
    KeepAll,
    /// What no rule keeps may go.
    Keep(Rules),
}

/// The rules of a policy. A point stays when any of them keeps it; zero keeps nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// So many of the newest points.
    pub last: u32,
    /// The first point of each of so many of the newest hours that have one, and so on below.
    pub hourly: u32,
    /// Days, from midnight to midnight UTC.
    pub daily: u32,
    /// Weeks, from Monday.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
    /// Years.
    pub yearly: u32,
    /// Whatever is younger stays.
    pub min_age: Span,
}

/// What is wrong with the text of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// It says nothing.
    Empty,
    /// A piece that is no `word=value`, or whose word is not known.
    WordUnknown(String),
    /// A word stands twice.
    Twice(String),
    /// Not a whole number within bounds.
    NotACount(String),
    /// Not a length of time within bounds.
    NotAnAge(String),
    /// `all` beside other words.
    AllAndMore,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str(
                "a policy is \"all\" or words such as last=7 daily=14 weekly=8 monthly=12 \
                 min-age=3d; last=0 keeps nothing but the newest point",
            ),
            Self::WordUnknown(word) => write!(
                f,
                "\"{word}\" is none of last=, hourly=, daily=, weekly=, monthly=, yearly=, \
                 min-age= and all",
            ),
            Self::Twice(word) => write!(f, "{word} is given twice"),
            Self::NotACount(word) => write!(f, "{word} takes a whole number up to {COUNT_MAX}"),
            Self::NotAnAge(word) => write!(
                f,
                "{word} takes hours, days or weeks, such as 36h, 3d or 2w, up to {} days",
                MIN_AGE_MAX.as_secs() / DAY,
            ),
            Self::AllAndMore => f.write_str("\"all\" keeps everything and stands alone"),
        }
    }
}

impl std::error::Error for PolicyError {}

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;
const ALL: &str = "all";
const MIN_AGE: &str = "min-age";

/// The words that count, in the order in which they are written.
const COUNTS: [&str; 6] = ["last", "hourly", "daily", "weekly", "monthly", "yearly"];

impl Rules {
    const fn counts(&self) -> [u32; 6] {
        [self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly]
    }

    const fn count_mut(&mut self, index: usize) -> &mut u32 {
        match index {
            0 => &mut self.last,
            1 => &mut self.hourly,
            2 => &mut self.daily,
            3 => &mut self.weekly,
            4 => &mut self.monthly,
            _ => &mut self.yearly,
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Keep(rules) = self else { return f.write_str(ALL) };
        let mut words: Vec<String> = COUNTS
            .iter()
            .zip(rules.counts())
            .filter(|(_, count)| *count > 0)
            .map(|(word, count)| format!("{word}={count}"))
            .collect();
        if rules.min_age > Span::ZERO {
            words.push(format!("{MIN_AGE}={}", age(rules.min_age)));
        }
        if words.is_empty() {
            words.push("last=0".to_owned());
        }
        f.write_str(&words.join(" "))
    }
}

fn age(span: Span) -> String {
    let secs = span.as_secs();
    match secs {
        secs if secs % WEEK == 0 => format!("{}w", secs / WEEK),
        secs if secs % DAY == 0 => format!("{}d", secs / DAY),
        secs => format!("{}h", secs / HOUR),
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let pieces = || text.split([' ', '\t', ',']).filter(|piece| !piece.is_empty());
        match (pieces().next(), pieces().any(|piece| piece == ALL), pieces().count()) {
            (None, ..) => return Err(PolicyError::Empty),
            (_, true, 1) => return Ok(Self::KeepAll),
            (_, true, _) => return Err(PolicyError::AllAndMore),
            _ => {}
        }
        let mut rules = Rules::default();
        let mut seen: Vec<&str> = Vec::new();
        for piece in pieces() {
            let (word, value) =
                piece.split_once('=').ok_or_else(|| PolicyError::WordUnknown(shown(piece)))?;
            if word == MIN_AGE {
                rules.min_age = parse_age(value)?;
            } else {
                let index = COUNTS.iter().position(|known| *known == word);
                let index = index.ok_or_else(|| PolicyError::WordUnknown(shown(word)))?;
                *rules.count_mut(index) = parse_count(word, value)?;
            }
            if seen.contains(&word) {
                return Err(PolicyError::Twice(word.to_owned()));
            }
            seen.push(word);
        }
        Ok(Self::Keep(rules))
    }
}

/// A word that is repeated in an error: not more of it than a word has.
fn shown(word: &str) -> String {
    word.chars().take(32).collect()
}

fn parse_count(word: &str, value: &str) -> Result<u32, PolicyError> {
    let wrong = || PolicyError::NotACount(word.to_owned());
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    value.parse().ok().filter(|count| *count <= COUNT_MAX).ok_or_else(wrong)
}

fn parse_age(value: &str) -> Result<Span, PolicyError> {
    let wrong = || PolicyError::NotAnAge(MIN_AGE.to_owned());
    let units = [('h', HOUR), ('d', DAY), ('w', WEEK)];
    let unit = units.iter().find_map(|&(letter, secs)| Some((value.strip_suffix(letter)?, secs)));
    let (digits, secs) = unit.ok_or_else(wrong)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let n: u64 = digits.parse().map_err(|_| wrong())?;
    let age = n.checked_mul(secs).map(Span::from_secs).ok_or_else(wrong)?;
    (age <= MIN_AGE_MAX).then_some(age).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_printed_as_it_is_read() {
        for text in [
            "all",
            "last=0",
            "last=7 hourly=24 daily=14 weekly=8 monthly=12 yearly=3 min-age=3d",
            "min-age=2w",
            "min-age=36h",
            "daily=10000 min-age=3650d",
        ] {
            assert_eq!(text.parse::<Policy>().map(|policy| policy.to_string()), Ok(text.into()));
        }
        let printed = |text: &str| text.parse::<Policy>().map(|policy| policy.to_string());
        assert_eq!(
            printed("min-age=48h,weekly=1,\tlast=2,"),
            Ok("last=2 weekly=1 min-age=2d".into())
        );
        assert_eq!(printed("daily=0 min-age=0h"), Ok("last=0".into()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |text: &str| text.parse::<Policy>().unwrap_err();
        assert_eq!(said(" , "), PolicyError::Empty);
        assert_eq!(said("all last=1"), PolicyError::AllAndMore);
        assert_eq!(said("keep=3"), PolicyError::WordUnknown("keep".into()));
        assert_eq!(said("last"), PolicyError::WordUnknown("last".into()));
        assert_eq!(said(&"x".repeat(99)), PolicyError::WordUnknown("x".repeat(32)));
        assert_eq!(said("last=1 last=2"), PolicyError::Twice("last".into()));
        for wrong in ["last=", "last=-1", "last=+1", "last=10001", "last=4294967296", "last=1.5"] {
            assert_eq!(said(wrong), PolicyError::NotACount("last".into()), "{wrong}");
        }
        for wrong in ["", "3", "d", "-3d", "3m", "3651d", "18446744073709551615w", "1.5d"] {
            let text = format!("min-age={wrong}");
            assert_eq!(said(&text), PolicyError::NotAnAge("min-age".into()), "{wrong}");
        }
    }
}
