//! Bringing a volume back: its records in order of offsets, decoded on several threads, each
//! compared with its key.
//!
//! The volume is cut into windows. Workers fetch the groups of a window and fill it, this thread
//! hands the windows on in their order; zeros are told and not sent. Windows in flight bound the
//! memory.
//!
//! **Absent:** files: whoever asked writes them with his own rights.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, PoisonError};

use offsite_model::{Key, PointId, TenantId};
use offsite_proto::error::ErrorCode;
use offsite_store::{Image, ListEntry, Store, StoreError};

use crate::error::Trouble;
use crate::memory::Memory;
use crate::points;
use crate::progress::Progress;
use crate::protect::Protection;

/// Bytes of a window.
const WINDOW_BYTES: usize = 4 << 20;

/// A volume of a point, open for reading.
pub struct Content {
    store: Store,
    tenant: TenantId,
    image: Image,
    n_workers: usize,
    /// The point.
    pub point: PointId,
    /// Bytes that are not zeros.
    pub data_bytes: u64,
}

/// What comes next of a volume.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes.
    Bytes(Vec<u8>),
    /// So many zeros.
    Zeros(u64),
}

/// Opens a volume of a point.
///
/// # Errors
/// `agent_unknown`, `point_unknown`, `image_unknown`; damage; the disk's.
pub fn open(
    protection: &Protection,
    memory: &Memory,
    agent: &str,
    volume: &str,
    point: Option<&str>,
) -> Result<Content, Trouble> {
    let agent = points::agent_id(memory, agent)?;
    let kept = points::find(&protection.store, protection.tenant, agent, point)?;
    let Some(summary) = kept.image(volume) else {
        let shown: String = volume.chars().take(128).flat_map(char::escape_debug).collect();
        return Err(Trouble::operator(
            ErrorCode::ImageUnknown,
            format!("recovery point {} has no volume {shown}", kept.point.point),
            format!("its volumes are: {}", kept.note.labels.join(", ")),
        ));
    };
    let image = protection.store.image(protection.tenant, kept.point.point, summary.volume)?;
    let data_bytes = data_bytes(&image)?;
    Ok(Content {
        store: protection.store.clone(),
        tenant: protection.tenant,
        image,
        n_workers: protection.settings.n_workers.max(1),
        point: kept.point.point,
        data_bytes,
    })
}

fn data_bytes(image: &Image) -> Result<u64, StoreError> {
    let mut sum = 0_u64;
    for entry in image.list(0) {
        let entry = entry?;
        if entry.key != Key::ZERO {
            sum = sum.saturating_add(u64::from(entry.length));
        }
    }
    Ok(sum)
}

/// A piece of work: entries without a gap that fill a buffer.
struct Window {
    number: u64,
    offset: u64,
    bytes: usize,
    entries: Vec<ListEntry>,
}

/// What is handed on in order.
enum Item {
    Zeros(u64),
    Window(u64),
}

type Filled = (u64, Result<Vec<u8>, Trouble>);

/// Windows that wait for a worker.
#[derive(Default)]
struct Queue {
    state: Mutex<(VecDeque<Window>, bool)>,
    changed: Condvar,
}

impl Queue {
    fn push(&self, window: Window) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.push_back(window);
        self.changed.notify_one();
    }

    fn pop(&self) -> Option<Window> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.1 {
                return None;
            }
            if let Some(window) = state.0.pop_front() {
                return Some(window);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Sends the workers home, whatever way the work ends.
struct Closing<'a>(&'a Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.0.changed.notify_all();
    }
}

/// Tells of a thread that panicked: what it held would be waited for in vain.
struct Watch<'a>(&'a Sender<Filled>);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.0.send((u64::MAX, Err(lost()))));
        }
    }
}

fn lost() -> Trouble {
    Trouble::us("a thread that restores ended unexpectedly")
}

