//! `restore`: a volume of a recovery point, written to a file.
//!
//! With `--offline` this command reads the store itself, without writing to the data directory,
//! which only goes while no daemon has it.
//! What is written is hashed as it is written; a file that was made here is removed again when the
//! restore does not come to its end.

use std::path::Path;
use std::sync::Arc;

use offsite_daemon::{SystemClock, SystemFiles, SystemLuck};
use offsite_model::{BytesDigest, Clock, FileSystem};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_target_core::World;
use offsite_target_core::content::{Content, Named, Part, open_offline};
use offsite_terminal::{Exit, Failure, facts, size};
use offsite_volume::{Destination, Overwrite};
use serde_json::json;

use super::offline::{self, Stop};
use crate::cli::Restore;
use crate::context::Context;
use crate::exit::{not_built, refused};
use crate::place::STORE;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

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
    let content = open_offline(data, &data.join(STORE), &world, &named).map_err(refused)?;
    let wrong = |error: offsite_volume::VolumeError| Failure::failed(error.to_string());
    let destination =
        Destination::open(&*files, &to, content.bytes(), Overwrite::Never).map_err(wrong)?;
    let digest = match write(&content, &destination, stop) {
        Ok(digest) => digest,
        Err(refusal) => {
            // Half a volume looks like a whole one.
            files.remove(&to).ok();
            return Err(refused(refusal));
        }
    };
    destination.sync().map_err(wrong)?;
    let micros = SystemClock.uptime().as_micros().saturating_sub(began.as_micros());
    let seconds = micros as f64 / 1e6;
    Ok(json!({ "bytes": content.bytes(), "blake3": digest, "seconds": seconds }))
}

fn write(content: &Content, destination: &Destination, stop: &Stop) -> Result<String, Refusal> {
    let (mut digest, mut offset) = (BytesDigest::new(), 0_u64);
    let wrong =
        |error: offsite_volume::VolumeError| Refusal::new(ErrorCode::Internal, error.to_string());
    content.read(&mut |part| {
        if stop.is_wished() {
            return Err(Refusal::new(ErrorCode::WrongState, "interrupted before it was done"));
        }
        match part {
            Part::Bytes(bytes) => {
                destination.write(bytes, offset).map_err(wrong)?;
                digest.update(bytes);
                offset = offset.saturating_add(bytes.len() as u64);
            }
            Part::Zeros(n) => {
                destination.write_zeros(offset, n).map_err(wrong)?;
                let mut left = n;
                while left > 0 {
                    let step = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
                    digest.update(ZEROS.get(..step).unwrap_or(&ZEROS));
                    left = left.saturating_sub(step as u64);
                }
                offset = offset.saturating_add(n);
            }
        }
        Ok(())
    })?;
    Ok(digest.finish().to_string())
}
