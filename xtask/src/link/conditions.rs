//! What a line does to what is sent over it.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail, ensure};
use serde::Serialize;

/// The same in both directions, but for cuts. Shares are between 0 and 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Conditions {
    /// Bits of IP packets per second in each direction; 0 is no limit.
    pub(crate) rate: u64,
    /// How long a packet may wait for its turn; one that would wait longer is dropped.
    #[serde(serialize_with = "seconds")]
    pub(crate) queue: Duration,
    /// From the end of its turn to its arrival.
    #[serde(serialize_with = "seconds")]
    pub(crate) delay: Duration,
    /// How much the delay differs from packet to packet, both ways. The order stays.
    #[serde(serialize_with = "seconds")]
    pub(crate) jitter: Duration,
    /// Share of packets that get lost, each for itself.
    pub(crate) loss: f64,
    /// Packets that get lost together.
    pub(crate) burst: Burst,
    /// Share of packets that overtake: they are up to half of their delay early.
    pub(crate) reorder: f64,
    /// Share of packets that arrive twice.
    pub(crate) duplicate: f64,
    /// Share of packets with one bit flipped.
    pub(crate) corrupt: f64,
    /// When nothing gets through.
    pub(crate) cuts: Vec<Cut>,
    /// Of the dice.
    pub(crate) seed: u64,
}

/// Gilbert's model: the line is good or bad, and in bad times everything is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Burst {
    /// Share of packets that are lost this way; below 1.
    pub(crate) share: f64,
    /// Packets that a bad time takes on average; at least 1.
    pub(crate) length: f64,
}

/// A time in which packets vanish, counted from when the conditions were set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Cut {
    #[serde(serialize_with = "seconds")]
    pub(crate) from: Duration,
    #[serde(serialize_with = "seconds")]
    pub(crate) until: Duration,
    /// None is both.
    pub(crate) way: Option<Way>,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// From the source to the target.
    Up,
    /// From the target to the source.
    Down,
}

impl Conditions {
    /// Whether nothing that is sent now in this direction arrives.
    pub(super) fn is_cut(&self, way: Way, at: Duration) -> bool {
        let holds = |cut: &Cut| cut.way.is_none_or(|cut| cut == way);
        self.cuts.iter().any(|cut| holds(cut) && cut.from <= at && at < cut.until)
    }
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// `FROM-UNTIL` or `FROM-UNTIL:up`, in seconds.
impl FromStr for Cut {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (times, way) = match text.split_once(':') {
            None => (text, None),
            Some((times, "up")) => (times, Some(Way::Up)),
            Some((times, "down")) => (times, Some(Way::Down)),
            Some((_, way)) => bail!("{way:?} is no direction: up or down"),
        };
        let (from, until) = times.split_once('-').context("a cut is FROM-UNTIL in seconds")?;
        let time = |text: &str| Ok::<_, Error>(Duration::try_from_secs_f64(text.parse()?)?);
        let (from, until) = (time(from)?, time(until)?);
        ensure!(from < until, "a cut ends after it begins");
        Ok(Self { from, until, way })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_has_two_times_and_perhaps_a_direction() {
        let cut = "1.5-3:down".parse::<Cut>().unwrap();
        assert_eq!((cut.from.as_millis(), cut.until.as_millis()), (1_500, 3_000));
        assert_eq!(cut.way, Some(Way::Down));
        assert_eq!("0-1".parse::<Cut>().unwrap().way, None);
        for odd in ["", "1", "2-1", "1-1", "-1-2", "1-x", "1-2:left", "1-2:"] {
            assert!(odd.parse::<Cut>().is_err(), "{odd}");
        }
    }

    #[test]
    fn a_cut_in_one_direction_leaves_the_other() {
        let cuts = vec!["1-2:up".parse().unwrap()];
        let conditions = Conditions { cuts, ..Conditions::default() };
        let is_cut = |way, ms| conditions.is_cut(way, Duration::from_millis(ms));
        assert!(is_cut(Way::Up, 1_000) && is_cut(Way::Up, 1_999));
        assert!(!is_cut(Way::Up, 999) && !is_cut(Way::Up, 2_000) && !is_cut(Way::Down, 1_500));
    }
}
