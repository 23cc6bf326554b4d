//! Writing a volume from its first byte to its last: one thread writes, one hashes, one brings what
//! was written to the disk, so that none waits for another.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use offsite_model::{BytesDigest, Digest};

use crate::destination::Destination;
use crate::error::VolumeError;

/// Parts that wait for a thread.
const PARTS_AHEAD: usize = 8;
/// The disk is told to write after so many bytes, so that it has little left to do at the end.
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
    let (mut offset, mut unflushed) = (0_u64, 0_u64);
    while let Ok(part) = parts.recv() {
        match part {
            Part::Bytes(bytes) => {
                let bytes = (*bytes).as_ref();
                destination.write(bytes, offset)?;
                offset = offset.saturating_add(bytes.len() as u64);
                unflushed = unflushed.saturating_add(bytes.len() as u64);
            }
            Part::Zeros(n) => {
                destination.write_zeros(offset, n)?;
                offset = offset.saturating_add(n);
            }
        }
        if unflushed >= FLUSH_BYTES {
            unflushed = 0;
            match flush.try_send(()) {
                // It is at it already, and will do for this too or be asked again.
                Ok(()) | Err(TrySendError::Full(())) => {}
                Err(TrySendError::Disconnected(())) => break,
            }
        }
    }
    drop(flush);
    // A failed sync is told once by the disk, here or never.
    match flushed.join() {
        Ok(outcome) => outcome,
        Err(_) => {
            Err(destination.io("sync", 0, std::io::Error::other("a thread ended unexpectedly")))
        }
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
