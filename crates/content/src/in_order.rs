//! Handing a volume on in order of offsets.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::window::{Step, Window};
use crate::{Content, ReadError};

/// What comes next of a volume.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes.
    Bytes(Vec<u8>),
    /// So many zeros.
    Zeros(u64),
}

type Filled = Result<Vec<u8>, ReadError>;

/// A window, and where it goes once it is filled. A worker that dies lets go of its end, so that
/// nobody waits for it in vain.
type Order = (Window, SyncSender<Filled>);

/// What is handed on in order.
enum Item {
    Zeros(u64),
    Window(Receiver<Filled>),
}

impl Content {
    /// Hands on the whole volume, in order.
    ///
    /// # Errors
    /// Damage, with the record; the disk's; whatever `sink` says.
    pub fn in_order<E: From<ReadError>>(
        &self,
        sink: &mut dyn FnMut(Part) -> Result<(), E>,
    ) -> Result<(), E> {
        let n_ahead = self.n_threads.saturating_mul(2).saturating_add(2);
        let (orders, taken) = sync_channel::<Order>(n_ahead);
        let taken = Arc::new(Mutex::new(taken));
        std::thread::scope(|threads| {
            // Moved in, so that the workers go home whatever way this ends.
            let orders = orders;
            for _ in 0..self.n_threads {
                let taken = Arc::clone(&taken);
                let thread = std::thread::Builder::new().name("content-read".to_owned());
                let begun = thread.spawn_scoped(threads, move || self.work(&taken));
                begun.map_err(ReadError::NoThread)?;
            }
            // The workers alone keep the orders: with the last of them, what waits is let go.
            drop(taken);
            let (mut steps, mut items) = (self.steps(), VecDeque::new());
            loop {
                while items.len() < n_ahead {
                    let Some(step) = steps.next() else { break };
                    items.push_back(match step.map_err(ReadError::from)? {
                        Step::Zeros(bytes) => Item::Zeros(bytes),
                        Step::Window(window) => {
                            let (to_us, filled) = sync_channel(1);
                            orders.send((window, to_us)).map_err(|_| ReadError::Lost)?;
                            Item::Window(filled)
                        }
                    });
                }
                match items.pop_front() {
                    None => return Ok(()),
                    Some(Item::Zeros(n)) => sink(Part::Zeros(n))?,
                    Some(Item::Window(filled)) => {
                        sink(Part::Bytes(filled.recv().map_err(|_| ReadError::Lost)??))?;
                    }
                }
            }
        })
    }

    fn work(&self, taken: &Mutex<Receiver<Order>>) {
        loop {
            let order = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((window, to)) = order else { return };
            // Nobody waits any more where the reading was given up.
            to.send(self.fill(&window)).ok();
        }
    }
}
