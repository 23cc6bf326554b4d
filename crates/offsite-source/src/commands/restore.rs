//! `restore`: the daemon reads and checks, this command writes, with the rights of whoever called
//! it.
//!
//! The daemon never opens a file for a caller (decision 0008). What is written is hashed as it is
//! written. A file that this command made is removed again when the restore does not come to its
//! end: half a volume looks like a whole one.

use std::path::Path;
use std::sync::Arc;

use offsite_daemon::{SystemClock, SystemFiles, shutdown};
use offsite_model::{Clock, Digest, FileSystem, Kind};
use offsite_proto::admin::content::{Head, Part, Reader};
use offsite_proto::admin::protection::{CONTENT, OfContent};
use offsite_proto::admin::source::ListAgents;
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, facts, size};
use offsite_transport::{BodyStream, Bytes};
use offsite_volume::{Destination, Overwrite, VolumeError, Writer};
use serde_json::json;
use tokio::sync::mpsc;

use crate::cli::Restore;
use crate::context::{Context, ended_early};
use crate::exit::refused;
use crate::place::absolute;
use crate::watch::interruption;

/// Pieces that were received and are not written yet.
const PIECES_AHEAD: usize = 32;
/// Bytes that a restore leaves free, so that it does not fill a disk to the brim.
const SPARE_BYTES: u64 = 64 << 20;

pub(crate) async fn run(context: &Context, asked: Restore) -> Result<Exit, Failure> {
    let began = SystemClock.uptime();
    let to = absolute(&asked.to)?;
    check_destination(context, &to, &asked).await?;
    let files: Arc<dyn FileSystem> = Arc::new(SystemFiles);
    let is_made = files.metadata(&to).is_err();
    let written = tokio::select! {
        written = receive(context, &asked, &to, &files) => written,
        interrupted = shutdown::interrupted() => {
            let deaf = |error| Failure::failed(format!("cannot listen for signals: {error}"));
            interrupted.map_err(deaf)?;
            Err(interruption("the file is not whole; start again"))
        }
    };
    let (bytes, digest) = match written {
        Ok(written) => written,
        Err(failure) => {
            if is_made && failure.code != "already_exists" {
                // Nothing of it was asked to stay; what cannot be removed is named by the failure
                // itself.
                files.remove(&to).ok();
            }
            return Err(failure);
        }
    };
    let micros = SystemClock.uptime().as_micros().saturating_sub(began.as_micros());
    let seconds = micros as f64 / 1e6;
    let document = json!({ "bytes": bytes, "blake3": digest.to_string(), "seconds": seconds });
    context.out.result(&document, |_| {
        facts(&[
            ("file", Some(to.display().to_string())),
            ("size", Some(size(bytes))),
            ("blake3", Some(digest.to_string())),
            ("took", Some(format!("{seconds:.1} s"))),
        ])
    })
}

/// Refuses places that nobody means: inside the store, and over a protected machine's own disk
/// unless told so.
async fn check_destination(context: &Context, to: &Path, asked: &Restore) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| {
        let hint = "name a file in a directory that exists";
        Failure::failed(format!("cannot write to {}: {error}", to.display())).hinting(hint)
    };
    let folder = to.parent().unwrap_or(Path::new("/"));
    let folder = SystemFiles.resolved(folder).map_err(cannot)?;
    let data = SystemFiles.resolved(&context.data).map_err(cannot)?;
    if folder.starts_with(&data) {
        return Err(Failure::usage(
            format!("{} lies in the data directory of this source", to.display()),
            "name a file somewhere else",
        ));
    }
    let Json(agents) = context.ask::<ListAgents>(&(), &()).await?;
    let volumes =
        agents.iter().flat_map(|agent| agent.volumes.iter().map(move |volume| (agent, volume)));
    for (agent, volume) in volumes {
        let is_it = SystemFiles.is_same(to, Path::new(&volume.path)).map_err(cannot)?;
        if is_it && !asked.overwrite_volume {
            return Err(Failure::new(
                Exit::Refused,
                "forbidden",
                format!("{} is volume {} of agent {}", to.display(), volume.label, agent.name),
                "to write over the protected volume itself, add --overwrite --overwrite-volume",
            ));
        }
    }
    if !asked.overwrite && SystemFiles.metadata(to).is_ok() {
        return Err(exists(to));
    }
    Ok(())
}

fn exists(to: &Path) -> Failure {
    Failure::new(
        Exit::Failed,
        "already_exists",
        format!("{} exists", to.display()),
        "name another file, or add --overwrite",
    )
}

