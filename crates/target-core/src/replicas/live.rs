//! One session at work: its machine, the streams that speak with its source, and the effects
//! carried out.
//!
//! The machine is stepped under a lock that is never held across an await. What must happen in the
//! order of the effects (draft, barrier, commit) goes through one queue to one worker; look-ups and
//! groups go to a bounded pool of threads. Whatever comes of them is the next input.
//!
//! **Absent:** rules (the machine), frames ([`super::streams`]), who may call (routes).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use offsite_exchange::replication::target::{
    CommitFault, Effect, Ending, Input, Session, Stage, StageFault,
};
use offsite_model::{JobId, Key, SessionId};
use offsite_proto::error::Refusal;
use offsite_proto::group::GroupEntry;
use offsite_proto::stream::{Flushed, StreamKind};
use offsite_proto::window::{ListEntry, Wanted};
use offsite_store::group::{CheckedGroup, Codec, Form, TableRow};
use offsite_store::{Draft, StoreError};
use tokio::sync::{mpsc, watch};

use super::Replicas;
use super::draft;
use super::images::{ImageName, Outcome};

/// Frames that a stream may have waiting; a source that does not read them loses the stream.
const FRAMES_WAITING_MAX: usize = 256;

/// What a stream is told to send.
#[derive(Debug)]
pub(super) enum Out {
    /// The answer to a window.
    Wanted(Wanted),
    /// Payload bytes granted in total.
    Credit(u64),
    /// What is durable.
    Flushed(Flushed),
    /// End with this.
    Fail(Refusal),
}

struct Line {
    kind: StreamKind,
    out: mpsc::Sender<Out>,
}

struct State {
    machine: Session,
    job: JobId,
    lines: BTreeMap<u64, Line>,
    next_line: u64,
    /// The stream that each undecided window came on.
    windows: BTreeMap<u32, u64>,
}

/// Work that is done in the order in which the machine asked for it.
enum DiskJob {
    WriteDraft {
        ticket: u64,
        first: u64,
        n_known: u64,
        entries: Vec<ListEntry>,
        is_awaited: bool,
    },
    Barrier {
        number: u64,
    },
    Commit,
    /// Let the draft go: nobody will ask again.
    Drop,
    /// Make durable what there is and let go of the draft, which stays for another session.
    Leave,
}

/// What a step asks of its caller.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Decode, check and append the group that was just told.
    pub(super) stage: Option<u64>,
    /// Answer row 7 or 57.
    pub(super) answer: Option<Result<Ending, Refusal>>,
}

/// A group as it arrived, not believed yet.
pub(super) struct Arrived {
    pub(super) codec: Codec,
    pub(super) table: Vec<TableRow>,
    pub(super) payload: Bytes,
}

/// A session.
pub struct Live {
    pub(super) id: SessionId,
    pub(super) name: ImageName,
    state: Mutex<State>,
    /// It keeps what was staged, and what was answered as held, from going.
    pub(super) draft: Mutex<Option<Draft>>,
    disk: mpsc::UnboundedSender<DiskJob>,
    /// Bytes of records that arrived and were good.
    staged_bytes: AtomicU64,
    changes: watch::Sender<u64>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    /// A session over a machine, with its worker.
    pub(super) fn start(
        replicas: &Arc<Replicas>,
        name: ImageName,
        job: JobId,
        machine: Session,
        draft: Option<Draft>,
    ) -> Arc<Self> {
        // The machine bounds what waits here: windows in flight, one barrier, one commit.
        let (disk, jobs) = mpsc::unbounded_channel();
        let live = Arc::new(Self {
            id: machine.id(),
            name,
            state: Mutex::new(State {
                machine,
                job,
                lines: BTreeMap::new(),
                next_line: 0,
                windows: BTreeMap::new(),
            }),
            draft: Mutex::new(draft),
            disk,
            staged_bytes: AtomicU64::new(0),
            changes: watch::Sender::new(0),
        });
        let worker = work(Arc::clone(replicas), Arc::downgrade(&live), jobs);
        drop(replicas.mutations.spawn(worker));
        live
    }

