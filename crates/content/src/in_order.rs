//! Handing a volume on in order of offsets.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

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

/// A window that is being filled.
struct Ordered {
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
        let n_ahead = self.n_threads.saturating_mul(2).saturating_add(2);
        let (orders, taken) = sync_channel::<Order>(n_ahead);
        let (taken, pool) = (Arc::new(Mutex::new(taken)), Arc::new(Pool::default()));
        std::thread::scope(|threads| {
            // Moved in, so that the workers go home whatever way this ends.
            let orders = orders;
            for _ in 0..self.n_threads {
                let (taken, pool) = (Arc::clone(&taken), Arc::clone(&pool));
                let thread = std::thread::Builder::new().name("content-read".to_owned());
                let begun = thread.spawn_scoped(threads, move || self.work(&taken, &pool));
                begun.map_err(ReadError::NoThread)?;
            }
            // The workers alone keep the orders: with the last of them, what waits is let go.
            drop(taken);
            let (mut windows, mut ordered, mut position) = (self.windows(), VecDeque::new(), 0_u64);
            loop {
                while ordered.len() < n_ahead {
                    let Some(window) = windows.next() else { break };
                    ordered.push_back(self.order(window, &orders)?);
                }
                let Some(Ordered { runs, filled }) = ordered.pop_front() else { break };
                let memory = filled.recv().map_err(|_| ReadError::Lost)??;
                for run in runs {
                    zeros(position, run.offset, sink)?;
                    sink(Part::Bytes(memory.piece(run.at, run.bytes)))?;
                    position = run.end();
                }
            }
            zeros(position, self.bytes(), sink)
        })
    }

    /// Has a window filled.
    fn order(
        &self,
        window: Result<Window, StoreError>,
        orders: &SyncSender<Order>,
    ) -> Result<Ordered, ReadError> {
        let window = window?;
        let (fetches, runs) = (self.plan(&window)?, window.runs.clone());
        let (to_us, filled) = sync_channel(1);
        orders.send((window, fetches, to_us)).map_err(|_| ReadError::Lost)?;
        Ok(Ordered { runs, filled })
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

/// Tells of the zeros up to an offset, if there are any.
fn zeros<E>(from: u64, to: u64, sink: &mut dyn FnMut(Part) -> Result<(), E>) -> Result<(), E> {
    let n = to.saturating_sub(from);
    if n == 0 { Ok(()) } else { sink(Part::Zeros(n)) }
}
