//! One stream of row 5 or 6 as the source speaks it: frames made of what it is to send while the
//! last ones are on their way, and what the target says of them.
//!
//! **Absent:** what is sent when, and on which stream (the machine, by way of [`super::transfer`]).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use offsite_exchange::replication::source::{Failure, Input, Parcel};
use offsite_proto::endpoint::{Params as _, Row, Values};
use offsite_proto::error::ErrorBody;
use offsite_proto::json::from_slice;
use offsite_proto::rows;
use offsite_proto::session::InSession;
use offsite_proto::stream::{
    Decoder, Encoder, End as StreamEnd, Flushed, Opcode, StreamKind, frame_of, read_credit,
};
use offsite_proto::window::{KeyWindow, ListEntry, Wanted};
use offsite_transport::{BodySender, Outgoing};
use tokio::sync::mpsc;

use super::link::failure;
use super::shared::Shared;
use crate::error::Trouble;
use crate::origin::write_group;

/// The time after which a silent stream says that it lives.
const PING_AFTER: Duration = Duration::from_secs(10);
/// Groups that wait go out in one frame up to so many bytes.
const FRAME_BYTES: u64 = 512 << 10;

/// What a transfer is told, with the number of its turn where it belongs to one.
pub(super) type Told = (Option<u64>, Input);

/// What a stream is to send.
pub(super) enum Out {
    Keys { window: u32, first_ordinal: u64, entries: Vec<ListEntry> },
    Parcel { parcel: Parcel, entries: Vec<ListEntry> },
}

/// A frame that is ready to be sent, or several small ones.
struct Made {
    bytes: Bytes,
    n_records: u64,
    /// The bytes of each of its groups.
    groups: Vec<u64>,
}

impl Made {
    const fn of(bytes: Bytes) -> Self {
        Self { bytes, n_records: 0, groups: Vec::new() }
    }
}

/// One stream of row 5 or 6.
pub(super) struct Speaker {
    pub(super) shared: Arc<Shared>,
    pub(super) path: InSession,
    pub(super) opening: u32,
    /// None for the keys.
    pub(super) stream: Option<u32>,
    pub(super) inbox: mpsc::UnboundedSender<Told>,
    pub(super) turn: u64,
}

impl Speaker {
    const fn kinds(&self) -> (&'static Row, StreamKind, StreamKind) {
        match self.stream {
            None => (&rows::R05, StreamKind::Keys, StreamKind::Wanted),
            Some(_) => (&rows::R06, StreamKind::Records, StreamKind::Receipt),
        }
    }

    fn tell(&self, input: Input) {
        self.inbox.send((Some(self.turn), input)).ok();
    }

