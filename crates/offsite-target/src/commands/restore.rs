//! `restore`: a volume of a recovery point, written to a file.
//!
//! The daemon reads and checks, this command writes, with the rights of whoever called it. With
//! `--offline` this command reads the store itself, without writing to the data directory, which
//! only goes while no daemon has it. What is
//! written is hashed as it is written; a file that was made here is removed again when the
//! restore does not come to its end.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use offsite_content::{Content, Part, Piece, ReadError};
use offsite_daemon::{SystemClock, SystemFiles, SystemLuck, shutdown};
use offsite_model::{Clock, FileSystem, Lanes};
use offsite_proto::admin::content::{self as frames, Reader};
use offsite_proto::admin::target::{CONTENT, OfContent};
use offsite_target_core::World;
use offsite_target_core::content::{Named, open_offline, refusal};
use offsite_terminal::{Bar, Exit, Failure, facts, size};
use offsite_transport::Bytes;
use offsite_volume::{Destination, Overwrite, VolumeError, Writer};
use serde_json::json;
use tokio::sync::mpsc;

use super::offline::{self, Stop};
use crate::cli::Restore;
use crate::context::{Context, ended_early};
use crate::exit::refused;
use crate::place::STORE;

/// Pieces that were received and are not written yet.
const PIECES_AHEAD: usize = 32;

/// Runs it.
pub(crate) async fn run(context: &Context, asked: Restore) -> Result<Exit, Failure> {
    let began = SystemClock.uptime();
    let to = std::path::absolute(&asked.to).map_err(|error| {
        Failure::usage(format!("cannot resolve {}: {error}", asked.to.display()), "")
    })?;
    let bar = context.out.bar(0);
    bar.say("restoring");
    let written = if asked.offline {
        let (data, named) = (context.data.clone(), asked);
        offline::work(move |stop| alone(&data, &named, &to, &bar, stop)).await
    } else {
        receive(context, &asked, to, bar).await
    };
    let (bytes, digest) = written?;
    let micros = SystemClock.uptime().as_micros().saturating_sub(began.as_micros());
    let seconds = micros as f64 / 1e6;
    let document = json!({ "bytes": bytes, "blake3": digest, "seconds": seconds });
    context.out.result(&document, |document| {
        facts(&[
            ("size", document["bytes"].as_u64().map(size)),
            ("blake3", document["blake3"].as_str().map(str::to_owned)),
        ])
    })
}

/// Reads the store without a daemon; bytes and digest of what was written.
fn alone(
    data: &Path,
    asked: &Restore,
    to: &Path,
    bar: &Bar,
    stop: &Stop,
) -> Result<(u64, String), Failure> {
    let directory = offline::take(data)?;
    let world = World {
        clock: Arc::new(SystemClock),
        luck: Arc::new(SystemLuck),
        files: Arc::clone(directory.files()),
    };
    let named = Named { agent: &asked.agent, volume: &asked.volume, point: &asked.point };
    let n_threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let opened =
        open_offline(data, &data.join(STORE), &world, &named, n_threads).map_err(refused)?;
    let content = opened.content;
    let files = SystemFiles;
    let mut writing = Writing::open(&files, to, content.lanes(), bar)?;
    match read(&content, &mut writing, stop) {
        Ok(()) | Err(Ended::Unwritten) => writing.finish(),
        Err(ended) => Err(writing.give_up(ended.into())),
    }
}

/// What ended a restore early.
enum Ended {
    Read(ReadError),
    Interrupted,
    /// The writer says why.
    Unwritten,
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Read(ReadError::Store(error)) => refused(refusal(&error)),
            Ended::Read(error) => Self::failed(error.to_string()),
            Ended::Interrupted => interruption(),
            Ended::Unwritten => Self::failed("the volume was not written"),
        }
    }
}

fn interruption() -> Failure {
    Failure::new(
        Exit::Interrupted,
        "interrupted",
        "interrupted before it was done",
        "nothing of it was kept; start again",
    )
}

fn read(content: &Content, writing: &mut Writing<'_, Piece>, stop: &Stop) -> Result<(), Ended> {
    content.in_lanes(&content.lanes(), &mut |offset, part| {
        if stop.is_wished() {
            return Err(Ended::Interrupted);
        }
        writing.writer.go_to(offset);
        let goes_on = match part {
            Part::Bytes(bytes) => writing.bytes(bytes),
            Part::Zeros(n) => writing.zeros(n),
        };
        if goes_on { Ok(()) } else { Err(Ended::Unwritten) }
    })
}

