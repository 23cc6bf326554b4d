//! What is owed: records that are wanted, on their way to the store, or stored and not yet durable.

use std::collections::{BTreeMap, BTreeSet};

use offsite_model::{Key, KeyMap};
use offsite_proto::bitmap::Run;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::group::GroupEntry;
use offsite_proto::window::ListEntry;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Known from a draft, not held any more: to be offered again.
    Lost,
    Wanted,
    Staging,
    /// In the store, not yet durable.
    Staged,
    /// The same key is owed under another ordinal, which decides.
    Twin,
}

#[derive(Clone, Copy, Debug)]
struct Owed {
    key: Key,
    bytes: u32,
    run: Run,
    state: State,
}

/// Per ordinal what is not settled; every other ordinal of the list is held or durable.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    owed: BTreeMap<u64, Owed>,
    /// The ordinal under which a key is wanted or staged, and those that wait for it.
    /// Never walked through, so that its order does not matter.
    by_key: KeyMap<Key, (u64, Vec<u64>)>,
    groups: BTreeMap<u64, (Vec<u64>, u64)>,
    next_group: u64,
    n_lost: usize,
}

impl Ledger {
    /// All that is not settled.
    pub(super) fn len(&self) -> usize {
        self.owed.len()
    }

    /// What is not settled and not lost either: the source was told of it.
    pub(super) fn n_told(&self) -> usize {
        self.owed.len().saturating_sub(self.n_lost)
    }

    /// Whatever was wanted is to be offered again: its answer went with the streams.
    pub(super) fn forget_wanted(&mut self) {
        let mut forgotten = Vec::new();
        for owed in self.owed.values_mut().filter(|owed| owed.state == State::Wanted) {
            owed.state = State::Lost;
            self.n_lost = self.n_lost.saturating_add(1);
            forgotten.push(owed.key);
        }
        for key in forgotten {
            let Some((_, twins)) = self.by_key.remove(&key) else { continue };
            for twin in twins {
                if let Some(owed) = self.owed.get_mut(&twin) {
                    owed.state = State::Lost;
                    self.n_lost = self.n_lost.saturating_add(1);
                }
            }
        }
    }

    /// Changes what is owed under an ordinal, and keeps count.
    fn put(&mut self, ordinal: u64, owed: Option<Owed>) {
        let is_lost = |owed: &Owed| owed.state == State::Lost;
        self.n_lost = self.n_lost.saturating_add(usize::from(owed.as_ref().is_some_and(is_lost)));
        let before = match owed {
            Some(owed) => self.owed.insert(ordinal, owed),
            None => self.owed.remove(&ordinal),
        };
        self.n_lost = self.n_lost.saturating_sub(usize::from(before.as_ref().is_some_and(is_lost)));
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.owed.first_key_value().map(|(ordinal, _)| *ordinal)
    }

    pub(super) fn is_settled(&self, ordinal: u64) -> bool {
        !self.owed.contains_key(&ordinal)
    }

    /// Notes an entry of a draft whose record is gone.
    pub(super) fn lose(&mut self, ordinal: u64, entry: &ListEntry, run: Run) {
        let owed = Owed { key: entry.key(), bytes: entry.bytes(), run, state: State::Lost };
        self.put(ordinal, Some(owed));
    }

    /// Whether the key is owed already, so that the store need not be believed about it; a new
    /// ordinal then waits for the one that is owed.
    pub(super) fn is_owed_by_key(&mut self, ordinal: u64, entry: &ListEntry, run: Run) -> bool {
        let Some((leader, twins)) = self.by_key.get_mut(&entry.key()) else { return false };
        if *leader != ordinal && !twins.contains(&ordinal) {
            twins.push(ordinal);
            let owed = Owed { key: entry.key(), bytes: entry.bytes(), run, state: State::Twin };
            self.put(ordinal, Some(owed));
        }
        true
    }

    /// Whether an ordinal that is owed is to be sent (again): its first answer may have been lost
    /// with its stream.
    pub(super) fn wants_again(&self, ordinal: u64) -> bool {
        self.owed.get(&ordinal).is_some_and(|owed| owed.state == State::Wanted)
    }

    pub(super) fn hold(&mut self, ordinal: u64) {
        self.put(ordinal, None);
    }

