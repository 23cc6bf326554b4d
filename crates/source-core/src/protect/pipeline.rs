//! One volume, from its bytes to groups in the store and entries in a list.
//!
//! A reader thread fills buffers, workers hash and compress, and this thread brings everything back
//! into order: it compares with the parent, asks the store what it has, gathers groups and appends
//! them. Nothing waits for the disk and a processor in turn, and the number of buffers bounds the
//! memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::Scope;

use offsite_model::Key;
use offsite_store::Session;
use offsite_store::group::{CheckedGroup, Form};
use offsite_volume::Volume;

use super::buffers::Pool;
use super::group::Draft;
use super::list::{List, Listed};
use super::settings::{Settings, Tally};
use super::workers::{Hashed, Job, Queue, Report};
use super::{reader, workers};
use crate::causes::unreadable;
use crate::error::Trouble;
use crate::progress::Progress;

/// Chunks that are read and not yet dealt with.
const CHUNKS_MAX: usize = 32;
/// Groups that are gathered and not yet appended.
const GROUPS_MAX: u64 = 64;
/// Stored bytes between two barriers, so that a commit has little left to sync.
const BARRIER_BYTES: u64 = 256 << 20;

/// What is read, and what to call it.
pub(super) struct Source<'a> {
    pub(super) agent: &'a str,
    pub(super) label: &'a str,
    pub(super) volume: &'a Volume,
}

/// Ends the threads, whatever way the work ends.
struct Closing<'a>(&'a Queue, &'a Pool);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
        self.1.close();
    }
}

/// Takes a volume through the pipeline; its image, ready to be committed.
pub(super) fn run(
    source: &Source<'_>,
    session: &mut Session,
    list: List,
    settings: &Settings,
    progress: &Progress,
    tally: &mut Tally,
) -> Result<Listed, Trouble> {
    let record_bytes = list.record_bytes();
    let (queue, pool) = (Queue::default(), Pool::new(CHUNKS_MAX));
    let (sender, reports) = channel();
    std::thread::scope(|threads| {
        let _closing = Closing(&queue, &pool);
        let volume = source.volume;
        let (the_queue, the_pool, to_us) = (&queue, &pool, sender.clone());
        let record = u32::try_from(record_bytes).unwrap_or(u32::MAX);
        let read = move || reader::read(volume, record, the_pool, the_queue, &to_us);
        let mut spawned = spawn(threads, "protect-read", read);
        for _ in 0..settings.n_workers.max(1) {
            let (to_us, level) = (sender.clone(), settings.level);
            let work = move || workers::work(the_queue, record as usize, level, &to_us);
            spawned = spawned.and_then(|()| spawn(threads, "protect-pack", work));
        }
        spawned.map_err(|error| Trouble::us(format!("cannot start threads: {error}")))?;
        drop(sender);
        let done_before = tally.logical_bytes;
        let mut work = Work {
            source,
            session,
            list,
            queue: &queue,
            progress,
            tally,
            group_bytes: settings.group_bytes as usize,
            done_before,
            next_chunk: 0,
            covered: 0,
            draft: Draft::default(),
            next_group: 0,
            n_groups: 0,
            chunks: BTreeMap::new(),
            groups: BTreeMap::new(),
            pending: BTreeSet::new(),
            unsynced: 0,
        };
        work.until_end(&reports)?;
        work.list.finish().map_err(Trouble::from)
    })
}

fn spawn<'scope>(
    threads: &'scope Scope<'scope, '_>,
    name: &str,
    body: impl FnOnce() + Send + 'scope,
) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn_scoped(threads, body).map(drop)
}

/// What this thread knows.
struct Work<'a> {
    source: &'a Source<'a>,
    session: &'a mut Session,
    list: List,
    queue: &'a Queue,
    progress: &'a Progress,
    tally: &'a mut Tally,
    group_bytes: usize,
    /// Bytes of the volumes before this one.
    done_before: u64,
    /// The chunk that is dealt with next.
    next_chunk: u64,
    /// End of what was dealt with.
    covered: u64,
    draft: Draft,
    /// The group that is appended next, and those handed out.
    next_group: u64,
    n_groups: u64,
    /// What came before its turn.
    chunks: BTreeMap<u64, Hashed>,
    groups: BTreeMap<u64, CheckedGroup>,
    /// Records of groups that are not appended yet.
    pending: BTreeSet<Key>,
    unsynced: u64,
}

