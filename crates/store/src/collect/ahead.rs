//! Victims are read ahead of their turn: their groups are read, decoded and compared with their
//! keys in threads beside the one that moves them, in the order in which they will be moved.
//!
//! What is told by an answer from here is what a read at its turn would tell: a victim never
//! changes, and stays until the end of the run.
//!
//! **Absent:** which records are alive at the time of the move; that is asked again then.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use super::run::{Run, doubt};
use super::weigh::{Listed, raw_bytes};
use crate::error::StoreError;
use crate::group::CheckedGroup;
use crate::layout::Place;
use crate::segment::{Segment, read_stored};
use crate::store::Core;

/// Bytes of records that were ordered and not taken yet, at most, but for one group.
const AHEAD_BYTES: u64 = 16 << 20;
/// More threads read no faster than one moves.
const THREADS_MAX: usize = 8;

/// A group as it was read; none where it is not what was written.
type Checked = io::Result<Option<CheckedGroup>>;

/// A group of a victim, and the records that the victim's list names there.
pub(super) struct Group {
    segment: Arc<Segment>,
    pub(super) at: u32,
    pub(super) records: Vec<Listed>,
    raw_bytes: u64,
    /// Where somebody reads it already.
    answer: Option<Receiver<Checked>>,
}

enum Order {
    Read {
        segment: Arc<Segment>,
        at: u32,
        answer: SyncSender<Checked>,
    },
    /// Bring what was written of a segment to the disk: the sync that is to come waits less.
    WriteOut(Arc<Segment>),
}

/// The groups of victims, in order.
pub(super) struct Ahead {
    /// None where there are no threads to give orders to.
    orders: Option<Sender<Order>>,
    /// Victims whose lists were not read yet.
    victims: VecDeque<Arc<Segment>>,
    planned: VecDeque<Group>,
    ordered: VecDeque<Group>,
    bytes_ordered: u64,
}

impl Ahead {
    /// With so many threads of this scope, which end when this value is dropped; none for one.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        core: &'scope Core,
        n_threads: usize,
        victims: VecDeque<Arc<Segment>>,
    ) -> Self {
        let (planned, ordered) = (VecDeque::new(), VecDeque::new());
        let orders = (n_threads > 1).then(|| {
            let (orders, taken) = channel::<Order>();
            let taken = Arc::new(Mutex::new(taken));
            for _ in 0..n_threads.min(THREADS_MAX) {
                let taken = Arc::clone(&taken);
                scope.spawn(move || work(core, &taken));
            }
            orders
        });
        Self { orders, victims, planned, ordered, bytes_ordered: 0 }
    }

    /// The next group of a victim; none when it has no more. Victims are asked for in order.
    pub(super) fn next(
        &mut self,
        run: &mut Run<'_>,
        segment: &Segment,
    ) -> Result<Option<Group>, StoreError> {
        self.fill(run)?;
        let group = self.ordered.pop_front_if(|group| group.segment.number == segment.number);
        if let Some(group) = &group {
            self.bytes_ordered -= group.raw_bytes;
        }
        Ok(group)
    }

    /// Has somebody bring to the disk what was written of a segment so far; nobody may be there.
    pub(super) fn write_out(&self, segment: Option<Arc<Segment>>) {
        if let (Some(orders), Some(segment)) = (&self.orders, segment) {
            drop(orders.send(Order::WriteOut(segment)));
        }
    }

    /// Leaves a victim out, or the rest of it.
    pub(super) fn skip(&mut self, segment: &Segment) {
        self.victims.retain(|victim| victim.number != segment.number);
        self.planned.retain(|group| group.segment.number != segment.number);
        self.ordered.retain(|group| group.segment.number != segment.number);
        self.bytes_ordered = self.ordered.iter().map(|group| group.raw_bytes).sum();
    }

    fn fill(&mut self, run: &mut Run<'_>) -> Result<(), StoreError> {
        let bytes_max = if self.orders.is_some() { AHEAD_BYTES } else { 0 };
        while self.bytes_ordered < bytes_max || self.ordered.is_empty() {
            let Some(mut group) = self.planned.pop_front() else {
                let Some(victim) = self.victims.pop_front() else { return Ok(()) };
                self.plan(run, &victim)?;
                continue;
            };
            if let Some(orders) = &self.orders
                && run.is_any_alive(&group)
            {
                let (answer, told) = sync_channel(1);
                let (segment, at) = (Arc::clone(&group.segment), group.at);
                // Where no thread is left the answer says so.
                drop(orders.send(Order::Read { segment, at, answer }));
                group.answer = Some(told);
            }
            self.bytes_ordered += group.raw_bytes;
            self.ordered.push_back(group);
        }
        Ok(())
    }

    fn plan(&mut self, run: &mut Run<'_>, segment: &Arc<Segment>) -> Result<(), StoreError> {
        let Some(contents) = run.list_of(segment)? else {
            let what = format!("segment {:08x} was whole a moment ago", segment.number);
            return Err(doubt(StoreError::Damaged(what)));
        };
        let mut groups: BTreeMap<u32, Vec<Listed>> = BTreeMap::new();
        for record in contents.records {
            groups.entry(record.2.place).or_default().push(record);
        }
        self.planned.extend(groups.into_iter().map(|(at, records)| Group {
            segment: Arc::clone(segment),
            at,
            raw_bytes: raw_bytes(records.iter()),
            records,
            answer: None,
        }));
        Ok(())
    }
}

impl Group {
    /// One that nobody reads ahead.
    pub(super) fn unread(segment: &Arc<Segment>, at: u32) -> Self {
        let (segment, records) = (Arc::clone(segment), Vec::new());
        Self { segment, at, records, raw_bytes: 0, answer: None }
    }

    /// What lies there, every record compared with its key: read by now, or read here.
    pub(super) fn checked(&mut self, place: &Place) -> Checked {
        match self.answer.take() {
            None => read(place, &self.segment, self.at),
            Some(answer) => {
                let ended = || io::Error::other("a thread that reads ended early");
                answer.recv().unwrap_or_else(|_| Err(ended()))
            }
        }
    }
}

impl Run<'_> {
    fn is_any_alive(&self, group: &Group) -> bool {
        let records = group.records.iter();
        !self.live.select(group.segment.tenant, records, |(key, ..)| *key).is_empty()
    }
}

/// Carries orders out until there will be no more.
fn work(core: &Core, orders: &Mutex<Receiver<Order>>) {
    let next = || orders.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok(order) = next() {
        match order {
            // Nobody may want it any more.
            Order::Read { segment, at, answer } => {
                drop(answer.send(read(&core.place, &segment, at)));
            }
            Order::WriteOut(segment) => {
                if segment.file(&core.place).and_then(|file| file.sync()).is_err() {
                    // The sync that is to come may not hear of it (I11).
                    core.poison();
                }
            }
        }
    }
}

fn read(place: &Place, segment: &Segment, at: u32) -> Checked {
    let file = segment.file(place)?;
    let stored = read_stored(&*file, segment.number, segment.tenant, at, segment.bytes())?;
    let checked = stored
        .map(|group| CheckedGroup::check(group.form, group.codec, group.table, &group.payload));
    Ok(checked.and_then(Result::ok))
}
