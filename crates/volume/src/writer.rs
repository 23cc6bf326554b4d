//! Writing a volume, from its first byte to its last or several lanes of it in turns: one thread
//! writes, or two where there are lanes, one hashes, one brings what was written to the disk, so
//! that none waits for another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use offsite_model::{Aligned, Digest, Lanes, LanesDigest};

use crate::destination::Destination;
use crate::error::VolumeError;

/// Threads that write: while one waits for the disk, the other has the next piece ready.
const WRITERS_MAX: usize = 2;
/// Batches that wait for a thread.
const BATCHES_AHEAD: usize = 8;
/// Parts go to the threads together until they are so many bytes: a volume may be full of holes.
const BATCH_BYTES: usize = 1 << 20;
/// And so many parts at most.
const BATCH_PARTS: usize = 64;
/// What is gathered of small pieces, and where it ends in the volume: at a multiple of it.
const GATHERED_BYTES: usize = 1 << 20;
/// The disk is told to write after so many bytes in the system's cache, so that it has little left
/// to do at the end.
const FLUSH_BYTES: u64 = 32 << 20;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Where it stands, and what it is.
type Part<B> = (u64, What<B>);

enum What<B> {
    Bytes(B),
    Zeros(u64),
}

/// What one thread writes and another hashes.
type Batch<B> = Arc<Vec<Part<B>>>;

/// Writes a volume and hashes it as it is written.
///
/// What is dropped before [`Writer::finish`] leaves half a volume, which its owner removes.
pub struct Writer<B> {
    destination: Arc<Destination>,
    /// What comes next for the threads, and its bytes.
    batch: Vec<Part<B>>,
    batch_bytes: usize,
    to_disk: SyncSender<Batch<B>>,
    to_hash: SyncSender<Batch<B>>,
    written: Vec<JoinHandle<Result<(), VolumeError>>>,
    flushed: JoinHandle<Result<(), VolumeError>>,
    hashed: JoinHandle<Option<Digest>>,
    offset: u64,
}

impl<B: AsRef<[u8]> + Send + Sync + 'static> Writer<B> {
    /// Starts at the destination's first byte.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(destination: Destination) -> Result<Self, VolumeError> {
        let lanes = Lanes::one(destination.bytes());
        Self::in_lanes(destination, lanes)
    }

    /// The same for a volume that comes in lanes: each in its order, and [`Writer::go_to`] before
    /// what stands elsewhere.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn in_lanes(destination: Destination, lanes: Lanes) -> Result<Self, VolumeError> {
        let destination = Arc::new(destination);
        let no_thread = |error| destination.io("start threads for", 0, error);
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let (flush, asked) = sync_channel::<()>(1);
        let to = Arc::clone(&destination);
        let flushed = thread("volume-flush").spawn(move || flush_when(&to, &asked));
        let flushed = flushed.map_err(no_thread)?;
        let (to_disk, batches) = sync_channel(BATCHES_AHEAD);
        let (batches, mut written) = (Arc::new(Mutex::new(batches)), Vec::new());
        let has_failed = Arc::new(AtomicBool::new(false));
        // One lane comes in its order, and one thread joins its pieces.
        for _ in 0..lanes.ranges().count().min(WRITERS_MAX) {
            let (to, batches) = (Arc::clone(&destination), Arc::clone(&batches));
            let (flush, has_failed) = (flush.clone(), Arc::clone(&has_failed));
            let writing = thread("volume-write").spawn(move || {
                let written = write(&to, &batches, &flush, &has_failed);
                // The other takes no more either, so that whoever hands parts over hears of it.
                has_failed.fetch_or(written.is_err(), Ordering::Relaxed);
                written
            });
            written.push(writing.map_err(no_thread)?);
        }
        let (to_hash, batches) = sync_channel(BATCHES_AHEAD);
        let hashed = thread("volume-hash").spawn(move || hash(lanes, &batches));
        let hashed = hashed.map_err(no_thread)?;
        Ok(Self {
            destination,
            batch: Vec::new(),
            batch_bytes: 0,
            to_disk,
            to_hash,
            written,
            flushed,
            hashed,
            offset: 0,
        })
    }

    /// Goes on at this offset of the volume.
    pub const fn go_to(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Writes what comes next.
    ///
    /// # Errors
    /// False where writing has failed; [`Writer::finish`] says why.
    #[must_use]
    pub fn bytes(&mut self, bytes: B) -> bool {
        let n = bytes.as_ref().len();
        self.batch_bytes = self.batch_bytes.saturating_add(n);
        self.part(n as u64, What::Bytes(bytes))
    }

    /// Leaves what comes next zero.
    ///
    /// # Errors
    /// As [`Writer::bytes`].
    #[must_use]
    pub fn zeros(&mut self, n: u64) -> bool {
        self.part(n, What::Zeros(n))
    }

    fn part(&mut self, n: u64, what: What<B>) -> bool {
        self.batch.push((self.offset, what));
        self.offset = self.offset.saturating_add(n);
        let is_full = self.batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_PARTS;
        !is_full || self.send()
    }

    /// Sends a batch on its way; whether it will be written.
    fn send(&mut self) -> bool {
        self.batch_bytes = 0;
        let batch = Arc::new(std::mem::take(&mut self.batch));
        self.to_disk.send(Arc::clone(&batch)).is_ok() && self.to_hash.send(batch).is_ok()
    }

    /// Gives the volume up; nothing is written any more when this returns.
    pub fn abandon(self) {
        drop((self.to_disk, self.to_hash));
        // What they said does not matter any more.
        self.written.into_iter().for_each(|thread| drop(thread.join()));
        drop(self.flushed.join());
    }

    /// Waits until everything is durable; the volume's BLAKE3. None where not every byte of it was
    /// handed over, once and each lane in its order: then half a volume was written.
    ///
    /// # Errors
    /// What kept something from being written; then nothing may be believed.
    pub fn finish(mut self) -> Result<Option<Digest>, VolumeError> {
        // A thread that takes no more says why below.
        self.send();
        drop((self.to_disk, self.to_hash));
        let lost = || std::io::Error::other("a thread ended unexpectedly");
        let lost = |_| self.destination.io("write", self.offset, lost());
        // All of them first: nothing is written any more when this returns, whatever it says.
        let written: Vec<_> = self.written.into_iter().map(JoinHandle::join).collect();
        // A failed sync is told once by the disk, here or never.
        let flushed = self.flushed.join().map_err(lost)?;
        written.into_iter().try_for_each(|written| written.map_err(lost)?)?;
        flushed?;
        self.destination.sync()?;
        self.hashed.join().map_err(lost)
    }
}