impl Work<'_> {
    fn until_end(&mut self, reports: &Receiver<Report>) -> Result<(), Trouble> {
        let mut n_chunks = None;
        loop {
            self.progress.check()?;
            if self.turn()?.is_break() {
                continue;
            }
            if n_chunks == Some(self.next_chunk) {
                if !self.draft.is_empty() {
                    self.hand_out();
                }
                if self.next_group == self.n_groups {
                    break;
                }
            }
            let lost = || Trouble::us("a thread that packs records ended unexpectedly");
            match reports.recv().map_err(|_| lost())? {
                Report::Hashed { number, chunk } => drop(self.chunks.insert(number, chunk)),
                Report::Encoded { number, group } => {
                    let group = group.map_err(|error| {
                        Trouble::us(format!("a group could not be read back as written: {error}"))
                    })?;
                    self.groups.insert(number, group);
                }
                Report::End { n_chunks: n } => n_chunks = Some(n),
                Report::Unreadable(error) => {
                    return Err(unreadable(self.source.agent, self.source.label, &error));
                }
                Report::Lost => return Err(lost()),
            }
        }
        let end = self.source.volume.bytes();
        self.list.hole(self.covered, end)?;
        self.show(end);
        self.source
            .volume
            .check_size()
            .map_err(|error| unreadable(self.source.agent, self.source.label, &error))
    }

    /// Deals with whatever has its turn now; breaks when there was something.
    fn turn(&mut self) -> Result<ControlFlow<()>, Trouble> {
        if let Some(group) = self.groups.remove(&self.next_group) {
            self.next_group += 1;
            self.append(&group)?;
            return Ok(ControlFlow::Break(()));
        }
        if self.n_groups - self.next_group < GROUPS_MAX
            && let Some(chunk) = self.chunks.remove(&self.next_chunk)
        {
            self.next_chunk += 1;
            self.pack(chunk)?;
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn append(&mut self, group: &CheckedGroup) -> Result<(), Trouble> {
        self.session.append(group)?;
        for row in group.table() {
            self.pending.remove(&row.key);
        }
        let stored = group.payload().len() as u64;
        self.tally.stored_bytes = self.tally.stored_bytes.saturating_add(stored);
        self.unsynced = self.unsynced.saturating_add(stored);
        if self.unsynced >= BARRIER_BYTES {
            self.unsynced = 0;
            self.session.barrier()?;
        }
        Ok(())
    }

    /// Compares a chunk with the parent and gathers what is new.
    fn pack(&mut self, chunk: Hashed) -> Result<(), Trouble> {
        let Hashed { offset, buffer, keys } = chunk;
        let n = buffer.bytes.len();
        self.tally.read_bytes = self.tally.read_bytes.saturating_add(n as u64);
        if self.covered < offset {
            self.list.hole(self.covered, offset)?;
        }
        let record_bytes = usize::try_from(self.list.record_bytes()).unwrap_or(usize::MAX);
        let mut new = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let start = index.saturating_mul(record_bytes);
            let range = start..start.saturating_add(record_bytes).min(n);
            let length = u32::try_from(range.len()).unwrap_or(u32::MAX);
            if self.list.record(offset.saturating_add(start as u64), length, *key)?
                && !self.pending.contains(key)
                && self.session.find(Form::Plain, key)?.is_none()
            {
                self.pending.insert(*key);
                new.push((*key, range));
            }
        }
        self.covered = offset.saturating_add(n as u64);
        let new_bytes = new.iter().map(|(_, range)| range.len()).sum::<usize>();
        self.tally.new_bytes = self.tally.new_bytes.saturating_add(new_bytes as u64);
        // Little is copied, so that a draft never holds more than a few buffers back: with more,
        // all buffers could end up in one draft and nobody could read on.
        let is_shared = new_bytes >= self.group_bytes / 2;
        let buffer = Arc::new(buffer);
        for (key, range) in new {
            if !self.draft.takes(range.len(), self.group_bytes) {
                self.hand_out();
            }
            if is_shared {
                self.draft.share(key, &buffer, range);
            } else {
                self.draft.copy(key, buffer.bytes.get(range).unwrap_or_default());
            }
        }
        self.show(self.covered);
        Ok(())
    }

    /// Sends the draft to be compressed.
    fn hand_out(&mut self) {
        let draft = std::mem::take(&mut self.draft);
        self.queue.push(Job::Encode { number: self.n_groups, draft });
        self.n_groups += 1;
    }

    fn show(&self, position: u64) {
        self.progress.set_done(self.done_before.saturating_add(position));
    }
}
