//! The open connections: who holds one, how many each kind may hold, and how they are ended.
//!
//! ```text
//!             admit            handshake_begun  identified, settle
//! accepted ──────────► unknown ──────────────► … ──────────────► Paired   (reserved pool, by key)
//!                        │ pool full: the oldest goes            Unknown, Enrolling (one pool)
//!                        ▼                                       │ an approved request
//!                      closed                                    ▼ Operator (reserved pool)
//! ```
//!
//! Whoever shows no active row shares one small pool in which the oldest gives way, so strangers
//! can push out strangers and nobody else.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offsite_pki::Thumbprint;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::policy::ConnectionPolicy;
use crate::pulse::Pulse;

/// Addresses whose rate of handshakes is remembered; above that, newcomers share one budget.
const RATES_MAX: usize = 4_096;

/// What a peer is to the pools of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionClass {
    /// No key, or one of no row.
    Unknown,
    /// A key with a request that is not active.
    Enrolling,
    /// A key with an active row.
    Paired,
    /// An operator.
    Operator,
}

impl ConnectionClass {
    const fn is_known(self) -> bool {
        matches!(self, Self::Paired | Self::Operator)
    }
}

/// Says what a key is. Asked once per connection, for the pools only; what a caller may do is asked
/// on every request, of the gate.
pub trait Classify: Send + Sync + 'static {
    /// The class of the peer that proved this key, or none.
    fn class(&self, peer: Option<&Thumbprint>) -> ConnectionClass;
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("the address opens connections too fast")]
    Rate,
    #[error("the source has all the connections it may have")]
    Key,
    #[error("the pool of paired sources is full")]
    Paired,
}

#[derive(Debug)]
struct Entry {
    group: Option<IpAddr>,
    key: Option<Thumbprint>,
    class: ConnectionClass,
    shaking: bool,
    cut: CancellationToken,
    pulse: Arc<Pulse>,
}

impl Entry {
    /// Whether it counts among those without an active row.
    fn is_stranger(&self) -> bool {
        !self.class.is_known() && !self.pulse.is_approved()
    }

    /// Whether it draws on the places reserved for operators.
    fn is_operator(&self) -> bool {
        self.class != ConnectionClass::Paired && !self.is_stranger()
    }
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    left: f64,
    at: Instant,
}

#[derive(Debug, Default)]
struct State {
    /// By number, so the first is the oldest.
    open: BTreeMap<u64, Entry>,
    next: u64,
    rates: HashMap<IpAddr, Rate>,
}

#[derive(Debug)]
struct Inner {
    policy: ConnectionPolicy,
    state: Mutex<State>,
}

/// The open connections of a listener. Clones share them.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Inner>);

/// Connections that are to end, as they stood at one moment ([`Connections::open_of`]).
#[derive(Debug)]
#[must_use = "they stay open until they are cut"]
pub struct Condemned(Vec<CancellationToken>);

impl Condemned {
    /// Ends them at once, open streams included. Returns how many there were; those that have ended
    /// by themselves since count too.
    pub fn cut(self) -> usize {
        self.0.iter().inspect(|cut| cut.cancel()).count()
    }
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) number: u64,
    /// Cancelled when the connection must end at once.
    pub(crate) cut: CancellationToken,
    pub(crate) pulse: Arc<Pulse>,
    connections: Connections,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.connections.state().open.remove(&self.number);
    }
}

impl Connections {
    pub(crate) fn new(policy: ConnectionPolicy) -> Self {
        Self(Arc::new(Inner { policy, state: Mutex::default() }))
    }

    /// Ends every connection of this key at once, open streams included. Returns how many.
    ///
    /// A pairing that ended is refused by the gate on the next request anyway; this is for what is
    /// under way.
    pub fn close(&self, key: &Thumbprint) -> usize {
        self.open_of(key).cut()
    }

    /// The connections of this key that are open now, to be ended later: whatever it opens from
    /// here on is not among them.
    pub fn open_of(&self, key: &Thumbprint) -> Condemned {
        let state = self.state();
        let of_key = state.open.values().filter(|entry| entry.key.as_ref() == Some(key));
        Condemned(of_key.map(|entry| entry.cut.clone()).collect())
    }

    /// How many connections are open, of whatever class.
    #[must_use]
    pub fn n_open(&self) -> usize {
        self.state().open.len()
    }

    /// How many are open without an active row.
    #[must_use]
    pub fn n_strangers(&self) -> usize {
        self.state().open.values().filter(|entry| entry.is_stranger()).count()
    }

    /// Ends all of them.
    pub(crate) fn cut_all(&self) {
        self.state().open.values().for_each(|entry| entry.cut.cancel());
    }

    /// The state is counters and entries that are put and taken whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a new connection a place among the strangers; the oldest stranger gives way when there
    /// is none. `None` stands for the local socket, which has no address.
    pub(crate) fn admit(&self, address: Option<IpAddr>) -> Result<Ticket, Full> {
        let group = address.map(group_of);
        let policy = &self.0.policy;
        let mut state = self.state();
        if let Some(group) = group {
            state.spend(group, policy)?;
            let of_address = |entry: &Entry| entry.group == Some(group);
            state.make_room(policy.unknown_per_address, policy.operators, of_address);
        }
        state.make_room(policy.unknown_total, policy.operators, |_| true);
        let number = state.next;
        state.next = state.next.wrapping_add(1);
        let (cut, pulse) = (CancellationToken::new(), Pulse::new());
        let entry = Entry {
            group,
            key: None,
            class: ConnectionClass::Unknown,
            shaking: false,
            cut: cut.clone(),
            pulse: Arc::clone(&pulse),
        };
        state.open.insert(number, entry);
        drop(state);
        Ok(Ticket { number, cut, pulse, connections: self.clone() })
    }
}

