//! Rows 5 and 6 as they flow: frames in, steps of the machine, frames out.
//!
//! A stream is one task. It reads only while it has room for what it reads: the budget for groups
//! in memory and the frames that wait for a slow reader both stop it, and with it the sender.
//!
//! **Absent:** what a frame leads to (the machine).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use offsite_exchange::replication::target::{Input, StageFault};
use offsite_proto::codec::{DecodeError, Reader};
use offsite_proto::endpoint::Body as _;
use offsite_proto::error::{ErrorBody, ErrorCode, Refusal};
use offsite_proto::group::{self, Group};
use offsite_proto::json::Json;
use offsite_proto::stream::{Decoder, Encoder, End, Frame, Opcode, StreamKind};
use offsite_proto::window::KeyWindow;
use offsite_store::group::Codec;
use offsite_transport::{BodySender, BodyStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Replicas;
use super::live::{Arrived, Live, Out, table_rows};

/// The time after which a silent stream says that it lives.
const PING_AFTER: Duration = Duration::from_secs(10);

/// Groups of a frame are staged together up to so many bytes, decoded.
const BATCH_RAW_BYTES: u32 = 1 << 20;

/// Groups that the machine took and that go to the pool together, with the memory they hold.
#[derive(Default)]
struct Batch {
    groups: Vec<(u64, u64, Arrived)>,
    permits: Vec<OwnedSemaphorePermit>,
    raw_bytes: u32,
}

/// Why a stream ends before its END.
enum Ended {
    /// Say so.
    Fail(Refusal),
    /// Nobody listens, or nothing may be said.
    Cut,
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Fail(refusal)
    }
}

fn broken(cause: &dyn std::fmt::Display) -> Ended {
    fail(ErrorCode::BadRequest, cause)
}

/// What a layout's fault is called: a version or a length is not simply malformed, since the one
/// who wrote it can do something about it.
fn malformed(cause: DecodeError) -> Ended {
    let code = match cause {
        DecodeError::Version { .. } => ErrorCode::MediaTypeUnsupported,
        DecodeError::TooLarge { .. } => ErrorCode::TooLarge,
        _ => ErrorCode::BadRequest,
    };
    fail(code, &cause)
}

fn fail(code: ErrorCode, cause: &dyn std::fmt::Display) -> Ended {
    Ended::Fail(Refusal::new(code, format!("the stream is malformed: {cause}")))
}

/// A stream of a session.
pub(crate) struct Stream {
    replicas: Arc<Replicas>,
    live: Arc<Live>,
    line: u64,
    frames: mpsc::Receiver<Out>,
    kind: StreamKind,
    /// Groups that were handed to the pool and came back.
    staged: (mpsc::UnboundedSender<u64>, mpsc::UnboundedReceiver<u64>),
    n_staging: u64,
    n_windows: u64,
    n_answered: u64,
    items: u64,
    bytes: u64,
    /// What came: windows or records, and payload bytes. END says the same.
    came: End,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.live.detach(self.line);
    }
}

impl Stream {
    /// A new stream of a session that takes data.
    ///
    /// # Errors
    /// What the session's state says, or that there are too many streams.
    pub(crate) fn open(
        replicas: &Arc<Replicas>,
        live: &Arc<Live>,
        kind: StreamKind,
    ) -> Result<Self, Refusal> {
        use offsite_exchange::replication::target::Stage;
        live.look(|machine| match machine.stage() {
            Stage::Open | Stage::Transferring => Ok(()),
            Stage::Failed(refusal) => Err(refusal.clone()),
            Stage::Expired => Err(Refusal::new(
                ErrorCode::SessionExpired,
                "the session was idle for too long; open the image again",
            )),
            Stage::Committing | Stage::Committed | Stage::Aborted => Err(Refusal::new(
                ErrorCode::WrongState,
                "the session takes no data any more: it was committed or aborted",
            )),
        })?;
        if live.n_streams(kind) >= replicas.rules.parallel_streams_max as usize {
            return Err(Refusal::new(ErrorCode::Busy, "the session has all its streams").after(1));
        }
        let (line, frames) = live.attach(kind);
        Ok(Self {
            replicas: Arc::clone(replicas),
            live: Arc::clone(live),
            line,
            frames,
            kind,
            staged: mpsc::unbounded_channel(),
            n_staging: 0,
            n_windows: 0,
            n_answered: 0,
            items: 0,
            bytes: 0,
            came: End { items: 0, bytes: 0 },
        })
    }