    /// Looks at the machine.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Session) -> T) -> T {
        look(&lock(&self.state).machine)
    }

    /// The source's job that it belongs to now.
    pub(super) fn job(&self) -> JobId {
        lock(&self.state).job
    }

    pub(super) fn set_job(&self, job: JobId) {
        lock(&self.state).job = job;
    }

    /// Tells of every step from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// A new stream of this kind; what it is to send comes out of the channel.
    pub(super) fn attach(&self, kind: StreamKind) -> (u64, mpsc::Receiver<Out>) {
        let (out, frames) = mpsc::channel(FRAMES_WAITING_MAX);
        let mut state = lock(&self.state);
        let line = state.next_line;
        state.next_line = line.wrapping_add(1);
        state.lines.insert(line, Line { kind, out });
        (line, frames)
    }

    pub(super) fn detach(&self, line: u64) {
        lock(&self.state).lines.remove(&line);
    }

    /// Streams of this kind.
    pub(super) fn n_streams(&self, kind: StreamKind) -> usize {
        lock(&self.state).lines.values().filter(|line| line.kind == kind).count()
    }

    /// Steps the machine and carries out what it asks, as far as it can be done here and now.
    pub(super) fn step(
        self: &Arc<Self>,
        replicas: &Arc<Replicas>,
        input: Input,
        from: Option<u64>,
    ) -> Asked {
        let mut asked = Asked::default();
        let at = replicas.world.clock.uptime();
        replicas.stir();
        let mut state = lock(&self.state);
        let had_failed = has_failed(&state.machine);
        if let (Input::Keys { window, .. }, Some(line)) = (&input, from) {
            state.windows.insert(*window, line);
        }
        for effect in state.machine.step(input, at) {
            match effect {
                Effect::LookUp { ticket, keys } => self.look_up(replicas, ticket, keys),
                Effect::WriteDraft {
                    ticket, first_ordinal, n_known, entries, is_awaited, ..
                } => {
                    let first = first_ordinal;
                    self.queue(DiskJob::WriteDraft { ticket, first, n_known, entries, is_awaited });
                }
                Effect::Reply(answer) => {
                    let line = state.windows.remove(&answer.window);
                    state.tell(|number, _| Some(number) == line, || Out::Wanted(answer.clone()));
                }
                Effect::Grant(bytes) => state.tell(|_, _| true, || Out::Credit(bytes)),
                Effect::Stage { group } => asked.stage = Some(group),
                Effect::Barrier { number } => self.queue(DiskJob::Barrier { number }),
                Effect::Flushed(flushed) => {
                    state.tell(|_, kind| kind == StreamKind::Records, || Out::Flushed(flushed));
                }
                Effect::Fail(refusal) => {
                    let is_meant = |number, _| from.is_none_or(|line| line == number);
                    state.tell(is_meant, || Out::Fail(refusal.clone()));
                }
                // A stream whose line is gone sends what it has and is cut.
                Effect::EndStreams => state.lines.clear(),
                Effect::Answer(answer) => asked.answer = Some(answer),
                Effect::Commit => self.queue(DiskJob::Commit),
                Effect::DropStaging => self.queue(DiskJob::Drop),
                Effect::Suspend => {
                    tracing::info!(session = %self.id, "nobody spoke to a session; its lease is \
                        over, what arrived stays");
                    self.queue(DiskJob::Leave);
                }
            }
        }
        if has_failed(&state.machine) && !had_failed {
            self.queue(DiskJob::Leave);
        }
        drop(state);
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
        asked
    }

    fn queue(&self, job: DiskJob) {
        // The worker lives as long as this value.
        drop(self.disk.send(job));
    }

    fn look_up(self: &Arc<Self>, replicas: &Arc<Replicas>, ticket: u64, keys: Vec<Key>) {
        let (live, replicas) = (Arc::clone(self), Arc::clone(replicas));
        let mutations = replicas.mutations.clone();
        drop(mutations.spawn(async move {
            let session = Arc::clone(&live);
            let found = replicas.pool.run(move || {
                let mut slot = lock(&session.draft);
                slot.as_mut().map_or(Ok(Vec::new()), |draft| draft.find_many(Form::Plain, &keys))
            });
            let held = match found.await {
                Some(Ok(found)) => found.iter().map(Option::is_some).collect(),
                Some(Err(cause)) => {
                    // What cannot be looked up is not held; it is sent, and the write says what is
                    // wrong.
                    tracing::error!(session = %live.id, %cause, "cannot look records up");
                    Vec::new()
                }
                None => Vec::new(),
            };
            live.step(&replicas, Input::LookedUp { ticket, held }, None);
        }));
    }

    /// Decodes, checks and appends a group. Blocks.
    pub(super) fn append(&self, replicas: &Replicas, group: Arrived) -> Result<(), StageFault> {
        let Arrived { codec, table, payload } = group;
        let checked = CheckedGroup::check(Form::Plain, codec, table, &payload)
            .map_err(|_| StageFault::HashMismatch)?;
        replicas.quotas.charge(&self.name.owner, checked.payload().len() as u64)?;
        let mut slot = lock(&self.draft);
        // A session that is over has none, and nobody listens.
        let draft = slot.as_mut().ok_or(StageFault::Unavailable)?;
        draft.append(&checked).map_err(|error| replicas.stage_fault(self.id, &error))?;
        self.staged_bytes.fetch_add(u64::from(checked.raw_bytes()), Ordering::Relaxed);
        Ok(())
    }

    /// Bytes of records that arrived in this session.
    pub(super) fn staged_bytes(&self) -> u64 {
        self.staged_bytes.load(Ordering::Relaxed)
    }
}