/// Receives the volume and has it written; its size and its BLAKE3.
async fn receive(
    context: &Context,
    asked: &Restore,
    to: &Path,
    files: &Arc<dyn FileSystem>,
) -> Result<(u64, Digest), Failure> {
    let params = OfContent {
        agent: asked.name.clone(),
        volume: asked.volume.clone(),
        point: Some(asked.point.clone()),
        from: asked.from.clone(),
    };
    let mut answer = context.ask_stream(&CONTENT, &params).await?;
    let mut reader = Reader::default();
    let (head, mut rest) = first(&mut answer.body, &mut reader).await?;
    check_space(&**files, to, &head)?;
    let overwrite = if asked.overwrite { Overwrite::Allowed } else { Overwrite::Never };
    let bytes = head.bytes.0;
    let (files, path) = (Arc::clone(files), to.to_owned());
    let (parts, received) = mpsc::channel(PIECES_AHEAD);
    let writing = tokio::task::spawn_blocking(move || {
        let destination = Destination::open(&*files, &path, bytes, overwrite)
            .map_err(|error| not_written(&path, error))?;
        write(&*files, &path, destination, received)
    });
    let bar = context.out.bar(bytes);
    bar.say("restoring");
    let sent = async {
        loop {
            while let Some(part) = reader.next(&mut rest).map_err(refused)? {
                bar.advance(match &part {
                    Part::Bytes(bytes) => bytes.len() as u64,
                    Part::Zeros(n) => *n,
                    _ => 0,
                });
                if parts.send(part).await.is_err() {
                    // The writer has failed and says why.
                    return Ok(());
                }
            }
            match answer.body.next().await.map_err(|refusal| ended_early(&refusal.message))? {
                Some(piece) => rest = piece,
                None if reader.is_ended() => return Ok(()),
                None => return Err(ended_early(&"the volume was cut")),
            }
        }
    }
    .await;
    drop(parts);
    let written =
        writing.await.map_err(|error| Failure::failed(format!("the writer failed: {error}")))?;
    drop(bar);
    // The daemon's own words first: a writer that was cut off has less to say.
    sent.and(written)
}

/// The head of the stream, and what came with it.
async fn first(body: &mut BodyStream, reader: &mut Reader) -> Result<(Head, Bytes), Failure> {
    while let Some(mut piece) =
        body.next().await.map_err(|refusal| ended_early(&refusal.message))?
    {
        match reader.next(&mut piece).map_err(refused)? {
            None => {}
            Some(Part::Head(head)) => return Ok((head, piece)),
            Some(_) => break,
        }
    }
    Err(ended_early(&"it did not say what comes"))
}

/// Refuses a disk that cannot hold what will be written, before anything is.
fn check_space(files: &dyn FileSystem, to: &Path, head: &Head) -> Result<(), Failure> {
    if files.metadata(to).is_ok_and(|found| found.kind != Kind::File) {
        return Ok(());
    }
    let folder = to.parent().unwrap_or(Path::new("/"));
    let free = files.bytes_free(folder).unwrap_or(u64::MAX);
    let there = files.metadata(to).map_or(0, |found| found.bytes);
    let needed = head.data_bytes.0.saturating_add(SPARE_BYTES);
    if free.saturating_add(there) >= needed {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        "no_space",
        format!("{} has {} free, and {} are needed", folder.display(), size(free), size(needed)),
        "free space there, or restore to another disk",
    ))
}

fn not_written(path: &Path, error: VolumeError) -> Failure {
    match error {
        VolumeError::Exists { .. } => exists(path),
        VolumeError::TooSmall { .. } => {
            Failure::new(Exit::Failed, "too_small", error.to_string(), "restore to a larger device")
        }
        error => Failure::failed(error.to_string()),
    }
}

/// Writes parts in order, hashing them; durable when it returns.
fn write(
    files: &dyn FileSystem,
    path: &Path,
    destination: Destination,
    mut parts: mpsc::Receiver<Part<Bytes>>,
) -> Result<(u64, Digest), Failure> {
    let wrong = |error| not_written(path, error);
    let size = destination.bytes();
    let mut writer = Writer::start(destination).map_err(wrong)?;
    let (mut is_ended, mut goes_on) = (false, true);
    while goes_on && let Some(part) = parts.blocking_recv() {
        match part {
            Part::Bytes(bytes) => goes_on = writer.bytes(bytes),
            Part::Zeros(n) => goes_on = writer.zeros(n),
            Part::End(_) => is_ended = true,
            Part::Head(_) => {}
        }
    }
    let digest = writer.finish().map_err(wrong)?;
    let digest = digest.filter(|_| is_ended).ok_or_else(|| ended_early(&"the volume was cut"))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    files
        .sync_dir(folder)
        .map_err(|error| Failure::failed(format!("cannot sync {}: {error}", folder.display())))?;
    Ok((size, digest))
}