    /// Speaks until the end.
    pub(crate) async fn run(mut self, body: BodyStream, sender: BodySender) {
        let down = match self.kind {
            StreamKind::Keys => StreamKind::Wanted,
            _ => StreamKind::Receipt,
        };
        let mut encoder = Encoder::new(down, self.live.id);
        let last = match self.speak(body, &sender, &mut encoder).await {
            Ok(()) => (Opcode::End, End { items: self.items, bytes: self.bytes }.write()),
            Err(Ended::Fail(refusal)) => {
                tracing::debug!(session = %self.live.id, cause = %refusal, "a stream ends early");
                (Opcode::Fail, Json(ErrorBody { error: refusal }).encode())
            }
            Err(Ended::Cut) => return,
        };
        if encoder.frame(0, last.0, &[&last.1]).is_ok() && sender.send(encoder.take()).await.is_ok()
        {
            // Whoever hung up is not told.
            sender.finish().await.ok();
        }
    }

    async fn speak(
        &mut self,
        mut body: BodyStream,
        sender: &BodySender,
        encoder: &mut Encoder,
    ) -> Result<(), Ended> {
        let mut decoder = Decoder::new(self.kind, self.live.id);
        let mut is_over = false;
        loop {
            if encoder.n_waiting() > 0 {
                sender.send(encoder.take()).await.map_err(|_| Ended::Cut)?;
            }
            if is_over && self.n_staging == 0 && self.n_answered == self.n_windows {
                // What was refused in the sender's last breath is told all the same.
                while let Ok(out) = self.frames.try_recv() {
                    self.say(out, encoder)?;
                }
                return Ok(());
            }
            tokio::select! {
                biased;
                out = self.frames.recv() => self.say(out.ok_or(Ended::Cut)?, encoder)?,
                Some(bytes) = self.staged.1.recv() => {
                    self.n_staging = self.n_staging.saturating_sub(1);
                    self.bytes = self.bytes.saturating_add(bytes);
                }
                piece = body.next(), if !is_over => match piece {
                    Ok(Some(piece)) => {
                        decoder.push(&piece);
                        while let Some(frame) = decoder.next_frame().map_err(malformed)? {
                            is_over |= self.hear(frame).await?;
                        }
                    }
                    // A stream without END was cut, and nobody is there to be told.
                    Ok(None) => return decoder.finish().map_err(|_| Ended::Cut),
                    Err(refusal) => {
                        tracing::debug!(session = %self.live.id, cause = %refusal, "cut");
                        return Err(Ended::Cut);
                    }
                },
                () = tokio::time::sleep(PING_AFTER) => {
                    encoder.frame(0, Opcode::Ping, &[]).map_err(|e| broken(&e))?;
                }
            }
        }
    }

    fn say(&mut self, out: Out, encoder: &mut Encoder) -> Result<(), Ended> {
        let (opcode, payload) = match out {
            Out::Wanted(answer) => {
                self.n_answered = self.n_answered.saturating_add(1);
                (Opcode::Wanted, answer.write())
            }
            Out::Credit(bytes) => (Opcode::Credit, bytes.to_le_bytes().to_vec()),
            Out::Flushed(flushed) => (Opcode::Flushed, flushed.write()),
            Out::Fail(refusal) => return Err(Ended::Fail(refusal)),
        };
        encoder.frame(0, opcode, &[&payload]).map_err(|e| broken(&e))
    }

    /// Takes a frame; whether it was the last.
    async fn hear(&mut self, frame: Frame) -> Result<bool, Ended> {
        match (frame.opcode, self.kind) {
            (Opcode::Keys, StreamKind::Keys) => {
                let window = KeyWindow::read(&frame.payload).map_err(malformed)?;
                self.n_windows = self.n_windows.saturating_add(1);
                self.count(1, frame.payload.len());
                self.items = self.items.saturating_add(window.entries.len() as u64);
                self.bytes = self.bytes.saturating_add(frame.payload.len() as u64);
                let input = Input::Keys {
                    window: window.window,
                    first_ordinal: window.first_ordinal,
                    entries: window.entries.to_vec(),
                };
                self.live.step(&self.replicas, input, Some(self.line));
            }
            (Opcode::Records, StreamKind::Records) => {
                let mut reader = Reader::new("a RECORDS frame", &frame.payload);
                let mut batch = Batch::default();
                while !reader.is_empty() {
                    let before = reader.n_left();
                    let group = match Group::read(&mut reader) {
                        Ok(group) => group,
                        Err(cause) => {
                            self.stage(batch);
                            return Err(malformed(cause));
                        }
                    };
                    let n_bytes = before.saturating_sub(reader.n_left());
                    self.count(group.table.len(), n_bytes);
                    self.take_group(&frame.payload, &group, n_bytes as u64, &mut batch).await?;
                }
                self.stage(batch);
            }
            (Opcode::Ping, _) | (Opcode::Other(_), _) => {}
            (Opcode::End, _) => {
                let told = End::read(&frame.payload).map_err(malformed)?;
                return self.check_end(told).map(|()| true);
            }
            (Opcode::Fail, _) => return Err(Ended::Cut),
            (opcode, kind) => {
                return Err(broken(&format!("{opcode:?} in a stream of {kind:?}")));
            }
        }
        Ok(false)
    }