/// Receives the volume from the daemon and writes it; bytes and digest.
async fn receive(
    context: &Context,
    asked: &Restore,
    to: PathBuf,
    bar: Bar,
) -> Result<(u64, String), Failure> {
    let params = OfContent {
        agent: asked.agent.clone(),
        volume: asked.volume.clone(),
        point: Some(asked.point.clone()),
    };
    if SystemFiles.metadata(&to).is_ok() {
        return Err(Failure::new(
            Exit::Failed,
            "already_exists",
            format!("{} exists", to.display()),
            "name another file",
        ));
    }
    let mut answer = context.ask_stream(&CONTENT, &params).await?;
    let (parts, received) = mpsc::channel(PIECES_AHEAD);
    let writing = tokio::task::spawn_blocking(move || write(&to, received, &bar));
    let mut reader = Reader::default();
    let sent = tokio::select! {
        sent = async {
            while let Some(mut piece) =
                answer.body.next().await.map_err(|refusal| ended_early(&refusal.message))?
            {
                while let Some(part) = reader.next(&mut piece).map_err(refused)? {
                    if parts.send(part).await.is_err() {
                        // The writer has failed and says why.
                        return Ok(());
                    }
                }
            }
            if reader.is_ended() { Ok(()) } else { Err(ended_early(&"the volume was cut")) }
        } => sent,
        _ = shutdown::interrupted() => Err(Failure::new(
            Exit::Interrupted,
            "interrupted",
            "interrupted before it was done",
            "nothing of it was kept; start again",
        )),
    };
    drop(parts);
    let written = writing.await;
    let written =
        written.map_err(|error| Failure::failed(format!("the writer failed: {error}")))?;
    // The daemon's own words first: a writer that was cut off has less to say.
    sent.and(written)
}

/// Writes parts in order; durable when it returns, and gone where they did not come to their end.
fn write(
    to: &Path,
    mut parts: mpsc::Receiver<frames::Part<Bytes>>,
    bar: &Bar,
) -> Result<(u64, String), Failure> {
    let Some(frames::Part::Head(head)) = parts.blocking_recv() else {
        return Err(ended_early(&"it did not say what comes"));
    };
    let files = SystemFiles;
    let mut writing = Writing::open(&files, to, Lanes::one(head.bytes.0), bar)?;
    let (mut is_ended, mut goes_on) = (false, true);
    while goes_on && let Some(part) = parts.blocking_recv() {
        match part {
            frames::Part::Bytes(bytes) => goes_on = writing.bytes(bytes),
            frames::Part::Zeros(n) => goes_on = writing.zeros(n),
            frames::Part::End(_) => is_ended = true,
            frames::Part::Head(_) => {}
        }
    }
    if is_ended || !goes_on {
        return writing.finish();
    }
    Err(writing.give_up(ended_early(&"the volume was cut")))
}

/// A file that is being written.
struct Writing<'a, B> {
    files: &'a dyn FileSystem,
    to: &'a Path,
    bytes: u64,
    writer: Writer<B>,
    bar: &'a Bar,
}

impl<'a, B: AsRef<[u8]> + Send + Sync + 'static> Writing<'a, B> {
    fn open(
        files: &'a dyn FileSystem,
        to: &'a Path,
        lanes: Lanes,
        bar: &'a Bar,
    ) -> Result<Self, Failure> {
        let wrong = |error: VolumeError| Failure::failed(error.to_string());
        let bytes = lanes.bytes();
        let destination = Destination::open(files, to, bytes, Overwrite::Never).map_err(wrong)?;
        bar.at(0, bytes);
        let writer = Writer::in_lanes(destination, lanes).map_err(wrong)?;
        Ok(Self { files, to, bytes, writer, bar })
    }

    fn bytes(&mut self, bytes: B) -> bool {
        self.bar.advance(bytes.as_ref().len() as u64);
        self.writer.bytes(bytes)
    }

    fn zeros(&mut self, n: u64) -> bool {
        self.bar.advance(n);
        self.writer.zeros(n)
    }

    /// Makes it durable; its size and its BLAKE3.
    fn finish(self) -> Result<(u64, String), Failure> {
        let Self { files, to, bytes, writer, .. } = self;
        let finished = writer.finish().map_err(|error| Failure::failed(error.to_string()));
        let synced = finished.and_then(|digest| {
            let digest = digest.ok_or_else(|| ended_early(&"the volume was cut"))?;
            let folder = to.parent().unwrap_or(Path::new("/"));
            match files.sync_dir(folder) {
                Ok(()) => Ok((bytes, digest.to_string())),
                Err(error) => {
                    Err(Failure::failed(format!("cannot sync {}: {error}", folder.display())))
                }
            }
        });
        synced.inspect_err(|_| remove(files, to))
    }

    /// Ends without a file.
    fn give_up(self, failure: Failure) -> Failure {
        // The writer's threads first: they may still write.
        self.writer.abandon();
        remove(self.files, self.to);
        failure
    }
}

/// Half a volume looks like a whole one.
fn remove(files: &dyn FileSystem, to: &Path) {
    files.remove(to).ok();
}