impl State {
    /// Tells streams something; one that does not take it in time is cut.
    fn tell(&mut self, is_meant: impl Fn(u64, StreamKind) -> bool, out: impl Fn() -> Out) {
        self.lines.retain(|number, line| {
            !is_meant(*number, line.kind) || line.out.try_send(out()).is_ok()
        });
    }
}

/// The ordinals, keys and lengths of a table, as the store wants them.
pub(super) fn table_rows(table: &[GroupEntry]) -> Vec<TableRow> {
    table.iter().map(|entry| TableRow { key: entry.key(), raw_bytes: entry.raw_bytes() }).collect()
}

fn has_failed(machine: &Session) -> bool {
    matches!(machine.stage(), Stage::Failed(_))
}

/// Does a session's work on the disk, in order. Windows that wait together share one sync.
async fn work(
    replicas: Arc<Replicas>,
    live: Weak<Live>,
    mut jobs: mpsc::UnboundedReceiver<DiskJob>,
) {
    loop {
        let job = tokio::select! {
            job = jobs.recv() => job,
            () = replicas.mutations.stopping().cancelled() => jobs.try_recv().ok(),
        };
        let (Some(job), Some(live)) = (job, live.upgrade()) else { return };
        let mut batch = vec![job];
        while let Ok(job) = jobs.try_recv() {
            batch.push(job);
        }
        replicas.stir();
        let (at, session) = (Arc::clone(&replicas), Arc::clone(&live));
        let done = tokio::task::spawn_blocking(move || {
            let mut desk = Desk { replicas: &at, live: &session, tickets: Vec::new() };
            let mut inputs: Vec<Input> = batch.into_iter().flat_map(|job| desk.take(job)).collect();
            inputs.extend(desk.promise());
            inputs
        });
        for input in done.await.unwrap_or_default() {
            live.step(&replicas, input, None);
        }
    }
}

/// One batch of a session's work.
struct Desk<'a> {
    replicas: &'a Replicas,
    live: &'a Live,
    /// Windows that are listed, and whose answers wait for the next sync.
    tickets: Vec<u64>,
}