    /// Speaks until both sides have said all they have to say.
    ///
    /// # Errors
    /// What ended it before.
    pub(super) async fn speak(&self, outs: mpsc::UnboundedReceiver<Out>) -> Result<(), Failure> {
        let (sender, body) = Outgoing::stream();
        let writing = async {
            let written = self.write(sender, outs).await;
            if written.is_ok() {
                // What the target says of it is still to come; so it is where it did not listen to
                // the end.
                std::future::pending::<()>().await;
            }
            match written {
                Err(Some(message)) => message,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            read = self.read(body) => read,
            message = writing => {
                self.tell(Input::Unreadable { message });
                Err(Failure::Cut)
            }
        }
    }

    /// Writes until there is no more; an error with a message is our own store's.
    async fn write(
        &self,
        sender: BodySender,
        outs: mpsc::UnboundedReceiver<Out>,
    ) -> Result<(), Option<String>> {
        // The next frame is made while the last one is sent.
        let (made, frames) = mpsc::channel(1);
        let (made, sent) = tokio::join!(self.make(outs, made), self.send(&sender, frames));
        // Where nobody reads any more, nobody asked for what could not be made.
        sent?;
        made.map_err(Some)?;
        sender.finish().await.map_err(|_| None)
    }

    /// Makes frames of what is to be sent, the last of them END.
    async fn make(
        &self,
        mut outs: mpsc::UnboundedReceiver<Out>,
        made: mpsc::Sender<Made>,
    ) -> Result<(), String> {
        let (_, kind, _) = self.kinds();
        let mut encoder = Encoder::new(kind, self.path.session);
        let mut end = StreamEnd { items: 0, bytes: 0 };
        let mut next = None;
        while made.send(Made::of(encoder.take())).await.is_ok() {
            let out = match next.take() {
                Some(out) => Some(out),
                None => tokio::select! {
                    out = outs.recv() => out,
                    () = tokio::time::sleep(PING_AFTER) => {
                        encoder.frame(0, Opcode::Ping, &[]).map_err(|e| e.to_string())?;
                        continue;
                    }
                },
            };
            match out {
                None => {
                    encoder.frame(0, Opcode::End, &[&end.write()]).map_err(|e| e.to_string())?;
                    made.send(Made::of(encoder.take())).await.ok();
                    return Ok(());
                }
                Some(Out::Keys { window, first_ordinal, entries }) => {
                    end.items = end.items.saturating_add(1);
                    let payload = KeyWindow { window, first_ordinal, entries: &entries }.write();
                    end.bytes = end.bytes.saturating_add(payload.len() as u64);
                    encoder.frame(0, Opcode::Keys, &[&payload]).map_err(|e| e.to_string())?;
                }
                Some(Out::Parcel { parcel, entries }) => {
                    let mut bytes = parcel.bytes();
                    let mut parcels = vec![(parcel, entries)];
                    // A frame takes as many as wait, up to its size.
                    while let Ok(out) = outs.try_recv() {
                        match out {
                            Out::Parcel { parcel, entries }
                                if bytes.saturating_add(parcel.bytes()) <= FRAME_BYTES =>
                            {
                                bytes = bytes.saturating_add(parcel.bytes());
                                parcels.push((parcel, entries));
                            }
                            other => {
                                next = Some(other);
                                break;
                            }
                        }
                    }
                    let frame = self.encode(parcels).await?;
                    end.items = end.items.saturating_add(frame.n_records);
                    end.bytes =
                        frame.groups.iter().fold(end.bytes, |sum, n| sum.saturating_add(*n));
                    if made.send(frame).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    async fn send(
        &self,
        sender: &BodySender,
        mut frames: mpsc::Receiver<Made>,
    ) -> Result<(), Option<String>> {
        while let Some(Made { bytes, n_records, groups }) = frames.recv().await {
            if bytes.is_empty() {
                continue;
            }
            if !groups.is_empty() {
                self.keep_pace(sender, bytes.len() as u64).await?;
            }
            self.shared.wire_out.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            sender.send(bytes).await.map_err(|_| None)?;
            let Some(stream) = self.stream else { continue };
            self.shared.records_sent.fetch_add(n_records, Ordering::Relaxed);
            for bytes in groups {
                self.tell(Input::Sent { opening: self.opening, stream, bytes });
            }
        }
        Ok(())
    }

    /// Waits for the speed that was set, and says meanwhile that the stream lives.
    async fn keep_pace(&self, sender: &BodySender, bytes: u64) -> Result<(), Option<String>> {
        let mut left = self.shared.link.pace(bytes);
        while left > Duration::ZERO {
            let now = left.min(PING_AFTER);
            tokio::time::sleep(now).await;
            left = left.saturating_sub(now);
            if left > Duration::ZERO {
                let ping = frame_of(0, Opcode::Ping, |_| Ok::<(), Trouble>(()));
                let ping = ping.map_err(|trouble| Some(trouble.message))?;
                sender.send(ping).await.map_err(|_| None)?;
            }
        }
        Ok(())
    }

    async fn encode(&self, parcels: Vec<(Parcel, Vec<ListEntry>)>) -> Result<Made, String> {
        let protection = Arc::clone(&self.shared.protection);
        let made = tokio::task::spawn_blocking(move || {
            let mut groups = Vec::with_capacity(parcels.len());
            let n_records = parcels.iter().map(|(parcel, _)| parcel.ordinals().len() as u64).sum();
            let n_bytes = parcels.iter().map(|(parcel, _)| parcel.bytes()).sum::<u64>();
            let bytes = frame_of(0, Opcode::Records, |out| {
                // With the checksum behind it: a frame that grows is copied each time.
                out.reserve(usize::try_from(n_bytes).unwrap_or(0).saturating_add(4));
                for (parcel, entries) in &parcels {
                    let before = out.len();
                    write_group(&protection.store, protection.tenant, parcel, entries, out)?;
                    groups.push(out.len().saturating_sub(before) as u64);
                }
                Ok::<(), Trouble>(())
            });
            bytes.map(|bytes| Made { bytes, n_records, groups })
        });
        match made.await {
            Ok(made) => made.map_err(|trouble| trouble.message),
            Err(error) => Err(format!("making a group failed: {error}")),
        }
    }

    async fn read(&self, body: Outgoing) -> Result<(), Failure> {
        let link = &self.shared.link;
        let connection = match self.stream {
            None => link.connection().await?,
            Some(stream) => link.of_stream(stream).await?,
        };
        let (row, up, down) = self.kinds();
        let mut values = Values::new();
        self.path.write(&mut values);
        let media = HeaderValue::from_static(up.media_type());
        let answer = connection.stream(row, &values, media, body, u64::MAX).await;
        let mut answer = answer.map_err(failure)?;
        let mut decoder = Decoder::new(down, self.path.session);
        let broken = |cause: &dyn std::fmt::Display| {
            tracing::warn!(%cause, "the target's stream is malformed");
            Failure::Cut
        };
        let opening = self.opening;
        loop {
            let piece = answer.body.next().await.map_err(|refusal| {
                tracing::debug!(cause = %refusal, "a stream was cut");
                Failure::Cut
            })?;
            let Some(piece) = piece else { return Err(Failure::Cut) };
            self.shared.wire_in.fetch_add(piece.len() as u64, Ordering::Relaxed);
            decoder.push(&piece);
            while let Some(frame) = decoder.next_frame().map_err(|e| broken(&e))? {
                let payload = &frame.payload;
                match frame.opcode {
                    Opcode::Wanted => {
                        let answer = Wanted::read(payload).map_err(|e| broken(&e))?;
                        self.tell(Input::Wanted { opening, answer });
                    }
                    Opcode::Credit => {
                        let granted = read_credit(payload).map_err(|e| broken(&e))?;
                        self.tell(Input::Credit { opening, granted });
                    }
                    Opcode::Flushed => {
                        let flushed = Flushed::read(payload).map_err(|e| broken(&e))?;
                        self.tell(Input::Flushed { opening, flushed });
                    }
                    Opcode::Fail => {
                        let ErrorBody { error: refusal } =
                            from_slice(payload).map_err(|e| broken(&e))?;
                        let (code, cause) = (refusal.code, &refusal.message);
                        tracing::debug!(%code, %cause, "the target ended a stream");
                        return Err(Failure::Refused(refusal));
                    }
                    Opcode::End => return Ok(()),
                    Opcode::Ping | Opcode::Other(_) => {}
                    other => return Err(broken(&format!("{other:?} where it cannot be"))),
                }
            }
        }
    }
}
