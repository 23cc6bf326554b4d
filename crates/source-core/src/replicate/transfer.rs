//! One image on its way: the machine's effects over calls and streams.
//!
//! Everything that comes of an effect carries the number of the connection's turn; `DropStreams`
//! begins a new one, and what belongs to an earlier turn is told no more.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use offsite_exchange::replication::Runs;
use offsite_exchange::replication::source::{
    Call, Effect, Event, Failure, Given, Input, Outcome, Rules, Transfer,
};
use offsite_proto::json::Json;
use offsite_proto::limits::WINDOW_KEYS_MAX;
use offsite_proto::session::{
    AskCommitted, End, EndSession, InSession, OfImage, OfSession, Open, Poke, StartEnd,
    TransferredBlocks, TransferredBlocksOfImage,
};
use offsite_proto::window::{ListEntry, Wanted};
use offsite_transport::{Backoff, Retry};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::link::{failure, runs_of};
use super::shared::Shared;
use super::speaker::{Out, Speaker, Told};
use crate::origin::{Origin, Outbound, expect};

/// How long a commit may take before it is only asked how it stands.
const COMMIT_WAIT: Duration = Duration::from_secs(30);

/// How a job tells a transfer something.
pub(super) struct Door(mpsc::UnboundedSender<Told>);

impl Door {
    pub(super) fn tell(&self, input: Input) {
        // A transfer that has ended needs no telling.
        self.0.send((None, input)).ok();
    }
}

struct Running {
    shared: Arc<Shared>,
    index: usize,
    image: Arc<Outbound>,
    machine: Transfer,
    origin: Arc<Mutex<Origin>>,
    inbox: mpsc::UnboundedSender<Told>,
    turn: u64,
    /// What was begun in this turn; it ends with the turn.
    tasks: JoinSet<()>,
    keys: Option<mpsc::UnboundedSender<Out>>,
    records: HashMap<u32, mpsc::UnboundedSender<Out>>,
    /// Windows that were offered, and records that are wanted and not handed to a stream yet.
    offered: BTreeMap<u32, (u64, Vec<ListEntry>)>,
    wanted: HashMap<u64, ListEntry>,
}

/// Begins a transfer: how it is told things, and its work.
pub(super) fn begin(
    shared: &Arc<Shared>,
    index: usize,
    image: Outbound,
    known: Runs,
    job: mpsc::UnboundedSender<Event>,
) -> (Door, impl Future<Output = ()> + Send + 'static) {
    // The machine bounds what is under way, and so what may wait here.
    let (inbox, mut told) = mpsc::unbounded_channel();
    let machine =
        Transfer::new(image.open.record_size, image.open.record_count.0, known, Rules::default());
    let protection = &shared.protection;
    let origin = Origin::new(protection.store.clone(), protection.tenant, &image);
    let mut running = Running {
        shared: Arc::clone(shared),
        index,
        image: Arc::new(image),
        machine,
        origin: Arc::new(Mutex::new(origin)),
        inbox: inbox.clone(),
        turn: 0,
        tasks: JoinSet::new(),
        keys: None,
        records: HashMap::new(),
        offered: BTreeMap::new(),
        wanted: HashMap::new(),
    };
    let link = Arc::clone(&shared.link);
    let run = async move {
        // Where the target cannot be reached, the first call says so.
        if let Ok(n_streams) = link.n_streams().await {
            running.take(Input::Streams(n_streams));
        }
        let mut was_opened = false;
        let mut next = Some(Input::Start);
        loop {
            if let Some(input) = next.take()
                && let Some(outcome) = running.take(input)
            {
                job.send(Event::Ended(index, outcome)).ok();
                return;
            }
            if !was_opened && running.machine.session().is_some() {
                was_opened = true;
                job.send(Event::Opened(index)).ok();
            }
            tokio::select! {
                Some((turn, input)) = told.recv() => {
                    if turn.is_none_or(|turn| turn == running.turn) {
                        next = Some(input);
                    }
                }
                Some(_) = running.tasks.join_next(), if !running.tasks.is_empty() => {}
            }
        }
    };
    (Door(inbox), run)
}

