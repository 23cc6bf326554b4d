//! `restore`: a volume of a recovery point, written to a file.
//!
//! The daemon reads and checks, this command writes, with the rights of whoever called it. With
//! `--offline` this command reads the store itself, without writing to the data directory, which
//! only goes while no daemon has it. What is
//! written is hashed as it is written; a file that was made here is removed again when the
//! restore does not come to its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use offsite_daemon::{SystemClock, SystemFiles, SystemLuck, shutdown};
use offsite_model::{BytesDigest, Clock, FileSystem};
use offsite_proto::admin::content::{self as frames, Reader};
use offsite_proto::admin::target::{CONTENT, OfContent};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_target_core::World;
use offsite_target_core::content::{Named, Part, open_offline};
use offsite_terminal::{Bar, Exit, Failure, facts, size};
use offsite_transport::Bytes;
use offsite_volume::{Destination, Overwrite, VolumeError};
use serde_json::json;
use tokio::sync::mpsc;

use super::offline::{self, Stop};
use crate::cli::Restore;
use crate::context::{Context, ended_early};
use crate::exit::refused;
use crate::place::STORE;

/// Pieces that were received and are not written yet.
const PIECES_AHEAD: usize = 32;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

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
    let content = open_offline(data, &data.join(STORE), &world, &named).map_err(refused)?;
    let mut writer = Writer::open(&SystemFiles, to, content.bytes(), bar)?;
    let read = content.read(&mut |part| {
        if stop.is_wished() {
            return Err(Refusal::new(ErrorCode::WrongState, "interrupted before it was done"));
        }
        let written = match part {
            Part::Bytes(bytes) => writer.bytes(bytes),
            Part::Zeros(n) => writer.zeros(n),
        };
        written.map_err(|failure| Refusal::new(ErrorCode::Internal, failure.message))
    });
    match read {
        Ok(()) => writer.finish(),
        Err(refusal) => {
            writer.give_up();
            Err(refused(refusal))
        }
    }
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
    let mut writer = Writer::open(&SystemFiles, to, head.bytes.0, bar)?;
    let mut is_ended = false;
    while let Some(part) = parts.blocking_recv() {
        let written = match part {
            frames::Part::Bytes(bytes) => writer.bytes(&bytes),
            frames::Part::Zeros(n) => writer.zeros(n),
            frames::Part::End(_) => {
                is_ended = true;
                Ok(())
            }
            frames::Part::Head(_) => Ok(()),
        };
        if let Err(failure) = written {
            writer.give_up();
            return Err(failure);
        }
    }
    if is_ended {
        return writer.finish();
    }
    writer.give_up();
    Err(ended_early(&"the volume was cut"))
}

/// A file that is being written, hashed as it grows.
struct Writer<'a> {
    files: &'a dyn FileSystem,
    to: &'a Path,
    destination: Destination,
    digest: BytesDigest,
    offset: u64,
    bar: &'a Bar,
}

fn wrong(error: VolumeError) -> Failure {
    Failure::failed(error.to_string())
}

impl<'a> Writer<'a> {
    fn open(
        files: &'a dyn FileSystem,
        to: &'a Path,
        bytes: u64,
        bar: &'a Bar,
    ) -> Result<Self, Failure> {
        let destination = Destination::open(files, to, bytes, Overwrite::Never).map_err(wrong)?;
        bar.at(0, bytes);
        Ok(Self { files, to, destination, digest: BytesDigest::new(), offset: 0, bar })
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.destination.write(bytes, self.offset).map_err(wrong)?;
        self.digest.update(bytes);
        self.went_on(bytes.len() as u64);
        Ok(())
    }

    fn zeros(&mut self, n: u64) -> Result<(), Failure> {
        self.destination.write_zeros(self.offset, n).map_err(wrong)?;
        let mut left = n;
        while left > 0 {
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
            self.digest.update(ZEROS.get(..step).unwrap_or(&ZEROS));
            left = left.saturating_sub(step as u64);
        }
        self.went_on(n);
        Ok(())
    }

    fn went_on(&mut self, n: u64) {
        self.offset = self.offset.saturating_add(n);
        self.bar.advance(n);
    }

    fn finish(self) -> Result<(u64, String), Failure> {
        if self.offset != self.destination.bytes() {
            self.give_up();
            return Err(ended_early(&"the volume was cut"));
        }
        self.destination.sync().map_err(wrong)?;
        let folder = self.to.parent().unwrap_or(Path::new("/"));
        self.files.sync_dir(folder).map_err(|error| {
            Failure::failed(format!("cannot sync {}: {error}", folder.display()))
        })?;
        Ok((self.offset, self.digest.finish().to_string()))
    }

    /// Half a volume looks like a whole one.
    fn give_up(&self) {
        self.files.remove(self.to).ok();
    }
}
