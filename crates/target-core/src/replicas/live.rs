//! One session at work: its machine, the streams that speak with its source, and the effects
//! carried out.
//!
//! The machine is stepped under a lock that is never held across an await. What must happen in the
//! order of the effects (draft, barrier, commit) goes through one queue to one worker; look-ups and
//! groups go to a bounded pool of threads. Whatever comes of them is the next input.
//!
//! **Absent:** rules (the machine), frames ([`super::streams`]), who may call (routes).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use offsite_exchange::replication::target::{
    CommitFault, Effect, Ending, Input, Session, StageFault,
};
use offsite_model::{JobId, Key, SessionId};
use offsite_proto::error::Refusal;
use offsite_proto::group::GroupEntry;
use offsite_proto::stream::{Flushed, StreamKind};
use offsite_proto::window::{ListEntry, Wanted};
use offsite_store::Session as StoreSession;
use offsite_store::group::{CheckedGroup, Codec, Form, TableRow};
use tokio::sync::{mpsc, watch};

use super::Replicas;
use super::draft::Draft;
use super::images::ImageName;

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
    WriteDraft { ticket: u64, first: u64, n_known: u64, entries: Vec<ListEntry>, is_awaited: bool },
    Barrier { number: u64 },
    Commit,
    Drop,
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
    pub(super) payload: Vec<u8>,
}

/// A session.
pub struct Live {
    pub(super) id: SessionId,
    pub(super) name: ImageName,
    state: Mutex<State>,
    /// The store's session: it keeps what was staged, and what was answered as held, from going.
    pub(super) writer: Mutex<Option<StoreSession>>,
    pub(super) draft: Mutex<Option<Draft>>,
    disk: mpsc::UnboundedSender<DiskJob>,
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
        writer: Option<StoreSession>,
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
            writer: Mutex::new(writer),
            draft: Mutex::new(draft),
            disk,
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
        let mut state = lock(&self.state);
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
                // What was staged lives as long as the store's session, which a new opening takes
                // over.
                Effect::Suspend => {}
            }
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
            let tenant = live.name.owner.tenant;
            let store = replicas.store.clone();
            let found = replicas.pooled(move || {
                keys.iter()
                    .map(|key| store.find(tenant, Form::Plain, key).map(|place| place.is_some()))
                    .collect::<Result<Vec<_>, _>>()
            });
            let held = match found.await {
                Some(Ok(held)) => held,
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
        let checked = CheckedGroup::check(Form::Plain, codec, table, payload)
            .map_err(|_| StageFault::HashMismatch)?;
        replicas.charge(&self.name.owner, checked.payload().len() as u64)?;
        let mut writer = lock(&self.writer);
        let writer = writer.as_mut().ok_or(StageFault::Broken)?;
        writer.append(&checked).map_err(|error| replicas.stage_fault(self.id, &error))
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

/// Does a session's work on the disk, one job after another.
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
        let (at, session) = (Arc::clone(&replicas), Arc::clone(&live));
        let done = tokio::task::spawn_blocking(move || perform(&at, &session, job)).await;
        if let Ok(Some(input)) = done {
            live.step(&replicas, input, None);
        }
    }
}

fn perform(replicas: &Replicas, live: &Live, job: DiskJob) -> Option<Input> {
    match job {
        DiskJob::WriteDraft { ticket, first, n_known, entries, is_awaited } => {
            let mut slot = lock(&live.draft);
            let draft = slot.as_mut()?;
            let n_known = usize::try_from(n_known).unwrap_or(usize::MAX).min(entries.len());
            let (known, new) = entries.split_at(n_known);
            let written = draft.differing(first, known).and_then(|differs| {
                if differs.is_none() {
                    draft.append(new)?;
                    if is_awaited {
                        draft.sync()?;
                    }
                }
                Ok(differs)
            });
            match written {
                Ok(Some(ordinal)) => Some(Input::DraftDiffers { ordinal }),
                Ok(None) => is_awaited.then_some(Input::DraftWritten { ticket }),
                Err(cause) => {
                    // Its windows are never answered, so nothing is promised that was not kept.
                    tracing::error!(session = %live.id, %cause, "cannot write a draft");
                    drop(slot.take());
                    None
                }
            }
        }
        DiskJob::Barrier { number } => {
            let drafted = lock(&live.draft).as_ref().map_or(Ok(()), Draft::sync);
            let staged = lock(&live.writer).as_mut().map_or(Ok(()), StoreSession::barrier);
            if let (Ok(()), Ok(())) = (&drafted, &staged) {
                return Some(Input::Flushed { number });
            }
            tracing::error!(session = %live.id, ?drafted, ?staged, "cannot make records durable");
            None
        }
        DiskJob::Commit => {
            let outcome = replicas.commit(live);
            match &outcome {
                Ok(()) => {
                    drop(lock(&live.writer).take());
                    drop(lock(&live.draft).take());
                    replicas.forget_draft(&live.name);
                }
                Err(fault) => {
                    tracing::warn!(session = %live.id, ?fault, "an image was not committed")
                }
            }
            Some(Input::Stored(outcome))
        }
        DiskJob::Drop => {
            drop(lock(&live.writer).take());
            drop(lock(&live.draft).take());
            replicas.forget_draft(&live.name);
            None
        }
    }
}

/// What a commit's failure means to the source.
pub(super) fn commit_fault(error: &offsite_store::StoreError) -> CommitFault {
    use offsite_store::StoreError as E;
    match error {
        E::UnknownRecord { .. } => CommitFault::LeaseLost,
        E::ListMismatch | E::AlreadyExists(_) => CommitFault::HashMismatch,
        E::BadList(_) => CommitFault::BadList,
        E::BaseMissing => CommitFault::BaseMissing,
        E::NoSpace => CommitFault::NoSpace,
        E::Poisoned | E::Fenced => CommitFault::Unavailable,
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