/// Has the disk write whenever it is asked to.
fn flush_when(destination: &Destination, asked: &Receiver<()>) -> Result<(), VolumeError> {
    while asked.recv().is_ok() {
        destination.sync()?;
    }
    Ok(())
}

fn write<B: AsRef<[u8]>>(
    destination: &Destination,
    batches: &Mutex<Receiver<Batch<B>>>,
    flush: &SyncSender<()>,
    has_failed: &AtomicBool,
) -> Result<(), VolumeError> {
    let (mut gathered, mut cached) = (Gathered::new(destination), 0_u64);
    let next = || batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok(batch) = next()
        && !has_failed.load(Ordering::Relaxed)
    {
        for (offset, what) in &*batch {
            cached = cached.saturating_add(gathered.go_to(*offset)?);
            cached = cached.saturating_add(match what {
                What::Bytes(bytes) => gathered.take(bytes.as_ref())?,
                What::Zeros(n) => gathered.skip(*n)?,
            });
        }
        if cached >= FLUSH_BYTES {
            cached = 0;
            match flush.try_send(()) {
                // It is at it already, and will do for this too or be asked again.
                Ok(()) | Err(TrySendError::Full(())) => {}
                // It failed, and says why.
                Err(TrySendError::Disconnected(())) => {
                    has_failed.store(true, Ordering::Relaxed);
                    break;
                }
            }
        }
    }
    gathered.write().map(drop)
}

/// What comes in small or crooked pieces, gathered to what a disk likes.
struct Gathered<'a> {
    destination: &'a Destination,
    buffer: Aligned,
    /// Bytes in the buffer, which end at `offset`.
    n: usize,
    offset: u64,
}

impl<'a> Gathered<'a> {
    fn new(destination: &'a Destination) -> Self {
        Self { destination, buffer: Aligned::default(), n: 0, offset: 0 }
    }

    /// Goes on at this offset; how many bytes went to the system's cache.
    fn go_to(&mut self, offset: u64) -> Result<u64, VolumeError> {
        if offset == self.offset {
            return Ok(0);
        }
        let cached = self.write()?;
        self.offset = offset;
        Ok(cached)
    }

    /// Takes what comes next; how many bytes went to the system's cache.
    fn take(&mut self, mut bytes: &[u8]) -> Result<u64, VolumeError> {
        if Destination::is_liked(bytes, self.offset) {
            let cached = self.write()?;
            let offset = self.offset;
            self.offset = offset.saturating_add(bytes.len() as u64);
            return Ok(cached + self.destination.write(bytes, offset)?);
        }
        if self.buffer.bytes().is_empty() {
            self.buffer = Aligned::zeroed(GATHERED_BYTES);
        }
        let mut cached = 0;
        while !bytes.is_empty() {
            // Up to a round offset, so that what follows begins at a block again.
            let room = GATHERED_BYTES - (self.offset % GATHERED_BYTES as u64) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(room));
            if let Some(place) = self.buffer.bytes_mut().get_mut(self.n..self.n + now.len()) {
                place.copy_from_slice(now);
            }
            (self.n, bytes) = (self.n + now.len(), later);
            self.offset = self.offset.saturating_add(now.len() as u64);
            if now.len() == room {
                cached += self.write()?;
            }
        }
        Ok(cached)
    }

    /// Leaves what comes next zero; how many bytes went to the system's cache.
    fn skip(&mut self, n: u64) -> Result<u64, VolumeError> {
        let cached = self.write()?;
        self.destination.write_zeros(self.offset, n)?;
        self.offset = self.offset.saturating_add(n);
        Ok(cached)
    }

    /// Writes what was gathered; how much of it went to the system's cache.
    fn write(&mut self) -> Result<u64, VolumeError> {
        let n = std::mem::take(&mut self.n);
        let bytes = self.buffer.bytes().get(..n).unwrap_or_default();
        self.destination.write(bytes, self.offset.saturating_sub(n as u64))
    }
}

fn hash<B: AsRef<[u8]>>(lanes: Lanes, batches: &Receiver<Batch<B>>) -> Option<Digest> {
    let mut digest = LanesDigest::new(lanes);
    while let Ok(batch) = batches.recv() {
        for (offset, what) in &*batch {
            match what {
                What::Bytes(bytes) => digest.update(*offset, bytes.as_ref()),
                What::Zeros(n) => zeros(&mut digest, *offset, *n),
            }
        }
    }
    digest.finish()
}

fn zeros(digest: &mut LanesDigest, mut offset: u64, n: u64) {
    let end = offset.saturating_add(n);
    while offset < end {
        let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
        digest.update(offset, ZEROS.get(..left).unwrap_or(&ZEROS));
        offset = end.min(offset.saturating_add(ZEROS.len() as u64));
    }
}
