//! Writing a volume from its first byte to its last: one thread writes, one hashes, one brings what
//! was written to the disk, so that none waits for another.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use offsite_model::{Aligned, BytesDigest, Digest};

use crate::destination::Destination;
use crate::error::VolumeError;

/// Parts that wait for a thread.
const PARTS_AHEAD: usize = 8;
/// What is gathered of small pieces, and where it ends in the volume: at a multiple of it.
const GATHERED_BYTES: usize = 1 << 20;
/// The disk is told to write after so many bytes in the system's cache, so that it has little left
/// to do at the end.
const FLUSH_BYTES: u64 = 128 << 20;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

enum Part<B> {
    Bytes(Arc<B>),
    Zeros(u64),
}

/// Writes a volume in order and hashes it as it is written.
///
/// What is dropped before [`Writer::finish`] leaves half a volume, which its owner removes.
pub struct Writer<B> {
    destination: Arc<Destination>,
    to_disk: SyncSender<Part<B>>,
    to_hash: SyncSender<Part<B>>,
    written: JoinHandle<Result<(), VolumeError>>,
    hashed: JoinHandle<Digest>,
    offset: u64,
}

impl<B: AsRef<[u8]> + Send + Sync + 'static> Writer<B> {
    /// Starts at the destination's first byte.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(destination: Destination) -> Result<Self, VolumeError> {
        let destination = Arc::new(destination);
        let no_thread = |error| destination.io("start threads for", 0, error);
        let (to_disk, parts) = sync_channel(PARTS_AHEAD);
        let to = Arc::clone(&destination);
        let written = std::thread::Builder::new()
            .name("volume-write".to_owned())
            .spawn(move || write(&to, &parts))
            .map_err(no_thread)?;
        let (to_hash, parts) = sync_channel(PARTS_AHEAD);
        let hashed = std::thread::Builder::new()
            .name("volume-hash".to_owned())
            .spawn(move || hash(&parts))
            .map_err(no_thread)?;
        Ok(Self { destination, to_disk, to_hash, written, hashed, offset: 0 })
    }

    /// Writes what comes next.
    ///
    /// # Errors
    /// False where writing has failed; [`Writer::finish`] says why.
    #[must_use]
    pub fn bytes(&mut self, bytes: B) -> bool {
        let bytes = Arc::new(bytes);
        let n = (*bytes).as_ref().len() as u64;
        self.part(n, || Part::Bytes(Arc::clone(&bytes)))
    }

    /// Leaves what comes next zero.
    ///
    /// # Errors
    /// As [`Writer::bytes`].
    #[must_use]
    pub fn zeros(&mut self, n: u64) -> bool {
        self.part(n, || Part::Zeros(n))
    }

    fn part(&mut self, n: u64, part: impl Fn() -> Part<B>) -> bool {
        self.offset = self.offset.saturating_add(n);
        self.to_disk.send(part()).is_ok() && self.to_hash.send(part()).is_ok()
    }

    /// Whether every byte of the volume was handed over.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.offset == self.destination.bytes()
    }

    /// Gives the volume up; nothing is written any more when this returns.
    pub fn abandon(self) {
        drop((self.to_disk, self.to_hash));
        // What it said does not matter any more.
        drop(self.written.join());
    }

    /// Waits until everything is durable; the volume's BLAKE3.
    ///
    /// # Errors
    /// What kept something from being written; then nothing may be believed.
    pub fn finish(self) -> Result<Digest, VolumeError> {
        drop((self.to_disk, self.to_hash));
        let lost = || std::io::Error::other("a thread ended unexpectedly");
        let lost = |_| self.destination.io("write", self.offset, lost());
        self.written.join().map_err(lost)??;
        self.destination.sync()?;
        self.hashed.join().map_err(lost)
    }
}

fn write<B: AsRef<[u8]>>(
    destination: &Arc<Destination>,
    parts: &Receiver<Part<B>>,
) -> Result<(), VolumeError> {
    let (flush, asked) = sync_channel::<()>(1);
    let to = Arc::clone(destination);
    let flushed = std::thread::Builder::new().name("volume-flush".to_owned()).spawn(move || {
        while asked.recv().is_ok() {
            to.sync()?;
        }
        Ok(())
    });
    let flushed = flushed.map_err(|error| destination.io("start threads for", 0, error))?;
    let (mut gathered, mut cached) = (Gathered::new(destination), 0_u64);
    while let Ok(part) = parts.recv() {
        cached = cached.saturating_add(match part {
            Part::Bytes(bytes) => gathered.take((*bytes).as_ref())?,
            Part::Zeros(n) => gathered.skip(n)?,
        });
        if cached >= FLUSH_BYTES {
            cached = 0;
            match flush.try_send(()) {
                // It is at it already, and will do for this too or be asked again.
                Ok(()) | Err(TrySendError::Full(())) => {}
                Err(TrySendError::Disconnected(())) => break,
            }
        }
    }
    gathered.write()?;
    drop(flush);
    // A failed sync is told once by the disk, here or never.
    match flushed.join() {
        Ok(outcome) => outcome,
        Err(_) => {
            Err(destination.io("sync", 0, std::io::Error::other("a thread ended unexpectedly")))
        }
    }
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

fn hash<B: AsRef<[u8]>>(parts: &Receiver<Part<B>>) -> Digest {
    let mut digest = BytesDigest::new();
    while let Ok(part) = parts.recv() {
        match part {
            Part::Bytes(bytes) => digest.update((*bytes).as_ref()),
            Part::Zeros(mut left) => {
                while left > 0 {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
                    digest.update(ZEROS.get(..n).unwrap_or(&ZEROS));
                    left = left.saturating_sub(n as u64);
                }
            }
        }
    }
    digest.finish()
}
