//! Handing a volume on: in order of offsets, or several lanes of it in turns.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use offsite_model::Lanes;
use offsite_store::{Fetch, StoreError};

use crate::piece::{Memory, Piece, Pool};
use crate::window::{Run, Window};
use crate::{Content, ReadError};

/// What comes next of a volume.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<B = Piece> {
    /// Bytes.
    Bytes(B),
    /// So many zeros.
    Zeros(u64),
}

type Filled = Result<Arc<Memory>, ReadError>;

/// A window, the groups that fill it, and where it goes then. A worker that dies lets go of its
/// end, so that nobody waits for it in vain.
type Order = (Window, Vec<Fetch>, SyncSender<Filled>);

/// A window of a lane that is being filled.
struct Ordered {
    lane: usize,
    runs: Vec<Run>,
    filled: Receiver<Filled>,
}

impl Content {
    /// Hands on the whole volume, in order. Zeros are told as such where they are more than a few
    /// records.
    ///
    /// # Errors
    /// Damage, with the record; the disk's; whatever `sink` says.
    pub fn in_order<E: From<ReadError>>(
        &self,
        sink: &mut dyn FnMut(Part) -> Result<(), E>,
    ) -> Result<(), E> {
        self.in_lanes(&Lanes::one(self.bytes()), &mut |_, part| sink(part))
    }

    /// Hands on the whole volume, a window of each lane in turns, with the offset at which each
    /// part stands; every lane in its order.
    ///
    /// # Errors
    /// As [`Content::in_order`].
    pub fn in_lanes<E: From<ReadError>>(
        &self,
        lanes: &Lanes,
        sink: &mut dyn FnMut(u64, Part) -> Result<(), E>,
    ) -> Result<(), E> {
        let n_ahead = self.n_threads.saturating_mul(2).saturating_add(2);
        let (orders, taken) = sync_channel::<Order>(n_ahead);
        let (taken, pool) = (Arc::new(Mutex::new(taken)), Arc::new(Pool::default()));
        std::thread::scope(|threads| {
            for _ in 0..self.n_threads {
                let (taken, pool) = (Arc::clone(&taken), Arc::clone(&pool));
                let thread = std::thread::Builder::new().name("content-read".to_owned());
                let begun = thread.spawn_scoped(threads, move || self.work(&taken, &pool));
                begun.map_err(ReadError::NoThread)?;
            }
            // The workers alone keep the orders: with the last of them, what waits is let go.
            drop(taken);
            let (to_us, ordered) = sync_channel(n_ahead);
            let thread = std::thread::Builder::new().name("content-plan".to_owned());
            let begun = thread.spawn_scoped(threads, move || {
                // Nobody listens any more where the reading was given up.
                let end = self.order_all(lanes, &orders, &to_us).map(|()| None);
                to_us.send(end).ok();
            });
            begun.map_err(ReadError::NoThread)?;
            // Up to where each lane was handed on, and its end.
            let mut handed: Vec<Range<u64>> = lanes.ranges().collect();
            while let Some(window) = ordered.recv().map_err(|_| ReadError::Lost)?? {
                let Ordered { lane, runs, filled } = window;
                let memory = filled.recv().map_err(|_| ReadError::Lost)??;
                let Some(lane) = handed.get_mut(lane) else { continue };
                for run in runs {
                    zeros(lane.start..run.offset, sink)?;
                    sink(run.offset, Part::Bytes(memory.piece(run.at, run.bytes)))?;
                    lane.start = run.end();
                }
            }
            handed.into_iter().try_for_each(|rest| zeros(rest, sink))
        })
    }

    /// Has all windows filled, one of each lane in turns. Ends early where nobody listens.
    fn order_all(
        &self,
        lanes: &Lanes,
        orders: &SyncSender<Order>,
        to: &SyncSender<Result<Option<Ordered>, ReadError>>,
    ) -> Result<(), ReadError> {
        let mut waiting: VecDeque<_> =
            lanes.ranges().map(|range| self.windows(range)).enumerate().collect();
        while let Some((lane, mut windows)) = waiting.pop_front() {
            if let Some(window) = windows.next() {
                let ordered = self.order(lane, window, orders)?;
                if to.send(Ok(Some(ordered))).is_err() {
                    break;
                }
                waiting.push_back((lane, windows));
            }
        }
        Ok(())
    }

    /// Has a window filled.
    fn order(
        &self,
        lane: usize,
        window: Result<Window, StoreError>,
        orders: &SyncSender<Order>,
    ) -> Result<Ordered, ReadError> {
        let window = window?;
        let (fetches, runs) = (self.plan(&window)?, window.runs.clone());
        let (to_us, filled) = sync_channel(1);
        orders.send((window, fetches, to_us)).map_err(|_| ReadError::Lost)?;
        Ok(Ordered { lane, runs, filled })
    }

    fn work(&self, taken: &Mutex<Receiver<Order>>, pool: &Arc<Pool>) {
        loop {
            let order = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((window, fetches, to)) = order else { return };
            let mut memory = Pool::memory(pool);
            let filled = self.fill(&window, fetches, memory.bytes_mut());
            // Nobody waits any more where the reading was given up.
            to.send(filled.map(|()| Arc::new(memory))).ok();
        }
    }
}

/// Tells of the zeros in a range, if there are any.
fn zeros<E>(range: Range<u64>, sink: &mut dyn FnMut(u64, Part) -> Result<(), E>) -> Result<(), E> {
    let n = range.end.saturating_sub(range.start);
    if n == 0 { Ok(()) } else { sink(range.start, Part::Zeros(n)) }
}