impl Running {
    /// Steps the machine and obeys; the outcome, at the end.
    fn take(&mut self, input: Input) -> Option<Outcome> {
        if let Input::Wanted { answer, .. } = &input {
            self.note_wanted(answer);
        }
        for effect in self.machine.step(input) {
            match effect {
                Effect::Call(call) => self.call(call),
                Effect::OpenKeys { opening } => {
                    let (out, outs) = mpsc::unbounded_channel();
                    self.keys = Some(out);
                    self.stream(opening, None, outs);
                }
                Effect::OpenRecords { opening, stream } => {
                    let (out, outs) = mpsc::unbounded_channel();
                    self.records.insert(stream, out);
                    self.stream(opening, Some(stream), outs);
                }
                Effect::Read { opening, first_ordinal, n_entries } => {
                    self.read(opening, first_ordinal, n_entries);
                }
                Effect::SendKeys { window, first_ordinal, entries } => {
                    self.offered.insert(window, (first_ordinal, entries.clone()));
                    if let Some(keys) = &self.keys {
                        keys.send(Out::Keys { window, first_ordinal, entries }).ok();
                    }
                }
                // A stream whose sender is gone writes its END.
                Effect::EndKeys { .. } => self.keys = None,
                Effect::EndRecords { stream } => drop(self.records.remove(&stream)),
                Effect::Send { stream, parcel } => {
                    let protection = &self.shared.protection;
                    expect(&protection.store, protection.tenant, &parcel);
                    let ordinals = parcel.ordinals();
                    let entries =
                        ordinals.iter().filter_map(|ordinal| self.wanted.remove(ordinal)).collect();
                    if let Some(records) = self.records.get(&stream) {
                        records.send(Out::Parcel { parcel, entries }).ok();
                    }
                }
                Effect::DropStreams => self.begin_turn(),
                Effect::Rest { n_failed, retry_after_secs } => {
                    self.rest(n_failed, retry_after_secs)
                }
                Effect::End(outcome) => {
                    self.note();
                    return Some(outcome);
                }
            }
        }
        self.note();
        None
    }

    fn note(&self) {
        self.shared.note(self.index, self.image.open.record_size, self.machine.progress());
    }

    fn note_wanted(&mut self, answer: &Wanted) {
        let Some((first, entries)) = self.offered.remove(&answer.window) else { return };
        let wanted = (first..).zip(entries).zip(answer.iter()).filter(|(_, wanted)| *wanted);
        self.wanted.extend(wanted.map(|(entry, _)| entry));
    }

    fn begin_turn(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        self.tasks.abort_all();
        self.keys = None;
        self.records.clear();
        self.offered.clear();
        self.wanted.clear();
    }

    /// Runs work of this turn; what comes of it is told.
    fn spawn(&mut self, work: impl Future<Output = Input> + Send + 'static) {
        let (inbox, turn) = (self.inbox.clone(), self.turn);
        self.tasks.spawn(async move {
            inbox.send((Some(turn), work.await)).ok();
        });
    }

    fn call(&mut self, call: Call) {
        let (shared, image) = (Arc::clone(&self.shared), Arc::clone(&self.image));
        let session = self.machine.session();
        let path = session.map(|session| InSession {
            agent: image.open.agent_id.0,
            job: shared.job,
            session,
        });
        match (call, path) {
            (Call::Open, _) => {
                self.spawn(async move { Input::Opened(open(&shared, &image).await) })
            }
            (Call::Transferred(session), _) => self.spawn(async move {
                let session = session.map(|session| OfSession { session });
                Input::Transferred(transferred(&shared, &image, session).await)
            }),
            (Call::BeginCommit, Some(session)) => {
                self.spawn(async move { Input::CommitBegun(begin_commit(&shared, session).await) })
            }
            (Call::Poke(wait_secs), Some(session)) => self.spawn(async move {
                let poked = async {
                    let connection = shared.link.connection().await?;
                    let params = Poke { session, wait_secs };
                    let answer = connection.call::<AskCommitted>(&params, &()).await;
                    answer.map(|answer| answer.body.0).map_err(failure)
                };
                Input::Poked(poked.await)
            }),
            (Call::Abort, Some(session)) => {
                // Nobody waits for it, and it may outlive the transfer.
                tokio::spawn(async move {
                    let Ok(connection) = shared.link.connection().await else { return };
                    let params = EndSession { session, commit: false };
                    if let Err(cause) = connection.call::<End>(&params, &()).await {
                        tracing::debug!(%cause, "a session was not aborted; it will expire");
                    }
                });
            }
            (Call::BeginCommit, None) => {
                self.spawn(async { Input::CommitBegun(Err(Failure::Cut)) })
            }
            (Call::Poke(_), None) => self.spawn(async { Input::Poked(Err(Failure::Cut)) }),
            (Call::Abort, None) => {}
        }
    }

