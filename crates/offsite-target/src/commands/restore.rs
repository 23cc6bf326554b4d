//! `restore`: a volume of a recovery point, written to a file.
//!
//! With `--offline` this command reads the store itself, without writing to the data directory,
//! which only goes while no daemon has it.
//! What is written is hashed as it is written; a file that was made here is removed again when the
//! restore does not come to its end.

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

use offsite_content::{Content, Part, ReadError};
use offsite_daemon::{SystemClock, SystemFiles, SystemLuck};
use offsite_model::{Clock, FileSystem};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_target_core::World;
use offsite_target_core::content::{Named, open_offline, refusal};
use offsite_terminal::{Exit, Failure, facts, size};
use offsite_volume::{Destination, Overwrite, VolumeError, Writer};
use serde_json::json;

use super::offline::{self, Stop};
use crate::cli::Restore;
use crate::context::Context;
use crate::exit::{not_built, refused};
use crate::place::STORE;

/// Runs it.
pub(crate) async fn run(context: &Context, asked: Restore) -> Result<Exit, Failure> {
    if !asked.offline {
        return Err(not_built("restore without --offline"));
    }
    let data = context.data.clone();
    let document = offline::work(move |stop| restore(&data, &asked, stop)).await?;
    context.out.result(&document, |document| {
        facts(&[
            ("size", document["bytes"].as_u64().map(size)),
            ("blake3", document["blake3"].as_str().map(str::to_owned)),
        ])
    })
}

fn restore(data: &Path, asked: &Restore, stop: &Stop) -> Result<serde_json::Value, Failure> {
    let began = SystemClock.uptime();
    let files: Arc<dyn FileSystem> = Arc::new(SystemFiles);
    let directory = offline::take(data)?;
    let to = std::path::absolute(&asked.to).map_err(|error| {
        Failure::usage(format!("cannot resolve {}: {error}", asked.to.display()), "")
    })?;
    let world = World {
        clock: Arc::new(SystemClock),
        luck: Arc::new(SystemLuck),
        files: Arc::clone(directory.files()),
    };
    let named = Named { agent: &asked.agent, volume: &asked.volume, point: &asked.point };
    let n_threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let (content, _) =
        open_offline(data, &data.join(STORE), &world, &named, n_threads).map_err(refused)?;
    let wrong = |error: VolumeError| Failure::failed(error.to_string());
    let destination =
        Destination::open(&*files, &to, content.bytes(), Overwrite::Never).map_err(wrong)?;
    let bytes = content.bytes();
    let digest = write(&content, destination, stop).inspect_err(|_| {
        // Half a volume looks like a whole one.
        files.remove(&to).ok();
    })?;
    let micros = SystemClock.uptime().as_micros().saturating_sub(began.as_micros());
    let seconds = micros as f64 / 1e6;
    Ok(json!({ "bytes": bytes, "blake3": digest, "seconds": seconds }))
}

/// What ended a restore early.
enum Ended {
    Read(ReadError),
    Interrupted,
    /// Writing failed; the writer says why.
    Unwritten,
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Writes the volume; its BLAKE3.
fn write(content: &Content, destination: Destination, stop: &Stop) -> Result<String, Failure> {
    let wrong = |error: VolumeError| Failure::failed(error.to_string());
    let mut writer = Writer::start(destination).map_err(wrong)?;
    let read = content.in_order(&mut |part| {
        if stop.is_wished() {
            return Err(Ended::Interrupted);
        }
        let goes_on = match part {
            Part::Bytes(bytes) => writer.bytes(bytes),
            Part::Zeros(n) => writer.zeros(n),
        };
        if goes_on { Ok(()) } else { Err(Ended::Unwritten) }
    });
    match read {
        Err(Ended::Read(ReadError::Store(error))) => return Err(refused(refusal(&error))),
        Err(Ended::Read(error)) => return Err(Failure::failed(error.to_string())),
        Err(Ended::Interrupted) => {
            let sentence = "interrupted before it was done";
            return Err(refused(Refusal::new(ErrorCode::WrongState, sentence)));
        }
        Ok(()) | Err(Ended::Unwritten) => {}
    }
    let is_whole = writer.is_whole();
    let digest = writer.finish().map_err(wrong)?;
    if is_whole {
        Ok(digest.to_string())
    } else {
        Err(Failure::failed("the recovery point does not hold the whole volume"))
    }
}