    fn count(&mut self, n_items: usize, n_bytes: usize) {
        self.came.items = self.came.items.saturating_add(n_items as u64);
        self.came.bytes = self.came.bytes.saturating_add(n_bytes as u64);
    }

    /// A sender that counts otherwise than we do lost something on the way, or means another
    /// stream.
    fn check_end(&self, told: End) -> Result<(), Ended> {
        if told == self.came {
            return Ok(());
        }
        let what = if self.kind == StreamKind::Keys { "windows" } else { "records" };
        let sentence = format!(
            "END says {} {what} in {} bytes, and {} in {} bytes came",
            told.items, told.bytes, self.came.items, self.came.bytes
        );
        Err(Refusal::new(ErrorCode::BadRequest, sentence).into())
    }

    /// Lets the machine judge a group, and adds it to those that are to be staged together.
    async fn take_group(
        &mut self,
        frame: &Bytes,
        group: &Group<'_>,
        bytes: u64,
        batch: &mut Batch,
    ) -> Result<(), Ended> {
        // What is decoded counts, not what arrived.
        let permits = group.raw_bytes.saturating_add(group.payload.len() as u32);
        let budget = Arc::clone(&self.replicas.budget);
        let permit = match Arc::clone(&budget).try_acquire_many_owned(permits) {
            Ok(permit) => permit,
            Err(_) => {
                // Whoever waits for memory holds none.
                self.stage(std::mem::take(batch));
                budget.acquire_many_owned(permits).await.map_err(|_| Ended::Cut)?
            }
        };
        let input =
            Input::Group { table: group.table.to_vec(), is_encrypted: group.is_encrypted, bytes };
        let asked = self.live.step(&self.replicas, input, Some(self.line));
        // What the machine refused is told through this stream's own line.
        let Some(number) = asked.stage else { return Ok(()) };
        self.items = self.items.saturating_add(group.table.len() as u64);
        self.n_staging = self.n_staging.saturating_add(1);
        batch.raw_bytes = batch.raw_bytes.saturating_add(group.raw_bytes);
        let arrived = Arrived {
            codec: match group.codec {
                group::Codec::None => Codec::None,
                group::Codec::Zstd => Codec::Zstd,
            },
            table: table_rows(group.table),
            payload: frame.slice_ref(group.payload),
        };
        batch.groups.push((number, bytes, arrived));
        batch.permits.push(permit);
        if batch.raw_bytes >= BATCH_RAW_BYTES {
            self.stage(std::mem::take(batch));
        }
        Ok(())
    }

    /// Hands groups to the pool: one turn there for several, since a turn costs as much as a small
    /// group.
    fn stage(&self, batch: Batch) {
        let Batch { groups, permits, .. } = batch;
        if groups.is_empty() {
            return;
        }
        let (replicas, live, line) =
            (Arc::clone(&self.replicas), Arc::clone(&self.live), self.line);
        let done = self.staged.0.clone();
        let mutations = replicas.mutations.clone();
        // A task of its own: what was begun is ended, whatever becomes of the stream.
        drop(mutations.spawn(async move {
            let numbers: Vec<(u64, u64)> =
                groups.iter().map(|(number, bytes, _)| (*number, *bytes)).collect();
            let (at, session) = (Arc::clone(&replicas), Arc::clone(&live));
            let appended = replicas.pool.run(move || {
                let groups = groups.into_iter();
                groups.map(|(.., arrived)| session.append(&at, arrived)).collect::<Vec<_>>()
            });
            let mut outcomes = appended.await.unwrap_or_default().into_iter();
            for (group, bytes) in numbers {
                let outcome = outcomes.next().unwrap_or(Err(StageFault::Broken));
                live.step(&replicas, Input::Staged { group, outcome }, Some(line));
                // The stream may be gone; the machine was told.
                done.send(bytes).ok();
            }
            drop(permits);
        }));
    }
}