    fn rest(&mut self, n_failed: u32, retry_after_secs: Option<u32>) {
        let advice = retry_after_secs.map(u64::from).map(Duration::from_secs);
        let luck = &*self.shared.means.luck;
        let pause = Backoff::default().delay(n_failed, Retry::Later(advice), luck);
        self.spawn(async move {
            tokio::time::sleep(pause.unwrap_or(Backoff::default().cap)).await;
            Input::Rested
        });
    }

    fn read(&mut self, opening: u32, first_ordinal: u64, n_entries: u64) {
        let origin = Arc::clone(&self.origin);
        self.spawn(async move {
            let n_entries = n_entries.min(u64::from(WINDOW_KEYS_MAX));
            let read = tokio::task::spawn_blocking(move || {
                let mut origin = origin.lock().unwrap_or_else(PoisonError::into_inner);
                origin.read(first_ordinal, n_entries)
            });
            match read.await {
                Ok(Ok(entries)) => Input::Listed { opening, entries },
                Ok(Err(trouble)) => Input::Unreadable { message: trouble.message },
                Err(error) => Input::Unreadable { message: format!("reading failed: {error}") },
            }
        });
    }

    fn stream(&mut self, opening: u32, stream: Option<u32>, outs: mpsc::UnboundedReceiver<Out>) {
        let Some(session) = self.machine.session() else { return };
        let path = InSession { agent: self.image.open.agent_id.0, job: self.shared.job, session };
        let speaker = Speaker {
            shared: Arc::clone(&self.shared),
            path,
            opening,
            stream,
            inbox: self.inbox.clone(),
            turn: self.turn,
        };
        self.spawn(async move {
            match speaker.speak(outs).await {
                Ok(()) => Input::Ended { opening, stream },
                Err(failure) => Input::Cut { opening, failure },
            }
        });
    }
}

async fn open(shared: &Shared, image: &Outbound) -> Result<Given, Failure> {
    let connection = shared.link.connection().await?;
    let answer = connection.call::<Open>(&(), &Json(image.open.clone())).await.map_err(failure)?;
    let Json(opened) = answer.body;
    Ok(Given {
        session: opened.session_id.0,
        state: opened.state,
        is_resumed: opened.resumed,
        window_keys: opened.window_keys.clamp(1, WINDOW_KEYS_MAX),
        windows_in_flight: opened.windows_in_flight.max(1),
        streams_max: opened.max_parallel_streams.max(1),
        credit: opened.initial_credit.0,
    })
}

/// Asks for the commit and waits a while for its outcome, so that most need no second call; whether
/// it is done.
async fn begin_commit(shared: &Shared, session: InSession) -> Result<bool, Failure> {
    let params = EndSession { session, commit: true };
    let connection = shared.link.connection().await?;
    let ended = tokio::time::timeout(COMMIT_WAIT, connection.call::<End>(&params, &())).await;
    if let Ok(ended) = ended {
        return ended.map(|_| true).map_err(failure);
    }
    // One that waits for an answer may have been the only call that the connection could take.
    let connection = shared.link.connection().await?;
    connection.call::<StartEnd>(&params, &()).await.map(|_| false).map_err(failure)
}

async fn transferred(
    shared: &Shared,
    image: &Outbound,
    session: Option<OfSession>,
) -> Result<Runs, Failure> {
    let connection = shared.link.connection().await?;
    if let Some(session) = session {
        match connection.call::<TransferredBlocks>(&session, &()).await.map_err(failure) {
            Ok(answer) => return Ok(runs_of(&answer.body).unwrap_or_default()),
            Err(Failure::Cut) => return Err(Failure::Cut),
            Err(Failure::Refused(_)) => {}
        }
    }
    let (volume, epoch) = image.ours.name;
    let of = OfImage { agent: image.open.agent_id.0, volume, epoch };
    let answer = connection.call::<TransferredBlocksOfImage>(&of, &()).await.map_err(failure)?;
    Ok(runs_of(&answer.body).unwrap_or_default())
}