    pub(super) fn want(&mut self, ordinal: u64, entry: &ListEntry, run: Run) {
        let owed = Owed { key: entry.key(), bytes: entry.bytes(), run, state: State::Wanted };
        self.put(ordinal, Some(owed));
        self.by_key.insert(entry.key(), (ordinal, Vec::new()));
    }

    /// Takes a group whose every record is wanted, under its ordinal, key and length.
    pub(super) fn begin_staging(
        &mut self,
        table: &[GroupEntry],
        bytes: u64,
    ) -> Result<u64, Refusal> {
        let is_wanted = |entry: &GroupEntry| {
            self.owed.get(&entry.ordinal()).is_some_and(|owed| {
                owed.state == State::Wanted
                    && owed.key == entry.key()
                    && owed.bytes == entry.raw_bytes()
            })
        };
        let unwanted: Vec<u64> =
            table.iter().filter(|entry| !is_wanted(entry)).map(GroupEntry::ordinal).collect();
        if !unwanted.is_empty() {
            return Err(Refusal::new(
                ErrorCode::WrongState,
                "a group holds records that are not wanted under their ordinal, key and length",
            )
            .with("ordinals", unwanted));
        }
        let ordinals: Vec<u64> = table.iter().map(GroupEntry::ordinal).collect();
        self.set(&ordinals, State::Staging);
        let group = self.next_group;
        self.next_group += 1;
        self.groups.insert(group, (ordinals, bytes));
        Ok(group)
    }

    /// The group is in the store, or its records are wanted again.
    pub(super) fn end_staging(&mut self, group: u64, is_ok: bool) -> Option<(Vec<u64>, u64)> {
        let (ordinals, bytes) = self.groups.remove(&group)?;
        self.set(&ordinals, if is_ok { State::Staged } else { State::Wanted });
        Some((ordinals, bytes))
    }

    /// What is in the store and not yet durable.
    pub(super) fn staged(&self) -> Vec<u64> {
        let is_staged =
            |(ordinal, owed): (&u64, &Owed)| (owed.state == State::Staged).then_some(*ordinal);
        self.owed.iter().filter_map(is_staged).collect()
    }

    /// These are durable now, and so is whatever waited for the same bytes and stands in the draft
    /// below `listed`, as far as the draft was durable too. What stands beyond waits for the next
    /// barrier: its bytes are safe, its entry is not.
    pub(super) fn settle(&mut self, ordinals: &[u64], listed: u64) -> Vec<Run> {
        let mut runs = Vec::new();
        for ordinal in ordinals {
            let Some(owed) = self.owed.get(ordinal).copied() else { continue };
            self.put(*ordinal, None);
            runs.push(owed.run);
            let Some((_, twins)) = self.by_key.remove(&owed.key) else { continue };
            let (settled, later): (Vec<u64>, Vec<u64>) =
                twins.into_iter().partition(|twin| *twin < listed);
            for twin in settled {
                runs.extend(self.owed.get(&twin).map(|twin| twin.run));
                self.put(twin, None);
            }
            if let [first, rest @ ..] = later.as_slice() {
                self.set(&[*first], State::Staged);
                self.by_key.insert(owed.key, (*first, rest.to_vec()));
            }
        }
        runs
    }

    /// Whether something is in the store and not yet durable with its entry.
    pub(super) fn has_staged(&self) -> bool {
        self.owed.values().any(|owed| owed.state == State::Staged)
    }

    /// Ordinals whose record is not in the store: lost, wanted, on the way, or twins of such.
    pub(super) fn missing(&self) -> BTreeSet<u64> {
        let is_here = |owed: &Owed| match owed.state {
            State::Staged => true,
            State::Twin => self
                .by_key
                .get(&owed.key)
                .and_then(|(leader, _)| self.owed.get(leader))
                .is_none_or(|leader| leader.state == State::Staged),
            State::Lost | State::Wanted | State::Staging => false,
        };
        self.owed.iter().filter(|(_, owed)| !is_here(owed)).map(|(ordinal, _)| *ordinal).collect()
    }

    fn set(&mut self, ordinals: &[u64], state: State) {
        for ordinal in ordinals {
            if let Some(owed) = self.owed.get_mut(ordinal) {
                owed.state = state;
            }
        }
    }
}

#[cfg(test)]
impl Ledger {
    pub(super) fn owes(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }
}