impl Ticket {
    /// The peer's hello is there and the costly part begins. Where too many are at it, the oldest
    /// one is ended: it waits for its peer, and an honest peer does not let us wait.
    pub(crate) fn handshake_begun(&self) {
        let mut state = self.connections.state();
        let shaking = || state.open.values().filter(|entry| entry.shaking);
        if shaking().count() >= self.connections.0.policy.handshakes_at_once
            && let Some(oldest) = shaking().next()
        {
            oldest.cut.cancel();
        }
        if let Some(entry) = state.open.get_mut(&self.number) {
            entry.shaking = true;
        }
    }

    /// The handshake is over and the key known. From here on [`Connections::close`] finds the
    /// connection; the class is asked after this, so that no revocation falls in between.
    pub(crate) fn identified(&self, key: Option<Thumbprint>) {
        if let Some(entry) = self.connections.state().open.get_mut(&self.number) {
            entry.shaking = false;
            entry.key = key;
        }
    }

    /// The connection moves to the pool of its class.
    pub(crate) fn settle(&self, class: ConnectionClass) -> Result<(), Full> {
        let policy = &self.connections.0.policy;
        let mut state = self.connections.state();
        let key = state.open.get(&self.number).and_then(|entry| entry.key);
        if let (ConnectionClass::Paired, Some(key)) = (class, key) {
            state.room_for_paired(&key, policy)?;
        }
        if let Some(entry) = state.open.get_mut(&self.number) {
            entry.class = class;
        }
        Ok(())
    }
}

impl State {
    /// Ends the oldest stranger among these, unless there is room. Operators beyond the places
    /// reserved for them count as strangers.
    fn make_room(&self, room: usize, operators_max: usize, among: impl Fn(&Entry) -> bool) {
        let mut n_operators = 0_usize;
        let mut counts = |entry: &Entry| {
            n_operators = n_operators.saturating_add(usize::from(entry.is_operator()));
            entry.is_stranger() || (entry.is_operator() && n_operators > operators_max)
        };
        let open = self.open.values().filter(|entry| !entry.cut.is_cancelled());
        let strangers: Vec<_> = open.filter(|entry| counts(entry) && among(entry)).collect();
        if let Some(oldest) = strangers.first().filter(|_| strangers.len() >= room) {
            tracing::debug!("the oldest connection without an active row gives way");
            oldest.cut.cancel();
        }
    }

    fn room_for_paired(&self, key: &Thumbprint, policy: &ConnectionPolicy) -> Result<(), Full> {
        let mut of_keys: BTreeMap<&Thumbprint, (usize, &Entry)> = BTreeMap::new();
        let mut n_paired = 0_usize;
        for entry in self
            .open
            .values()
            .filter(|entry| entry.class == ConnectionClass::Paired && !entry.cut.is_cancelled())
        {
            let Some(key) = &entry.key else { continue };
            n_paired = n_paired.saturating_add(1);
            let place = of_keys.entry(key).or_insert((0, entry));
            *place = (place.0.saturating_add(1), entry);
        }
        let n_own = of_keys.get(key).map_or(0, |(n, _)| *n);
        if n_own >= policy.paired_per_key {
            return Err(Full::Key);
        }
        if n_paired < policy.paired_total {
            return Ok(());
        }
        // The pool runs short: every source keeps its first connection, so the one with the most
        // gives its newest to a source that has none.
        match of_keys.values().max_by_key(|(n, _)| *n) {
            Some((n, newest)) if n_own == 0 && *n > 1 => {
                newest.cut.cancel();
                Ok(())
            }
            _ => Err(Full::Paired),
        }
    }

    /// Takes one handshake from the address's budget.
    fn spend(&mut self, group: IpAddr, policy: &ConnectionPolicy) -> Result<(), Full> {
        let per_sec = f64::from(policy.handshakes_per_sec);
        let burst = per_sec * 2.0;
        let now = Instant::now();
        if self.rates.len() >= RATES_MAX && !self.rates.contains_key(&group) {
            // Whoever has been away for longer than it takes to refill is as good as forgotten.
            self.rates.retain(|_, rate| now.duration_since(rate.at).as_secs() < 3);
        }
        let slot = if self.rates.len() < RATES_MAX || self.rates.contains_key(&group) {
            group
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        let rate = self.rates.entry(slot).or_insert(Rate { left: burst, at: now });
        let earned = now.duration_since(rate.at).as_secs_f64() * per_sec;
        rate.left = (rate.left + earned).min(burst);
        rate.at = now;
        if rate.left < 1.0 {
            return Err(Full::Rate);
        }
        rate.left -= 1.0;
        Ok(())
    }
}

/// The unit in which addresses are counted: one IPv4 address, one IPv6 /56.
pub(crate) fn group_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets.iter_mut().skip(7).for_each(|octet| *octet = 0);
            IpAddr::V6(Ipv6Addr::from(octets))
        }
    }
}

#[cfg(test)]
#[path = "tests/connections.rs"]
mod tests;
