//! Failed authentications per (who, from where): after five in a quarter of an hour nothing more is
//! judged.
//!
//! Kept in memory alone: a restart forgets it, and a restart is not in a guesser's hands. The
//! number of entries is bounded; when it is reached, the ones that lapse first go, which a guesser
//! could use to be forgotten only by failing from more addresses than the bound has entries.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use offsite_model::{Span, Timestamp};

/// Failures that are judged within [`WINDOW`].
pub(super) const FAILURES_MAX: usize = 5;
/// How long a failure counts.
pub(super) const WINDOW: Span = Span::from_secs(15 * 60);
const ENTRIES_MAX: usize = 10_000;

/// Where a caller comes from, as coarse as its provider hands out addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// One address of IPv4.
    V4([u8; 4]),
    /// The /56 of IPv6.
    V6([u8; 7]),
    /// The local socket.
    Local,
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g])
            }
        }
    }
}

/// Who was claimed, as a digest: a name typed into the wrong field is no business of a table in
/// memory.
type Subject = [u8; 32];

/// Counts failures.
#[derive(Default)]
pub struct Throttle {
    failures: Mutex<HashMap<(Subject, Network), Vec<Timestamp>>>,
}

impl Throttle {
    /// A fresh one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one try out of the budget before anything is judged; `None` when there is none left.
    /// It comes back with `Try::succeeded`; a try that is dropped counts as failed.
    #[must_use]
    pub fn begin(&self, who: &str, from: Network, now: Timestamp) -> Option<Try<'_>> {
        let key = (super::code::sha256(who.as_bytes()), from);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= ENTRIES_MAX && !failures.contains_key(&key) {
            make_room(&mut failures, now);
        }
        let own = failures.entry(key).or_default();
        own.retain(|at| counts(*at, now));
        if own.len() >= FAILURES_MAX {
            return None;
        }
        own.push(now);
        Some(Try { throttle: self, key, at: now })
    }
}

fn counts(at: Timestamp, now: Timestamp) -> bool {
    now.since(at) < WINDOW
}

fn make_room(failures: &mut HashMap<(Subject, Network), Vec<Timestamp>>, now: Timestamp) {
    failures.retain(|_, tries| tries.iter().any(|at| counts(*at, now)));
    while failures.len() >= ENTRIES_MAX {
        let oldest = failures.iter().min_by_key(|(_, tries)| tries.last().copied());
        let Some(key) = oldest.map(|(key, _)| *key) else { return };
        failures.remove(&key);
    }
}

/// One try, counted as failed until it says otherwise.
pub struct Try<'a> {
    throttle: &'a Throttle,
    key: (Subject, Network),
    at: Timestamp,
}

impl Try<'_> {
    /// Gives the try back: the credential was right.
    pub fn succeeded(self) {
        let mut failures = self.throttle.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = failures.get_mut(&self.key) else { return };
        if let Some(index) = own.iter().position(|at| *at == self.at) {
            own.swap_remove(index);
        }
        if own.is_empty() {
            failures.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Network = Network::V4([127, 0, 0, 1]);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn five_failures_are_judged_and_the_sixth_is_not() {
        let throttle = Throttle::new();
        for second in 0..5 {
            assert!(throttle.begin("anna", HERE, at(second)).is_some());
        }
        assert!(throttle.begin("anna", HERE, at(6)).is_none());
        assert!(throttle.begin("berta", HERE, at(6)).is_some());
        assert!(throttle.begin("anna", Network::Local, at(6)).is_some());
        assert!(throttle.begin("anna", HERE, at(15 * 60)).is_some(), "the first one has lapsed");
        assert!(throttle.begin("anna", HERE, at(15 * 60)).is_none());
    }

    #[test]
    fn a_success_costs_nothing() {
        let throttle = Throttle::new();
        for second in 0..100 {
            throttle.begin("anna", HERE, at(second)).unwrap().succeeded();
        }
        assert!(throttle.failures.lock().unwrap().is_empty());
    }

    #[test]
    fn the_table_is_bounded() {
        let throttle = Throttle::new();
        for number in 0..ENTRIES_MAX as i64 + 50 {
            drop(throttle.begin(&number.to_string(), HERE, at(number / 100)));
        }
        assert_eq!(throttle.failures.lock().unwrap().len(), ENTRIES_MAX);
    }

    #[test]
    fn ipv6_counts_by_its_prefix() {
        let network = |text: &str| Network::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:2::9"));
        assert_ne!(network("2001:db8:1::1"), network("2001:db8:2::1"));
        assert_eq!(network("::ffff:127.0.0.1"), HERE);
    }
}