impl Desk<'_> {
    fn take(&mut self, job: DiskJob) -> Vec<Input> {
        match job {
            DiskJob::WriteDraft { ticket, first, n_known, entries, is_awaited } => {
                if is_awaited {
                    self.tickets.push(ticket);
                }
                let known = usize::try_from(n_known).unwrap_or(usize::MAX).min(entries.len());
                let (known, new) = entries.split_at(known);
                let written = self.with_draft(|draft| {
                    let differs = draft::differing(draft, first, known)?;
                    if differs.is_none() {
                        draft::append(draft, first.saturating_add(known.len() as u64), new)?;
                    }
                    Ok(differs)
                });
                match written {
                    Some(Ok(Some(ordinal))) => vec![Input::DraftDiffers { ordinal }],
                    Some(Ok(None)) | None => Vec::new(),
                    Some(Err(error)) => self.failed(&error),
                }
            }
            DiskJob::Barrier { number } => match self.barrier() {
                Some(Ok(())) => {
                    let mut inputs = self.promised();
                    inputs.push(Input::Flushed { number });
                    inputs
                }
                Some(Err(error)) => self.failed(&error),
                None => Vec::new(),
            },
            DiskJob::Commit => {
                let mut inputs = self.promise();
                let outcome = self.replicas.commit(self.live);
                match &outcome {
                    Ok(Outcome::Committed) => {
                        self.live.queue(DiskJob::Drop);
                        // Before the answer: whoever hears it finds whole what waited for this.
                        self.replicas.adopt(&self.live.name);
                    }
                    Ok(Outcome::Landed) => {}
                    Err(fault) => {
                        let session = self.live.id;
                        tracing::warn!(%session, ?fault, "an image was not committed");
                    }
                }
                inputs.push(Input::Stored(outcome.map(|_| ())));
                inputs
            }
            DiskJob::Drop => {
                // The lock is held to the end: a session that is opened meanwhile has a draft of
                // the same id.
                let mut slot = lock(&self.live.draft);
                if let Some(draft) = slot.take()
                    && let Err(cause) = draft.end()
                {
                    let session = self.live.id;
                    tracing::warn!(%session, %cause, "cannot end a draft; it takes space");
                }
                Vec::new()
            }
            DiskJob::Leave => {
                let inputs = match self.with_draft(Draft::barrier) {
                    Some(Err(error)) => self.failed(&error),
                    _ => Vec::new(),
                };
                drop(lock(&self.live.draft).take());
                inputs
            }
        }
    }

    /// None where the session has let go of its draft: what it asked for is of no use any more.
    fn with_draft<T>(
        &self,
        work: impl FnOnce(&mut Draft) -> Result<T, StoreError>,
    ) -> Option<Result<T, StoreError>> {
        lock(&self.live.draft).as_mut().map(work)
    }

    /// Groups are appended while the disk works.
    fn barrier(&self) -> Option<Result<(), StoreError>> {
        match self.with_draft(Draft::begin_barrier)? {
            Ok(begun) => {
                let synced = begun.sync();
                self.with_draft(|draft| draft.end_barrier(synced))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Makes durable what answers wait for.
    fn promise(&mut self) -> Vec<Input> {
        if self.tickets.is_empty() {
            return Vec::new();
        }
        match self.with_draft(Draft::promise) {
            Some(Ok(())) => self.promised(),
            Some(Err(error)) => self.failed(&error),
            None => Vec::new(),
        }
    }

    fn promised(&mut self) -> Vec<Input> {
        self.tickets.drain(..).map(|ticket| Input::DraftWritten { ticket }).collect()
    }

    /// Nothing that waits is answered, so nothing is promised that was not kept.
    fn failed(&mut self, error: &StoreError) -> Vec<Input> {
        self.tickets.clear();
        tracing::error!(session = %self.live.id, cause = %error, "cannot keep what was sent");
        vec![Input::NotKept(match error {
            // While data flows there is no commit that could be refused: we are not who keeps it.
            StoreError::Fenced => CommitFault::Unavailable,
            error => commit_fault(error),
        })]
    }
}

/// What a commit's failure means to the source.
pub(super) fn commit_fault(error: &StoreError) -> CommitFault {
    use StoreError as E;
    match error {
        // Whoever shut us out has the promises now; opened there, the image is gone on with.
        E::UnknownRecord { .. } | E::LeaseLost | E::DraftUnknown(_) | E::Fenced => {
            CommitFault::LeaseLost
        }
        E::ListMismatch => CommitFault::HashMismatch,
        E::AlreadyExists(_) => CommitFault::AlreadyExists,
        E::BadList(_) => CommitFault::BadList,
        E::BaseMissing => CommitFault::BaseMissing,
        E::NoSpace => CommitFault::NoSpace,
        E::Poisoned => CommitFault::Unavailable,
        _ => CommitFault::Broken,
    }
}

impl Live {
    /// Rows 7 and 57.
    ///
    /// # Errors
    /// What the table of what a session allows says.
    pub fn end(
        self: &Arc<Self>,
        replicas: &Arc<Replicas>,
        input: Input,
    ) -> Result<Ending, Refusal> {
        let answer = self.step(replicas, input, None).answer;
        answer.unwrap_or_else(|| {
            let sentence = "the target failed; its log says more";
            Err(Refusal::new(offsite_proto::error::ErrorCode::Internal, sentence))
        })
    }

    /// Row 47: waits for the outcome of a commit, so long at most; without a bound where none is
    /// given.
    ///
    /// # Errors
    /// What ended the commit, or that none was begun.
    pub async fn outcome(&self, wait: Option<std::time::Duration>) -> Result<bool, Refusal> {
        let mut changes = self.changes();
        let known = async {
            loop {
                changes.borrow_and_update();
                let poked = self.look(Session::poke);
                if poked != Ok(false) || changes.changed().await.is_err() {
                    return poked;
                }
            }
        };
        match wait {
            None => known.await,
            Some(wait) => tokio::time::timeout(wait, known).await.unwrap_or(Ok(false)),
        }
    }

    /// Row 52.
    ///
    /// # Errors
    /// What the table of what a session allows says.
    pub fn transferred(&self) -> Result<Vec<u8>, Refusal> {
        self.look(Session::transferred)
    }
}