impl Content {
    /// Size of the volume.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.image.bytes()
    }

    /// Hands on the whole volume, in order.
    ///
    /// # Errors
    /// Damage, with the record; the disk's; whatever `sink` says.
    pub fn read(
        &self,
        progress: &Progress,
        sink: &mut dyn FnMut(Part) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let queue = Queue::default();
        let (to_us, filled) = channel();
        std::thread::scope(|threads| {
            let _closing = Closing(&queue);
            for _ in 0..self.n_workers {
                let (to_us, queue) = (to_us.clone(), &queue);
                let thread = std::thread::Builder::new().name("restore-read".to_owned());
                thread
                    .spawn_scoped(threads, move || self.work(queue, &to_us))
                    .map_err(|error| Trouble::us(format!("cannot start threads: {error}")))?;
            }
            drop(to_us);
            self.hand_on(&queue, &filled, progress, sink)
        })
    }

    fn hand_on(
        &self,
        queue: &Queue,
        filled: &Receiver<Filled>,
        progress: &Progress,
        sink: &mut dyn FnMut(Part) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let in_flight_max = self.n_workers.saturating_mul(2).saturating_add(2);
        let mut list = self.image.list(0).peekable();
        let (mut items, mut ready) = (VecDeque::new(), BTreeMap::new());
        let (mut n_windows, mut n_in_flight) = (0, 0_usize);
        loop {
            progress.check()?;
            while n_in_flight < in_flight_max {
                let Some(entry) = list.next() else { break };
                let entry = entry?;
                if entry.key == Key::ZERO {
                    items.push_back(Item::Zeros(u64::from(entry.length)));
                    n_in_flight += 1;
                    continue;
                }
                let mut window = Window {
                    number: n_windows,
                    offset: entry.offset,
                    bytes: entry.length as usize,
                    entries: vec![entry],
                };
                while let Some(Ok(next)) = list.peek()
                    && next.key != Key::ZERO
                    && window.bytes.saturating_add(next.length as usize) <= WINDOW_BYTES
                {
                    window.bytes = window.bytes.saturating_add(next.length as usize);
                    window.entries.push(*next);
                    list.next();
                }
                queue.push(window);
                items.push_back(Item::Window(n_windows));
                n_windows += 1;
                n_in_flight += 1;
            }
            match items.pop_front() {
                None => return Ok(()),
                Some(Item::Zeros(n)) => sink(Part::Zeros(n))?,
                Some(Item::Window(number)) => {
                    while !ready.contains_key(&number) {
                        let (number, bytes) = filled.recv().map_err(|_| lost())?;
                        ready.insert(number, bytes?);
                    }
                    if let Some(bytes) = ready.remove(&number) {
                        sink(Part::Bytes(bytes))?;
                    }
                }
            }
            n_in_flight -= 1;
        }
    }

    fn work(&self, queue: &Queue, to_us: &Sender<Filled>) {
        let _watch = Watch(to_us);
        while let Some(window) = queue.pop() {
            let bytes = self.fill(&window);
            if to_us.send((window.number, bytes)).is_err() {
                return;
            }
        }
    }

    /// Fetches the groups of a window and puts their records in place.
    fn fill(&self, window: &Window) -> Result<Vec<u8>, Trouble> {
        let mut bytes = vec![0; window.bytes];
        let mut n_filled = 0;
        for fetch in self.store.plan(self.tenant, &self.image, &window.entries)? {
            let fetched = fetch.read(&self.store)?;
            for (offset, record) in fetched.records() {
                let start =
                    usize::try_from(offset.saturating_sub(window.offset)).unwrap_or(usize::MAX);
                let place = bytes.get_mut(start..start.saturating_add(record.len()));
                let place = place.ok_or_else(|| Trouble::us("a record beyond its window"))?;
                place.copy_from_slice(record);
                n_filled += record.len();
            }
        }
        // A window that was not filled to the last byte would restore zeros in silence.
        if n_filled != window.bytes {
            return Err(Trouble::us("a window of the volume was not filled"));
        }
        Ok(bytes)
    }
}
